"""Checkpoint folders of every model family: safetensors and JSON only."""
