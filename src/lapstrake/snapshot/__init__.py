"""Lapstrake: snapshot."""
