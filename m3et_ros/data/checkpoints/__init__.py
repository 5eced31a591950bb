"""Checkpoint folders of every model family: safetensors and JSON only."""

from pathlib import Path

MODEL_TYPE = 'm3et'
"""`model_type` in the config.json of an M3ET, by which `transformers` finds its class."""
SHIPPED = Path(__file__).resolve().parents[2] / 'weights'
"""Folder of the weights that come with the package."""
DEFAULT_MODEL = 'kitchen2'
"""Named size whose weights the node and the commands take unless another model is asked for."""
