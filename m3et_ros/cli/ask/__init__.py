"""`m3et ask`: a question to a running robot, or about an image on disk."""
