"""`m3et train actions --epic DIR --features DIR`: MambaVL as published, on clips of EPIC-KITCHENS-100.

    m3et train actions --epic annotations --features features --task anticipation --out runs/anticipation
    m3et train actions --epic annotations --frames EPIC-KITCHENS --out runs/recognition

Features are those of m3et features, or of another program. With --frames the M3ET of --from encodes the pictures first.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from m3et_ros.cli.output import Refused, print_json, print_line, print_status
from m3et_ros.cli.progress import track
from m3et_ros.cli.train.common import CHECKPOINT, BudgetOptions, SessionOptions, print_unfinished, recipe_line
from m3et_ros.cli.training_session import prepare_training, progress_reporter, stop_on_signal

if TYPE_CHECKING:
    from m3et_ros.data.epic.annotations import Annotations
    from m3et_ros.data.epic.clips import Clips
    from m3et_ros.data.epic.frames import FeatureFolder

FEATURES = 'features'
"""Folder in the folder of the run for the features of --frames."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Clips of EPIC-KITCHENS-100 and what is asked about them."""

    features: Annotated[
        Path | None,
        typer.Option(
            help='Folder of features of the videos, as m3et features writes it, with --epic.', show_default=False
        ),
    ] = None
    frames: Annotated[
        Path | None,
        typer.Option(
            help='Folder of the official pictures, PXX/rgb_frames/PXX_YY, with --epic: the model of --from encodes '
            'them into the folder features of --out.',
            show_default=False,
        ),
    ] = None
    fps: Annotated[
        float | None,
        typer.Option(
            help='Rows of --features or pictures of --frames a second, where features.json or the official rate does '
            'not say.',
            show_default=False,
        ),
    ] = None
    task: Annotated[
        Literal['recognition', 'anticipation'],
        typer.Option(help='With clips: recognise actions, or anticipate them a second before they start.'),
    ] = 'recognition'
    clip: Annotated[int, typer.Option(min=1, help='With clips: number of rows of a clip.')] = 16
    questions: Annotated[
        Path | None,
        typer.Option(
            help='With clips: JSON file of the questions about each segment; by default they hold no label.',
            show_default=False,
        ),
    ] = None
    mixup: Annotated[
        float,
        typer.Option(min=0, help='With clips: concentration of the draw by which two clips are mixed; 0 for none.'),
    ] = 0.0
    qa: Annotated[
        float,
        typer.Option(
            min=0, help='With clips: weight of a loss of answers in words, verb and noun; 0 for none, as released.'
        ),
    ] = 0.0
    augmented: Annotated[
        list[Path] | None,
        typer.Option(
            help='With --features: features of pictures changed by RandAugment, as m3et features --randaugment writes '
            'them; each clip is drawn from one of all folders. May be given several times.',
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class ClipSource:
    """Annotations, and the models that learn from them."""

    # Folder of the annotations.
    epic: Path
    # Number of videos that are not trained on.
    held_out: int
    # M3ET that encodes pictures.
    start: str
    # One matrix A for video and questions, or one each.
    shared: bool


def train_on_clips(
    options: ClipOptions,
    source: ClipSource,
    out: Path,
    budget: BudgetOptions,
    session: SessionOptions,
    command: str,
    *,
    as_json: bool,
) -> int:
    """Train the published head on clips, and write the checkpoint; return the exit code.

    Args:
        options: features, task and questions.
        source: annotations and models.
        out: folder of the run.
        budget: fields of the recipe.
        session: minutes, seed and resume.
        command: command for the model card.
        as_json: print JSON.

    Raises:
        InputError: annotations, features or questions cannot be read, or the state cannot be resumed.
        Refused: a field is out of its range, or no segment is left.
    """
    prepare_training()
    from m3et_ros.training.run_state import TrainingSession
    from m3et_ros.training.video.actions import Recognise, train_clips

    try:
        recipe = Recognise(**budget.given(), mixup=options.mixup, qa=options.qa)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    clips, made = prepare_clips(options, source, out, session.seed)
    with stop_on_signal() as stop:
        outcome, trained, main = train_clips(
            made['head'],
            clips,
            made['tokenizer'],
            out,
            recipe=recipe,
            classes=made['classes'],
            seed=session.seed,
            session=TrainingSession(
                minutes=session.minutes, bf16=session.bf16, resume=session.resume, report=progress_reporter(), stop=stop
            ),
        )
    if main:
        made |= {'head': trained}
        card = model_card(recipe, outcome, made, session.seed, command)
        _save(out / CHECKPOINT, made, card, outcome, as_json=as_json)
    return stop.code if outcome.step < outcome.steps else 0


def prepare_clips(options: ClipOptions, source: ClipSource, out: Path, seed: int) -> 'tuple[Clips, dict[str, Any]]':
    """Open the clips, after encoding pictures where these are given, and make a head with random weights.

    Args:
        options: features, task and questions.
        source: annotations and models.
        out: folder of the run.
        seed: seed of the weights.

    Returns:
        The clips to learn from, and the fields of the checkpoint by name.

    Raises:
        InputError: annotations, features or questions cannot be read.
        Refused: a field is out of its range, or no segment is left.
    """
    from m3et_ros.data.epic.class_lists import read_classes
    from m3et_ros.data.epic.clips import Clips
    from m3et_ros.data.epic.frames import ObservedClip
    from m3et_ros.data.epic.questions import questions_of
    from m3et_ros.training.video.actions import clip_head, clip_tokenizer

    observation, classes = ObservedClip(options.task, options.clip), read_classes(source.epic)
    annotations, held_out = split_segments(source.epic, classes, source.held_out)
    folder, origin = open_folder(options, source, annotations, out)
    questions = questions_of(annotations.segments, options.task, options.questions)
    clips = Clips(
        annotations.segments, folder, questions, observation, augmented=open_augmented(options, origin), seed=seed
    )
    tokenizer = clip_tokenizer(questions, classes if options.qa else None)
    return clips, {
        'head': clip_head(clips[0].features.shape[1], tokenizer, classes, seed, shared=source.shared),
        'tokenizer': tokenizer,
        'classes': classes,
        'observation': observation,
        'features': origin,
        'questions': 'file' if options.questions else 'made',
        'participants': annotations.participants,
        'learnt': tuple(annotations.videos),
        'held_out': held_out,
    }


def split_segments(epic: Path, classes: Any, held_out: int) -> 'tuple[Annotations, tuple[str, ...]]':
    """Return the training segments of known classes without held-out videos, and these videos; print odd rows.

    Raises:
        InputError: the annotations cannot be read.
        Refused: no segment is left to learn from.
    """
    from m3et_ros.data.epic.annotations import Annotations, find_split, held_out_videos, read_segments
    from m3et_ros.training.video.actions import known_segments

    annotations = read_segments(find_split(epic, 'train'), classes)
    for odd in annotations.notes:
        print_status(odd.text)
    try:
        out = held_out_videos(annotations.videos, held_out)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    kept = annotations.only(set(annotations.videos) - set(out))
    known = known_segments(kept.segments, classes)
    if not known:
        raise Refused('No segment has a verb and a noun of the class lists; give the lists that belong to the file.')
    return Annotations(kept.path, tuple(known), kept.notes), out


def open_folder(
    options: ClipOptions, source: ClipSource, annotations: 'Annotations', out: Path
) -> 'tuple[FeatureFolder, dict[str, Any]]':
    """Open the features, after encoding pictures where these are given; return them with their origin.

    Raises:
        InputError: pictures or features cannot be read.
        Refused: the rate is out of its range.
    """
    from m3et_ros.data.epic.class_lists import read_videos
    from m3et_ros.data.epic.clips import open_features, read_index
    from m3et_ros.data.epic.frames import FrameFolders
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.video.features import FrameBackbone, extract

    videos = read_videos(source.epic)
    try:
        if options.frames is None:
            return open_features(options.features, options.fps, videos), read_index(options.features)
        pictures = FrameFolders(options.frames, videos, fps=options.fps)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    backbone = FrameBackbone(open_checkpoint(source.start))
    origin = extract(backbone, annotations.segments, pictures, out / FEATURES, progress=track)
    return open_features(out / FEATURES, None, videos), origin


def open_augmented(options: ClipOptions, origin: 'dict[str, Any]') -> 'list[FeatureFolder]':
    """Open the features of augmented pictures.

    Args:
        options: the folders.
        origin: features.json of the features of the pictures as they are.

    Raises:
        InputError: a folder cannot be read, or holds features of another network or rate.
        Refused: there are no features of the pictures as they are, or a folder holds others of these.
    """
    from m3et_ros.data.epic.clips import RANDAUGMENT, check_origin, open_features, read_index

    if options.augmented and options.features is None:
        raise Refused('Augmented features are added to others; give --features with those of the pictures as they are.')
    for folder in options.augmented or ():
        index = read_index(folder)
        if index and RANDAUGMENT not in index:
            raise Refused(f'{folder} holds features of unchanged pictures; make it with m3et features --randaugment.')
        check_origin(folder, {**origin, RANDAUGMENT: index.get(RANDAUGMENT)} if origin else {})
    return [open_features(folder, options.fps, {}) for folder in options.augmented or ()]


def _save(folder: Path, made: dict[str, Any], card: str, outcome: Any, *, as_json: bool) -> None:
    """Write the checkpoint and print the outcome."""
    from m3et_ros.data.checkpoints.video import VideoCheckpoint, save_video

    checkpoint: VideoCheckpoint = VideoCheckpoint(**made)
    model_id = save_video(folder, checkpoint, card=card)
    if as_json:
        print_json({'model_id': model_id, 'checkpoint': str(folder), **asdict(outcome)})
        return
    print_line(f'{model_id} in {folder}: {outcome.samples:,} clips, {outcome.step:,} of {outcome.steps:,} steps.')
    if outcome.step < outcome.steps:
        print_unfinished()


def model_card(recipe: Any, outcome: Any, made: dict[str, Any], seed: int, command: str) -> str:
    """Return the model card: what was done, nothing else.

    Args:
        recipe: recipe of the training.
        outcome: outcome of the training.
        made: fields of the checkpoint.
        seed: seed of the run.
        command: command that repeats it.
    """
    return '\n'.join(
        [
            f'# MambaVL on clips of EPIC-KITCHENS-100: {made["observation"].task}',
            '',
            'Made by:',
            '',
            f'    {command}',
            '',
            f'- steps: {outcome.step:,} of {outcome.steps:,}',
            f'- clips seen: {outcome.samples:,}',
            f'- videos learnt from: {len(made["learnt"])}; held out: {len(made["held_out"])}',
            f'- features: {", ".join(f"{k} {v}" for k, v in made["features"].items()) or "of another program"}',
            f'- questions: {"of a file" if made["questions"] == "file" else "without hints"}',
            f'- seed: {seed}',
            recipe_line(recipe),
            recipe_line(made['observation'], 'observation'),
            recipe_line(made['head'].config, 'model'),
            *(f'- {name}: {value:.4f}' for name, value in outcome.losses.items()),
            '',
            'Trained on annotations under CC BY-NC 4.0 (Damen et al., IJCV 2022).',
            '',
        ]
    )
