"""`m3et view`: running robots on a page in the browser."""
