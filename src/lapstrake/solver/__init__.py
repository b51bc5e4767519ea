"""Lapstrake: solver."""
