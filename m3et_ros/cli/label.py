"""`m3et label`: label recordings of a place by teacher networks, for training and for correction by hand.

m3et label walk.mcap -o places/kitchen --detection yolox_nano.onnx
m3et label monday tuesday -o places/kitchen --depth hf:owner/depth --segmentation hf:owner/segmentation
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line, print_table
from m3et_ros.cli.progress import track
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.training.teach.teachers import Teachers


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """The networks that label."""

    depth: Annotated[
        str | None,
        typer.Option(help='Depth network: a folder of transformers, or hf:owner/name[@revision].', show_default=False),
    ] = None
    segmentation: Annotated[
        str | None, typer.Option(help='Segmentation network, named likewise.', show_default=False)
    ] = None
    detection: Annotated[
        str | None, typer.Option(help='Detector, named likewise, or an ONNX file of YOLOX.', show_default=False)
    ] = None
    questions: Annotated[
        str | None, typer.Option(help='Vision-language model that answers the questions of --ask.', show_default=False)
    ] = None
    ask: Annotated[
        list[str] | None,
        typer.Option(help='Question that --questions answers about every frame; may be given several times.'),
    ] = None
    name: Annotated[
        list[str] | None,
        typer.Option(help='Thing to teach, all that the teachers find by default; may be given several times.'),
    ] = None
    device: Annotated[str, typer.Option(help='Device of the teachers: auto, cpu, cuda or cuda:N.')] = 'auto'

    def open(self, student: 'Checkpoint') -> 'Teachers':
        """Open the networks.

        Args:
            student: the model that will be taught.

        Raises:
            InputError: a network cannot be read, or knows none of the names.
            Refused: questions without a model that answers them.
        """
        from m3et_ros.runtime.networks.depth import open_depth
        from m3et_ros.runtime.networks.detection import open_detection
        from m3et_ros.runtime.networks.segmentation import open_segmentation
        from m3et_ros.runtime.vlm.model import open_vlm
        from m3et_ros.training.teach.teachers import ASKED, POSSIBLE, Teachers

        if self.ask and self.questions is None:
            raise Refused('--ask needs a model that answers; give one by --questions.')
        return Teachers(
            student,
            depth=None if self.depth is None else open_depth(self.depth, self.device),
            segmentation=None if self.segmentation is None else open_segmentation(self.segmentation, self.device),
            detection=None if self.detection is None else open_detection(self.detection, self.device, POSSIBLE),
            answerer=None if self.questions is None else open_vlm(self.questions, device=self.device),
            ask=tuple(self.ask or ASKED),
            wanted=tuple(self.name or ()),
        )


@expand_options()
def label(
    bags: Annotated[list[Path], typer.Argument(metavar='BAG...', help='Recordings: rosbag2 folders, .mcap or .db3.')],
    out: Annotated[Path, typer.Option('-o', '--out', help='Folder of the data set; a stopped run continues there.')],
    teachers: TeacherOptions,
    *,
    start: Annotated[
        str, typer.Option('--from', help='Model that will be taught; the labels get its names and size.')
    ] = DEFAULT_MODEL,
    every: Annotated[int, typer.Option(min=1, help='Take every n-th frame only.')] = 1,
    as_json: Json = False,
) -> None:
    """Label recordings of a place; the last third is held out, and the tables can be corrected by hand."""
    from m3et_ros.data.files import refuse_unwritable
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.teach.label import LabelOptions
    from m3et_ros.training.teach.label import label as label_bags
    from m3et_ros.training.teach.sheet import draw_sheet

    student = open_checkpoint(start)
    options = LabelOptions(student.model.config.image_size, every)
    contents = label_bags(bags, out, teachers.open(student), options, track)
    with refuse_unwritable(out, 'give a writable folder with free space'):
        sheet = draw_sheet(out, student.labels.classes)
    if as_json:
        print_json({'path': str(out), 'sheet': str(sheet), **summary(contents)})
        return
    print_labelled(out, contents)
    print_line(
        f'Look through {sheet} and correct {out / "objects.csv"} (last column), then: '
        f'm3et train vqa --data labelled:{out} --from {start} --out runs/mine'
    )


def summary(contents: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of labelled.json that a user reads."""
    splits = Counter(contents['splits'])
    names = ('frames_seen', 'near_duplicates', 'in_the_gap', 'damaged', 'teachers', 'known', 'unspelled', 'masks')
    return {'train': splits['train'], 'held_out': splits['held_out'], **{name: contents[name] for name in names}}


def print_labelled(out: Path, contents: dict[str, Any]) -> None:
    """Print what was labelled."""
    facts = summary(contents)
    rows = [('teacher of', 'network'), *facts['teachers'].items()]
    if not facts['teachers']:
        rows.append(('nothing', 'depth of the camera teaches itself'))
    print_line(
        f'{out}: {facts["train"]} frames to learn from and {facts["held_out"]} held out, of {facts["frames_seen"]}; '
        f'{facts["near_duplicates"]} near duplicates and {facts["in_the_gap"]} between the two are left out.'
    )
    print_table(rows)
    if facts['known']:
        print_line(f'Asked about: {", ".join(facts["known"])}.')
    if facts['unspelled']:
        print_line(f'Left out, because the model cannot spell them: {", ".join(facts["unspelled"])}.')
