"""From the words of a command line to one data set, whatever it is made of.

    FOLDER                                  a cache of the simulated kitchen; several of them are one source
    nyu:PATH[,MAP.json]                     NYU Depth V2, the .mat or a folder (nyuv2)
    vqav2:QUESTIONS,ANNOTATIONS,IMAGES      VQAv2 (vqav2)
    imagenet:ROOT[,MAP.json]                pictures in class folders with pseudo labels (imagenet)
    bag:PATH[,RGB[,DEPTH]]                  a rosbag2 recording, with its topics (bag_samples)

Label maps come over by the names of the classes; MAP.json adds what is called otherwise (class_map.read_class_map).
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from torch.utils.data import Dataset

from m3et_ros.data.datasets.bag_samples import BagSamples
from m3et_ros.data.datasets.base import LIGHT, SampleSet
from m3et_ros.data.datasets.class_map import read_class_map
from m3et_ros.data.datasets.imagenet import ImageNetSamples
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
}
"""What stands behind the colon of each word, and how many parts that may have."""

ASKING = ('vqav2',)
"""The words whose samples ask questions, besides the kitchen."""


@dataclass(frozen=True)
class SourceOptions:
    """What real data sets need to know of the model and the run.

    Raises:
        ValueError: every is below 1.
    """

    # Names of the model's classes in the order of its ids.
    classes: tuple[str, ...]
    # Side of the model's image.
    size: int
    # Folder below which the frames of bags are laid down.
    cache: Path
    # Whether the model's depth is in metres (depth_norm 'fixed'); pseudo depth is then left out, which has none.
    metric: bool = False
    # Only every n-th frame of a bag.
    every: int = 1
    # How samples are disturbed.
    noise: Noise | None = LIGHT
    # Of the disturbances.
    seed: int = 0

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f'every is {self.every}; give 1 or more')


class Sources(Dataset[Sample]):
    """Several data sets one after the other, as torch's ConcatDataset, and their epochs set together.

    Args:
        sets: at least one, none of them empty.
        names: what they are called in messages and on the model card.
        caches: folders of the kitchen caches among them.

    Attributes:
        sets, names, caches: as given.
        parts: number of samples of each set. A batch should come from one of them: what one set has (labels, depth,
            questions) another may lack, and a batch has one set of modalities (samples.collate).

    Raises:
        ValueError: there is no set, or a name too few or too many.
    """

    def __init__(self, sets: Sequence[Dataset[Sample]], names: Sequence[str], caches: Sequence[Path] = ()):
        if not sets or len(sets) != len(names):
            raise ValueError(
                f'there are {len(sets)} sets and {len(names)} names; give at least one set, and a name for each'
            )
        self.sets, self.names, self.caches = tuple(sets), tuple(names), tuple(caches)
        self.parts = tuple(len(data) for data in sets)
        self._ends = list(accumulate(self.parts))

    @property
    def epoch(self) -> int:
        """Which epoch the draws of all sets belong to; set it before a loader starts on it."""
        return max(getattr(data, 'epoch', 0) for data in self.sets)

    @epoch.setter
    def epoch(self, value: int) -> None:
        for data in self.sets:
            if hasattr(data, 'epoch'):
                data.epoch = value

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """One sample.

        Raises:
            IndexError: index is not in 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        which = bisect_right(self._ends, index)
        return self.sets[which][index - self._ends[which] + self.parts[which]]


def open_sources(
    words: Sequence[str],
    opening: SourceOptions,
    *,
    kitchen: Callable[[list[Path]], Dataset[Sample]],
    questions: bool = False,
) -> Sources:
    """Open what the words name.

    Args:
        words: see the head of this file.
        opening: what the model is like.
        kitchen: opens the caches of the kitchen, all at once.
        questions: whether samples have to ask.

    Raises:
        InputError: 'source' for a word of another form, or one that asks nothing where questions are wanted; and what
            the data sets refuse.
        ValueError: there is no word.
    """
    if not words:
        raise ValueError('words is empty; give at least one source')
    caches = [Path(word) for word in words if _kind(word) is None]
    others = [word for word in words if _kind(word) is not None]
    for word in others:
        _check(word, questions)
    sets = [kitchen(caches)] if caches else []
    sets += [_open(word, opening) for word in others]
    return Sources(sets, [*([' '.join(map(str, caches))] if caches else []), *others], caches)


def _kind(word: str) -> str | None:
    """What stands before the colon, for the words of FORMS."""
    kind, colon, _ = word.partition(':')
    return kind if colon and kind in FORMS else None


def _check(word: str, questions: bool) -> None:
    """Refuse a word before anything is opened, which may take long."""
    kind = _kind(word)
    form, fewest, most = FORMS[kind]
    parts = word.partition(':')[2].split(',')
    if not fewest <= len(parts) <= most or not all(parts):
        raise InputError(
            'source', f'{word!r} has another form than {kind}:{form}; give it so, with paths that hold no comma'
        )
    if questions and kind not in ASKING:
        raise InputError(
            'source',
            f'{word} asks no questions, from which this stage learns; use it to pretrain, and '
            f'give a kitchen cache or {" or ".join(f"{k}:{FORMS[k][0]}" for k in ASKING)} here',
        )


def _open(word: str, opening: SourceOptions) -> SampleSet:
    kind, _, rest = word.partition(':')
    first, *more = rest.split(',')
    drawn = {'noise': opening.noise, 'seed': opening.seed}
    if kind == 'bag':
        return BagSamples(
            first, opening.cache, size=opening.size, every=opening.every, **dict(zip(('rgb', 'depth'), more)), **drawn
        )
    if kind == 'vqav2':
        return VQAv2Samples(first, *more, **drawn)
    classes = {name: place for place, name in enumerate(opening.classes)}
    for path in more:
        classes |= read_class_map(Path(path), opening.classes)
    if kind == 'nyu':
        return nyuv2(first, classes, **drawn)
    return ImageNetSamples(first, classes=classes, depth=not opening.metric, **drawn)
