"""Lapstrake: graph."""
