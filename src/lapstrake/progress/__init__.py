"""Shows what a build does: live on a terminal, as plain lines or as JSON."""
