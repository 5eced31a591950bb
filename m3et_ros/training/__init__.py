"""Masking, losses and recipes."""
