"""Images as ROS messages, as compressed ROS messages and as files."""
