"""Lapstrake: attest."""
