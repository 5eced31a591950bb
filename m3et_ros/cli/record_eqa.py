"""`m3et record --eqa`: episodes of the simulated kitchen with questions to be asked at their end, in OpenEQA's schema.

    m3et record kitchens --eqa --seed 20000 --episodes 20

writes kitchens/20000 ... kitchens/20019, kitchens/questions.json and kitchens/segments.csv, the actions done, with the
columns of EPIC-KITCHENS-100; of a single episode the bag is the folder itself.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

from m3et_ros.cli.output import Refused, emit, say
from m3et_ros.cli.processes import stop_signals
from m3et_ros.cli.progress import track

QUESTIONS, SEGMENTS = 'questions.json', 'segments.csv'
LEAST_FRAMES = 2


@dataclasses.dataclass(frozen=True)
class Wish:
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

    def bag(self, seed: int) -> Path:
        """Folder of the recording of a seed."""
        return self.out if self.episodes == 1 else self.out / str(seed)


def record_eqa(wish: Wish, *, as_json: bool) -> None:
    """Record the episodes and write their questions; a signal ends it after the episodes that are whole.

    Raises:
        InputError: the questions cannot be written.
        Refused: a bag exists already, it was stopped before the first episode was whole, or nothing can be asked about
            what was seen.
    """
    import numpy as np

    from m3et_ros.data.epic_words import write_segments
    from m3et_ros.data.kitchen.eqa import choose, worded
    from m3et_ros.data.openeqa import write_questions

    seeds, drafts, segments, done = range(wish.seed, wish.seed + wish.episodes), [], [], []
    if wish.frames < LEAST_FRAMES:
        raise Refused(f'--frames is {wish.frames}; an episode to be asked about has at least {LEAST_FRAMES}.')
    there = next((wish.bag(seed) for seed in seeds if wish.bag(seed).exists()), None)
    if there is not None:
        raise Refused(f'{there} exists already and bags are never overwritten; remove it or give another folder.')
    with stop_signals() as stopped:
        for seed in seeds:
            found = _record(wish, seed, stopped)
            if found is None:
                break
            drafts.append(found[0])
            segments += found[1]
            done.append(seed)
    if not done:
        raise Refused(f'stopped before an episode was whole, so that there are no questions; what was recorded of seed '
                      f'{wish.seed} stays in {wish.bag(wish.seed)}.')
    write_segments(wish.out / SEGMENTS, segments, fps=wish.fps)
    rng = np.random.default_rng(wish.seed)
    chosen = choose(drafts, wish.questions, rng)
    questions = [question for seed, own in zip(done, chosen)
                 for question in worded(own, wish.bag(seed).name, rng)]
    if not questions:
        raise Refused('nothing can be asked about what was seen; record more frames, 300 or more.')
    write_questions(wish.out / QUESTIONS, questions)
    _tell(wish, done, questions, as_json)


def _record(wish: Wish, seed: int, stopped: Any) -> tuple[dict, list] | None:
    """Record one episode; what can be asked about it and its actions, or None where a signal came first."""
    from m3et_ros.data.bag_writer import BagWriter
    from m3et_ros.data.kitchen.camera import Camera
    from m3et_ros.data.kitchen.episode import Episode
    from m3et_ros.data.kitchen.eqa import episode_drafts
    from m3et_ros.data.kitchen.witness import Witness

    episode = Episode(seed, width=wish.width, height=wish.height, fps=wish.fps)
    witness, bag = Witness(episode), wish.bag(seed)
    with (BagWriter(bag, wish.storage, images=wish.images) as writer,
          Camera(episode, backend=wish.backend, shadows=False) as camera):
        for state in track(episode.run(wish.frames), wish.frames, f'recording {bag}'):
            observation = camera.observe(state)
            witness.look(observation)
            writer.write_observation(observation, wish.start_ns)
            if stopped.is_set():
                return None
    return episode_drafts(witness.account()), _segments(wish, seed, episode.labels)


def _segments(wish: Wish, seed: int, labels: Any) -> list:
    """The actions that were finished; times count from the first frame."""
    from m3et_ros.data.epic import Segment

    bag = wish.bag(seed).name
    return [Segment(f'{bag}_{number}', bag, str(seed), label.start_s, label.stop_s, label.verb_class, label.noun_class,
                    label.narration, label.verb, label.noun) for number, label in enumerate(labels)]


def _tell(wish: Wish, seeds: list[int], questions: list, as_json: bool) -> None:
    path, bags, segments = wish.out / QUESTIONS, [str(wish.bag(seed)) for seed in seeds], wish.out / SEGMENTS
    if as_json:
        emit({'bags': bags, 'questions': str(path), 'segments': str(segments), 'asked': len(questions),
              'complete': len(seeds) == wish.episodes, 'seeds': seeds, 'frames': wish.frames,
              'categories': {name: sum(question.category == name for question in questions)
                             for name in sorted({question.category for question in questions})}})
        return
    ended = '' if len(seeds) == wish.episodes else f' (stopped early: {wish.episodes} were asked for)'
    seconds = math.floor(wish.frames / wish.fps)
    where = str(wish.out) if wish.episodes == 1 else f'{wish.out}/*/'
    say(f'{len(seeds)} episodes of {seconds} s{ended}, {len(questions)} questions in {path}, actions in {segments}.\n'
        f'Evaluate a model on them: m3et evaluate eqa {where} --questions {path} --model kitchen --out results/eqa\n'
        f'and: m3et evaluate actions {where} --segments {segments} --model kitchen --out results/actions')
