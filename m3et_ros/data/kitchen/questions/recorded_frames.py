"""Questions about single frames of episodes: those of the cache, from the same odds, for recordings.

notes = FrameNotes(episode, frames=300)
for state in episode.run(300):
    notes.look(camera.observe(state))
drawn = draw([notes.finish()], 24, rng)
questions = worded_at(drawn[0], 'kitchen_bag', rng)
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.kitchen.questions.balance import Balance
from m3et_ros.data.kitchen.questions.frame import ASK, Scenery
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, PHRASINGS
from m3et_ros.data.kitchen.questions.splits import concerns_held_out, is_held_out, last_safe_stamp, split_of
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import FPS, Episode
from m3et_ros.data.kitchen.sim.world import ActionLabel

AFTER = 80
"""Ticks of the cache that go on unseen behind the last frame, so that it knows which action comes next."""

PER_ANSWER = 3
"""Most questions of one kind with one answer that are kept of a frame; dozens of 'no' would add bytes, not facts."""

MOST_FRAMES = 100
"""Most frames of a recording about which is asked; they lie evenly apart."""

PATIENCE = 50
"""Draws for each question wanted, after which there are no others."""

PLACE_OF = {answer: i for i, answer in enumerate(ANSWERS)}

Wording = tuple[str, str, tuple[tuple[str, str], ...]]
"""Family, kind and the fields of its wording."""

Row = tuple[Wording, int, bool]
"""A question of a frame: wording, place of its answer in ANSWERS, whether it is held out."""


@dataclass(frozen=True)
class Drawn:
    """A question about one frame."""

    # Seconds after the first frame.
    time: float
    wording: Wording
    # One of ANSWERS.
    answer: str


def following(scenery: Scenery) -> ActionLabel | None:
    """The action that starts next; known once the episode has gone on past it."""
    return next((label for label in scenery.episode.labels if label.start_s > scenery.state.stamp_s), None)


def safe_until(episode: Episode) -> float:
    """Seconds up to which, exclusively, an episode may be asked about; of a training seed only up to what is held out."""
    under_way = episode.world.current
    training = split_of(episode.seed) == 'train'
    return last_safe_stamp([*episode.labels, *([under_way] if under_way else [])]) if training else float('inf')


def frame_questions(scenery: Scenery, rng: np.random.Generator) -> list[Row]:
    """A few questions of each kind and answer; of a training seed without those about what is held out.

    Args:
        scenery: what is in view; its episode has gone on past the next action.
        rng: of the frame.
    """
    training = split_of(scenery.episode.seed) == 'train'
    held = {
        family
        for family, label in (('action_now', scenery.state.current), ('action_next', following(scenery)))
        if label and is_held_out(label)
    }
    drafts = defaultdict(list)
    for family, ask in ASK.items():
        for kind, answer, fields in ask(scenery):
            about = family in held or concerns_held_out(fields, answer)
            if not (training and about):
                drafts[family, kind, answer].append((tuple(sorted(fields.items())), about))
    kept = []
    for (family, kind, answer), wordings in sorted(drafts.items()):
        wordings.sort()  # some come from sets, whose order differs from process to process
        kept += [
            ((family, kind, wordings[i][0]), PLACE_OF[answer], wordings[i][1])
            for i in sorted(rng.permutation(len(wordings))[:PER_ANSWER])
        ]
    return kept


class FrameNotes:
    """Watches an episode and keeps what is needed to ask about frames of it.

    Args:
        episode: what is watched.
        frames: how many will come.
    """

    def __init__(self, episode: Episode, frames: int):
        self._episode = episode
        self._stride = -(-frames // MOST_FRAMES)
        self._sceneries: list[Scenery] = []
        self._first_s: float | None = None
        self._count = 0

    def look(self, observation: Observation) -> None:
        """Take in the next frame."""
        if self._first_s is None:
            self._first_s = observation.stamp_s
        if self._count % self._stride == 0:
            self._sceneries.append(Scenery(self._episode, observation))
        self._count += 1

    def finish(self) -> list[tuple[float, list[Row]]]:
        """Let the episode go on for a while, unseen; seconds after the first frame, and what can be asked of each."""
        for _ in self._episode.run(round(AFTER / FPS * self._episode.fps)):
            pass
        until = safe_until(self._episode)
        return [
            (
                _after(self._first_s, scenery.state.stamp_s),
                frame_questions(scenery, np.random.default_rng((self._episode.seed, 2, scenery.state.tick))),
            )
            for scenery in self._sceneries
            if scenery.state.stamp_s < until
        ]


def _after(first_s: float, stamp_s: float) -> float:
    """Seconds between two frames as a recording has them: between whole nanoseconds."""
    return (round(1e9 * stamp_s) - round(1e9 * first_s)) / 1e9


def draw(
    episodes: Sequence[Sequence[tuple[float, Sequence[Row]]]], count: int, rng: np.random.Generator
) -> list[list[Drawn]]:
    """Draw questions by the odds of the cache (balance.Balance), none of them twice.

    Args:
        episodes: as FrameNotes.finish gives them. All are drawn from together, since one kitchen alone shows few things
            in two colours or places.
        count: questions altogether; fewer where there are no more.
        rng: of the draws.

    Returns:
        The questions of each episode in the order of their time.

    Raises:
        ValueError: nothing can be asked that has two answers.
    """
    numbers: dict[Wording, int] = {}
    rows = [
        (number, at, wording, answer)
        for number, frames in enumerate(episodes)
        for at, asked in frames
        for wording, answer, _ in asked
    ]
    if not rows:
        raise ValueError('nothing can be asked about these frames; give more frames')
    wording = np.array([numbers.setdefault(row[2], len(numbers)) for row in rows])
    balance = Balance(wording, np.array([row[3] for row in rows]), [known[:2] for known in numbers])
    chosen: dict[int, None] = {}
    for _ in range(PATIENCE * count):
        if len(chosen) == count:
            break
        chosen[balance.draw(rng)] = None
    drawn: list[list[Drawn]] = [[] for _ in episodes]
    for number, at, known, answer in sorted(rows[row] for row in chosen):
        drawn[number].append(Drawn(at, known, ANSWERS[answer]))
    return drawn


def worded_at(drawn: Sequence[Drawn], episode_history: str, rng: np.random.Generator) -> list[EqaQuestion]:
    """Questions in OpenEQA's schema with their times, numbered through; the category is the family.

    Args:
        drawn: as from draw.
        episode_history: name of the bag.
        rng: draws wordings.
    """
    questions = []
    for number, one in enumerate(drawn):
        family, kind, fields = one.wording
        phrasings = PHRASINGS[kind]
        text = phrasings[rng.integers(len(phrasings))].format(**dict(fields))
        questions.append(
            EqaQuestion(text, one.answer, family, f'{episode_history}-{number:03d}', episode_history, time=one.time)
        )
    return questions
