"""Find the folder of a vision-language model, on disk or on the Hugging Face Hub, and check it before it is loaded.

Nothing of the folder is executed: weights are safetensors, and a model that needs code of its own is refused.
"""

from typing import Any

import torch

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.model_folder import ModelFolder, find_model


def find_vlm(name: str, dtype: torch.dtype | None = None) -> ModelFolder:
    """Find and check a vision-language model.

    Args:
        name: a folder as save_pretrained of transformers writes it, or hf:owner/name[@revision]; only the latter uses
            the network, and not where HF_HUB_OFFLINE is set.
        dtype: data type to which the weights will be converted; None leaves them as stored.

    Raises:
        InputError: as find_model; vlm_kind (no image-text model), vlm_code (it needs code of its own), vlm_packages.
    """
    if not name:
        raise InputError(
            'model_missing',
            'The answerer needs a model; give a folder or hf:owner/name as its checkpoint (answerer_checkpoint).',
        )
    return find_model(name, _check_kind, dtype)


def _check_kind(name: str, config: dict[str, Any]) -> None:
    """Refuse a model that needs code of its own or takes no images."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN
    except ImportError as error:
        raise InputError(
            'vlm_packages', f"The answerer vlm needs transformers ({error}); pip install 'm3et_ros[vlm]'."
        ) from error
    kind = str(config.get('model_type', ''))[:80]
    if kind in KNOWN:
        return
    if config.get('auto_map'):
        raise InputError(
            'vlm_code',
            f'{name} needs code of its own (auto_map in config.json), which is never run; give a model whose '
            'architecture is part of transformers.',
        )
    raise InputError(
        'vlm_kind',
        f'{name} holds {kind or "an unnamed model"}, which is no image-text model of transformers; give one such as '
        'SmolVLM, Qwen2.5-VL, PaliGemma or LLaVA.',
    )
