"""EMMA: a Mamba multimodal language model that has to keep the image in mind while it trains (2410.05938; docs/papers.md 5).

Symbols: B batch, n = rows * cols visual tokens (27 x 27 as published), T word pieces, d = 2560, d_target = 1152.
    inference   [connector(features) (B, n, d) | words (B, T, d)] -> Mamba-2 layers -> logits (B, T, V)
    training    and hidden states of four layers at the visual tokens -> fusion -> decoder -> image (B, n, d_target)
The head is not part of inference: forward and generate never touch it, and a model without it is the same model.
"""

from dataclasses import dataclass

from torch import Tensor

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.emma_alignment import AlignmentConfig, AlignmentHead
from m3et_ros.models.vlm.language_model import MAMBA2_2B7, TINY_MAMBA
from m3et_ros.models.vlm.model import VisualLanguageConfig, VisualLanguageModel, VisualOutput


@dataclass(frozen=True)
class EMMAConfig:
    """A visual language model and the head that aligns it with the image.

    Raises:
        ValueError: head and model do not fit each other.
    """

    # The model of inference.
    model: VisualLanguageConfig
    # The head of training.
    alignment: AlignmentConfig

    def __post_init__(self):
        ours, connector, language = self.alignment, self.model.connector, self.model.language
        for name, found, wanted in (
            ('d', ours.d, language.d),
            ('rows', ours.rows, connector.rows),
            ('cols', ours.cols, connector.cols),
        ):
            if found != wanted:
                raise ValueError(f'alignment.{name} is {found}; give {wanted}, as in the model')
        if ours.taps[-1] >= len(language.schedule):
            raise ValueError(f'taps is {ours.taps}; give indices below {len(language.schedule)}, the number of layers')


class EMMA(VisualLanguageModel):
    """A visual language model, with the alignment head for training or without it.

    Args:
        config: of both.
        training_head: False builds the model of inference alone; its weights are the same less those of `alignment`.
    """

    def __init__(self, config: EMMAConfig, *, training_head: bool = True):
        super().__init__(config.model)
        self.full_config = config
        self.alignment = AlignmentHead(config.alignment) if training_head else None

    def aligned(self, features: Tensor, ids: Tensor, *, mask: Tensor | None = None) -> tuple[VisualOutput, Tensor]:
        """Read words behind visual tokens and predict the image from what the layers made of them.

        Args:
            features: visual tokens (B, n, d_vision), raster order, of the whole grid.
            ids: word pieces (B, T) int64.
            mask: (B, T) bool, False for pads.

        Returns:
            What forward returns, and the prediction (B, n, d_target) in block order: compare with alignment.targets.

        Raises:
            ValueError: built without the head, or as forward.
        """
        if self.alignment is None:
            raise ValueError('this model was built without its training head; build it with training_head=True')
        output = self(features, ids, mask=mask, keep=self.alignment.config.taps)
        seen = {place: hidden[:, : features.shape[1]] for place, hidden in output.hidden.items()}
        return output, self.alignment(seen)


PUBLISHED = EMMAConfig(
    VisualLanguageConfig(ConnectorConfig(kind='mlp', d_vision=2176, d=2560, rows=27, cols=27), MAMBA2_2B7),
    AlignmentConfig(
        rows=27, cols=27, d=2560, taps=(24, 36, 48, 63), heads=40, d_target=1152, patch=14, N=128, P=64, chunk=256
    ),
)
TINY = EMMAConfig(VisualLanguageConfig(ConnectorConfig(kind='mlp'), TINY_MAMBA), AlignmentConfig())
