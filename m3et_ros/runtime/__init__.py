"""The engine that runs a model on frames, and its memory."""
