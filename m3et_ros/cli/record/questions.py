"""`m3et record --eqa`: episodes of the simulated kitchen with questions to be asked at their end, in OpenEQA's schema.

    m3et record kitchens --eqa --seed 20000 --episodes 20

writes kitchens/20000 ... kitchens/20019, kitchens/questions.json and kitchens/segments.csv, the actions done, with the
columns of EPIC-KITCHENS-100; of a single episode the bag is the folder itself.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from m3et_ros.cli.output import Refused, emit, say
from m3et_ros.cli.processes import stop_signals
from m3et_ros.cli.progress import track

QUESTIONS, SEGMENTS = 'questions.json', 'segments.csv'
LEAST_FRAMES = 2


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """What is to be recorded; see `m3et record --help`."""

    out: Path
    seed: int
    episodes: int
    frames: int
    fps: float
    width: int
    height: int
    storage: str
    images: str
    backend: str
    # Questions of each episode, at least 1.
    questions: int
    start_ns: int
    # Which verb of `m3et evaluate` answers them.
    verb: Literal['eqa', 'vqa'] = 'eqa'

    def bag(self, seed: int) -> Path:
        """Folder of the recording of a seed."""
        return self.out if self.episodes == 1 else self.out / str(seed)


class Watcher(Protocol):
    """Sees an episode while it is recorded."""

    def look(self, observation: Any) -> None:
        """Take in the next frame."""

    def finish(self) -> Any:
        """What can be asked, once the last frame is recorded; the episode may go on for that."""


class _Witnessed:
    """Watches for questions at the end of an episode."""

    def __init__(self, episode: Any):
        from m3et_ros.data.kitchen.questions.observer import Witness

        self._witness = Witness(episode)
        self.look = self._witness.look

    def finish(self) -> dict:
        """What can be asked, by category."""
        from m3et_ros.data.kitchen.questions.episode import episode_drafts

        return episode_drafts(self._witness.account())


def record_eqa(wish: RecordOptions, *, as_json: bool) -> None:
    """Record the episodes and write their questions; a signal ends it after the episodes that are whole.

    Raises:
        InputError: the questions cannot be written.
        Refused: a bag exists already, it was stopped before the first episode was whole, or nothing can be asked about
            what was seen.
    """
    import numpy as np

    from m3et_ros.data.kitchen.questions.episode import choose, worded

    done, drafts = record_episodes(wish, _Witnessed)
    rng = np.random.default_rng(wish.seed)
    chosen = choose(drafts, wish.questions, rng)
    questions = [question for seed, own in zip(done, chosen) for question in worded(own, wish.bag(seed).name, rng)]
    if not questions:
        raise Refused('nothing can be asked about what was seen; record more frames, 300 or more.')
    write_asked(wish, done, questions, as_json)


def record_episodes(wish: RecordOptions, watch: Callable[[Any], Watcher]) -> tuple[list[int], list[Any]]:
    """Record the episodes and write their actions; a signal ends it after the episodes that are whole.

    Args:
        wish: what is to be recorded.
        watch: makes a watcher of an episode.

    Returns:
        The seeds of the whole episodes, and what the watchers say of them.

    Raises:
        InputError: the actions cannot be written.
        Refused: --frames is too small, a bag exists already, or it was stopped before the first episode was whole.
    """
    from m3et_ros.data.epic.labels import write_segments

    seeds, found, segments, done = range(wish.seed, wish.seed + wish.episodes), [], [], []
    if wish.frames < LEAST_FRAMES:
        raise Refused(f'--frames is {wish.frames}; an episode to be asked about has at least {LEAST_FRAMES}.')
    there = next((wish.bag(seed) for seed in seeds if wish.bag(seed).exists()), None)
    if there is not None:
        raise Refused(f'{there} exists already and bags are never overwritten; remove it or give another folder.')
    with stop_signals() as stopped:
        for seed in seeds:
            recorded = _record(wish, seed, stopped, watch)
            if recorded is None:
                break
            segments += recorded[1]
            found.append(recorded[0].finish())
            done.append(seed)
    if not done:
        raise Refused(
            f'stopped before an episode was whole, so that there are no questions; what was recorded of seed '
            f'{wish.seed} stays in {wish.bag(wish.seed)}.'
        )
    write_segments(wish.out / SEGMENTS, segments, fps=wish.fps)
    return done, found


def write_asked(wish: RecordOptions, seeds: list[int], questions: list, as_json: bool) -> None:
    """Write the questions beside the bags and say what there is.

    Raises:
        InputError: 'out_unwritable'.
    """
    from m3et_ros.data.datasets.openeqa import write_questions

    write_questions(wish.out / QUESTIONS, questions)
    _tell(wish, seeds, questions, as_json)


def _record(
    wish: RecordOptions, seed: int, stopped: Any, watch: Callable[[Any], Watcher]
) -> tuple[Watcher, list] | None:
    """Record one episode; its watcher and its actions, or None where a signal came first."""
    from m3et_ros.data.bags.writer import BagWriter
    from m3et_ros.data.kitchen.sim.camera import Camera
    from m3et_ros.data.kitchen.sim.episode import Episode

    episode = Episode(seed, width=wish.width, height=wish.height, fps=wish.fps)
    watcher, bag = watch(episode), wish.bag(seed)
    with (
        BagWriter(bag, wish.storage, images=wish.images) as writer,
        Camera(episode, backend=wish.backend, shadows=False) as camera,
    ):
        for state in track(episode.run(wish.frames), wish.frames, f'recording {bag}'):
            observation = camera.observe(state)
            watcher.look(observation)
            writer.write_observation(observation, wish.start_ns)
            if stopped.is_set():
                return None
    return watcher, _segments(wish, seed, episode.labels)


def _segments(wish: RecordOptions, seed: int, labels: Any) -> list:
    """The actions that were finished; times count from the first frame."""
    from m3et_ros.data.epic.annotations import Segment

    bag = wish.bag(seed).name
    return [
        Segment(
            f'{bag}_{number}',
            bag,
            str(seed),
            label.start_s,
            label.stop_s,
            label.verb_class,
            label.noun_class,
            label.narration,
            label.verb,
            label.noun,
        )
        for number, label in enumerate(labels)
    ]


def _tell(wish: RecordOptions, seeds: list[int], questions: list, as_json: bool) -> None:
    path, bags, segments = wish.out / QUESTIONS, [str(wish.bag(seed)) for seed in seeds], wish.out / SEGMENTS
    if as_json:
        emit(
            {
                'bags': bags,
                'questions': str(path),
                'segments': str(segments),
                'asked': len(questions),
                'complete': len(seeds) == wish.episodes,
                'seeds': seeds,
                'frames': wish.frames,
                'categories': {
                    name: sum(question.category == name for question in questions)
                    for name in sorted({question.category for question in questions})
                },
            }
        )
        return
    ended = '' if len(seeds) == wish.episodes else f' (stopped early: {wish.episodes} were asked for)'
    seconds = math.floor(wish.frames / wish.fps)
    where = str(wish.out) if wish.episodes == 1 else f'{wish.out}/*/'
    say(
        f'{len(seeds)} episodes of {seconds} s{ended}, {len(questions)} questions in {path}, actions in {segments}.\n'
        f'Evaluate a model on them: m3et evaluate {wish.verb} {where} --questions {path} --model kitchen --out '
        f'results/{wish.verb}\n'
        f'and: m3et evaluate actions {where} --segments {segments} --model kitchen --out results/actions'
    )


# MERGED m3et_ros/cli/record_vqa: `m3et record --vqa`: episodes of the simulated kitchen with questions about single frames of them.
#
# MERGED     m3et record kitchens --vqa --seed 20000 --episodes 4 --questions 100
#
# MERGED writes kitchens/20000 ... kitchens/20003 and kitchens/questions.json, in OpenEQA's schema with the second of each frame
# MERGED as `time`. Questions have the families and the odds of those of a cache.
def record_vqa(wish: RecordOptions, *, as_json: bool) -> None:
    """Record the episodes and write their questions; a signal ends it after the episodes that are whole.

    Raises:
        InputError: the questions cannot be written.
        Refused: as record_episodes, or nothing can be asked about what was seen.
    """
    import numpy as np

    from m3et_ros.data.kitchen.questions.recorded_frames import FrameNotes, draw, worded_at

    done, frames = record_episodes(wish, lambda episode: FrameNotes(episode, wish.frames))
    rng = np.random.default_rng(wish.seed)
    try:
        drawn = draw(frames, wish.questions * len(done), rng)
    except ValueError as error:
        raise Refused(
            'nothing was seen in two ways, so that a question would give its answer away; record more '
            f'frames, 100 or more, or more episodes. What was recorded stays in {wish.out}.'
        ) from error
    write_asked(
        wish,
        done,
        [question for seed, own in zip(done, drawn) for question in worded_at(own, wish.bag(seed).name, rng)],
        as_json,
    )
