"""Questions about recorded episodes: `m3et record --eqa` and `m3et record --vqa`, in OpenEQA's schema.

    m3et record kitchens --eqa --seed 20000 --episodes 20
    m3et record kitchens --vqa --seed 20000 --episodes 4 --questions 100

The first writes kitchens/20000 ... kitchens/20019, kitchens/questions.json and kitchens/segments.csv, the finished
actions with the columns of EPIC-KITCHENS-100. Its questions are asked at the end of an episode. Those of --vqa are
about single frames: `time` is the second of the frame, and families and odds are those of a cache. A single episode
is recorded into the folder itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.cli.processes import INTERRUPTED, stop_signals
from m3et_ros.cli.record.episode import RecordOptions, open_episode, record_episode

QUESTIONS, SEGMENTS = 'questions.json', 'segments.csv'
LEAST_FRAMES = 2


@dataclass(frozen=True, kw_only=True)
class QuestionOptions:
    """The questions about the episodes, and the number of episodes."""

    eqa: Annotated[
        bool, typer.Option('--eqa', help="Also write questions about the whole episode, in OpenEQA's schema.")
    ] = False
    vqa: Annotated[
        bool, typer.Option('--vqa', help='Also write questions about single frames, for m3et evaluate vqa.')
    ] = False
    questions: Annotated[
        int, typer.Option(min=1, help='With --eqa or --vqa: questions of each episode, on average.')
    ] = 24
    episodes: Annotated[
        int,
        typer.Option(
            min=1, help='With --eqa, --vqa or --lerobot: number of seeds from --seed on, each a bag or an episode.'
        ),
    ] = 1


class EpisodeObserver(Protocol):
    """Observes an episode while it is recorded."""

    def observe(self, observation: Any) -> None:
        """Observe the next frame."""

    def finish(self) -> Any:
        """Return the possible questions after the last frame; this may advance the episode."""


class EndOfEpisode:
    """Observer for questions at the end of an episode.

    Args:
        episode: episode that is recorded.
    """

    def __init__(self, episode: Any):
        from m3et_ros.data.kitchen.questions.observer import KitchenObserver

        self._observer = KitchenObserver(episode)

    def observe(self, observation: Any) -> None:
        """Observe the next frame."""
        self._observer.observe(observation)

    def finish(self) -> dict[str, Any]:
        """Return the drafts of questions by category."""
        from m3et_ros.data.kitchen.questions.episode import episode_drafts

        return episode_drafts(self._observer.report())


def record_eqa(out: Path, options: RecordOptions, asked: QuestionOptions, *, as_json: bool) -> int:
    """Record the episodes and write questions to be asked at their end; return the exit code.

    Args:
        out: folder to create.
        options: episodes, camera and storage.
        asked: number of questions and of episodes.
        as_json: print JSON.

    Raises:
        InputError: the questions cannot be written.
        Refused: as `record_episodes`, or nothing can be asked about the episodes.
    """
    import numpy as np

    from m3et_ros.data.kitchen.questions.episode import choose, worded

    seeds, drafts = record_episodes(out, options, asked.episodes, EndOfEpisode)
    rng = np.random.default_rng(options.seed)
    chosen = choose(drafts, asked.questions, rng)
    questions = []
    for seed, own in zip(seeds, chosen, strict=True):
        questions += worded(own, bag_of(out, seed, asked.episodes).name, rng)
    if not questions:
        raise Refused('nothing can be asked about these episodes; record more frames, 300 or more.')
    return write_questions_of(out, options, asked, seeds, questions, as_json=as_json)


def record_vqa(out: Path, options: RecordOptions, asked: QuestionOptions, *, as_json: bool) -> int:
    """Record the episodes and write questions about single frames of them; return the exit code.

    Args:
        out: folder to create.
        options: episodes, camera and storage.
        asked: number of questions and of episodes.
        as_json: print JSON.

    Raises:
        InputError: the questions cannot be written.
        Refused: as `record_episodes`, or nothing can be asked about the frames.
    """
    import numpy as np

    from m3et_ros.data.kitchen.questions.recorded_frames import FrameNotes, draw, worded_at

    seeds, frames = record_episodes(out, options, asked.episodes, lambda episode: FrameNotes(episode, options.frames))
    rng = np.random.default_rng(options.seed)
    try:
        drawn = draw(frames, asked.questions * len(seeds), rng)
    except ValueError as error:
        raise Refused(
            'no question has two answers in these frames, so that every question would give its answer away; record '
            f'more frames, 100 or more, or more episodes. The recordings stay in {out}.'
        ) from error
    questions = []
    for seed, own in zip(seeds, drawn, strict=True):
        questions += worded_at(own, bag_of(out, seed, asked.episodes).name, rng)
    return write_questions_of(out, options, asked, seeds, questions, as_json=as_json)


def record_episodes(
    out: Path, options: RecordOptions, episodes: int, observe: Callable[[Any], EpisodeObserver]
) -> tuple[list[int], list[Any]]:
    """Record episodes and write their actions; a signal ends it after the episodes that are whole.

    Args:
        out: folder to create.
        options: first seed, frames, camera and storage.
        episodes: number of seeds.
        observe: returns an observer of an episode.

    Returns:
        The seeds of the whole episodes, and the results of their observers.

    Raises:
        InputError: the actions cannot be written.
        Refused: --frames is too small, a bag exists already, or a signal came before the first episode was whole.
    """
    from m3et_ros.data.epic.labels import write_segments

    seeds = range(options.seed, options.seed + episodes)
    if options.frames < LEAST_FRAMES:
        raise Refused(f'--frames is {options.frames}; questions need at least {LEAST_FRAMES}.')
    for seed in seeds:
        bag = bag_of(out, seed, episodes)
        if bag.exists():
            raise Refused(f'{bag} exists already and bags are never overwritten; remove it or give another folder.')
    results, segments, whole = [], [], []
    with stop_signals() as stopped:
        for seed in seeds:
            bag = bag_of(out, seed, episodes)
            episode = open_episode(options, seed)
            observer = observe(episode)
            recorded = record_episode(options, episode, bag, stopped, observer.observe)
            if stopped.is_set():
                break
            segments += finished_actions(bag.name, seed, recorded.labels)
            results.append(observer.finish())
            whole.append(seed)
    if not whole:
        raise Refused(
            'stopped before an episode was whole, so that there are no questions; the frames recorded so far stay in '
            f'{bag_of(out, options.seed, episodes)}.',
            INTERRUPTED,
        )
    write_segments(out / SEGMENTS, segments, fps=options.fps)
    return whole, results


def bag_of(out: Path, seed: int, episodes: int) -> Path:
    """Return the folder of the recording of a seed: that of a single episode is `out` itself."""
    return out if episodes == 1 else out / str(seed)


def finished_actions(bag: str, seed: int, labels: list[Any]) -> list[Any]:
    """Return the finished actions of an episode as segments; times count from its first frame."""
    from m3et_ros.data.epic.annotations import Segment

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


def write_questions_of(
    out: Path, options: RecordOptions, asked: QuestionOptions, seeds: list[int], questions: list[Any], *, as_json: bool
) -> int:
    """Write the questions beside the bags, print what was written, and return the exit code.

    Raises:
        InputError: 'out_unwritable'.
    """
    from m3et_ros.data.datasets.openeqa import write_questions

    path, segments = out / QUESTIONS, out / SEGMENTS
    code = 0 if len(seeds) == asked.episodes else INTERRUPTED
    write_questions(path, questions)
    if as_json:
        categories = sorted({question.category for question in questions})
        print_json(
            {
                'bags': [str(bag_of(out, seed, asked.episodes)) for seed in seeds],
                'questions': str(path),
                'segments': str(segments),
                'asked': len(questions),
                'complete': len(seeds) == asked.episodes,
                'seeds': seeds,
                'frames': options.frames,
                'categories': {name: sum(question.category == name for question in questions) for name in categories},
            }
        )
        return code
    verb = 'eqa' if asked.eqa else 'vqa'
    early = '' if len(seeds) == asked.episodes else f' (stopped early: {asked.episodes} were requested)'
    bags = str(out) if asked.episodes == 1 else f'{out}/*/'
    print_line(
        f'{len(seeds)} episodes of {math.floor(options.frames / options.fps)} s{early}, {len(questions)} questions in '
        f'{path}, actions in {segments}.\n'
        f'Evaluate a model on them: m3et evaluate {verb} {bags} --questions {path} --out '
        f'results/{verb}\n'
        f'and: m3et evaluate actions {bags} --segments {segments} --out results/actions'
    )
    return code
