"""Numbers on answers that are there: no network and no file."""
