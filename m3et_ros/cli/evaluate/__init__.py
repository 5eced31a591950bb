"""`m3et evaluate`: a file for each task; common.py holds what the tasks share."""
