"""Checkpoints of M3ET with the from_pretrained, save_pretrained and push_to_hub of the Hugging Face Hub.

A file of its own, because a node needs neither these nor the HTTP client that they import.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from m3et_ros.data.checkpoints.m3et import CARD, Checkpoint, load_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError


class M3ETCheckpoint(ModelHubMixin, library_name='m3et_ros', license='apache-2.0', tags=['robotics', 'ros2', 'mamba']):
    """A checkpoint with the Hugging Face Hub's from_pretrained, save_pretrained and push_to_hub."""

    def __new__(cls, *_args: Any, **_kwargs: Any):
        """Make an instance without the mixin's own config, for which it would copy all weights."""
        return object.__new__(cls)

    def __init__(self, checkpoint: Checkpoint, card: str):
        self.checkpoint = checkpoint
        self.card = card

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, download: bool = False, **options: Any
    ) -> 'M3ETCheckpoint':
        """Load a checkpoint folder, or, with download=True, 'owner/name' from the Hub.

        Args:
            pretrained_model_name_or_path: a folder or a Hub id.
            download: allow a download.
            options: revision, token, cache_dir, force_download, local_files_only as in huggingface_hub.

        Raises:
            InputError: as load_checkpoint; model_missing also where a download fails or is not allowed.
        """
        source = str(pretrained_model_name_or_path)
        if not Path(source).is_dir() and not download:
            raise InputError(
                'model_missing',
                f'There is no folder {source}; give a checkpoint folder, or allow the '
                'download from the Hugging Face Hub with download=True.',
            )
        return cls._from_pretrained(model_id=source, **options)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> 'M3ETCheckpoint':
        folder = Path(model_id)
        if not folder.is_dir():
            try:
                folder = Path(snapshot_download(model_id, allow_patterns=['*.json', '*.safetensors', CARD], **options))
            except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
                raise InputError(
                    'model_missing',
                    f'{model_id} could not be fetched from the Hugging Face Hub '
                    f'({error}); check its name and the network, or give a folder.',
                ) from error
        card = folder / CARD
        return cls(load_checkpoint(folder), card.read_text(encoding='utf-8') if card.is_file() else '')

    def _save_pretrained(self, save_directory: Path) -> None:
        save_checkpoint(save_directory, self.checkpoint, card=self.card)
