"""Lapstrake: oci."""
