"""rosbag2 recordings: reading, repair, topics, frames, samples and writing."""
