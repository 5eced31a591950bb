"""Frames, episodes, tokens and the files they live in."""
