"""`m3et replay`: play a bag, run the robot on it and score its answers live."""
