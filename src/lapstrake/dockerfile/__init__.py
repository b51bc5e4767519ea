"""Lapstrake: dockerfile."""
