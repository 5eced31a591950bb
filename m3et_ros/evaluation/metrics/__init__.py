"""Metrics: pure functions of numbers and text, and their confidence intervals."""
