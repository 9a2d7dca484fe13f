"""Outputs of frozen networks, computed once per view and looked up after."""
