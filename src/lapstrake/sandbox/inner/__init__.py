"""What runs inside the sandbox helper process: no imports from the rest of Lapstrake."""
