"""The benchmarks of speed at the smallest sizes: agreement, results, and equal work on both sides."""

import json
import sys

import pytest
import torch

from m3et_ros.models.m3et.sizes import BASE, SIZES


@pytest.fixture
def run(script, tmp_path, monkeypatch):
    """Run a script with options; what it writes."""

    def start(name, *options):
        out = tmp_path / f'{name}.json'
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', '--rounds', '1', '--results', str(out), *map(str, options)])
        script(name).main()
        torch.set_flush_denormal(False)
        return json.loads(out.read_text())

    return start


def test_scans_agree_and_are_timed(run):
    found = run('ssd', '--tokens', 20, '--inner', 128, '--states', 16)
    assert len(found['cases']) == 4 and found['environment']['threads'] == 1
    for name, rows in found['cases'].items():
        assert rows['cpu_ms'].keys() == rows['error'].keys() and max(rows['error'].values()) < 1e-4, name
        assert all(value > 0 for value in rows['times_as_fast'].values())


def test_the_images_made_for_the_node_differ_and_have_a_tenth_of_holes(script):
    first, second = script('node').made_frames(2)
    assert first.rgb.shape == (480, 640, 3) and (first.rgb != second.rgb).any()
    assert all(abs((frame.depth != frame.depth).mean() - 0.1) < 0.01 for frame in (first, second))


def test_the_listing_is_the_operator(script):
    ssd = script('ssd')
    inputs = ssd.ssd_inputs(130, 128, 16, 2)
    for found, wanted in zip(ssd.listing(**inputs), ssd.ssd_reference(**{n: t.double() for n, t in inputs.items()})):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)


def test_a_side_that_is_wrong_stops_the_benchmark(script):
    ssd = script('ssd')
    inputs = ssd.ssd_inputs(20, 128, 16, 1)
    wrong = {'listing': lambda **i: (1.01 * ssd.listing(**i)[0], None)}
    with pytest.raises(SystemExit, match='listing is off by'):
        ssd.case(wrong, ssd.ssd_reference, inputs, 'listing', 1, 'case', False)


def test_growth_is_measured_and_drawn(run, tmp_path):
    found = run(
        'scaling', '--size', 'tiny', '--tokens', 8, 64, '--batch', 1, 2, '--sides', 32, '--plot', tmp_path / 'plot.png'
    )
    assert set(found['tokens']) == {'tiny (TMTMTM)', 'Transformer', 'Mamba-2'}
    assert all(rows['64']['mib'] > rows['8']['mib'] > 0 for rows in found['tokens'].values())
    assert (tmp_path / 'plot.png').stat().st_size > 10_000


def test_both_sides_encode_the_same_tokens(script):
    models = script('models')
    ids = models.visible_ids(98, 2)
    assert ids.shape == (2, 98) and models.visible_ids(588, 2) is None and ids.max() < 3 * BASE.image_tokens

    class Recorder(torch.nn.Module):
        def forward(self, x, task_masks=None, mask_inputs=False, num_encoded_tokens=None):
            # As the published code: what it draws at random takes the place of masks that are not given.
            assert (task_masks is None) == mask_inputs
            self.masks, self.keep, self.restore = (
                (task_masks, None, None)
                if task_masks
                else self.generate_random_masks(x, num_encoded_tokens, alphas=1.0, sample_tasks_uniformly=True)
            )
            return dict.fromkeys(x, torch.zeros(1)), None

    inner = Recorder()
    models.Theirs(inner)(*models.images(2), ids)
    hidden = torch.cat(list(inner.masks.values()), 1)
    assert ((hidden == 0).sum(1) == 98).all() and (hidden.gather(1, ids) == 0).all()
    assert torch.equal(inner.keep, ids) and torch.equal(
        torch.arange(588).expand(2, -1),
        torch.cat([inner.keep, hidden.nonzero()[:, 1].view(2, -1)], 1).gather(1, inner.restore),
    )
    models.Theirs(inner)(*models.images(2), None)
    assert not any(mask.any() for mask in inner.masks.values())
    assert set(models.SMALL) <= set(SIZES)


def test_a_folder_without_multimae_is_refused(script, tmp_path):
    with pytest.raises(SystemExit, match='not a check-out of MultiMAE'):
        script('models').multimae(tmp_path)
