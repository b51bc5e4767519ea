"""Lapstrake: layer."""
