"""Checkpoint folders of every model family: safetensors and JSON only."""

MODEL_TYPE = 'm3et'
"""`model_type` in the config.json of an M3ET, by which `transformers` finds its class."""
