"""Nodes, topics and everything else that knows rclpy."""
