"""`m3et train talk`: a vision-language model that writes about the images a trained M3ET encodes.

    m3et train talk --variant ml_mamba --data cache/kitchen --out runs/talk
    m3et train talk --variant matvlm --data cache/kitchen --out runs/talk
    m3et train talk --variant matvlm --data cache/kitchen --out runs/half --teacher runs/talk/teacher --share 0.5

The variants are ML-Mamba, EMMA and MaTVLM. The M3ET, or DINOv2 and SigLIP with --vision, encodes every view once and
does not change; then the stages of the variant follow (training/talk.py).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line, print_status
from m3et_ros.cli.progress import track
from m3et_ros.cli.train.common import (
    CHECKPOINT,
    SessionOptions,
    check_training_split,
    kitchen_lines,
    print_unfinished,
    recipe_line,
)
from m3et_ros.cli.training_session import command_line, prepare_training, progress_reporter, stop_on_signal
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from torch import nn

    from m3et_ros.data.checkpoints.image_encoders import ImageEncoders
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.data.checkpoints.talk import TalkCheckpoint
    from m3et_ros.data.tokenizer import Tokenizer
    from m3et_ros.models.vlm.variants import TalkConfig
    from m3et_ros.training.talk import TalkRecipe, TalkRun

VIEWS, TEACHER = 'views', 'teacher'
Variant = Enum('Variant', {'ml_mamba': 'ml_mamba', 'emma': 'emma', 'matvlm': 'matvlm'}, type=str)
AlignTarget = Enum('AlignTarget', {'pixels': 'pixels', 'patch': 'patch', 'deep': 'deep'}, type=str)
AlignOrder = Enum('AlignOrder', {'blocks': 'blocks', 'released': 'released'}, type=str)
AlignLoss = Enum('AlignLoss', {'mean': 'mean', 'sum': 'sum'}, type=str)
Spread = Enum('Spread', {'even': 'even', 'first': 'first', 'middle': 'middle', 'last': 'last'}, type=str)
LayerKind = Enum('LayerKind', {'l2': 'l2', 'kl': 'kl'}, type=str)
ProbKind = Enum('ProbKind', {'kl': 'kl', 'reverse': 'reverse', 'js': 'js', 'l2': 'l2', 'hard': 'hard'}, type=str)
Reduction = Enum('Reduction', {'token': 'token', 'released': 'released'}, type=str)


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    """The paper that is followed."""

    variant: Annotated[Variant, typer.Option(help='Paper that the model follows.')] = Variant.matvlm


@dataclass(frozen=True, kw_only=True)
class HybridOptions:
    """MaTVLM: the layers that are replaced, and the losses of the distillation (training.distil)."""

    teacher: Annotated[Path | None, typer.Option(help='matvlm: checkpoint of an already trained teacher.')] = None
    share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help='matvlm: share of the attention layers that are replaced; 0 trains the teacher alone.'
        ),
    ] = 0.25
    spread: Annotated[Spread, typer.Option(help='matvlm: the replaced layers are evenly spread, or side by side.')] = (
        Spread.even
    )
    layer_weight: Annotated[
        float, typer.Option(min=0, help='matvlm: weight of the distance between the outputs of layers; released: 1.')
    ] = 1.0
    prob_weight: Annotated[
        float, typer.Option(min=0, help='matvlm: weight of the distance between predictions; released: 1.')
    ] = 1.0
    ce_weight: Annotated[
        float, typer.Option(min=0, help='matvlm: weight of the cross-entropy of the next word; released: 0.')
    ] = 1.0
    layer_kind: Annotated[LayerKind, typer.Option(help='matvlm: distance of layers; kl is that of their softmax.')] = (
        LayerKind.l2
    )
    prob_kind: Annotated[
        ProbKind, typer.Option(help='matvlm: distance of predictions; hard: cross-entropy of the likeliest word.')
    ] = ProbKind.kl
    temperature: Annotated[
        float, typer.Option(min=0.001, max=100, help='matvlm: divides logits before predictions are compared.')
    ] = 1.0
    reduction: Annotated[Reduction, typer.Option(help='matvlm: mean over words, or the sums of the released code.')] = (
        Reduction.token
    )


@dataclass(frozen=True, kw_only=True)
class AlignOptions:
    """EMMA: the alignment with the image."""

    align: Annotated[
        float, typer.Option(min=0, help='emma: weight of the alignment with the image; 0 leaves it out.')
    ] = 0.3
    fusion: Annotated[bool, typer.Option('--fusion/--last', help='emma: align several layers, or the last alone.')] = (
        True
    )
    align_target: Annotated[
        AlignTarget,
        typer.Option(
            help='emma: pixels, the patch embedding of the image encoder (released), or deep, the visual tokens.'
        ),
    ] = AlignTarget.pixels
    align_order: Annotated[
        AlignOrder, typer.Option(help='emma: order of the keys; released leaves them row by row, as the authors do.')
    ] = AlignOrder.blocks
    align_loss: Annotated[
        AlignLoss, typer.Option(help='emma: mean, or the released sum over everything times 1e-5.')
    ] = AlignLoss.mean
    align_warm_up: Annotated[float, typer.Option(min=0, help='emma: epochs in which the weight rises from 0.')] = 0.1


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """The views to train on and the encoder of their images."""

    data: Annotated[list[Path], typer.Option(help='Cache of training kitchens; may be given several times.')]
    start: Annotated[
        str, typer.Option('--from', help='M3ET that encodes the views: checkpoint folder or named size.')
    ] = DEFAULT_MODEL
    vision: Annotated[
        str | None,
        typer.Option(
            help='DINOV2,SIGLIP: encoders of the views in place of the M3ET, each a folder of transformers or '
            'hf:owner/name.'
        ),
    ] = None
    views: Annotated[
        Path | None,
        typer.Option(help='Folder of encoded views that runs share; by default one in --out.', show_default=False),
    ] = None
    every: Annotated[int, typer.Option(min=1, help='Encode every n-th frame only.')] = 4
    questions: Annotated[int, typer.Option(min=1, max=64, help='Number of questions per view.')] = 8


@dataclass(frozen=True, kw_only=True)
class SizeOptions:
    """Sizes of the model; the fields are arguments of models.vlm.variants.kitchen_config."""

    side: Annotated[int, typer.Option(min=3, max=64, help='Number of visual tokens on each side of the grid.')] = 9
    d: Annotated[int, typer.Option('--width', min=64, max=1024, help='Width of the language model.')] = 256
    layers: Annotated[int, typer.Option(min=1, max=64, help='Number of layers of the language model.')] = 4
    connector: Annotated[
        str | None, typer.Option(help='mlp, short, basic or advanced; by default that of the paper.')
    ] = None
    scan: Annotated[str, typer.Option(help='With basic and advanced: bidirectional or cross.')] = 'bidirectional'
    drop_path: Annotated[
        float,
        typer.Option(
            min=0, max=0.9, help='With basic and advanced: share of the samples that skip a branch; released: 0.'
        ),
    ] = 0.1
    mixer: Annotated[
        str, typer.Option(help="emma: mamba2, or mamba1, the language model of the paper's first version.")
    ] = 'mamba2'
    system: Annotated[str, typer.Option(help='System message in front of the image, as MaTVLM has one.')] = ''


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Views of each stage, and settings of all stages."""

    samples: Annotated[int, typer.Option(min=1, help='Number of views in the main stage.')] = 32_000
    words: Annotated[int, typer.Option(min=0, help='Number of views in the stage words; 0 skips it.')] = 3_200
    connect: Annotated[
        int, typer.Option(min=0, help='Number of views in the stage connect; 0 skips it. EMMA has no such stage.')
    ] = 4_800
    distil: Annotated[int, typer.Option(min=1, help='matvlm: number of views in the distillation.')] = 9_600
    batch: Annotated[int, typer.Option(min=1, help='Number of views in one step.')] = 16
    lr: Annotated[float, typer.Option(help='Highest learning rate.')] = 1e-3
    optimiser: Annotated[
        str, typer.Option(help='adamw, or muon with it for hidden matrices, which needs fewer views.')
    ] = 'adamw'


@dataclass(frozen=True, kw_only=True)
class TalkSession(SessionOptions):
    """Options of one session of a run and of its checkpoint."""

    half: Annotated[bool, typer.Option('--half', help='Store matrices as float16.')] = False


@expand_options(
    'data out variant start vision views every side d layers connector scan drop_path mixer system teacher share '
    'spread samples words connect distil batch questions lr optimiser layer_weight prob_weight ce_weight layer_kind '
    'prob_kind temperature reduction align fusion align_target align_order align_loss align_warm_up minutes seed bf16 '
    'half resume as_json'
)
def talk(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help='Folder of the run: views, stages and, at the end, a checkpoint.')],
    paper: VariantOptions,
    hybrid: HybridOptions,
    align: AlignOptions,
    views: ViewOptions,
    sizes: SizeOptions,
    stages: StageOptions,
    session: TalkSession,
    as_json: Json = False,
) -> int:
    """Train a model to answer in sentences and to describe images."""
    prepare_training()
    from m3et_ros.data.checkpoints.image_encoders import ImageEncoders
    from m3et_ros.data.checkpoints.talk import TalkCheckpoint, load_talk
    from m3et_ros.training.run_state import Interrupted, TrainingSession
    from m3et_ros.training.talk import TalkRun, talk_tokenizer

    check_variant(paper.variant, hybrid, align)
    encoder = open_encoder(views)
    teacher = load_talk(hybrid.teacher) if hybrid.teacher else None
    tokenizer = teacher.tokenizer if teacher else talk_tokenizer()
    try:
        config = model_config(paper, sizes, encoder, tokenizer, teacher)
        recipe = talk_recipe(config, hybrid, align, stages, session.seed)
        tokens, dialogues = encode_data(encoder, recipe, views, views.views or out / VIEWS, session)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    try:
        with stop_on_signal() as stop:
            run = TalkRun(
                recipe,
                dialogues,
                tokens,
                tokenizer,
                out,
                encoder=patch_embedding(encoder),
                session=TrainingSession(
                    minutes=session.minutes,
                    bf16=session.bf16,
                    resume=session.resume,
                    report=progress_reporter(stages=True),
                    stop=stop,
                ),
            )
            final, model = run.train(teacher.model if teacher else None)
    except Interrupted:
        print_unfinished(as_json=as_json)
        return stop.code
    beside = encoder if isinstance(encoder, ImageEncoders) else None
    checkpoint = TalkCheckpoint(model, final, tokenizer, encoder.model_id, paper.variant.value, encoders=beside)
    _save(out, checkpoint, run, views.data, command_line(context), half=session.half, as_json=as_json)
    return 0


def open_encoder(views: ViewOptions) -> 'Checkpoint | ImageEncoders':
    """Open the encoder of the views.

    Raises:
        Refused: both --from and --vision are given.
        InputError: as open_checkpoint and open_encoders.
    """
    from m3et_ros.runtime.open_model import open_checkpoint, open_encoders

    if views.vision is None:
        return open_checkpoint(views.start)
    if views.start != ViewOptions.start:
        raise Refused('The views have one encoder; leave --from or --vision out.')
    return open_encoders(views.vision)


def patch_embedding(encoder: 'Checkpoint | ImageEncoders') -> 'tuple[nn.Module, int]':
    """Return the patch embedding of colours, of SigLIP where there are two encoders, and the side of its patches."""
    from m3et_ros.data.checkpoints.image_encoders import ImageEncoders, SiglipPatches

    if isinstance(encoder, ImageEncoders):
        siglip = encoder.tower.siglip
        return SiglipPatches(siglip), siglip.config.patch_size
    return encoder.model.adapters['rgb'], encoder.model.config.patch


def check_variant(variant: Variant, hybrid: HybridOptions, align: AlignOptions) -> None:
    """Refuse options that the variant does not have.

    Raises:
        Refused: an option of another variant has a value other than its default; a student without replaced layers has
            a teacher.
    """
    for owner, chosen in (('matvlm', hybrid), ('emma', align)):
        default = type(chosen)()
        for field in fields(chosen):
            if variant.value != owner and getattr(chosen, field.name) != getattr(default, field.name):
                name = '--last' if field.name == 'fusion' else f'--{field.name.replace("_", "-")}'
                raise Refused(f'Only {owner} has {name}; leave it out, or give --variant {owner}.')
    if hybrid.teacher is not None and not hybrid.share:
        raise Refused('Without replaced layers there is no student to teach; leave --teacher out, or --share above 0.')


def talk_recipe(
    config: 'TalkConfig', hybrid: HybridOptions, align: AlignOptions, stages: StageOptions, seed: int
) -> 'TalkRecipe':
    """Return the recipe with the stages of the variant.

    Args:
        config: config of the model, or of its teacher.
        hybrid: MaTVLM's replaced layers and losses.
        align: EMMA's alignment.
        stages: views of each stage.
        seed: seed of weights, order and draws.

    Raises:
        ValueError: a field is out of its range.
    """
    from m3et_ros.training.talk import Chat, Connect, Distil, TalkRecipe, Words

    common = {'batch': stages.batch, 'lr': stages.lr, 'optimiser': stages.optimiser}
    words = connect = distil = None
    if stages.words:
        words = Words(samples=stages.words, **common)
    if stages.connect and config.variant != 'emma':
        connect = Connect(samples=stages.connect, **common)
    if config.variant == 'matvlm' and hybrid.share:
        distil = Distil(
            samples=stages.distil,
            layer=hybrid.layer_weight,
            prob=hybrid.prob_weight,
            ce=hybrid.ce_weight,
            layer_kind=hybrid.layer_kind.value,
            prob_kind=hybrid.prob_kind.value,
            temperature=hybrid.temperature,
            reduction=hybrid.reduction.value,
            **common,
        )
    chat = Chat(
        samples=stages.samples,
        align=align.align,
        align_warm_up=align.align_warm_up,
        align_loss='mean' if align.align_loss == AlignLoss.mean else 'sum_1e-5',
        **common,
    )
    return TalkRecipe(
        config,
        words,
        connect,
        chat,
        distil,
        share=hybrid.share,
        spread=hybrid.spread.value,
        fusion=align.fusion,
        aligned=align.align > 0,
        target=align.align_target.value,
        released_order=align.align_order == AlignOrder.released,
        seed=seed,
    )


def model_config(
    paper: VariantOptions,
    sizes: SizeOptions,
    encoder: 'Checkpoint | ImageEncoders',
    tokenizer: 'Tokenizer',
    teacher: 'TalkCheckpoint | None',
) -> 'TalkConfig':
    """Return the config of the model, or of its teacher for matvlm.

    Args:
        paper: the variant.
        sizes: sizes of a new model.
        encoder: the encoder of the views.
        tokenizer: tokenizer of the text.
        teacher: an already trained teacher; None to train one.

    Raises:
        Refused: the teacher is not a Transformer, or has other sizes than those given.
        InputError: the teacher was trained on another encoder.
        ValueError: the sizes do not fit the variant.
    """
    from m3et_ros.data.checkpoints.image_encoders import ImageEncoders
    from m3et_ros.models.vlm.variants import kitchen_config, vision_width

    width = encoder.width if isinstance(encoder, ImageEncoders) else vision_width(encoder.model.config)
    given = asdict(sizes) | {'system': tokenizer.pieces(sizes.system)}
    config = kitchen_config(paper.variant.value, d_vision=width, vocabulary=tokenizer.vocabulary, **given)
    if teacher is None:
        return config
    if teacher.config.variant != Variant.matvlm or 'S' in teacher.config.model.language.schedule:
        raise Refused(f'{teacher.model_id} is not a Transformer; train a teacher with --variant matvlm --share 0.')
    teacher.check_encoder(encoder.model_id, width)
    if sizes != SizeOptions() and config != teacher.config:
        raise Refused(f'A student has the sizes of {teacher.model_id}; leave --width, --system and the like out.')
    return teacher.config


def encode_data(
    encoder: 'Checkpoint | ImageEncoders', recipe: 'TalkRecipe', views: ViewOptions, folder: Path, session: TalkSession
) -> tuple[Any, Any]:
    """Encode the views, and index their questions and descriptions.

    Args:
        encoder: the encoder of the views; two of them work on a GPU where there is one.
        recipe: its connector gives the grid of visual tokens, and EMMA's alignment may need pixels.
        views: caches, and which of their frames are encoded.
        folder: folder of the encoded views.
        session: seed and precision.

    Returns:
        The visual tokens, and the views with their questions.

    Raises:
        Refused: a cache is not of the train split.
        ValueError: the grid is finer than that of the encoders.
    """
    from m3et_ros.data.checkpoints.image_encoders import ImageEncoders
    from m3et_ros.data.features.visual_tokens import encode_views
    from m3et_ros.data.kitchen.cache.dialogues import DialogueViews
    from m3et_ros.runtime.devices import device_of

    check_training_split(views.data)
    connector = recipe.config.model.connector
    if isinstance(encoder, ImageEncoders):
        encoder.tower.to(device_of('auto'))
    tokens = encode_views(
        encoder,
        views.data,
        folder,
        every=views.every,
        grid=(connector.rows, connector.cols),
        bf16=session.bf16,
        progress=track,
    )
    if isinstance(encoder, ImageEncoders):
        encoder.tower.cpu()  # the training needs the memory
    print_status('indexing the questions')
    pixels = recipe.config.variant == 'emma' and recipe.aligned and recipe.target != 'deep'
    return tokens, DialogueViews(views.data, tokens.frames, each=views.questions, pixels=pixels, seed=session.seed)


def _save(
    out: Path,
    checkpoint: 'TalkCheckpoint',
    run: 'TalkRun',
    data: Sequence[Path],
    command: str,
    *,
    half: bool,
    as_json: bool,
) -> None:
    """Write the checkpoint, and the teacher of matvlm beside it, and print the outcome."""
    import torch

    from m3et_ros.data.checkpoints.talk import save_talk
    from m3et_ros.training.talk import stage_summaries

    stages, folder = stage_summaries(run.outcomes), out / CHECKPOINT
    card = model_card(checkpoint, run.recipe, stages, data, command)
    if run.taught is not None:
        save_talk(out / TEACHER, replace(checkpoint, model=run.taught, config=run.recipe.config), card=card)
    model_id = save_talk(folder, checkpoint, card=card, dtype=torch.float16 if half else torch.float32)
    if as_json:
        print_json({'model_id': model_id, 'checkpoint': str(folder), 'stages': stages})
        return
    print_line(f'{model_id} in {folder}: {sum(stage["steps"] for stage in stages):,} steps in {len(stages)} stages.')


def model_card(
    checkpoint: 'TalkCheckpoint', recipe: 'TalkRecipe', stages: list[dict[str, Any]], data: Sequence[Path], command: str
) -> str:
    """Return the model card: what was done, nothing else.

    Args:
        checkpoint: the trained model.
        recipe: recipe of the stages.
        stages: results of the stages, as `stage_summaries` returns them.
        data: caches of training kitchens.
        command: command that repeats the run.
    """
    language, connector = checkpoint.config.model.language, checkpoint.config.model.connector
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    return '\n'.join(
        [
            f'# A talking model: {checkpoint.config.variant}',
            '',
            f'Writes about images that `{checkpoint.vision}` encodes. Made by:',
            '',
            f'    {command}',
            '',
            f'- layers {language.schedule}, width {language.d}, connector {connector.kind}, '
            f'{connector.rows} x {connector.cols} visual tokens, {parameters:,} parameters',
            f'- seed: {recipe.seed}',
            *(
                f'- {stage["stage"]}: {stage["steps"]:,} steps, {stage["views"]:,} views, {stage["minutes"]} minutes; '
                + ', '.join(f'{name} {value:.3f}' for name, value in stage['losses'].items())
                for stage in stages
            ),
            *(recipe_line(one) for one in (recipe.words, recipe.connect, recipe.chat, recipe.distil) if one),
            *kitchen_lines(data),
            '',
            'Losses are means of the last steps on training data; not a test result.',
            '',
        ]
    )
