"""The generator of caches: every kitchen is rendered once into shards and read many times.

    generate(Path('~/.cache/m3et').expanduser(), seeds=range(0, 2000))

A run can be killed at any moment and started again: it keeps the finished blocks of seeds. With the same renderer, a
seed gives the same frames and questions in every run.

From a seed to a question: after cache/recipe.py, before cache/dataset.py (samples) and cache/episodes.py (episodes).
"""

import contextlib
import fcntl
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
from tqdm import tqdm

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, failures, read_recipe, shard_name
from m3et_ros.data.kitchen.questions.checkpoints import CheckpointObserver, Drafts, choose_stored
from m3et_ros.data.kitchen.questions.frame import VisibleScene
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.questions.recorded_frames import AFTER, Row, Wording, frame_questions, safe_until
from m3et_ros.data.kitchen.questions.splits import held_out_appearances, split_of
from m3et_ros.data.kitchen.sim.camera import Camera, Observation
from m3et_ros.data.kitchen.sim.episode import FPS, Episode
from m3et_ros.data.kitchen.sim.mounts import STRAIGHT, CameraKind, Lens, Mount, draw_lens
from m3et_ros.data.kitchen.sim.renderers import choose_backend
from m3et_ros.data.kitchen.sim.scene import DEFAULT_VERSION, build_scene
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, VERBS
from m3et_ros.data.kitchen.sim.world import ActionLabel
from m3et_ros.data.preprocess import squeeze_depth, squeeze_labels, squeeze_rgb
from m3et_ros.data.shards import QUESTION, clear_parts, frame_type, write_shard

log = logging.getLogger(__name__)

RENDERED = {1: 3.0, 2: 1.3}
"""Version -> pixels rendered for one pixel stored; averaging them smooths pictures and costs time."""

ASPECTS = (4 / 3, 16 / 9)
"""Width over height of the pictures of version 1; each seed has one of them."""

FOVY = (55.0, 75.0)
"""Range of their vertical fields of view in degrees."""

VERB_INDEX = {verb: i for i, verb in enumerate(VERBS)}
NOUN_INDEX = {noun: i for i, noun in enumerate(NOUNS)}


class CameraView(TypedDict):
    """The size of a picture in pixels, its vertical field of view in degrees and the mount of the camera."""

    width: int
    height: int
    fovy: float
    mount: Mount


@dataclass(frozen=True)
class RenderedEpisode:
    """The content of a cache about one seed."""

    # Records of shards.frame_type, without their `first` and `asked`, each with its questions.
    frames: list[tuple[np.ndarray, list[Row]]]
    # [start and stop in seconds, index of the verb, index of the noun]; without the one under way at the end.
    actions: list[list]
    # Tick -> possible questions about the episode so far.
    drafts: dict[int, Drafts]


def generate(root: Path, *, seeds: range, workers: int = 2, progress: bool = True, **recipe: Any) -> Path:
    """Make a cache, or the missing part of it, and return its folder.

    A seed that fails is left out, and the header of its shard records the reason under 'failed'. Training seeds with
    held-out colours or textures are left out too, and recorded under 'skipped'.

    Args:
        root: folder of the caches.
        seeds: consecutive seeds of one split.
        workers: processes, 0 to 256; 0 works in this one.
        progress: show a bar with the time left.
        recipe: other fields of CacheRecipe.

    Raises:
        ValueError: an argument is out of its range.
        InputError: the disk is full, another run works on this cache, or the cache has another recipe.
        RuntimeError: a worker died, perhaps out of memory (finished shards stay), or the backend does not work.
        ImportError: MuJoCo is not installed.
    """
    if not len(seeds) or seeds.step != 1 or not 0 <= workers <= 256:
        raise ValueError(f'seeds is {seeds} and workers {workers}; give consecutive seeds and 0 to 256 workers')
    wanted = CacheRecipe(first=seeds.start, last=seeds.stop, **recipe)
    choose_backend(wanted.backend)  # without a renderer every single seed would fail
    folder = Path(root) / wanted.name
    with exclusive(folder):
        clear_parts(folder)
        _record_recipe(folder, wanted)
        blocks = [block for block in wanted.blocks() if not (folder / shard_name(block)).exists()]
        total, missing = len(seeds), sum(map(len, blocks))
        with tqdm(total=total, initial=total - missing, unit='seed', disable=not progress, desc=wanted.name) as bar:
            for block in _make_shards(folder, wanted, blocks, workers):
                bar.update(len(block))
    for seed, reason in failures(folder).items():
        log.warning('seed %d of %s is left out: %s', seed, wanted.name, reason)
    return folder


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Make a folder and lock it against other runs.

    Raises:
        InputError: the folder cannot be written, or another run has locked it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / 'lock').open('w')
    except OSError as error:
        raise InputError(
            'cache_unwritable', f'{folder} cannot be written ({error.strerror}); give a folder that can.'
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError('cache_busy', f'Another run is making {folder}; wait for it, or stop it.') from error
        yield


def _record_recipe(folder: Path, wanted: CacheRecipe) -> None:
    """Write the recipe into a new cache, or check that of an old one."""
    path, values = folder / 'recipe.json', asdict(wanted)
    if not path.exists():
        with write_atomically(path) as part:
            part.write_text(json.dumps(values, indent=2), encoding='utf-8')
    if read_recipe(folder) != wanted:
        raise InputError(
            'foreign_cache', f'{folder} was made with another recipe than {values}; delete it, or give another root.'
        )


def _make_shards(folder: Path, recipe: CacheRecipe, blocks: list[range], workers: int) -> Iterator[range]:
    """Make the shards and yield the seeds of each finished one."""
    if not workers:
        for block in blocks:
            make_shard(folder, recipe, block)
            yield block
        return
    # A forked process would inherit a bound OpenGL platform.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        pending = {pool.submit(make_shard, folder, recipe, block): block for block in blocks}
        try:
            for done in as_completed(pending):
                done.result()
                yield pending[done]
        except BrokenProcessPool as error:
            raise RuntimeError(
                f'a worker that rendered for {folder} died; run it again with fewer workers, what is finished is kept'
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Set one thread, and end with the parent, so that a killed run leaves no writing process behind."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None, 'a worker of a pool has a parent'

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def make_shard(folder: Path, recipe: CacheRecipe, seeds: range) -> None:
    """Render some seeds into one shard.

    Raises:
        InputError: the disk is full.
    """
    wordings: dict[Wording, int] = {}
    frames: list[np.ndarray] = []
    questions: list[tuple[int, int, bool]] = []
    drafts: dict[int, dict[int, Drafts]] = {}
    header: dict[str, Any] = {'seeds': list(seeds), 'failed': {}, 'skipped': {}, 'sights': {}, 'actions': {}}
    for seed in seeds:
        for_scene, _ = np.random.default_rng(seed).spawn(2)  # as Episode draws it
        held_out = held_out_appearances(build_scene(for_scene, recipe.version))
        if held_out and split_of(seed) == 'train':
            header['skipped'][seed] = f'holds {", ".join(held_out)}'
            continue
        try:
            rendered = render(seed, recipe)
        except Exception as error:  # one broken kitchen must not end a long run
            header['failed'][seed] = f'{type(error).__name__}: {error}'
            continue
        header['sights'][seed], header['actions'][seed] = list(held_out), rendered.actions
        drafts[seed] = rendered.drafts
        for frame, rows in rendered.frames:
            frame['first'], frame['asked'] = len(questions), len(rows)
            frames.append(frame)
            questions += [(wordings.setdefault(key, len(wordings)), answer, held) for key, answer, held in rows]
    header['moments'] = choose_stored(drafts, np.random.default_rng((seeds.start, 4)))
    header |= {
        'questions': [[kind, dict(fields)] for _, kind, fields in wordings],
        'answers': list(ANSWERS),
        'families': [family for family, _, _ in wordings],
        'verbs': list(VERBS),
        'nouns': list(NOUNS),
    }
    stored = np.array(frames, frame_type(recipe.size)) if frames else np.empty(0, frame_type(recipe.size))
    write_shard(folder / shard_name(seeds), stored, np.array(questions, QUESTION), header)


def view_of(seed: int, size: int, *, version: int = DEFAULT_VERSION, camera: CameraKind = 'own') -> CameraView:
    """Draw the camera of a seed, with about RENDERED * size^2 pixels, and at least 16 on each side."""
    rng = np.random.default_rng((seed, 1))
    if version == 1:
        aspect = ASPECTS[rng.integers(len(ASPECTS))]
        lens = Lens(float(rng.uniform(*FOVY)), aspect, STRAIGHT)
    else:
        lens = draw_lens(rng, camera)
    return {
        'width': max(16, round(size * (RENDERED[version] * lens.aspect) ** 0.5)),
        'height': max(16, round(size * (RENDERED[version] / lens.aspect) ** 0.5)),
        'fovy': lens.fovy,
        'mount': lens.mount,
    }


def render(seed: int, recipe: CacheRecipe) -> RenderedEpisode:
    """Render the episode of a seed and collect the questions about it."""
    view = view_of(seed, recipe.size, version=recipe.version, camera=recipe.camera)
    episode = Episode(seed, fps=FPS, version=recipe.version, **view)
    shadows = recipe.shadows if recipe.version == 1 else None  # as the seed has it
    observed, checkpoints = [], CheckpointObserver(episode, recipe.stride)
    with Camera(episode, backend=recipe.backend, shadows=shadows) as camera:
        for state in episode.run((recipe.frames - 1) * recipe.stride + 1):
            if state.tick % recipe.stride == 0:
                observation = camera.observe(state)
                checkpoints.observe(observation)
                observed.append((_frame(seed, observation, recipe.size), VisibleScene(episode, observation)))
    for _ in episode.run(AFTER):
        pass
    until, frames = safe_until(episode), []
    for frame, scene in observed:
        if scene.state.stamp_s < until:
            frame['now'], frame['next'] = _action(scene.state.current), _action(scene.next_action)
            rng = np.random.default_rng((seed, 2, int(frame['tick'])))
            frames.append((frame, frame_questions(scene, rng)))
    actions = [[label.start_s, label.stop_s, *_action(label)] for label in episode.labels if label.start_s < until]
    return RenderedEpisode(frames, actions, checkpoints.before(until))


def _frame(seed: int, observation: Observation, size: int) -> np.ndarray:
    """Return the record of one frame, still without its actions and questions."""
    frame = np.zeros((), frame_type(size))
    millimetres = np.nan_to_num(squeeze_depth(observation.depth, size)) * 1000
    frame['rgb'], frame['depth'] = squeeze_rgb(observation.rgb, size), millimetres.round().clip(0, 65535)
    frame['semseg'] = squeeze_labels(observation.semantic, frame['semseg'].shape[0])
    frame['seed'], frame['tick'] = seed, observation.state.tick
    return frame


def _action(label: ActionLabel | None) -> tuple[int, int]:
    return (VERB_INDEX[label.verb], NOUN_INDEX[label.noun]) if label else (-1, -1)
