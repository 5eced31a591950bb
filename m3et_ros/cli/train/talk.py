"""`m3et train talk`: a model that writes about what a trained M3ET sees (ML-Mamba, EMMA or MaTVLM).

    m3et train talk --variant ml_mamba --data cache/kitchen --out runs/talk
    m3et train talk --variant matvlm --data cache/kitchen --out runs/talk
    m3et train talk --variant matvlm --data cache/kitchen --out runs/half --teacher runs/talk/teacher --share 0.5

Every view is encoded once by the M3ET, which stays as it is; then the stages of the variant follow (training/talk.py).
"""

import os
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Json, Refused, emit, note, say
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import asked_to_stop, command_line, teller

VIEWS, CHECKPOINT, TEACHER = 'views', 'checkpoint', 'teacher'
Variant = Enum('Variant', {'ml_mamba': 'ml_mamba', 'emma': 'emma', 'matvlm': 'matvlm'}, type=str)


def talk(
    context: typer.Context,
    *,
    data: Annotated[list[Path], typer.Option(help='Cache of training kitchens; may be given several times.')],
    out: Annotated[Path, typer.Option(help='Folder of the run: views, stages and, at the end, a checkpoint.')],
    variant: Annotated[Variant, typer.Option(help='Which of the three papers.')] = Variant.matvlm,
    start: Annotated[
        str, typer.Option('--from', help='M3ET whose sight is read: checkpoint folder or named size.')
    ] = 'kitchen',
    views: Annotated[
        Path | None,
        typer.Option(help='Folder of encoded views that runs share; else one in --out.', show_default=False),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help='Only every n-th frame is encoded.')] = 4,
    side: Annotated[int, typer.Option(min=3, max=64, help='Visual tokens of a side.')] = 9,
    d: Annotated[int, typer.Option('--width', min=64, max=1024, help='Width of the language model.')] = 256,
    layers: Annotated[int, typer.Option(min=1, max=64, help='Layers of the language model.')] = 4,
    connector: Annotated[
        str | None, typer.Option(help='mlp, short, basic or advanced; else that of the paper.')
    ] = None,
    scan: Annotated[str, typer.Option(help='Of basic and advanced: bidirectional or cross.')] = 'bidirectional',
    teacher: Annotated[Path | None, typer.Option(help='matvlm: a teacher trained before.')] = None,
    share: Annotated[
        float,
        typer.Option(min=0, max=1, help='matvlm: of the attention layers, those replaced; 0 leaves it at the teacher.'),
    ] = 0.25,
    samples: Annotated[int, typer.Option(min=1, help='Views of the main stage.')] = 32_000,
    words: Annotated[int, typer.Option(min=0, help='Views of the stage words; 0 leaves it out.')] = 3_200,
    connect: Annotated[
        int, typer.Option(min=0, help='Views of the stage connect; 0 leaves it out. EMMA has none.')
    ] = 4_800,
    distil: Annotated[int, typer.Option(min=1, help='matvlm: views of the distillation.')] = 9_600,
    batch: Annotated[int, typer.Option(min=1, help='Views of one step.')] = 16,
    questions: Annotated[int, typer.Option(min=1, max=64, help='Questions of a view.')] = 8,
    lr: Annotated[float, typer.Option(help='Highest learning rate.')] = 1e-3,
    optimiser: Annotated[
        str, typer.Option(help='adamw, or muon beside it for hidden matrices, which needs fewer views.')
    ] = 'adamw',
    align: Annotated[float, typer.Option(min=0, help='emma: weight of the alignment with the pixels.')] = 0.3,
    fusion: Annotated[
        bool, typer.Option('--fusion/--last', help='emma: align several layers, or the last alone.')
    ] = True,
    minutes: Annotated[float | None, typer.Option(min=0, help='Stop after so long; --resume goes on.')] = None,
    seed: Annotated[int, typer.Option(min=0, help='Of weights, order and questions.')] = 0,
    bf16: Annotated[bool, typer.Option('--bf16', help='Matrix products in bfloat16.')] = False,
    half: Annotated[bool, typer.Option('--half', help='Store matrices as float16.')] = False,
    resume: Annotated[bool, typer.Option('--resume', help='Go on with the run in --out.')] = False,
    as_json: Json = False,
) -> None:
    """Learn to answer in sentences and to describe what is seen."""
    wish = TalkOptions(
        variant.value,
        data,
        out,
        start,
        views or out / VIEWS,
        every,
        teacher,
        share,
        {'d': d, 'layers': layers, 'side': side, 'connector': connector, 'scan': scan},
        {'words': words, 'connect': connect, 'chat': samples, 'distil': distil},
        {'batch': batch, 'lr': lr, 'optimiser': optimiser},
        questions,
        align,
        fusion,
        seed,
    )
    _learn(context, wish, {'minutes': minutes, 'bf16': bf16, 'resume': resume}, half=half, as_json=as_json)


@dataclass(frozen=True)
class TalkOptions:
    """What was asked for on the command line."""

    variant: str
    # Caches, folder of the run, M3ET whose sight is read.
    data: list[Path]
    out: Path
    start: str
    # Folder of the encoded views, and every which frame they are of.
    views: Path
    every: int
    # Checkpoint of a teacher, and the share of its layers that are replaced.
    teacher: Path | None
    share: float
    # Arguments of models.talk.kitchen_config.
    sizes: dict[str, Any]
    # Views of each stage, 0 leaving it out, and what all recipes have in common.
    samples: dict[str, int]
    budget: dict[str, Any]
    # Questions of a view.
    questions: int
    # Weight of EMMA's alignment, and whether it reads several layers.
    align: float
    fusion: bool
    seed: int


def _learn(context: typer.Context, wish: TalkOptions, sitting: dict[str, Any], *, half: bool, as_json: bool) -> None:
    """Train and write the checkpoint; says what was done."""
    # Waiting threads that spin are worse than one thread as soon as another process works.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from m3et_ros.data.checkpoints.talk import TalkCheckpoint, load_talk
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.loop import TrainingSession
    from m3et_ros.training.talk import Interrupted, TalkRun, talk_tokenizer

    if wish.teacher is not None and (wish.variant != 'matvlm' or not wish.share):
        raise Refused('Only matvlm has a teacher, and only with --share above 0; leave --teacher out.')
    checkpoint = open_checkpoint(wish.start)
    taught = load_talk(wish.teacher) if wish.teacher else None
    tokenizer = taught.tokenizer if taught else talk_tokenizer()
    try:
        course = _course(wish, _config(wish, checkpoint, tokenizer, taught))
        seen, kitchens = _prepare(wish, checkpoint, course, bf16=sitting['bf16'])
    except ValueError as error:
        raise Refused(f'{error}.') from error
    try:
        with asked_to_stop() as stop:
            run = TalkRun(
                course,
                kitchens,
                seen,
                tokenizer,
                wish.out,
                tell=_telling(),
                stop=stop,
                sitting=TrainingSession(**sitting),
            )
            final, model = run.train(taught.model if taught else None)
    except Interrupted:
        say('The run has not ended: the same command with --resume goes on.')
        return
    made = TalkCheckpoint(model, final, tokenizer, checkpoint.model_id, wish.variant)
    _deliver(context, made, run, wish, half=half, as_json=as_json)


def _course(wish: TalkOptions, config: Any) -> Any:
    """The stages that were asked for."""
    from m3et_ros.training.talk import Chat, Connect, Distil, TalkRecipe, Words

    samples, budget = wish.samples, wish.budget
    return TalkRecipe(
        config,
        Words(samples=samples['words'], **budget) if samples['words'] else None,
        Connect(samples=samples['connect'], **budget) if samples['connect'] and wish.variant != 'emma' else None,
        Chat(samples=samples['chat'], align=wish.align, **budget),
        Distil(samples=samples['distil'], **budget) if wish.variant == 'matvlm' and wish.share else None,
        share=wish.share,
        fusion=wish.fusion,
        aligned=wish.align > 0,
        seed=wish.seed,
    )


def _config(wish: TalkOptions, checkpoint: Any, tokenizer: Any, taught: Any) -> Any:
    """Sizes of the model, or of its teacher."""
    from m3et_ros.models.vlm.variants import kitchen_config, vision_width

    width = vision_width(checkpoint.model.config)
    if taught is None:
        return kitchen_config(wish.variant, d_vision=width, vocabulary=tokenizer.vocabulary, **wish.sizes)
    if taught.config.variant != 'matvlm' or 'S' in taught.config.model.language.schedule:
        raise Refused(f'{taught.model_id} is no Transformer teacher; train one with --variant matvlm --share 0.')
    taught.check_sight(checkpoint.model_id, width)
    return taught.config


def _prepare(wish: TalkOptions, checkpoint: Any, course: Any, *, bf16: bool) -> tuple[Any, Any]:
    """The encoded views and what is said about them."""
    from m3et_ros.data.features import see_views
    from m3et_ros.data.kitchen.cache.dialogues import TalkViews
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    wrong = [cache for cache in wish.data if read_recipe(cache).split != 'train']
    if wrong:
        raise Refused(
            f'The cache {wrong[0]} holds no training kitchens, and no model may learn from others; give one '
            'of the train split.'
        )
    connector = course.config.model.connector
    seen = see_views(
        checkpoint,
        wish.data,
        wish.views,
        every=wish.every,
        grid=(connector.rows, connector.cols),
        bf16=bf16,
        progress=track,
    )
    note('indexing the questions')
    pixels = wish.variant == 'emma' and course.aligned
    return seen, TalkViews(wish.data, seen.frames, each=wish.questions, pixels=pixels, seed=wish.seed)


def _telling() -> Any:
    """Say which stage it is, and now and then how far along."""
    tellers: dict[str, Any] = {}

    def tell(what: str, entry: dict) -> None:
        if what not in tellers:
            note(f'{what}:')
        tellers.setdefault(what, teller())(entry)

    return tell


def _deliver(context: typer.Context, made: Any, run: Any, wish: TalkOptions, *, half: bool, as_json: bool) -> None:
    """Write the checkpoint, and of matvlm its teacher beside it."""
    import torch

    from m3et_ros.data.checkpoints.talk import save_talk
    from m3et_ros.training.talk import told_of

    dtype = torch.float16 if half else torch.float32
    stages, folder = told_of(run.outcomes), wish.out / CHECKPOINT
    card = _card(made, run, stages, wish.data, command_line(context))
    if run.taught is not None:
        save_talk(wish.out / TEACHER, replace(made, model=run.taught, config=run.course.config), card=card)
    model_id = save_talk(folder, made, card=card, dtype=dtype)
    if as_json:
        emit({'model_id': model_id, 'checkpoint': str(folder), 'stages': stages})
        return
    say(f'{model_id} in {folder}: {sum(stage["steps"] for stage in stages):,} steps in {len(stages)} stages.')


def _card(made: Any, run: Any, stages: list[dict], data: list[Path], command: str) -> str:
    """The model card: what was done, nothing else."""
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    language, connector = made.config.model.language, made.config.model.connector
    recipes = (run.course.words, run.course.connect, run.course.chat, run.course.distil)
    return '\n'.join(
        [
            f'# A talking model: {made.config.variant}',
            '',
            f'Writes about what `{made.vision}` sees. Made by:',
            '',
            f'    {command}',
            '',
            f'- layers {language.schedule}, width {language.d}, connector {connector.kind}, '
            f'{connector.rows} x {connector.cols} visual tokens, '
            f'{sum(p.numel() for p in made.model.parameters()):,} parameters',
            f'- seed: {run.course.seed}',
            *(
                f'- {stage["stage"]}: {stage["steps"]:,} steps, {stage["views"]:,} views, {stage["minutes"]} minutes; '
                + ', '.join(f'{name} {value:.3f}' for name, value in stage['losses'].items())
                for stage in stages
            ),
            *(
                f'- recipe {type(recipe).__name__}: {", ".join(f"{k} {v}" for k, v in asdict(recipe).items())}'
                for recipe in recipes
                if recipe
            ),
            *(f'- kitchen: {", ".join(f"{k} {v}" for k, v in asdict(read_recipe(folder)).items())}' for folder in data),
            '',
            'Losses are means of the last steps on training data; not a test result.',
            '',
        ]
    )
