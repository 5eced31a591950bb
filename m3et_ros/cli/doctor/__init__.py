"""`m3et doctor`: a check of the installation."""
