"""Pages and pictures of what was found; nothing is inferred here."""
