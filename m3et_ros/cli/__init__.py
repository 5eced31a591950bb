"""The m3et command: one verb per file."""
