"""Lapstrake: builders."""
