"""`m3et convert`: the group of verbs that write something in another format; each is named after its source.

m3et convert bag my_bag my_set                     recordings to a LeRobot data set
m3et convert lerobot my_set my_bag                 and back
m3et convert my_bag my_set                         the same; the source shows what it is
m3et convert weights model.pt --out my_weights     files of torch.save to safetensors
"""

from pathlib import Path

import typer
from typer.core import TyperGroup

from m3et_ros.cli.convert.lerobot import bag, lerobot
from m3et_ros.cli.convert.weights import weights

VERBS = {'bag': bag, 'lerobot': lerobot, 'weights': weights}


class BySource(TyperGroup):
    """A group that finds the verb of a source that is a path: a LeRobot data set has a folder meta, a recording not."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        """Put the verb before the first argument where that is a path instead of a verb."""
        if args and args[0] not in self.commands and not args[0].startswith('-'):
            source = Path(args[0]).expanduser()
            if source.exists():
                args = ['lerobot' if (source / 'meta').is_dir() else 'bag', *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=BySource,
    help='Convert recordings to LeRobot data sets and back, and weights to safetensors.',
    no_args_is_help=True,
)
for name, verb in VERBS.items():
    app.command(name)(verb)
