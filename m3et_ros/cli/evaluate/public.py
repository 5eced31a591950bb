"""Public data sets in the place of a cache: `m3et evaluate vqa` on VQAv2, `m3et evaluate reconstruction` on others.

m3et evaluate vqa --data vqav2:questions.json,annotations.json,val2014 --model runs/vqa/checkpoint --out results/vqav2
m3et evaluate reconstruction --data nyu:nyu_depth_v2_labeled.mat --out results/nyu
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m3et_ros.cli.evaluate.common import is_given, recorded_command
from m3et_ros.cli.output import Refused

if TYPE_CHECKING:
    from m3et_ros.data.datasets.sources import Sources

CACHE = 'frames'
"""Folder below --out for decoded frames."""


def kind_of(data: str) -> str:
    """Return the kind of a public data set, such as 'vqav2', from a word of --data; '' for a cache of kitchens."""
    from m3et_ros.data.datasets.sources import FORMS

    kind, colon, _ = data.partition(':')
    return kind if colon and kind in FORMS else ''


def check_kind(data: str, *allowed: str) -> None:
    """Refuse a data set that a verb cannot measure.

    Raises:
        Refused: the kind is not among those allowed.
    """
    from m3et_ros.data.datasets.sources import FORMS

    if kind_of(data) not in allowed:
        forms = ' or '.join(f'{kind}:{FORMS[kind][0]}' for kind in allowed)
        raise Refused(f'{data} cannot be measured here; give a cache of kitchens, or {forms}.')


def refuse_given(context: typer.Context, data: str, *names: str) -> None:
    """Refuse options that have no meaning for a public data set.

    Raises:
        Refused: such an option was given, even with its default value.
    """
    for name in names:
        if is_given(context, name):
            flag = next(one.opts[0] for one in context.command.params if one.name == name)
            raise Refused(f'{flag} is for kitchens of a cache, and {data} was given; leave it out.')


def open_public(data: str, out: Path, labels: Any, config: Any, *, questions: bool = False) -> 'Sources':
    """Open a public data set as a model takes it, without disturbances.

    Args:
        data: word of --data.
        out: folder of the results.
        labels: labels of the model, to which the classes of the data set are mapped by name; None for no classes.
        config: config of the model; None for one that takes pictures of any size.
        questions: require samples with questions.

    Raises:
        InputError: the data set cannot be read.
    """
    from m3et_ros.data.datasets.sources import SourceOptions, open_sources

    options = SourceOptions(
        labels.classes if labels else (),
        config.image_size if config else 0,
        out / CACHE,
        metric=bool(config) and config.depth_norm == 'fixed',
        noise=None,
    )
    return open_sources([data], options, kitchen=_no_kitchen, questions=questions)


def _no_kitchen(folders: list[Path]) -> Any:
    raise AssertionError(f'{folders} are no public data set')


def origin(
    context: typer.Context, data: str, count: int, model: dict[str, Any], machine: dict[str, Any], **settings: Any
) -> dict[str, Any]:
    """Return everything that determines the results, for metrics.json: no time and no path but those of the command.

    Args:
        context: typer context of the verb.
        data: word of --data.
        count: number of samples of the data set.
        model: id, whether it is trained, and digest of its weights.
        machine: versions and the machine (evaluation.files.environment).
        settings: settings of the evaluation, JSON values.
    """
    from m3et_ros.evaluation.files import bag_files

    kind, _, rest = data.partition(':')
    files = [Path(part) for part in rest.split(',') if Path(part).is_file()]
    digests = {name: digest for path in files for name, digest in bag_files(path).items()}
    return {
        'command': recorded_command(context),
        'settings': settings,
        'data': {'kind': kind, 'samples': count, 'files': digests},
        'model': model,
        'environment': machine,
    }
