"""`m3et evaluate table`: one line for each model, over several runs of m3et evaluate vqa and eqa.

m3et evaluate table results/m3et results/smolvlm results/qwen --out results/table
"""

from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.evaluate.common import make_out
from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line

TABLE = 'models.md'


def table(
    runs: Annotated[list[Path], typer.Argument(help='--out of runs, or tables that were written before.')],
    *,
    out: Annotated[Path, typer.Option(help='Folder for models.json and models.md.')],
    as_json: Json = False,
) -> None:
    """Compare models in a table with a line for each; tables of other machines can be merged in."""
    from m3et_ros.data.checkpoints.json_files import write_json
    from m3et_ros.data.files import refuse_unwritable
    from m3et_ros.evaluation.report.models_table import MODELS, document, lines_of, merged, models_table

    lines = merged(lines_of(run) for run in runs)
    make_out(out)
    with refuse_unwritable(out, 'give another --out'):
        write_json(out / MODELS, document(lines))
        (out / TABLE).write_text(models_table(lines) + '\n', encoding='utf-8')
    if as_json:
        print_json(document(lines))
    else:
        print_line(models_table(lines))
