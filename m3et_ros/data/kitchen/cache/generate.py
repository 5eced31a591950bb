"""The kitchen as a cache of shards: rendered once, read many times.

    generate(Path('~/.cache/m3et').expanduser(), seeds=range(0, 2000))

Left alone it can be killed at any moment and called again: blocks of seeds that are finished are not made again, and
the same seed gives the same frames and questions in whichever run (with the same renderer).
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
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, read_recipe, shard_name, troubles
from m3et_ros.data.kitchen.questions.checkpoints import Drafts, Moments, chosen
from m3et_ros.data.kitchen.questions.frame import Scenery
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.questions.recorded_frames import AFTER, following, frame_questions, safe_until
from m3et_ros.data.kitchen.questions.splits import held_out_sights, split_of
from m3et_ros.data.kitchen.sim.camera import Camera, Observation
from m3et_ros.data.kitchen.sim.episode import FPS, Episode
from m3et_ros.data.kitchen.sim.renderers import choose_backend
from m3et_ros.data.kitchen.sim.scene import build_scene
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, VERBS
from m3et_ros.data.kitchen.sim.world import ActionLabel
from m3et_ros.data.preprocess import squeeze_depth, squeeze_labels, squeeze_rgb
from m3et_ros.data.shards import QUESTION, clear_parts, frame_type, write_shard

log = logging.getLogger(__name__)

RENDERED = 3
"""Pixels rendered for one pixel stored: smooth pictures for 30 per cent more time than without any to spare."""

ASPECTS = (4 / 3, 16 / 9)
FOVY = (55.0, 75.0)
"""Shapes of real cameras' pictures and their vertical fields of view in degrees; each seed has one of each."""

VERB_AT, NOUN_AT = ({key: i for i, key in enumerate(keys)} for keys in (VERBS, NOUNS))


def generate(root: Path, *, seeds: range, workers: int = 2, progress: bool = True, **recipe) -> Path:
    """Make a cache, or what is missing of it; returns its folder.

    A seed that fails is noted in its shard's header under 'failed' and left out, as are training seeds with held-out
    sights under 'skipped'.

    Args:
        root: folder of the caches.
        seeds: consecutive seeds of one split.
        workers: processes; 0 works in this one.
        progress: whether to show a bar with the time left.
        recipe: other fields of Recipe.

    Raises:
        ValueError: an argument is out of its range.
        InputError: the disk is full, another run works on this cache, or the cache was made otherwise.
        RuntimeError: a worker died (of memory, say); what was finished is kept; or the backend does not work here.
        ImportError: MuJoCo is not installed.
    """
    if not len(seeds) or seeds.step != 1 or not 0 <= workers <= 256:
        raise ValueError(f'seeds is {seeds} and workers {workers}; give consecutive seeds and 0 to 256 workers')
    wanted = CacheRecipe(first=seeds.start, last=seeds.stop, **recipe)
    choose_backend(wanted.backend)  # without a renderer every single seed would fail
    folder = Path(root) / wanted.name
    with _alone(folder):
        clear_parts(folder)
        _note(folder, wanted)
        blocks = [block for block in wanted.blocks() if not (folder / shard_name(block)).exists()]
        total, missing = len(seeds), sum(map(len, blocks))
        with tqdm(total=total, initial=total - missing, unit='seed', disable=not progress, desc=wanted.name) as bar:
            for block in _work(folder, wanted, blocks, workers):
                bar.update(len(block))
    for seed, why in troubles(folder).items():
        log.warning('seed %d of %s is left out: %s', seed, wanted.name, why)
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other runs."""
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


def _note(folder: Path, wanted: CacheRecipe) -> None:
    """Write the recipe into the cache, or see that it is the same."""
    path, values = folder / 'recipe.json', asdict(wanted)
    if not path.exists():
        part = path.with_suffix('.part')
        part.write_text(json.dumps(values, indent=2), encoding='utf-8')
        part.replace(path)
    if read_recipe(folder) != wanted:
        raise InputError(
            'foreign_cache', f'{folder} was made with another recipe than {values}; delete it, or give another root.'
        )


def _work(folder: Path, recipe: CacheRecipe, blocks: list[range], workers: int) -> Iterator[range]:
    """Make the blocks and yield each as it is done."""
    if not workers:
        for block in blocks:
            make_shard(folder, recipe, block)
            yield block
        return
    # Forking would copy an OpenGL platform that is bound already.
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
    """One thread, and no life without the parent: a killed run leaves nobody behind who writes."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def follow():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def make_shard(folder: Path, recipe: CacheRecipe, seeds: range) -> None:
    """Render some seeds into one shard.

    Raises:
        InputError: the disk is full.
    """
    words: dict[tuple, int] = {}
    frames, questions, moments = [], [], {}
    header = {'seeds': list(seeds), 'failed': {}, 'skipped': {}, 'sights': {}, 'actions': {}}
    for seed in seeds:
        sights = _sights(seed)
        if sights and split_of(seed) == 'train':
            header['skipped'][seed] = f'holds {", ".join(sights)}'
            continue
        try:
            seen, actions, moments[seed] = render(seed, recipe)
        except Exception as error:  # one broken kitchen must not cost the night
            header['failed'][seed] = f'{type(error).__name__}: {error}'
            continue
        header['sights'][seed], header['actions'][seed] = list(sights), actions
        for frame, asked in seen:
            frame['first'], frame['asked'] = len(questions), len(asked)
            frames.append(frame)
            questions += [(words.setdefault(wording, len(words)), answer, held) for wording, answer, held in asked]
    header['moments'] = chosen(moments, np.random.default_rng((seeds.start, 4)))
    header |= {
        'questions': [[kind, dict(fields)] for _, kind, fields in words],
        'answers': list(ANSWERS),
        'families': [family for family, _, _ in words],
        'verbs': list(VERBS),
        'nouns': list(NOUNS),
    }
    stored = np.array(frames, frame_type(recipe.size)) if frames else np.empty(0, frame_type(recipe.size))
    write_shard(folder / shard_name(seeds), stored, np.array(questions, QUESTION), header)


def _sights(seed: int) -> tuple[str, ...]:
    """Held-out sights of a seed's kitchen, without a renderer."""
    for_scene, _ = np.random.default_rng(seed).spawn(2)  # as Episode draws it
    return held_out_sights(build_scene(for_scene))


def view_of(seed: int, size: int) -> dict[str, float]:
    """Width, height and vertical field of view of a seed's camera: about RENDERED * size^2 pixels."""
    rng = np.random.default_rng((seed, 1))
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    return {
        'width': round(size * (RENDERED * aspect) ** 0.5),
        'height': round(size * (RENDERED / aspect) ** 0.5),
        'fovy': float(rng.uniform(*FOVY)),
    }


def render(
    seed: int, recipe: CacheRecipe
) -> tuple[list[tuple[np.ndarray, list[tuple]]], list[list], dict[int, Drafts]]:
    """The frames of an episode and what can be asked of each, (wording, answer, held out); its actions; its moments.

    An action is [start and stop in seconds, place of the verb, place of the noun]; the one under way at the end is left
    out.
    """
    episode = Episode(seed, fps=FPS, **view_of(seed, recipe.size))
    seen, moments = [], Moments(episode, recipe.stride)
    with Camera(episode, backend=recipe.backend, shadows=recipe.shadows) as camera:
        for state in episode.run((recipe.frames - 1) * recipe.stride + 1):
            if state.tick % recipe.stride == 0:
                observation = camera.observe(state)
                moments.look(observation)
                seen.append((_frame(seed, observation, recipe.size), Scenery(episode, observation)))
    for _ in episode.run(AFTER):
        pass
    until, found = safe_until(episode), []
    for frame, scenery in seen:
        if scenery.state.stamp_s < until:
            frame['now'], frame['next'] = _action(scenery.state.current), _action(following(scenery))
            rng = np.random.default_rng((seed, 2, int(frame['tick'])))
            found.append((frame, frame_questions(scenery, rng)))
    actions = [[label.start_s, label.stop_s, *_action(label)] for label in episode.labels if label.start_s < until]
    return found, actions, moments.before(until)


def _frame(seed: int, observation: Observation, size: int) -> np.ndarray:
    """One record, its actions and questions still to come."""
    frame = np.zeros((), frame_type(size))
    millimetres = np.nan_to_num(squeeze_depth(observation.depth, size)) * 1000
    frame['rgb'], frame['depth'] = squeeze_rgb(observation.rgb, size), millimetres.round().clip(0, 65535)
    frame['semseg'] = squeeze_labels(observation.semantic, frame['semseg'].shape[0])
    frame['seed'], frame['tick'] = seed, observation.state.tick
    return frame


def _action(label: ActionLabel | None) -> tuple[int, int]:
    return (VERB_AT[label.verb], NOUN_AT[label.noun]) if label else (-1, -1)
