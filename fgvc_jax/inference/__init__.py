"""Trained members that answer for images."""
