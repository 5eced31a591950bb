"""Run a task over many bags, in one process or several, and store the result of each bag.

Each bag becomes a part: parts/<name>.json, next to it its times and the files of the task. A part is made again when
anything that determines it has changed: the bytes of the bag, its questions, the weights, the settings or this package.
A bag that fails leaves the others alone.
"""

import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import cv2
import torch

from m3et_ros.data.bags.reader import BAG
from m3et_ros.data.datasets.openeqa import EqaQuestion, episode_name
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable, write_atomically
from m3et_ros.evaluation.files import bag_files, environment, weights_digest
from m3et_ros.evaluation.metrics.latency import latency_summary
from m3et_ros.evaluation.standard_caches import check_finite
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint

PARTS, TIMES = 'parts', 'times.json'
BAG_FIELDS = (
    'camera',
    'files',
    'frames',
    'asked_frames',
    'seconds',
    'spoilt_frames',
    'frames_without_depth',
    'longest_gap_s',
    'troubles',
    'failed',
)
"""Fields of a part that metrics.json repeats for each bag."""

Examined = tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]
"""Part of a bag, ready for JSON and without times; its times; and its files by the ending of their name."""


class BagTask(Protocol):
    """A task that examines one bag; the settings decide its result."""

    @property
    def version(self) -> int | str:
        """Version of the parts; parts of another version are made again."""

    @property
    def threads(self) -> int:
        """Number of threads of each process."""

    def settings(self) -> dict[str, Any]:
        """Return the settings for metrics.json."""

    def examine(self, engine: Engine, bag: Path, questions: Sequence[EqaQuestion]) -> Examined:
        """Examine a bag and answer the questions about it.

        Raises:
            InputError: nothing of the bag can be used.
        """


@dataclass(frozen=True)
class Job:
    """One bag with the questions about it."""

    bag: Path
    questions: tuple[EqaQuestion, ...]

    @property
    def name(self) -> str:
        """Name of the bag in questions and parts."""
        return episode_name(self.bag)


@dataclass(frozen=True)
class JobResult:
    """The part and the times of a bag."""

    # The part of the task, with 'files' and 'key'; 'failed' gives the reason where there are no answers.
    part: dict[str, Any]
    # The times of the task; empty where the bag failed.
    times: dict[str, Any]
    # True where an earlier run made the part.
    cached: bool = False


def match_bags(bags: Sequence[Path], questions: Sequence[EqaQuestion]) -> tuple[list[Job], list[str]]:
    """Assign questions to bags by name: the episode_history of a question ends with the name of its bag.

    Returns:
        A job for each bag with questions, in the order of names, and the names of bags without questions.

    Raises:
        InputError: 'eqa_bags' where two bags have one name, or no question is about any bag; 'bag_missing' where no
            question is about any and one is not there.
    """
    names = Counter(episode_name(bag) for bag in bags)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(
            'eqa_bags',
            f'two bags are called {twice}, and questions refer to bags by name; rename one of them, or evaluate them '
            'separately',
        )
    about: dict[str, list[EqaQuestion]] = {}
    for question in questions:
        about.setdefault(question.episode, []).append(question)
    jobs = [
        Job(bag, tuple(about[episode_name(bag)]))
        for bag in sorted(bags, key=episode_name)
        if episode_name(bag) in about
    ]
    if not jobs:
        absent = next((bag for bag in bags if not bag.exists()), None)
        if absent is not None:
            raise InputError('bag_missing', f'there is no bag at {absent}; {BAG}')
        named = sorted(about)
        raise InputError(
            'eqa_bags',
            f'no question is about {", ".join(sorted(names))}: the episode_history of the questions ends '
            f'with {", ".join(named[:5])}{" ..." if len(named) > 5 else ""}; rename the bag, or give the '
            'questions that belong to it',
        )
    return jobs, sorted(name for name in names if name not in about)


class JobRunner:
    """Run a task with one model, on the number of threads that the task sets.

    Args:
        model: as open_checkpoint takes it.
        device: as Engine takes it.
        task: the task.
        folder: folder of the parts.

    Attributes:
        environment: versions and machine, for the key of a part and for metrics.json.
        model: id, whether it is trained, and SHA-256 of the weights.

    Raises:
        InputError: there is no such model or device, or a weight is not finite.
    """

    def __init__(self, model: str, device: str, task: BagTask, folder: Path):
        checkpoint = open_checkpoint(model)
        check_finite(checkpoint)
        self.engine = Engine(checkpoint, device=device)
        self.task, self.folder = task, folder
        self.environment = environment(self.engine.device) | {'threads': task.threads}
        self.model = {
            'id': self.engine.model_id,
            'trained': self.engine.trained,
            'weights_sha256': weights_digest(self.engine.checkpoint.model),
        }
        self._heads = {name: weights_digest(head) for name, head in checkpoint.heads.items()}

    def run(self, job: Job) -> JobResult:
        """Examine a bag, or return the part that an earlier run made of it.

        Raises:
            InputError: 'out_unwritable'.
        """
        try:
            files = bag_files(job.bag)
        except InputError as error:
            return failed(job, str(error))
        key = self._key(job, files)
        known = _read_json(self.folder / f'{job.name}.json')
        if known is not None and known.get('key') == key:
            return JobResult(known, _read_json(self.folder / f'{job.name}.times.json') or {}, cached=True)
        try:
            with limited(self.task.threads):
                part, times, beside = self.task.examine(self.engine, job.bag, job.questions)
        except InputError as error:
            result = failed(job, str(error), files=files, key=key)
            self._write(job.name, result)
            return result
        except Exception as error:  # an unforeseen error in one bag must not stop the others
            return failed(
                job,
                f'{job.bag} could not be examined ({type(error).__name__}: {error}); report it to the recorder, '
                'or leave the bag out',
                files=files,
            )
        result = JobResult(part | {'files': files, 'key': key}, times)
        self._write(job.name, result, beside)
        return result

    def _key(self, job: Job, files: dict[str, str]) -> str:
        """Digest everything that decides a part."""
        parts = (
            self.task.version,
            self.task.settings(),
            self.model,
            self._heads,
            self.environment,
            files,
            [asdict(question) for question in job.questions],
        )
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _write(self, name: str, result: JobResult, beside: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Write the files of a part; <name>.json comes last, because a part counts only once it is there."""
        contents = {
            **{f'{name}.{ending}': data for ending, data in beside.items()},
            f'{name}.times.json': json.dumps(result.times).encode(),
            f'{name}.json': json.dumps(result.part, indent=1, sort_keys=True, ensure_ascii=False).encode(
                errors='backslashreplace'
            ),
        }
        with refuse_unwritable(self.folder, 'free some space, or give another folder: finished parts are kept'):
            self.folder.mkdir(parents=True, exist_ok=True)
            for file, data in contents.items():
                with write_atomically(self.folder / file) as unfinished:
                    unfinished.write_bytes(data)


def failed(job: Job, reason: str, **more: Any) -> JobResult:
    """Return the result of a bag that cannot be used."""
    return JobResult({'bag': job.name, 'failed': reason, 'answers': [], 'files': {}, 'troubles': [], **more}, {})


def run_jobs(
    runner: JobRunner,
    jobs: Sequence[Job],
    workers: int,
    model: str,
    device: str,
    progress: Callable[..., Iterable[Any]],
) -> list[JobResult]:
    """Run all jobs, in this process or in several.

    Args:
        runner: runner of this process; several processes take its task and folder.
        jobs: the jobs.
        workers: number of processes; 1 runs the jobs in this one.
        model: as open_checkpoint takes it.
        device: as Engine takes it.
        progress: see data.progress.Progress.

    Returns:
        Results in the order of the jobs.

    Raises:
        InputError: 'out_unwritable'; finished parts are kept.
    """
    if workers == 1 or len(jobs) == 1:
        return [runner.run(job) for job in progress(jobs, len(jobs), 'bags', 'bag')]
    found: dict[str, JobResult] = {}
    context = multiprocessing.get_context('spawn')
    start = (type(runner), model, device, runner.task, runner.folder)
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_begin, initargs=start) as pool:
        pending = {pool.submit(_run, job): job for job in jobs}
        try:
            for future in progress(as_completed(pending), len(jobs), 'bags', 'bag'):
                result, error = future.result()
                if error:
                    raise InputError(*error)
                found[pending[future].name] = result
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    died = 'a process that examined this or another bag died, perhaps out of memory; run it again with fewer --workers'
    return [found.get(job.name) or failed(job, f'{job.bag}: {died}') for job in jobs]


_runner: JobRunner | None = None


def _begin(kind: type[JobRunner], model: str, device: str, task: BagTask, folder: Path) -> None:
    """Make the runner of a process; the process ends with its parent."""
    global _runner
    parent = multiprocessing.parent_process()

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _runner = kind(model, device, task, folder)


def _run(job: Job) -> tuple[JobResult | None, tuple[str, str] | None]:
    """Run one job in a process of its own; an InputError is returned as (reason, sentence)."""
    try:
        return _runner.run(job), None
    except InputError as error:
        return None, (error.reason, str(error))


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Limit torch and OpenCV to a number of threads for a while."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; return None where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def stored(folder: Path) -> list[JobResult]:
    """Read the parts of a finished run, in the order of their names."""
    parts = {
        path.name.removesuffix('.json'): _read_json(path)
        for path in folder.glob('*.json')
        if not path.name.endswith('.times.json')
    }
    return [
        JobResult(part, _read_json(folder / f'{name}.times.json') or {}, cached=True)
        for name, part in sorted(parts.items())
        if part is not None
    ]


def bag_fields(result: JobResult) -> dict[str, Any]:
    """Return the entry of a bag in metrics.json."""
    return {name: result.part[name] for name in BAG_FIELDS if name in result.part}


def times_of(results: Sequence[JobResult]) -> dict[str, Any]:
    """Summarise all times of a run for times.json: milliseconds, and recorded seconds per second of one process."""
    timed = [result for result in results if result.times]
    found: dict[str, Any] = {}
    for name in ('encode_ms', 'answer_ms'):
        values = [value for result in timed for value in result.times[name]]
        found[name] = vars(latency_summary(values)) if values else None
    worked = sum(result.times['wall_s'] for result in timed)
    recorded = sum(result.part.get('seconds', 0) for result in timed)
    return found | {
        'recorded_s': recorded,
        'worked_s': worked,
        'times_real_time': recorded / worked if worked else None,
    }


def write_times(out: Path, results: Sequence[JobResult]) -> dict[str, Any]:
    """Write times.json and return its content."""
    times = times_of(results)
    (out / TIMES).write_text(json.dumps(times, indent=2) + '\n', encoding='utf-8')
    return times
