"""What is measured: one file a task, from frames or recordings to scores."""
