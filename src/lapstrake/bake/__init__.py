"""``bake``: files that describe many targets, to build requests (spec cli.md §3)."""
