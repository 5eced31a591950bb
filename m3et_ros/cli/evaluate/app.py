"""`m3et evaluate`: the group of verbs that measure a model.

    m3et evaluate vqa --data test-own --out results/vqa
    m3et evaluate vqa my_bag --questions my_questions.json --out results/my_vqa
    m3et evaluate reconstruction --model runs/two/checkpoint --data cache/kitchen --out results/reconstruction

--out gets metrics.json, per_sample.csv and pictures/. The same command on the same machine writes the same metrics.json
byte for byte.
"""

import typer

from m3et_ros.cli.evaluate.actions import actions
from m3et_ros.cli.evaluate.epic import epic
from m3et_ros.cli.evaluate.eqa import answers, compare, eqa, merge
from m3et_ros.cli.evaluate.reconstruction import reconstruction
from m3et_ros.cli.evaluate.table import table
from m3et_ros.cli.evaluate.talk import talk
from m3et_ros.cli.evaluate.vqa import vqa

VERBS = {
    'vqa': vqa,
    'reconstruction': reconstruction,
    'actions': actions,
    'epic': epic,
    'talk': talk,
    'eqa': eqa,
    'answers': answers,
    'merge': merge,
    'compare': compare,
    'table': table,
}

app = typer.Typer(help='Measure a model on kitchens that are not in its training data.', no_args_is_help=True)
for name, verb in VERBS.items():
    app.command(name)(verb)
