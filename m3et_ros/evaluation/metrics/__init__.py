"""Metrics as pure functions of numbers and text, with their confidence intervals."""
