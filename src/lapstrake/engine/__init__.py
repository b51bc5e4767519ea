"""Lapstrake: engine."""
