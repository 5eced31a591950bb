"""Losses, optimisers, the training loop and one recipe per file."""
