"""Numbers on answers that are there: numpy alone, no network and no file."""
