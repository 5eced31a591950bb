"""ML-Mamba (2407.19832; docs/papers.md 4): a Mamba-2 language model behind a connector that scans the image.

The paper replaces both the Transformer language model, by Mamba-2, and the MLP connector, by the Mamba-2 Scan
Connector: V_out = MLP(SwiGLU(MSC(V_img))), R = f_L(V_out, f_T(Q)). A scan is y = W_out (y_f + flip(y_b)) / 2 over the
raster and its reverse ('bidirectional', published), or the mean over four directions ('cross').

    features (B, n, d_vision) -> Linear, GELU -> MSC: scan layers -> projector -> (B, n, d)
    [visual tokens | words] (B, n + T, d) -> 64 Mamba-2 layers -> logits (B, T, V)

Variants: connector.kind 'advanced' (published), 'basic', 'mlp'; connector.scan 'bidirectional' (published) or 'cross'.

Symbols: B batch, n = rows * cols visual tokens (27 x 27 as published), T word pieces, d_vision = 1024 + 1152 (DINOv2
and SigLIP, frozen, not part of the model), d = 2560.
"""

from dataclasses import replace

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.language_model import MAMBA2_2B7, TINY_MAMBA
from m3et_ros.models.vlm.model import VisualLanguageConfig, VisualLanguageModel


class MLMamba(VisualLanguageModel):
    """A visual language model whose language layers are all Mamba-2: every token of an answer costs the same.

    Raises:
        ValueError: a language layer of another kind.
    """

    def __init__(self, config: VisualLanguageConfig):
        if set(config.language.schedule) != {'M'}:
            raise ValueError(f'schedule is {config.language.schedule!r}; ML-Mamba has M layers only')
        super().__init__(config)


PUBLISHED = VisualLanguageConfig(
    ConnectorConfig(kind='advanced', d_vision=2176, d=2560, rows=27, cols=27, N=128, P=64, chunk=256), MAMBA2_2B7
)
PUBLISHED_CROSS = replace(PUBLISHED, connector=replace(PUBLISHED.connector, scan='cross'))
PUBLISHED_BASIC = replace(PUBLISHED, connector=replace(PUBLISHED.connector, kind='basic'))
PUBLISHED_MLP = replace(PUBLISHED, connector=replace(PUBLISHED.connector, kind='mlp'))
TINY = VisualLanguageConfig(ConnectorConfig(), TINY_MAMBA)
