"""Lapstrake: store."""
