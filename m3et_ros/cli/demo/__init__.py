"""`m3et demo`: a simulated camera, the robot and a poster of its results."""
