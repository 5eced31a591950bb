"""The tasks of evaluation, from frames or recordings to scores; one file per task."""
