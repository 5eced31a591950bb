"""Images: ROS messages, compressed transports and files."""
