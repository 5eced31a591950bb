"""`m3et evaluate`: a file for each task, and what the tasks share in common.py."""
