"""Lapstrake: remotecache."""
