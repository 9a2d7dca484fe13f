"""What `scripts/bench.py` measures: one file per benchmark, and what they share."""
