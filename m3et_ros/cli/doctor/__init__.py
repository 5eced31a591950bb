"""`m3et doctor`."""
