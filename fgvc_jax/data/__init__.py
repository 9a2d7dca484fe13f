"""Records from disk or from a renderer, and their way to the device."""
