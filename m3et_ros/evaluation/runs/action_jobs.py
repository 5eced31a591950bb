"""Which segments are about which bag, and the processes that watch the bags (evaluation.runs.eqa_jobs).

    asked = match_segments(bags, read_files(paths), labels)
    done = run_jobs(ActionWorker(model, device, ActionTask(), out / PARTS), asked.jobs, workers, model, device, watch)

A part depends on its bag and the model, not on the segments: with other labels nothing is looked at again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from m3et_ros.data.epic import Annotations, Segment, read_segments
from m3et_ros.data.epic_words import Labelled, Unknown, labelled
from m3et_ros.data.errors import InputError
from m3et_ros.data.openeqa import episode_name
from m3et_ros.data.types import Labels
from m3et_ros.evaluation.runs.action_bag import TOKENS, ActionTask, watch_bag
from m3et_ros.evaluation.runs.eqa_jobs import Done, Job, Worker

NAMED = 8
"""So many words are named in a sentence."""


@dataclass(frozen=True)
class Asked:
    """Bags and what is done in them."""

    # Bags with segments of which the model knows verb and noun, by name in order.
    jobs: tuple[Job, ...]
    # Name of a bag to these segments, in the order of their start.
    segments: dict[str, tuple[Labelled, ...]]
    # Of the segments about these bags, what the model has no word for.
    unknown: Unknown
    # Bags about which there is none of these segments.
    without: tuple[str, ...]
    # Segments about bags that were not given.
    elsewhere: int
    # Sentences about what was odd and kept, or left out.
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many segments are asked for."""
        return sum(map(len, self.segments.values()))


def read_files(paths: Sequence[Path]) -> list[Annotations]:
    """Files of segments.

    Raises:
        InputError: as data.epic.read_segments, and where two files share a narration_id.
    """
    files = [read_segments(path, None) for path in paths]
    names = Counter(segment.narration_id for file in files for segment in file.segments)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError('data_format', f'{" and ".join(map(str, paths))}: narration_id {twice} stands in two of them; '
                         'give each segment its own')
    return files


def match_segments(bags: Sequence[Path], files: Sequence[Annotations], labels: Labels) -> Asked:
    """Which segments are about which bag: video_id is its name (data.openeqa.episode_name).

    Raises:
        InputError: 'segments_bags' where two bags have one name, or no segment is about any of them; 'segments_words'
            where the model knows none of their words.
    """
    names = Counter(map(episode_name, bags))
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError('segments_bags', f'two bags are called {twice}, and segments know bags by their names; rename '
                         'one of them, or evaluate them apart')
    whole = [segment for file in files for segment in file.segments]
    about = [segment for segment in whole if segment.video in names]
    if not about:
        raise InputError('segments_bags', f'no segment is about {_listed(sorted(names))}: their video_id are '
                         f'{_listed(dict.fromkeys(segment.video for segment in whole))}; rename the bag, or give the '
                         'segments that belong to it')
    known, unknown = labelled(about, labels)
    if not known:
        raise InputError('segments_words', f'the model has no word for {_unknown(unknown)}, and no segment is left; it '
                         f'knows the verbs {", ".join(labels.verbs)} and the nouns {", ".join(labels.nouns)}: give '
                         'segments with these words, or a model that has learnt yours')
    segments = _by_bag(known)
    jobs = tuple(Job(bag, ()) for bag in sorted(bags, key=episode_name) if episode_name(bag) in segments)
    left_out = [f'{unknown.segments} of {len(about)} segments are left out, for the model has no word for them: '
                f'{_unknown(unknown)}.'] if unknown.segments else []
    return Asked(jobs, segments, unknown, tuple(sorted(names - segments.keys())), len(whole) - len(about),
                 (*(note.text for file in files for note in file.notes), *left_out))


def _by_bag(known: Sequence[Labelled]) -> dict[str, tuple[Labelled, ...]]:
    def when(one: Labelled) -> tuple[float, float, str]:
        segment: Segment = one.segment
        return segment.start_s, segment.stop_s, segment.narration_id
    return {bag: tuple(sorted((one for one in known if one.segment.video == bag), key=when))
            for bag in sorted({one.segment.video for one in known})}


def _unknown(unknown: Unknown) -> str:
    """'verbs fly (3), nouns kite (2), cloud'."""
    return ', '.join(f'{kind} ' + _listed(f'{word} ({count})' if count > 1 else word for word, count in words.items())
                     for kind, words in (('verbs', unknown.verbs), ('nouns', unknown.nouns)) if words)


def _listed(words: Iterable[str]) -> str:
    found = list(islice(words, NAMED + 1))
    return ', '.join(found[:NAMED]) + (' ...' if len(found) > NAMED else '')


class ActionWorker(Worker):
    """Watches bags with one model that has an action head; see Worker.

    Raises:
        InputError: as Worker, and 'model_config' where the model has no such head.
    """

    version = 'actions 1'

    def __init__(self, model: str, device: str, task: ActionTask, folder: Path):
        super().__init__(model, device, task, folder)
        head = self.engine.checkpoint.heads.get('mambavl')
        if head is None:
            raise InputError('model_config', f'{self.engine.model_id} has no action head; train one with m3et train '
                             'actions')
        self.task = replace(task, rate_hz=head.config.rate_hz or 0.)

    def do(self, job: Job) -> Done:
        """Watch a bag, or find what was made of it before; a part without its tokens is none."""
        part = self.folder / f'{job.name}.json'
        if part.is_file() and not (self.folder / f'{job.name}.{TOKENS}').is_file():
            part.unlink()
        return super().do(job)

    def _watch(self, job: Job) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, bytes]]:
        return watch_bag(self.engine, self.task, job.bag)
