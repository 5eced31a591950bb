"""`m3et train actions --epic DIR --history`: anticipation on EPIC-KITCHENS-100 from past labels alone.

    m3et train actions --epic annotations --history --out runs/history

DIR holds the official CSV files. 80 training videos are held out, always the same ones, so that
`m3et evaluate epic --split held_out` can measure the model without the official validation split. With
--held-out-people it is all videos of some participants, whose kitchens the model has then never met.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.output import Refused, print_json, print_line, print_status
from m3et_ros.cli.train.common import CHECKPOINT, BudgetOptions, SessionOptions, print_unfinished, recipe_line
from m3et_ros.cli.training_session import prepare_training, progress_reporter, stop_on_signal

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.history import HistoryCheckpoint
    from m3et_ros.data.epic.annotations import Annotations
    from m3et_ros.training.history import HistoryRecipe, Videos


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """Annotations of EPIC-KITCHENS-100 and the models that learn from them."""

    epic: Annotated[
        Path | None,
        typer.Option(
            help='Folder of the EPIC-KITCHENS-100 annotations, with --history, --features or --frames.',
            show_default=False,
        ),
    ] = None
    history: Annotated[bool, typer.Option('--history', help='Train on past labels without pixels, with --epic.')] = (
        False
    )
    members: Annotated[
        int, typer.Option(min=1, max=64, help='With --history: number of models whose probabilities are averaged.')
    ] = 3
    held_out: Annotated[int, typer.Option(min=0, help='With --epic: number of videos that are not trained on.')] = 80
    held_out_people: Annotated[
        int, typer.Option(min=0, help='With --history: hold out all videos of this many participants instead.')
    ] = 0


def train_on_labels(
    options: HistoryOptions, out: Path, budget: BudgetOptions, session: SessionOptions, command: str, *, as_json: bool
) -> int:
    """Train on past labels, and write the checkpoint; return the exit code.

    Args:
        options: annotations, members and held-out videos.
        out: folder of the run.
        budget: fields of the recipe.
        session: minutes, seed and resume.
        command: command for the model card.
        as_json: print JSON.

    Raises:
        InputError: the annotations cannot be read, or the state cannot be resumed.
        Refused: a field of the recipe is out of its range.
    """
    prepare_training()
    from m3et_ros.data.checkpoints.history import save_history
    from m3et_ros.data.epic.annotations import find_split, read_segments
    from m3et_ros.data.epic.class_lists import read_classes
    from m3et_ros.data.epic.history import ActionHistories
    from m3et_ros.training.history import Anticipate, HistoryRecipe, split_people, split_videos, train_history
    from m3et_ros.training.run_state import Interrupted, TrainingSession

    try:
        recipe = HistoryRecipe(Anticipate(**budget.given()), members=options.members, seed=session.seed)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    classes = read_classes(options.epic)
    annotations = read_segments(find_split(options.epic, 'train'), classes)
    for odd in annotations.notes:
        print_status(odd.text)
    pasts = ActionHistories(annotations, classes, slots=(recipe.config.slots, recipe.config.verb_slots))
    if options.held_out_people:
        videos = split_people(annotations.recorded_by, options.held_out_people)
    else:
        videos = split_videos(annotations.videos, held_out=options.held_out)
    try:
        with stop_on_signal() as stop:
            checkpoint = train_history(
                pasts,
                videos,
                out,
                recipe,
                session=TrainingSession(
                    minutes=session.minutes, resume=session.resume, report=progress_reporter(stages=True), stop=stop
                ),
            )
    except Interrupted:
        print_unfinished(as_json=as_json)
        return stop.code
    folder = out / CHECKPOINT
    model_id = save_history(folder, checkpoint, card=model_card(checkpoint, recipe, videos, annotations, command))
    _print_outcome(model_id, folder, checkpoint, as_json=as_json)
    return 0


def _print_outcome(model_id: str, folder: Path, checkpoint: 'HistoryCheckpoint', *, as_json: bool) -> None:
    members, trained, held_out = len(checkpoint.members), len(checkpoint.learnt), len(checkpoint.held_out)
    if as_json:
        print_json(
            {
                'model_id': model_id,
                'checkpoint': str(folder),
                'members': members,
                'videos_learnt': trained,
                'videos_held_out': held_out,
                'corrections': {task: asdict(c) for task, c in checkpoint.corrections.items()},
            }
        )
        return
    print_line(
        f'{model_id} in {folder}: {members} members, trained on {trained} videos, {held_out} held out. Past labels, '
        'no pixels.'
    )


def model_card(
    checkpoint: 'HistoryCheckpoint', recipe: 'HistoryRecipe', videos: 'Videos', annotations: 'Annotations', command: str
) -> str:
    """Return the model card: what was done, nothing else.

    Args:
        checkpoint: the trained models.
        recipe: recipe of the training.
        videos: purpose of each video.
        annotations: annotations of the training split.
        command: command that repeats the run.
    """
    line: Any = checkpoint.expert.line
    return '\n'.join(
        [
            '# Next-action anticipation on EPIC-KITCHENS-100 from past labels',
            '',
            'Reads labels of past actions (verb, noun, times) and no pixels. '
            'Its scores cannot be compared with those of models that read videos.',
            '',
            'Made by:',
            '',
            f'    {command}',
            '',
            f'- file: {annotations.path.name}, {len(annotations.segments):,} segments',
            f'- videos learnt from: {len(checkpoint.learnt)}; held out: {len(checkpoint.held_out)}; corrections chosen '
            f'on {len(videos.inner)} of those learnt from, by a model that had not learnt from them',
            f'- members: {len(checkpoint.members)}, seeds from {recipe.seed}',
            f'- an n-gram over actions has a share of {checkpoint.expert.share:g} in every probability ('
            f'{", ".join(f"{k} {v}" for k, v in asdict(line).items())})',
            *(
                f'- score of {task}s for mean top-5 recall: log p - {c.tau:g} log(count + {c.floor:g})'
                for task, c in checkpoint.corrections.items()
            ),
            recipe_line(recipe.recipe, 'recipe'),
            recipe_line(checkpoint.config, 'model'),
            '',
            'Trained on annotations under CC BY-NC 4.0 (Damen et al., IJCV 2022).',
            '',
        ]
    )
