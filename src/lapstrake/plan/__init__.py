"""Lapstrake: plan."""
