"""Lapstrake: export."""
