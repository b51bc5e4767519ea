"""Lapstrake: registry."""
