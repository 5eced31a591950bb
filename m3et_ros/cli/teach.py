"""`m3et teach`: teach a model your place, from a recording of it.

m3et teach walk.mcap --minutes 60 -o places/kitchen --detection yolox_nano.onnx
m3et teach walk.mcap --minutes 60 -o places/kitchen --detection yolox_nano.onnx --keep cache/kitchen-...
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.label import TeacherOptions, print_labelled, summary
from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import print_json, print_line, print_status, print_table
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import REPORT_S, command_line, prepare_training, stop_on_signal
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.extras import require

if TYPE_CHECKING:
    from m3et_ros.training.run_state import LogEntry
    from m3et_ros.training.teach.run import Lesson, LessonEnd

COLUMNS = ('held-out frames', 'without a model', 'before', 'after')


@expand_options()
def teach(
    context: typer.Context,
    bags: Annotated[list[Path], typer.Argument(metavar='BAG...', help='Recordings: rosbag2 folders, .mcap or .db3.')],
    out: Annotated[Path, typer.Option('-o', '--out', help='Folder of the run; a stopped run continues there.')],
    teachers: TeacherOptions,
    *,
    start: Annotated[str, typer.Option('--from', help='Model to teach: a named size, a folder or hf:owner/name.')] = (
        DEFAULT_MODEL
    ),
    minutes: Annotated[float, typer.Option(min=0.01, help='Minutes that the whole command may take.')] = 60.0,
    keep: Annotated[
        Path | None,
        typer.Option(help='Cache of training kitchens to rehearse, so that old knowledge stays.', show_default=False),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help='Take every n-th frame only.')] = 1,
    seed: Annotated[int, typer.Option(min=0, help='Seed of order, questions and other draws.')] = 0,
    workers: Annotated[int, typer.Option(min=0, help='Number of processes that load samples.')] = 0,
    bf16: Annotated[bool, typer.Option('--bf16', help='Matrix products in bfloat16, for GPUs and AMX.')] = False,
    as_json: Json = False,
) -> int:
    """Label recordings, train both stages, and measure before and after; writes a checkpoint that is ready to serve."""
    prepare_training()
    require('report')
    from m3et_ros.cli.train.common import check_training_split
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.teach.run import CHECKPOINT, LABELS, Lesson, save_taught
    from m3et_ros.training.teach.run import teach as teach_model
    from m3et_ros.training.teach.sheet import draw_sheet

    if keep is not None:
        check_training_split([keep])
    student = open_checkpoint(start)
    lesson = Lesson(tuple(bags), teachers.open(student), minutes, every, keep, seed, workers, bf16)
    with stop_on_signal() as stop:
        taught = teach_model(lesson, out, report=_reporter(), progress=track, say=print_status, stop=stop)
    if taught.checkpoint is None:
        print_line('The lesson is not finished: the same command continues it.')
        return stop.code
    draw_sheet(out / LABELS, taught.checkpoint.labels.classes)
    card = teach_card(lesson, taught, command_line(context))
    model_id = save_taught(out, taught, card)
    folder = out / CHECKPOINT
    if as_json:
        print_json({'model_id': model_id, 'checkpoint': str(folder), **_document(taught)})
        return 0
    print_labelled(out / LABELS, taught.contents)
    print_table([COLUMNS, *_rows(taught)], right=(1, 2, 3))
    print_line(heads_line(taught))
    print_line(f'{model_id} is in {folder}, after {taught.minutes:.1f} minutes. Serve it: m3et robot --model {folder}')
    return 0


def _reporter() -> Any:
    """Return a report that prints the first and last step of each stage, and others at most every REPORT_S seconds."""
    last: dict[str, float] = {}

    def report(name: str, entry: 'LogEntry') -> None:
        now = time.monotonic()
        if name in last and now - last[name] < REPORT_S and entry.step < entry.steps:
            return
        last[name] = now
        losses = ', '.join(f'{loss} {value:.3f}' for loss, value in entry.losses.items())
        print_status(
            f'{name}, step {entry.step:,} of {entry.steps:,}: {losses}; {entry.seconds_left / 60:.1f} min left in all'
        )

    return report


def _rows(taught: 'LessonEnd') -> list[tuple[str, str, str, str]]:
    from m3et_ros.training.teach.measure import rows_of

    return rows_of(taught.before, taught.after)


def _document(taught: 'LessonEnd') -> dict[str, Any]:
    return {
        'before': taught.before,
        'after': taught.after,
        'labels': summary(taught.contents),
        'new_classes': taught.new_classes,
        'new_answers': taught.new_answers,
        'heads': sorted(taught.checkpoint.heads) if taught.checkpoint is not None else [],
        'minutes': round(taught.minutes, 2),
    }


def heads_line(taught: 'LessonEnd') -> str:
    """Return a sentence about the heads that read the model's tokens."""
    heads = sorted(taught.checkpoint.heads) if taught.checkpoint is not None else []
    if not heads:
        return 'The model had no further heads.'
    return (
        f'Kept as they were, not retrained: the heads {" and ".join(heads)}. They read outputs that have changed; '
        'train them again by m3et train actions and m3et train memory if the robot uses them.'
    )


def teach_card(lesson: 'Lesson', taught: 'LessonEnd', command: str) -> str:
    """Return the model card: data, teachers, training and the table.

    Args:
        lesson: what was taught.
        taught: the end of it.
        command: command that repeats it.
    """
    from m3et_ros.cli.train.common import kitchen_lines

    facts = summary(taught.contents)
    table = [COLUMNS, ('---', '---:', '---:', '---:'), *_rows(taught)]
    return '\n'.join(
        [
            '# M3ET taught a place',
            '',
            f'Started from `{lesson.teachers.student.model_id}`. Made by:',
            '',
            f'    {command}',
            '',
            '## Data',
            '',
            f'- recordings: {", ".join(bag.name for bag in lesson.bags)}: {facts["train"]} frames to learn from and '
            f'{facts["held_out"]} held out, the last third; {facts["near_duplicates"]} near duplicates left out',
            *(f'- {what} by `{network}`' for what, network in facts['teachers'].items()),
            *([] if facts['teachers'] else ['- no teacher: the depth of the camera taught itself']),
            f'- asked about: {", ".join(facts["known"]) or "nothing"}',
            f'- new classes: {", ".join(taught.new_classes) or "none"}; new answers: {len(taught.new_answers)}',
            *(kitchen_lines([lesson.keep]) if lesson.keep is not None else ['- no kitchens were rehearsed']),
            '',
            '## Training',
            '',
            *(
                f'- {name}: {outcome.step:,} of {outcome.steps:,} steps, {outcome.seconds / 60:.1f} minutes'
                for name, outcome in taught.outcomes.items()
            ),
            f'- seed: {lesson.seed}',
            f'- heads: {heads_line(taught)}',
            '',
            '## Before and after',
            '',
            'On the held-out end of the recording. Masks and answers are compared with the teachers, who err, too. The '
            'confidence of answers was fitted to the same frames.',
            '',
            *(f'| {" | ".join(row)} |' for row in table),
            '',
        ]
    )
