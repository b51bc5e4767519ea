"""Lapstrake: testing."""
