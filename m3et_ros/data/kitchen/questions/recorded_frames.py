"""Questions about the frames of a cached or recorded episode, with the odds of the cache.

    notes = FrameNotes(episode, frames=300)
    for state in episode.run(300):
        notes.observe(camera.observe(state))
    drawn = draw([notes.finish()], 24, rng)
    questions = worded_at(drawn[0], 'kitchen_bag', rng)

From a seed to a question: after questions/splits.py, before cache/recipe.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.kitchen.questions.balance import Balance
from m3et_ros.data.kitchen.questions.frame import VisibleScene, drafts
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, phrasings
from m3et_ros.data.kitchen.questions.splits import concerns_held_out, is_held_out, last_safe_stamp, split_of
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import FPS, Episode
from m3et_ros.data.kitchen.sim.scene import DEFAULT_VERSION

AFTER = 80
"""Ticks (of 1 / FPS) that an episode advances after its last frame, so that the next action of that frame is known."""

PER_ANSWER = 3
"""Largest number of questions of one kind with one answer about a frame; dozens of 'no' would add bytes, not facts."""

MOST_FRAMES = 100
"""Most frames of a recording with questions; they are evenly spaced."""

PATIENCE = 50
"""Number of attempts per requested question before the draw gives up."""

ANSWER_INDEX = {answer: i for i, answer in enumerate(ANSWERS)}

Wording = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, kind and the fields of its wording."""

Row = tuple[Wording, int, bool]
"""A question of a frame: wording, index of its answer in ANSWERS, and True if it is held out."""


@dataclass(frozen=True)
class Drawn:
    """A question about one frame."""

    # Seconds after the first frame.
    time: float
    wording: Wording
    # One of ANSWERS.
    answer: str


def texts_of(wordings: Iterable[Wording]) -> np.ndarray:
    """Return the number of the text of each wording, (W,), for balance.Balance: one kind and fields are one text."""
    numbers: dict[tuple, int] = {}
    return np.array([numbers.setdefault(wording[1:], len(numbers)) for wording in wordings], np.int64)


def safe_until(episode: Episode) -> float:
    """Return the time in seconds before which questions may be asked; a training seed ends before held-out actions."""
    if split_of(episode.seed) != 'train':
        return float('inf')
    under_way = episode.world.current
    return last_safe_stamp([*episode.labels, *([under_way] if under_way else [])])


def frame_questions(scene: VisibleScene, rng: np.random.Generator) -> list[Row]:
    """Draw up to PER_ANSWER questions of each kind and answer; of a training seed without the held-out ones.

    Args:
        scene: the frame; its episode has advanced past the next action.
        rng: random generator of the frame.
    """
    training = split_of(scene.episode.seed) == 'train'
    held_families = {
        family
        for family, label in (('action_now', scene.state.current), ('action_next', scene.next_action))
        if label and is_held_out(label)
    }
    pools = defaultdict(list)
    for family, (kind, answer, fields) in drafts(scene):
        held_out = family in held_families or concerns_held_out(fields, answer)
        if not (training and held_out):
            pools[family, kind, answer].append((tuple(sorted(fields.items())), held_out))
    rows: list[Row] = []
    for (family, kind, answer), wordings in sorted(pools.items()):
        wordings.sort()  # some wordings come from sets, whose order differs from process to process
        rows += [
            ((family, kind, wordings[i][0]), ANSWER_INDEX[answer], wordings[i][1])
            for i in sorted(rng.permutation(len(wordings))[:PER_ANSWER])
        ]
    return rows


class FrameNotes:
    """Observe an episode and collect questions about its frames.

    Args:
        episode: episode to observe.
        frames: number of frames to come.
    """

    def __init__(self, episode: Episode, frames: int):
        self._episode = episode
        self._stride = -(-frames // MOST_FRAMES)
        self._scenes: list[VisibleScene] = []
        self._first_s = 0.0
        self._count = 0

    def observe(self, observation: Observation) -> None:
        """Note the next frame."""
        if self._count == 0:
            self._first_s = observation.stamp_s
        if self._count % self._stride == 0:
            self._scenes.append(VisibleScene(self._episode, observation))
        self._count += 1

    def finish(self) -> list[tuple[float, list[Row]]]:
        """Advance the episode unobserved and return the questions of each noted frame, with its time.

        Returns:
            (seconds after the first frame, questions) of each frame. The seconds are a difference of stamps in whole
            nanoseconds, as in a recording.
        """
        for _ in self._episode.run(round(AFTER / FPS * self._episode.fps)):
            pass
        until = safe_until(self._episode)
        return [
            (
                (round(1e9 * scene.state.stamp_s) - round(1e9 * self._first_s)) / 1e9,
                frame_questions(scene, np.random.default_rng((self._episode.seed, 2, scene.state.tick))),
            )
            for scene in self._scenes
            if scene.state.stamp_s < until
        ]


def draw(
    episodes: Sequence[Sequence[tuple[float, Sequence[Row]]]], count: int, rng: np.random.Generator
) -> list[list[Drawn]]:
    """Draw different questions by the odds of the cache (balance.Balance).

    Args:
        episodes: as from FrameNotes.finish. The draw is over all of them together, since one kitchen alone shows few
            objects in two colours or places.
        count: questions altogether; fewer if there are no more.
        rng: random generator of the draws.

    Returns:
        The questions of each episode in the order of their time.

    Raises:
        ValueError: no question has two answers.
    """
    numbers: dict[Wording, int] = {}
    rows = [
        (number, time, wording, answer)
        for number, frames in enumerate(episodes)
        for time, questions in frames
        for wording, answer, _ in questions
    ]
    if not rows:
        raise ValueError('no question can be asked about these frames; give more frames')
    wording = np.array([numbers.setdefault(row[2], len(numbers)) for row in rows])
    answers = np.array([row[3] for row in rows])
    balance = Balance(wording, answers, [known[:2] for known in numbers], texts=texts_of(numbers))
    chosen: set[int] = set()
    for _ in range(PATIENCE * count):
        if len(chosen) == count:
            break
        chosen.add(balance.draw(rng))
    drawn: list[list[Drawn]] = [[] for _ in episodes]
    for number, time, known, answer in sorted(rows[row] for row in chosen):
        drawn[number].append(Drawn(time, known, ANSWERS[answer]))
    return drawn


def worded_at(
    drawn: Sequence[Drawn], episode_history: str, rng: np.random.Generator, *, version: int = DEFAULT_VERSION
) -> list[EqaQuestion]:
    """Return questions in OpenEQA's schema with their times, numbered through; the category is the family.

    Args:
        drawn: as from draw.
        episode_history: name of the bag.
        rng: draws wordings.
        version: version of the episode.
    """
    questions = []
    for number, one in enumerate(drawn):
        family, kind, fields = one.wording
        wordings = phrasings(kind, version)
        text = wordings[rng.integers(len(wordings))].format(**dict(fields))
        questions.append(
            EqaQuestion(text, one.answer, family, f'{episode_history}-{number:03d}', episode_history, time=one.time)
        )
    return questions
