"""Lapstrake: worker."""
