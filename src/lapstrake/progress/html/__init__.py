"""One build as one page for a browser: no script, no resource from elsewhere, everything foreign escaped."""
