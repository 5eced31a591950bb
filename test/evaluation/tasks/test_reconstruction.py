"""Frames through small real models whose outputs are known in advance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.depth_fill import FillBlend, carry, smooth
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.preprocess import RGB_MEAN
from m3et_ros.evaluation.metrics.depth import depth_sums
from m3et_ros.evaluation.metrics.hole_filling import FILLERS
from m3et_ros.evaluation.tasks.reconstruction import NOISE, measure_frames, without_context
from m3et_ros.models.m3et.sizes import build


@pytest.fixture(scope='module')
def frames(cache):
    """Clean frames."""
    kitchens = KitchenSamples(cache, questions=False)
    return [kitchens[i] for i in range(0, len(kitchens), 3)]


@pytest.fixture
def model(tiny):
    """Predicts the mean colour, 1.5 m and 'wall' everywhere; depth in metres."""
    made = build(replace(tiny.model.config, depth_norm='fixed', depth_mean=1.5, depth_std=1.0))
    with torch.no_grad():
        for name in ('rgb', 'depth', 'semseg'):
            made.decoders[name].output.weight.zero_()
            made.decoders[name].output.bias.zero_()
        made.decoders['semseg'].output.bias[: made.config.semseg_patch**2] = 50
    return made


def test_a_constant_model_scores_what_arithmetic_says(frames, model):
    found = measure_frames(model, frames)
    assert found.keys == [frame.key for frame in frames]
    columns = found.columns
    truth = np.stack([frame.depth for frame in frames])
    assert columns['rgb_only_depth'] == pytest.approx(depth_sums(np.full_like(truth, 1.5), truth))
    for place, frame in enumerate(frames):
        matrix = columns['labels'][place]
        assert matrix.sum(0)[0] == matrix.sum() == (frame.semseg != 255).sum()
        assert matrix.sum(1).tolist() == np.bincount(frame.semseg.ravel(), minlength=256)[: len(matrix)].tolist()
    assert (columns['rgb_only_labels'] == columns['labels']).all()


def test_hidden_patches_alone_are_scored(frames, model):
    found = measure_frames(model, frames, pictures=range(len(frames)))
    for place, frame in enumerate(frames):
        images, share = found.images[place], found.columns['rgb_hidden'][place]
        true = frame.rgb / 255
        hidden = (images['masked'] == 0.5).all(-1)
        assert images['rgb'] == pytest.approx(true, abs=1e-5) and hidden.mean() == pytest.approx(share, abs=0.01)
        assert images['masked'][~hidden] == pytest.approx(true[~hidden], abs=1e-5)
        assert images['rebuilt'] == pytest.approx(np.broadcast_to(RGB_MEAN, true.shape), abs=1e-5)
        error = np.square(RGB_MEAN - true).mean(-1)
        assert found.columns['psnr_hidden'][place] == pytest.approx(-10 * np.log10(error[hidden].mean()), abs=1e-3)
        assert found.columns['psnr_pasted'][place] == pytest.approx(-10 * np.log10((error * hidden).mean()), abs=1e-3)


def test_seventy_per_cent_of_all_tokens_are_hidden(frames, model):
    found = measure_frames(model, frames)
    tokens, patch = model.config.image_tokens, model.config.patch**2
    kept = round(0.3 * 3 * tokens)
    known = np.stack([frame.depth for frame in frames])
    assert np.isfinite(known).all()  # so that pixels count patches
    depth = found.columns['hidden_depth'][:, 0] / patch
    labels = found.columns['hidden_labels'].sum((1, 2)) / model.config.semseg_patch**2
    rgb = found.columns['rgb_hidden'] * tokens
    assert (rgb + depth + labels).round(3).tolist() == [3 * tokens - kept] * len(frames)
    assert len(set(rgb)) > 1


def test_holes_are_those_of_the_noisy_camera_and_fillers_face_the_same(frames, model):
    found = measure_frames(model, frames, seed=4, pictures=[0])
    for place, frame in enumerate(frames):
        noisy = disturb(frame, NOISE, np.random.default_rng((4, place))).depth
        holes = ~np.isfinite(noisy) & np.isfinite(frame.depth)
        said = np.full_like(noisy, 1.5)
        blend = FillBlend()
        blend.check(noisy, lambda given, said=said: said)
        for column, filled in (
            ('holes_model_alone', said),
            ('holes_model', carry(said, noisy)),
            ('holes_smooth', smooth(noisy, noisy)),
            ('holes_auto', blend.fill(said, noisy, noisy)),
        ):
            assert found.columns[column][place] == pytest.approx(
                depth_sums(filled[None], frame.depth[None], holes[None])[0], rel=1e-4
            )
        for name, fill in FILLERS.items():
            expected = depth_sums(fill(noisy)[None], frame.depth[None], holes[None])[0]
            assert found.columns[f'holes_{name}'][place] == pytest.approx(expected, rel=1e-4)
        counted = found.columns['holes_model'][place, 0] + found.columns['known'][place, 0]
        assert counted == np.isfinite(frame.depth).sum() and holes.any()
        if place == 0:
            assert np.isnan(found.images[0]['measured'][holes]).all()
            assert found.images[0]['depth'] == pytest.approx(frame.depth, abs=1e-5)


def test_holes_are_filled_from_colours_alone_unless_depth_has_a_channel_of_validity(frames, tiny):
    for validity in (False, True):
        torch.manual_seed(0)
        model = build(
            replace(tiny.model.config, depth_norm='fixed', depth_mean=1.5, depth_std=1.0, depth_validity=validity)
        )
        columns = measure_frames(model, frames[:2]).columns
        far = [replace(frame, depth=frame.depth + 1, clean_depth=frame.depth) for frame in frames[:2]]
        moved = measure_frames(model, far).columns
        same = columns['rgb_only_depth'] == pytest.approx(moved['rgb_only_depth'])
        assert same
        alone = measure_frames(model, [replace(frame, depth=frame.depth + 1) for frame in frames[:2]]).columns
        assert np.isfinite(alone['holes_auto']).all()
        assert (alone['holes_auto'][:, 0] == alone['holes_model'][:, 0]).all()


def test_measurements_do_not_depend_on_batches_or_global_generators(frames, tiny):
    torch.manual_seed(1)
    whole = measure_frames(tiny.model, frames, batch=32)
    torch.manual_seed(2)
    parts = measure_frames(tiny.model, frames, batch=2)
    assert whole.columns.keys() == parts.columns.keys() and whole.keys == parts.keys
    for name, values in whole.columns.items():
        assert values == pytest.approx(parts.columns[name], rel=1e-3, abs=1e-3), name
    other = measure_frames(tiny.model, frames, seed=1)
    assert (other.columns['psnr_hidden'] != whole.columns['psnr_hidden']).any()


def test_each_pass_uses_its_own_inputs_only(frames, tiny):
    true = measure_frames(tiny.model, frames).columns
    moved = measure_frames(tiny.model, [replace(frame, depth=frame.depth * 1.2) for frame in frames]).columns
    assert (moved['rgb_only_labels'] == true['rgb_only_labels']).all() and (moved['labels'] != true['labels']).any()
    relabelled = measure_frames(tiny.model, [replace(frame, semseg=frame.semseg // 2) for frame in frames]).columns
    for name in ('labels', 'rgb_only_labels'):  # what is predicted, whatever the truth
        assert (relabelled[name].sum(1) == true[name].sum(1)).all() and (relabelled[name] != true[name]).any()


def test_a_frame_without_any_depth_leaves_the_others_alone(frames, tiny):
    lost = replace(frames[1], clean_depth=frames[1].depth, depth=np.full_like(frames[1].depth, np.nan))
    with_all, without = (measure_frames(tiny.model, [frames[0], frame]) for frame in (frames[1], lost))
    for name, values in without.columns.items():
        assert values[0] == pytest.approx(with_all.columns[name][0], rel=1e-3, abs=1e-3), name
    assert without.columns['holes_model'][1].tolist() == without.columns['holes_telea'][1].tolist() == [0] * 4
    assert without.columns['known'][1, 0] == 0
    assert without.columns['rgb_only_labels'][1].sum() == with_all.columns['labels'][1].sum()


def test_only_the_outputs_of_the_model_are_measured(frames, tiny):
    small = build(replace(tiny.model.config, modalities=('rgb',), tasks=('rgb',), answers=0))
    found = measure_frames(small, frames, pictures=[0])
    assert set(found.columns) == {'psnr_hidden', 'psnr_pasted', 'rgb_hidden'}
    assert set(found.images[0]) == {'rgb', 'masked', 'rebuilt'}
    assert (found.columns['rgb_hidden'] * small.config.image_tokens).tolist() == [3.0] * len(frames)  # 70 % of four
    depth_only = build(replace(tiny.model.config, modalities=('depth',), tasks=('depth',), answers=0))
    assert set(measure_frames(depth_only, frames).columns) >= {'hidden_depth', 'known', 'holes_model'}


def test_the_noise_of_the_camera_is_the_given_one(frames, model):
    clean = Noise(
        min_range=0, max_range=(100.0, 100.0), disparity=0, quantum=0, edge=0, blobs=(0, 0.08), specks=0, mirror=0
    )
    found = measure_frames(model, frames, noise=clean)
    assert found.columns['known'][:, 0].tolist() == [np.isfinite(frame.depth).sum() for frame in frames]
    assert (found.columns['holes_model'][:, 0] == 0).all()


def test_frames_have_their_kitchen_and_only_the_asked_images(frames, model):
    found = measure_frames(model, frames, pictures=[1])
    assert found.clusters == [f'seed {frame.seed}' for frame in frames] and list(found.images) == [1]
    assert measure_frames(model, [replace(frame, seed=None) for frame in frames]).clusters == found.keys


def test_decoders_without_cross_attention_ignore_the_encoder(tiny):
    other = without_context(tiny.model)
    assert not other.config.cross_attention and not other.training
    own = tiny.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in other.state_dict().items())
