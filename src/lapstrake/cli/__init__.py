"""Lapstrake: cli."""
