"""Lapstrake: bake."""
