"""What trains: a run, its members, the step and the loop."""
