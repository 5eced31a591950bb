"""Checkpoints of the generative models: config.json, model.safetensors, tokenizer.json and README.md in a folder.

config.json names the variant, its sizes, the M3ET whose visual tokens the model reads, and the SHA-256 of the weights.
A model that reads DINOv2 and SigLIP has them beside it, in the folders dinov2 and siglip. EMMA's training head and
MaTVLM's teacher are not stored.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from m3et_ros.data.checkpoints.cards import with_head
from m3et_ros.data.checkpoints.image_encoders import ENCODERS, PAIR, ImageEncoders, read_encoders, save_encoders
from m3et_ros.data.checkpoints.json_files import AGAIN, CONFIG, read_config_of, write_json
from m3et_ros.data.checkpoints.m3et import CARD, MODEL, TOKENIZER, read_weights, write_weights
from m3et_ros.data.errors import InputError
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.vlm.model import VisualLanguageModel
from m3et_ros.models.vlm.variants import TalkConfig

KIND, FORMAT = 'talk', 1
FIELDS = {'kind': str, 'format': int, 'model_id': str, 'trained': bool, 'vision': str, 'model': dict, 'sha256': dict}


@dataclass(frozen=True)
class TalkCheckpoint:
    """A language model that reads the visual tokens of an M3ET, or of DINOv2 and SigLIP.

    Raises:
        InputError: model_config, the tokenizer has more pieces than the model.
    """

    model: VisualLanguageModel
    config: TalkConfig
    tokenizer: Tokenizer
    # Id of the encoder whose visual tokens it was trained on; it cannot read those of any other.
    vision: str
    # 'variant@first 8 of the SHA-256 of the weights', or 'variant-random-seed'.
    model_id: str
    # False while the weights are random.
    trained: bool = True
    # DINOv2 and SigLIP, if it reads their visual tokens; None for those of an M3ET.
    encoders: ImageEncoders | None = None

    def __post_init__(self):
        room = self.config.model.language.vocabulary
        if self.tokenizer.vocabulary > room:
            raise InputError(
                'model_config',
                f'The tokenizer has {self.tokenizer.vocabulary} pieces and the model room '
                f'for {room}; use the tokenizer that the model was made with.',
            )

    def check_encoder(self, model_id: str, width: int) -> None:
        """Refuse an encoder that this model was not trained on.

        Args:
            model_id: id of that encoder.
            width: width of its visual tokens.

        Raises:
            InputError: answerer_sight.
        """
        wanted = self.config.model.connector.d_vision
        if model_id != self.vision or width != wanted:
            raise InputError(
                'answerer_sight',
                f'{self.model_id} was trained on the visual tokens of {self.vision} ({wanted} '
                f'values each) and the model is {model_id} ({width}); use that model, or train an '
                'answerer on this one with m3et train talk.',
            )


def save_talk(folder: str | Path, checkpoint: TalkCheckpoint, *, card: str, dtype: torch.dtype = torch.float32) -> str:
    """Write a checkpoint folder, which need not exist.

    Args:
        folder: the folder.
        checkpoint: the model and all that goes with it.
        card: text of the model card, Markdown; it gets the YAML head of the Hub where it has none.
        dtype: data type of stored matrices; vectors are always stored in float32.

    Returns:
        The model id that load_talk will report.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device('meta'):
        bare = checkpoint.config.build()
    state = checkpoint.model.state_dict()
    bare.load_state_dict({name: state[name] for name in bare.state_dict()}, assign=True)
    digest = write_weights(folder / MODEL, bare, dtype)
    checkpoint.tokenizer.save(folder / TOKENIZER)
    if checkpoint.encoders is not None:
        save_encoders(folder, checkpoint.encoders)
    (folder / CARD).write_text(with_head(card, KIND), encoding='utf-8', errors='backslashreplace')
    model_id = f'{checkpoint.config.variant}@{digest[:8]}' if checkpoint.trained else checkpoint.model_id
    write_json(
        folder / CONFIG,
        {
            'kind': KIND,
            'format': FORMAT,
            'model_id': model_id,
            'trained': checkpoint.trained,
            'vision': checkpoint.vision,
            'model': checkpoint.config.to_dict(),
            'sha256': {MODEL: digest},
        },
    )
    return model_id


def load_talk(folder: str | Path) -> TalkCheckpoint:
    """Read a checkpoint folder in float32; weights are read only after their header matches the config.

    Raises:
        InputError: model_missing, model_truncated, model_checksum (also of DINOv2 and SigLIP), model_tensor (the first
            missing, extra or misshapen tensor), or model_config (anything in the JSON files, or a checkpoint of another
            kind).
    """
    folder = Path(folder)
    stored = read_config_of(folder, KIND, FIELDS, FORMAT, what='talking model', command='m3et train talk')
    for name in (MODEL, TOKENIZER):
        if not (folder / name).is_file():
            raise InputError(
                'model_missing',
                f'There is no {folder / name}; give a checkpoint folder that m3et train talk has written.',
            )
    try:
        config = TalkConfig.from_dict(stored['model'])
    except (ValueError, TypeError) as error:
        raise InputError('model_config', f'{CONFIG} is refused: {error}; correct it, or {AGAIN}.') from error
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    except InputError as error:
        raise InputError('model_config', str(error)) from error
    model = read_weights(folder / MODEL, config.build, stored['sha256'])
    model_id = f'{config.variant}@{stored["sha256"][MODEL][:8]}' if stored['trained'] else stored['model_id']
    encoders = _read_encoders(folder, stored['vision']) if stored['vision'].startswith(PAIR) else None
    return TalkCheckpoint(model, config, tokenizer, stored['vision'], model_id, stored['trained'], encoders)


def _read_encoders(folder: Path, model_id: str) -> ImageEncoders:
    """Read DINOv2 and SigLIP from the folder of a model that was trained on those of an id."""
    dinov2, siglip = (folder / name for name in ENCODERS)
    encoders = read_encoders(dinov2, siglip)
    if encoders.model_id != model_id:
        raise InputError(
            'model_checksum', f'{folder} was trained on {model_id} and holds {encoders.model_id}; {AGAIN}.'
        )
    return encoders
