"""EMMA (2410.05938; docs/papers.md 5): a Mamba-2 language model whose hidden states must predict the image in training.

Visual detail fades in the layers of a Mamba language model. EMMA adds to the text loss a pixel-wise alignment loss on
an image decoded from fused hidden states of several layers (emma_alignment): L = L_text + w ||f_dec(X_v) - target||^2.

    inference   [connector(features) (B, n, d) | words (B, T, d)] -> Mamba-2 layers -> logits (B, T, V)
    training    in addition, hidden states of K layers at the visual tokens -> fusion -> decoder -> (B, n, d_target)

The alignment head is not part of inference: forward and generate never use it, and the model without it is the same.

Symbols: B batch, n = rows * cols visual tokens (27 x 27 as published), T word pieces, d = 2560, d_target = 1152.
"""

from dataclasses import dataclass

from torch import Tensor

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.emma_alignment import AlignmentConfig, AlignmentHead
from m3et_ros.models.vlm.language_model import MAMBA2_2B7, TINY_MAMBA
from m3et_ros.models.vlm.model import VisualLanguageConfig, VisualLanguageModel, VisualOutput


@dataclass(frozen=True)
class EMMAConfig:
    """The config of a visual language model and of its alignment head.

    Raises:
        ValueError: head and model do not fit each other.
    """

    # The model used at inference.
    model: VisualLanguageConfig
    # The head used in training.
    alignment: AlignmentConfig

    def __post_init__(self):
        head, connector, language = self.alignment, self.model.connector, self.model.language
        for name, found, wanted in (
            ('d', head.d, language.d),
            ('rows', head.rows, connector.rows),
            ('cols', head.cols, connector.cols),
        ):
            if found != wanted:
                raise ValueError(f'alignment.{name} is {found}; give {wanted}, as in the model')
        if head.taps[-1] >= len(language.schedule):
            raise ValueError(f'taps is {head.taps}; give indices below {len(language.schedule)}, the number of layers')


class EMMA(VisualLanguageModel):
    """A visual language model with the alignment head, or without it.

    Args:
        config: config of model and head.
        training_head: False builds the model without the head; its state dict lacks only `alignment`.
    """

    def __init__(self, config: EMMAConfig, *, training_head: bool = True):
        super().__init__(config.model)
        self.alignment = AlignmentHead(config.alignment) if training_head else None

    def aligned(self, features: Tensor, ids: Tensor, *, mask: Tensor | None = None) -> tuple[VisualOutput, Tensor]:
        """Compute logits of words after visual tokens, and predict the image from the hidden states.

        Args:
            features: visual tokens (B, n, d_vision), raster order, of the whole grid.
            ids: word pieces (B, T) int64.
            mask: (B, T) bool, False for pads.

        Returns:
            The output of forward, and the prediction (B, n, d_target) in block order, whose targets are those of
            alignment.targets.

        Raises:
            ValueError: built without the head, or as forward.
        """
        if self.alignment is None:
            raise ValueError('this model was built without its training head; build it with training_head=True')
        output = self(features, ids, mask=mask, keep=self.alignment.config.taps)
        visual = {index: hidden[:, : features.shape[1]] for index, hidden in output.hidden.items()}
        return output, self.alignment(visual)


PUBLISHED = EMMAConfig(
    VisualLanguageConfig(ConnectorConfig(kind='mlp', d_vision=2176, d=2560, rows=27, cols=27), MAMBA2_2B7),
    AlignmentConfig(
        rows=27, cols=27, d=2560, taps=(24, 36, 48, 63), heads=40, d_target=1152, patch=14, N=128, P=64, chunk=256
    ),
)
TINY = EMMAConfig(VisualLanguageConfig(ConnectorConfig(kind='mlp'), TINY_MAMBA), AlignmentConfig())
