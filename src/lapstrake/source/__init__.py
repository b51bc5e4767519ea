"""Lapstrake: source."""
