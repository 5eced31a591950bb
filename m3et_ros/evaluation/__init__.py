"""Measure models: metrics, tasks, jobs over many recordings, and reports."""
