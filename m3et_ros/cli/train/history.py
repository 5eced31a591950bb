"""`m3et train actions --epic DIR --history`: what comes next on EPIC-KITCHENS-100, from the labels of the past alone.

    m3et train actions --epic annotations --history --out runs/history

The folder holds the official CSV files. 80 training videos are held out, always the same ones, so that
`m3et evaluate epic --split held_out` can tell how good the model is without the official validation split.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m3et_ros.cli.output import Refused, emit, note, say
from m3et_ros.cli.training_session import asked_to_stop, teller

CHECKPOINT = 'checkpoint'


@dataclass(frozen=True)
class HistoryOptions:
    """What was asked for on the command line."""

    # Folder of the annotations.
    epic: Path
    # Folder of the run.
    out: Path
    # Fields of the recipe that were given.
    given: dict[str, Any]
    # Models whose probabilities are averaged.
    members: int
    # Training videos that nothing is learnt from.
    held_out: int
    seed: int
    minutes: float | None
    resume: bool
    # The command, for the model card.
    command: str


def learn_history(wish: HistoryOptions, *, as_json: bool) -> None:
    """Train and write the checkpoint; says what was done."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from m3et_ros.data.checkpoints.history import save_history
    from m3et_ros.data.epic.annotations import find_split, read_segments
    from m3et_ros.data.epic.class_lists import read_classes
    from m3et_ros.data.epic.history import Pasts
    from m3et_ros.training.history import Anticipate, HistoryRecipe, Interrupted, learn, share_out
    from m3et_ros.training.loop import TrainingSession

    try:
        course = HistoryRecipe(Anticipate(**wish.given), members=wish.members, seed=wish.seed)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    classes = read_classes(wish.epic)
    annotations = read_segments(find_split(wish.epic, 'train'), classes)
    for odd in annotations.notes:
        note(odd.text)
    config = course.config
    pasts = Pasts(annotations, classes, slots=(config.slots, config.verb_slots))
    videos = share_out(annotations.videos, held_out=wish.held_out)
    try:
        with asked_to_stop() as stop:
            checkpoint = learn(
                pasts,
                videos,
                wish.out,
                course,
                tell=_telling(),
                stop=stop,
                sitting=TrainingSession(minutes=wish.minutes, resume=wish.resume),
            )
    except Interrupted:
        say('The run has not ended: the same command with --resume goes on.')
        return
    folder = wish.out / CHECKPOINT
    model_id = save_history(folder, checkpoint, card=_card(checkpoint, course, videos, annotations, wish.command))
    done = {
        'model_id': model_id,
        'checkpoint': str(folder),
        'members': len(checkpoint.members),
        'videos_learnt': len(checkpoint.learnt),
        'videos_held_out': len(checkpoint.held_out),
    }
    if as_json:
        emit(done | {'corrections': {task: asdict(c) for task, c in checkpoint.corrections.items()}})
        return
    say(
        f'{model_id} in {folder}: {len(checkpoint.members)} members, {len(checkpoint.learnt)} videos learnt from, '
        f'{len(checkpoint.held_out)} held out. Labels of the past, no pixels.'
    )


def _telling() -> Any:
    """Say which run it is, and now and then how far along."""
    tellers: dict[str, Any] = {}

    def tell(what: str, entry: dict) -> None:
        if what not in tellers:
            note(f'{what}:')
        tellers.setdefault(what, teller())(entry)

    return tell


def _card(checkpoint: Any, course: Any, videos: Any, annotations: Any, command: str) -> str:
    """The model card: what was done, nothing else."""
    return '\n'.join(
        [
            '# Next-action anticipation on EPIC-KITCHENS-100 from past labels',
            '',
            'Sees labels of the past (verb, noun, times) and no pixels. Not to be compared with models that see videos.',
            '',
            'Made by:',
            '',
            f'    {command}',
            '',
            f'- file: {annotations.path.name}, {len(annotations.segments):,} segments',
            f'- videos learnt from: {len(checkpoint.learnt)}; held out: {len(checkpoint.held_out)}; corrections chosen on '
            f'{len(videos.inner)} of those learnt from, by a model that had not seen them',
            f'- members: {len(checkpoint.members)}, seeds from {course.seed}',
            f'- an n-gram over actions has a share of {checkpoint.expert.share:g} in every probability ('
            f'{", ".join(f"{k} {v}" for k, v in asdict(checkpoint.expert.line).items())})',
            *(
                f'- score of {task}s for mean top-5 recall: log p - {c.tau:g} log(count + {c.floor:g})'
                for task, c in checkpoint.corrections.items()
            ),
            f'- recipe: {", ".join(f"{k} {v}" for k, v in asdict(course.recipe).items())}',
            f'- model: {", ".join(f"{k} {v}" for k, v in asdict(checkpoint.config).items())}',
            '',
            'Trained on annotations under CC BY-NC 4.0 (Damen et al., IJCV 2022).',
            '',
        ]
    )
