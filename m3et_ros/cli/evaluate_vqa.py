"""`m3et evaluate vqa BAG...`: questions about single frames of recordings, in the place of a cache of kitchens.

    m3et record kitchens --vqa --seed 20000 --episodes 4 --questions 100
    m3et evaluate vqa kitchens/2* --questions kitchens/questions.json --model kitchen --out results/vqa

--out gets what `m3et evaluate eqa` writes, by the same rules.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from m3et_ros.cli.evaluate_eqa import Ask, evaluate_recordings, renamed
from m3et_ros.cli.output import Refused

Questions = Annotated[list[Path] | None, typer.Option(
    help="With recordings: question file in OpenEQA's schema, `time` saying the second of the frame; may be given "
    'several times.', show_default=False)]
Scope = Annotated[Literal['moment', 'blind'], typer.Option(
    help='With recordings: answer from the frame that is asked about, or without looking.')]

OF_KITCHENS = ('data', 'samples', 'noise', 'without', 'blind', 'seed', 'batch')
OF_BAGS = ('questions', 'scope', 'camera', 'remaps', 'train', 'judge_url', 'judge_model', 'judge_prompt', 'ray',
           'threads')
"""Options that have a meaning for one of the two alone."""


def check_options(context: typer.Context) -> None:
    """See that no option was given that would be passed over.

    Raises:
        Refused: one was, or there are recordings without questions.
    """
    refuse_idle_options(context, OF_KITCHENS, OF_BAGS)
    if context.params['bags'] and not context.params['questions']:
        raise Refused('recordings were given without questions about them; give --questions (m3et record --vqa writes '
                      'such a file).')


def refuse_idle_options(context: typer.Context, of_kitchens: Sequence[str], of_bags: Sequence[str]) -> None:
    """See that no option was given that has a meaning only for kitchens, or only for recordings, where the other is
    looked at.

    Raises:
        Refused: one was.
    """
    bags = context.params['bags']
    strange = next((name for name in (of_kitchens if bags else of_bags) if given(context, name)), None)
    if strange is not None:
        flag = next(one.opts[0] for one in context.command.params if one.name == strange)
        raise Refused(f'{flag} is for kitchens of a cache, and recordings were given; leave one of them out.' if bags
                      else f'{flag} is for recordings, and none was given; name some, or leave it out.')


def given(context: typer.Context, name: str) -> bool:
    """Whether an option was written down, be it with its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != 'DEFAULT'


def vqa_of_bags(context: typer.Context, bags: list[Path], ask: Ask, *, scope: str, write: bool, camera: str | None,
                remaps: list[str], threads: int) -> None:
    """Answer questions about single frames of recordings; arguments as the options of `m3et evaluate vqa` have them.

    Raises:
        InputError, Refused, typer.Exit: as evaluate_eqa.evaluate_recordings.
    """
    from m3et_ros.evaluation.runs.eqa_bag import EqaTask

    task = EqaTask(scope, write, camera=camera, remaps=renamed(remaps), threads=threads)
    evaluate_recordings(context, bags, task, ask)
