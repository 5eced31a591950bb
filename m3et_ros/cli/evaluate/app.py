"""`m3et evaluate`: what a model is worth on kitchens that it has never seen.

    m3et evaluate vqa --model kitchen --data test --out results/vqa
    m3et evaluate vqa my_bag --questions my_questions.json --model kitchen --out results/my_vqa
    m3et evaluate reconstruction --model runs/two/checkpoint --data cache/kitchen --out results/reconstruction

--out gets metrics.json, per_sample.csv and pictures/. The same command on the same machine writes the same metrics.json
byte for byte.
"""

import typer

from m3et_ros.cli.evaluate import actions, epic, eqa, reconstruction, talk, vqa

app = typer.Typer(help='Measure a model on kitchens that it has never seen.', no_args_is_help=True)

for verb in (vqa.vqa, reconstruction.reconstruction):
    app.command(verb.__name__)(verb)
app.command('actions')(actions.actions)
app.command('epic')(epic.epic)
app.command('talk')(talk.talk)
for verb in (eqa.eqa, eqa.answers, eqa.merge, eqa.compare):
    app.command(verb.__name__)(verb)
