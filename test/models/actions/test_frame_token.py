"""One token of each frame for action heads."""

import pytest
import torch

from m3et_ros.models.actions.frame_token import REGIONS, frame_token, frame_width, patch_tokens
from m3et_ros.models.m3et.sizes import build


@pytest.fixture
def model():
    return build('tiny', answers=6, patch=8).eval()


def images(B, *names):
    random = torch.Generator().manual_seed(0)
    return {name: torch.randn(B, 3 if name == 'rgb' else 1, 32, 32, generator=random) for name in names}


def test_it_holds_pooled_colours_and_a_global_token_for_each_question(model):
    """4 x 4 patches pooled to 3 x 3, and the global token of each question, as if it were asked alone."""
    ids, mask = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([[True] * 4, [True, True, True, False]])
    shown = images(2, 'rgb', 'depth')
    with torch.inference_mode():
        encoding = model.encode_images(shown)
        token = frame_token(model, encoding, ids, mask)
        assert token.shape == (2, 1, (REGIONS**2 + 2) * 32) and frame_width(model.config) == 12 * 32
        patches = encoding.stages[-1][:, :16].unflatten(1, (4, 4))  # colours come first
        corner = token[:, 0, 8 * 32 : 9 * 32]
        torch.testing.assert_close(corner, patches[:, 2:, 2:].mean((1, 2)))
        alone = model.encode(
            {name: value[1:] for name, value in shown.items()} | {'text': ids[1:, :3], 'text_mask': mask[1:, :3]}
        )
        torch.testing.assert_close(token[1, 0, -32:], model.global_token(alone)[0], atol=1e-5, rtol=1e-4)


def test_a_head_of_the_paper_gets_all_colour_patches_in_their_order(model):
    with torch.inference_mode():
        encoding = model.encode_images(images(2, 'rgb', 'depth'))
        tokens = patch_tokens(encoding)
        assert tokens.shape == (2, 1, 16 * 32)
        assert torch.equal(tokens.view(2, 16, 32), encoding.stages[-1][:, :16])
        with pytest.raises(ValueError, match='no colours'):
            patch_tokens(model.encode_images(images(1, 'depth')))


def test_frames_without_colours_are_refused(model):
    with torch.inference_mode(), pytest.raises(ValueError, match='no colours'):
        frame_token(
            model, model.encode_images(images(1, 'depth')), torch.tensor([[2, 3]]), torch.tensor([[True, True]])
        )
