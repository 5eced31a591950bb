"""Recordings are measured like kitchens, as far as a bag knows the truth; a damaged bag leaves the others alone."""

import json

import numpy as np
import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.tasks.reconstruction_in_bags import measure_bags
from m3et_ros.runtime.open_model import untrained


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Two bags with depth, one without, and one that is none."""
    folder = tmp_path_factory.mktemp('bags')
    for number, name in enumerate(('a', 'b', 'colour')):
        rng = np.random.default_rng(number)
        with BagWriter(folder / name) as bag:
            for at in range(4):
                depth = rng.uniform(1, 3, (24, 32)).astype(np.float32)
                bag.write_frame(
                    Frame(
                        rng.integers(0, 255, (24, 32, 3), dtype=np.uint8),
                        None if name == 'colour' else depth,
                        10**18 + at * 10**8,
                    )
                )
    (folder / 'bad.mcap').write_bytes(b'nothing')
    return folder


@pytest.fixture(scope='module')
def tiny():
    return untrained('tiny', 0)


def test_bags_with_depth_are_measured_over_bags(bags, tiny, tmp_path):
    found = measure_bags(tiny, [bags / 'b', bags / 'a'], tmp_path, frames=3)
    metrics = found.metrics
    assert metrics['frames'] == 6 and list(metrics['bags']) == ['a', 'b'] and len(found.rows) == 6
    assert metrics['hidden']['psnr_hidden_db']['kitchens'] == 2  # intervals are over bags
    assert metrics['full']['depth_in_holes']['model']['rmse_m']['value'] > 0
    each = [metrics['bags'][name]['hidden']['psnr_hidden_db']['value'] for name in 'ab']
    assert min(each) <= metrics['hidden']['psnr_hidden_db']['value'] <= max(each)
    assert 'segmentation' not in metrics['full'] and len(metrics['bags']['a']['files']) == 2
    assert measure_bags(tiny, [bags / 'a', bags / 'b'], tmp_path, frames=3).metrics == metrics


def test_the_seed_and_the_number_of_frames_reach_the_measurement(bags, tiny, tmp_path):
    one, same, other = (measure_bags(tiny, [bags / 'a'], tmp_path, frames=3, seed=seed) for seed in (1, 1, 2))
    assert one.metrics == same.metrics != other.metrics
    whole = measure_bags(tiny, [bags / 'a'], tmp_path, frames=50)
    assert whole.metrics['frames'] == 4 and len(whole.rows) == 4
    assert [name for name, _ in whole.images] == ['a 0', 'a 1', 'a 2', 'a 3'] and whole.rows[0]['bag'] == 'a'
    assert whole.metrics['bags']['a']['rgb'].endswith('color/image_raw')
    assert whole.metrics['bags']['a']['depth'].endswith('aligned_depth_to_color/image_raw')


def test_measures_that_a_bag_lacks_are_scored_for_the_others(bags, tiny, tmp_path):
    metrics = measure_bags(tiny, [bags / 'a', bags / 'colour', bags / 'bad.mcap'], tmp_path, frames=2).metrics
    assert 'depth_in_holes' not in metrics['full'] and 'depth_in_holes' in metrics['bags']['a']['full']
    assert metrics['bags']['colour']['depth'] is None and 'damaged' in metrics['bags']['bad']['failed']
    assert metrics['frames'] == 4


def test_bags_that_cannot_be_measured_are_refused(bags, tiny, tmp_path):
    for given, words in (
        ([bags / 'bad.mcap'], 'none of the bags.*damaged'),
        ([bags / 'a', bags / 'x' / 'a'], 'one name'),
    ):
        with pytest.raises(InputError, match=words):
            measure_bags(tiny, given, tmp_path, frames=2)


def test_the_command_measures_bags(bags, tmp_path, capsys):
    assert (
        main(
            [
                'evaluate',
                'reconstruction',
                str(bags / 'a'),
                str(bags / 'bad.mcap'),
                '--model',
                'tiny',
                '--frames',
                '3',
                '--out',
                str(tmp_path),
            ]
        )
        == 0
    )
    printed = capsys.readouterr()
    assert 'PSNR of hidden patches' in printed.out and 'bad: ' in printed.err
    found = json.loads((tmp_path / 'metrics.json').read_text())
    assert found['made_by']['command'] == (
        f'm3et evaluate reconstruction {bags / "a"} {bags / "bad.mcap"} --model tiny --frames 3'
    )
    assert (tmp_path / 'pictures' / 'frames.png').stat().st_size > 10_000
    assert len((tmp_path / 'per_sample.csv').read_text().splitlines()) == 4
