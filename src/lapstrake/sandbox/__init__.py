"""Lapstrake: sandbox."""
