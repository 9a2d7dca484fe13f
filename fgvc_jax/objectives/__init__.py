"""What one network learns from a batch. One paper per file; `build.py` has a line for each."""
