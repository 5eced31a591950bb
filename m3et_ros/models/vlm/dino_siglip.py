"""DINOv2 and SigLIP side by side, the image encoders of ML-Mamba, EMMA and Cobra (docs/papers.md 4).

    pixels -> both encoders -> outputs before the last layer, patches alone -> (B, n, d_dino + d_siglip)

Both were published apart from these models; `transformers` builds and reads them. S = 384 gives n = 27 x 27 = 729.

Symbols: B batch, S side of the image in pixels, n patches.
"""

from typing import Any

import torch
from torch import Tensor, nn

SIZE = 384
"""Side S of the image in pixels."""
LAYER = -2
"""The output that is read of both: that before the last layer."""


class DinoSiglipTower(nn.Module):
    """Both encoders.

    Args:
        dino: Dinov2WithRegistersModel of transformers.
        siglip: SiglipVisionModel of transformers.

    Raises:
        ValueError: their patches do not cover an image alike.
    """

    def __init__(self, dino: Any, siglip: Any):
        super().__init__()
        self.dino, self.siglip, self.registers = dino, siglip, dino.config.num_register_tokens
        sides = {SIZE // model.config.patch_size for model in (dino, siglip)}
        if len(sides) > 1:
            raise ValueError(
                f'the patches of DINOv2 have {dino.config.patch_size} pixels and those of SigLIP '
                f'{siglip.config.patch_size}; give encoders of one patch size'
            )
        self.side = sides.pop()

    def forward(self, for_dino: Tensor, for_siglip: Tensor) -> Tensor:
        """Return visual tokens (B, n, d_dino + d_siglip) in raster order of images (B, 3, S, S), standardised twice."""
        prefix = 1 + self.registers  # the class token and the registers
        dino = self.dino(for_dino, output_hidden_states=True).hidden_states[LAYER][:, prefix:]
        siglip = self.siglip(for_siglip, output_hidden_states=True, interpolate_pos_encoding=False)
        return torch.cat([dino, siglip.hidden_states[LAYER]], 2)
