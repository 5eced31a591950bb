"""LeRobot data sets of version 3.0: read, written, and converted from recordings and back."""
