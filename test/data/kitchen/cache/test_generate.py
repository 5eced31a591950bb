"""Making caches: whole, resumable, the same every time."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache import generate as module
from m3et_ros.data.kitchen.cache.generate import generate, view_of
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, failures, read_shards, shard_name
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, PHRASINGS
from m3et_ros.data.kitchen.questions.recorded_frames import FrameNotes
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import FPS, Episode
from m3et_ros.data.kitchen.sim.mounts import Mount, draw_lens
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, CLASSES, NOUNS, VERBS
from m3et_ros.data.shards import open_shard

SMALL = {
    'version': 1,
    'seeds': range(7, 10),
    'size': 16,
    'frames': 3,
    'stride': 20,
    'block': 1,
    'backend': 'raycast',
    'progress': False,
}

CHILD = """
import sys
from pathlib import Path
from m3et_ros.data.kitchen.cache.generate import generate
if __name__ == '__main__':
    generate(Path(sys.argv[1]), seeds=range(7, 10), size=16, frames=3, stride=20, block=1, backend='raycast', version=1,
             workers=1, progress=False)
"""


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    return generate(tmp_path_factory.mktemp('whole'), workers=0, **SMALL)


def test_a_process_that_renders_does_without_torch():
    code = f'import sys, {module.__name__}; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_bytes(tmp_path, whole):
    script = tmp_path / 'child.py'
    script.write_text(CHILD)
    child = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    folder = tmp_path / whole.name
    deadline = time.monotonic() + 60
    while not list(folder.glob('0*')) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = list(folder.glob('0*'))
    (folder / f'.part-{shard_name(range(9, 10))}-1').mkdir()  # as if a shard had been half written
    assert done and generate(tmp_path, workers=0, **SMALL) == folder
    assert digests(folder) == digests(whole) and not list(folder.glob('.part*'))


def test_finished_blocks_are_not_made_again(whole, monkeypatch):
    monkeypatch.setattr(module, 'make_shard', None)  # calling it would fail
    before = digests(whole)
    assert generate(whole.parent, workers=0, **SMALL) == whole and digests(whole) == before


def test_a_stored_frame_has_the_types_and_ranges_of_its_fields(whole):
    assert len(read_shards(whole)) == 3
    shard = open_shard(whole / shard_name(range(7, 8)))
    assert shard.frames['tick'].tolist() == [0, 20, 40] and set(shard.frames['seed']) == {7}
    assert 100 < np.median(shard.frames['depth']) < 6000  # millimetres
    assert set(np.unique(shard.frames['semseg'])) <= {*range(len(CLASSES)), 255}
    assert (shard.frames['now'] < [len(VERBS), len(NOUNS)]).all() and (shard.frames['next'] >= -1).all()
    for kind, fields in shard.header['questions']:
        assert PHRASINGS[kind][0].format(**fields).endswith('?')
    assert shard.questions['answer'].min() >= 0 and shard.questions['answer'].max() < len(ANSWERS)


def test_training_episodes_end_before_what_is_held_out(caches):
    """Seed 3 comes to a held-out action; 0 and 1 hold a held-out combination."""
    shards = [open_shard(path) for path in read_shards(caches['train'])]
    skipped = {seed: why for shard in shards for seed, why in shard.header['skipped'].items()}
    assert set(skipped) == {'0', '1'} and 'red bowl' in skipped['0']
    frames = np.concatenate([shard.frames for shard in shards])
    assert (frames['seed'] == 2).sum() == 11 and 0 < (frames['seed'] == 3).sum() < 11


def test_a_seed_that_fails_is_noted_and_left_out(tmp_path, monkeypatch, caplog):
    def fail(seed, recipe):
        if seed == 8:
            raise RuntimeError('out of sugar')
        return original(seed, recipe)

    original = module.render
    monkeypatch.setattr(module, 'render', fail)
    folder = generate(tmp_path, workers=0, **SMALL | {'block': 3, 'frames': 1})
    assert failures(folder) == {8: 'RuntimeError: out of sugar'} and 'out of sugar' in caplog.text
    assert set(open_shard(read_shards(folder)[0]).frames['seed']) == {7, 9}


def test_two_runs_at_a_time_are_refused(tmp_path):
    folder = tmp_path / CacheRecipe(7, 10, 16, 20, 3, block=1, backend='raycast', version=1).name
    with module.exclusive(folder), pytest.raises(InputError, match='Another run'):
        generate(tmp_path, workers=0, **SMALL)


def test_a_cache_of_another_recipe_is_refused(whole, tmp_path):
    folder = tmp_path / whole.name
    folder.mkdir()
    recipe = json.loads((whole / 'recipe.json').read_text())
    (folder / 'recipe.json').write_text(json.dumps(recipe | {'block': 2}))
    with pytest.raises(InputError, match='another recipe'):
        generate(tmp_path, workers=0, **SMALL)


def test_a_root_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='cannot be written'):
        generate(tmp_path / 'file', workers=0, **SMALL)


def test_views_are_of_real_cameras_shapes():
    views = [view_of(seed, 112, version=1) for seed in range(40)]
    assert {(view['width'], view['height']) for view in views} == {(224, 168), (259, 145)}
    fovy = [view['fovy'] for view in views]
    assert 55 <= min(fovy) < 60 and 70 < max(fovy) <= 75
    assert {view['mount'] for view in views} == {Mount()}


def test_views_of_version_2_have_the_lens_of_the_seed_and_a_third_more_pixels_than_are_stored():
    for seed in range(20):
        view, lens = view_of(seed, 224, version=2), draw_lens(np.random.default_rng((seed, 1)), 'own')
        assert (view['fovy'], view['mount']) == (lens.fovy, lens.mount)
        assert view['width'] / view['height'] == pytest.approx(lens.aspect, rel=0.01)
        assert view['width'] * view['height'] == pytest.approx(1.3 * 224**2, rel=0.01)


@pytest.mark.parametrize(
    'wrong',
    [
        {'seeds': range(0)},
        {'seeds': range(9_999, 10_001)},
        {'seeds': range(0, 9, 2)},
        {'size': 18},
        {'frames': 0},
        {'workers': -1},
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        generate(tmp_path, **{'workers': 0, **SMALL, **wrong})
    assert not list(tmp_path.iterdir())


def test_the_recipe_reaches_the_episode_and_the_camera(tmp_path, monkeypatch):
    made = {}

    def episode(seed, **options):
        made['episode'] = {'seed': seed, **options}
        return Episode(seed, **options)

    def camera(seen, **options):
        made['camera'] = options
        return Camera(seen, **options)

    monkeypatch.setattr(module, 'Episode', episode)
    monkeypatch.setattr(module, 'Camera', camera)
    recipe = CacheRecipe(20_003, 20_004, 16, 20, 2, shadows=True, backend='raycast', version=1)
    rendered = module.render(20_003, recipe)
    assert made == {
        'episode': {'seed': 20_003, 'fps': FPS, 'version': 1, **view_of(20_003, 16, version=1)},
        'camera': {'backend': 'raycast', 'shadows': True},
    }
    assert [int(frame['tick']) for frame, _ in rendered.frames] == [0, 20]
    module.render(20_003, CacheRecipe(20_003, 20_004, 16, 20, 1, backend='raycast', version=2, camera='other'))
    other = view_of(20_003, 16, version=2, camera='other')
    assert other != view_of(20_003, 16, version=2) and other['mount'] != Mount()
    assert made == {
        'episode': {'seed': 20_003, 'fps': FPS, 'version': 2, **other},
        'camera': {'backend': 'raycast', 'shadows': None},
    }


def test_a_cache_asks_what_a_recording_of_the_same_frames_asks():
    recipe = CacheRecipe(20_003, 20_004, 16, 20, 4, backend='raycast')
    rendered = module.render(20_003, recipe)
    episode = Episode(20_003, fps=FPS, **view_of(20_003, 16))
    notes = FrameNotes(episode, 4)
    with Camera(episode, backend='raycast') as camera:
        for state in episode.run(61):
            if state.tick % 20 == 0:
                notes.observe(camera.observe(state))
    assert [rows for _, rows in rendered.frames] == [rows for _, rows in notes.finish()]


def test_a_cut_training_episode_has_no_frame_question_point_or_action_after_the_cut(monkeypatch):
    """Render seed 2 with cuts at the start of an action, at a question point and right after it."""
    recipe = CacheRecipe(2, 3, 16, 5, 22, backend='raycast', version=1)
    whole = module.render(2, recipe)
    (tick,) = whole.drafts
    assert len(whole.frames) == 22 and tick == 95
    for until in (whole.actions[0][0], 9.5, 9.5001):
        monkeypatch.setattr(module, 'safe_until', lambda episode, until=until: until)
        cut = module.render(2, recipe)
        assert [int(frame['tick']) for frame, _ in cut.frames] == [n for n in range(0, 106, 5) if n / FPS < until]
        assert cut.actions == [action for action in whole.actions if action[0] < until]
        assert list(cut.drafts) == [n for n in (95,) if n / FPS < until]


def test_actions_are_stored_by_their_index(whole):
    for path in read_shards(whole):
        header = open_shard(path).header
        assert header['verbs'] == list(VERBS) and header['nouns'] == list(NOUNS)
        for actions in header['actions'].values():
            for start, stop, verb, noun in actions:
                assert 0 <= start < stop and NOUNS and list(NOUNS)[noun] in AFFORDS[list(VERBS)[verb]]
