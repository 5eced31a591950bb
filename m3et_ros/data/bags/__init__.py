"""rosbag2 recordings: read, repair, find the camera's topics, pair frames, and write."""
