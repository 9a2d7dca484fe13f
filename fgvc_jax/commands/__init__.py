"""One body per command; `start` says how every command begins and ends."""
