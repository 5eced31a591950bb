"""Open the data sets that a command line names as one data set.

    FOLDER                                  a cache of the simulated kitchen; several of them are one source
    nyu:PATH[,MAP.json]                     NYU Depth V2, the .mat or a folder (nyuv2)
    vqav2:QUESTIONS,ANNOTATIONS,IMAGES      VQAv2 (vqav2)
    imagenet:ROOT[,MAP.json]                pictures in class folders with pseudo labels (imagenet)
    bag:PATH[,RGB[,DEPTH]]                  a rosbag2 recording, with its topics (bag_samples)
    lerobot:DIR[,CAMERA]                    a LeRobot data set, with one of its cameras (lerobot_samples)
    labelled:DIR                            recordings that m3et label has labelled (data.labelled)

Label maps are translated by the names of the classes; MAP.json adds other names (class_map.read_class_map).
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import cast

from torch.utils.data import Dataset

from m3et_ros.data.datasets.bag_samples import BagSamples
from m3et_ros.data.datasets.base import LIGHT
from m3et_ros.data.datasets.class_map import read_class_map
from m3et_ros.data.datasets.imagenet import ImageNetSamples
from m3et_ros.data.datasets.lerobot_samples import LeRobotSamples
from m3et_ros.data.datasets.nyuv2 import nyuv2
from m3et_ros.data.datasets.vqav2 import VQAv2Samples
from m3et_ros.data.errors import InputError
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import Sample

FORMS = {
    'nyu': ('PATH[,MAP.json]', 1, 2),
    'vqav2': ('QUESTIONS,ANNOTATIONS,IMAGES', 3, 3),
    'imagenet': ('ROOT[,MAP.json]', 1, 2),
    'bag': ('PATH[,RGB[,DEPTH]]', 1, 3),
    'lerobot': ('DIR[,CAMERA]', 1, 2),
    'labelled': ('DIR', 1, 1),
}
"""Form of the text after the colon, with the smallest and largest number of its parts between commas."""

WITH_QUESTIONS = ('vqav2', 'labelled')
"""Kinds whose samples have questions, besides the kitchen."""

BESIDE_QUESTIONS = ('lerobot',)
"""Kinds that may stand beside these where questions are required: their measured depth is learnt from."""


@dataclass(frozen=True)
class SourceOptions:
    """Properties of the model and the run by which real data sets are opened.

    Raises:
        ValueError: every is below 1.
    """

    # Names of the model's classes in the order of its ids.
    classes: tuple[str, ...]
    # Side of the model's image.
    size: int
    # Folder for the decoded frames of bags and LeRobot data sets.
    cache: Path
    # True if the model's depth is in metres (depth_norm 'fixed'); pseudo depth, which is not, is then left out.
    metric: bool = False
    # n for only every n-th frame of a bag or a LeRobot data set, 1 or more.
    every: int = 1
    # Disturbances of the samples; None for none.
    noise: Noise | None = LIGHT
    # Seed of the disturbances.
    seed: int = 0

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f'every is {self.every}; give 1 or more')


class Sources(Dataset[Sample]):
    """Several data sets one after the other, like torch's ConcatDataset, with one epoch for all.

    Args:
        sets: at least one, none of them empty.
        names: their names in messages and on the model card.
        caches: folders of the kitchen caches among them.

    Attributes:
        sets, names, caches: as given.
        parts: number of samples of each set. A batch should come from one set: another may lack its labels, depth or
            questions, and a batch has one set of modalities (sample.collate).

    Raises:
        ValueError: there is no set, or sets and names differ in number.
    """

    def __init__(self, sets: Sequence[Dataset[Sample]], names: Sequence[str], caches: Sequence[Path] = ()):
        if not sets or len(sets) != len(names):
            raise ValueError(
                f'there are {len(sets)} sets and {len(names)} names; give at least one set, and a name for each'
            )
        self.sets, self.names, self.caches = tuple(sets), tuple(names), tuple(caches)
        self.parts = tuple(len(cast(Sized, data)) for data in sets)
        self._ends = list(accumulate(self.parts))

    @property
    def epoch(self) -> int:
        """Epoch of the draws of all sets; set it before a loader starts on it."""
        return max(getattr(data, 'epoch', 0) for data in self.sets)

    @epoch.setter
    def epoch(self, value: int) -> None:
        for data in self.sets:
            if hasattr(data, 'epoch'):
                data.epoch = value

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Raises:
            IndexError: index is not in 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        which = bisect_right(self._ends, index)
        return self.sets[which][index - self._ends[which] + self.parts[which]]


Opener = Callable[[Path], Dataset[Sample]]


def no_labels(folder: Path) -> Dataset[Sample]:
    """Refuse a labelled recording where its questions cannot be asked.

    Raises:
        InputError: 'source', always.
    """
    raise InputError('source', f'labelled:{folder} is read by m3et train pretrain and m3et train vqa alone')


def open_sources(
    words: Sequence[str],
    options: SourceOptions,
    *,
    kitchen: Callable[[list[Path]], Dataset[Sample]],
    labelled: Opener = no_labels,
    questions: bool = False,
) -> Sources:
    """Open the data sets that words name.

    Args:
        words: sources in the forms of the module docstring.
        options: properties of the model and the run.
        kitchen: opens the caches of the kitchen, all at once.
        labelled: opens a labelled recording.
        questions: require samples with questions, beside which those of BESIDE_QUESTIONS may stand.

    Raises:
        InputError: 'source' for a word of another form, or for a set without questions where these are required; and
            the refusals of the data sets.
        ValueError: there is no word.
    """
    if not words:
        raise ValueError('words is empty; give at least one source')
    others = [word for word in words if ':' in word and word.partition(':')[0] in FORMS]
    caches = [Path(word) for word in words if word not in others]
    asks = bool(caches) or any(word.partition(':')[0] in WITH_QUESTIONS for word in others)
    for word in others:
        _check(word, questions and not (asks and word.partition(':')[0] in BESIDE_QUESTIONS))
    sets: list[Dataset[Sample]] = [kitchen(caches)] if caches else []
    names = [' '.join(map(str, caches))] if caches else []
    opened = [_open(word, options, labelled) for word in others]
    for word, data in zip(others, opened, strict=True):
        if questions and isinstance(data, LeRobotSamples) and data.depth is None:
            raise InputError(
                'source', f'{word} has neither questions nor depth, from which this stage learns; use it to pretrain'
            )
    return Sources([*sets, *opened], names + others, caches)


def _check(word: str, questions: bool) -> None:
    """Refuse a word before anything is opened, which may take long."""
    kind, _, rest = word.partition(':')
    form, fewest, most = FORMS[kind]
    parts = rest.split(',')
    if not fewest <= len(parts) <= most or not all(parts):
        raise InputError(
            'source', f'{word!r} has another form than {kind}:{form}; give it in this form, with paths without commas'
        )
    if questions and kind not in WITH_QUESTIONS:
        raise InputError(
            'source',
            f'{word} asks no questions, from which this stage learns; use it to pretrain, and '
            f'give a kitchen cache or {" or ".join(f"{k}:{FORMS[k][0]}" for k in WITH_QUESTIONS)} here',
        )


def _open(word: str, options: SourceOptions, labelled: Opener) -> Dataset[Sample]:
    kind, _, rest = word.partition(':')
    first, *more = rest.split(',')
    noise, seed = options.noise, options.seed
    if kind == 'labelled':
        return labelled(Path(first))
    if kind == 'bag':
        rgb, depth = (*more, None, None)[:2]
        return BagSamples(
            first, options.cache, size=options.size, every=options.every, rgb=rgb, depth=depth, noise=noise, seed=seed
        )
    if kind == 'lerobot':
        camera = more[0] if more else None
        return LeRobotSamples(
            first, options.cache, size=options.size, every=options.every, camera=camera, noise=noise, seed=seed
        )
    if kind == 'vqav2':
        annotations, images = more
        return VQAv2Samples(first, annotations, images, noise=noise, seed=seed)
    classes = {name: number for number, name in enumerate(options.classes)}
    for path in more:
        classes |= read_class_map(Path(path), options.classes)
    if kind == 'nyu':
        return nyuv2(first, classes, noise=noise, seed=seed)
    return ImageNetSamples(first, classes=classes, depth=not options.metric, noise=noise, seed=seed)
