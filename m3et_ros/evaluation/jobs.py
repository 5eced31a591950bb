"""Many bags, one or several processes, the same parts: what is finished is kept, a bag that fails costs no other.

Each bag becomes a part, parts/<name>.json, beside it its times and a strip of its frames. A part is made anew when
anything that decides it has changed: the bag's bytes, its questions, the weights, the settings or this package.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch

from m3et_ros.data.datasets.openeqa import EqaQuestion, episode_name
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.report.files import environment, weights_digest
from m3et_ros.evaluation.standard_caches import check_finite
from m3et_ros.evaluation.tasks.eqa import VERSION, EqaTask, bag_files, examine
from m3et_ros.evaluation.tasks.vqa_in_bags import examine_moments
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint

PARTS = 'parts'
QUALITY = 85


@dataclass(frozen=True)
class Job:
    """One bag with the questions about it."""

    bag: Path
    questions: tuple[EqaQuestion, ...]

    @property
    def name(self) -> str:
        """By which questions and parts know the bag."""
        return episode_name(self.bag)


@dataclass(frozen=True)
class Done:
    """What became of a job."""

    # As eqa_bag.examine gives it, with 'files' and 'key'; 'failed' says why there are no answers.
    part: dict[str, Any]
    # As eqa_bag.examine gives it; empty where it failed.
    times: dict[str, Any]
    # Whether it stood there from an earlier run.
    kept: bool = False


def match_bags(bags: Sequence[Path], questions: Sequence[EqaQuestion]) -> tuple[list[Job], list[str]]:
    """Which questions are about which bag: episode_history ends with its name.

    Returns:
        A job for each bag with questions, by name in order, and names of bags without.

    Raises:
        InputError: 'eqa_bags' where two bags have one name, or no question is about any of them.
    """
    names = Counter(episode_name(bag) for bag in bags)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(
            'eqa_bags',
            f'two bags are called {twice}, and questions know bags by their names; rename one '
            'of them, or evaluate them apart',
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
        named = sorted(about)
        raise InputError(
            'eqa_bags',
            f'no question is about {", ".join(sorted(names))}: their episode_history ends '
            f'with {", ".join(named[:5])}{" ..." if len(named) > 5 else ""}; rename the bag, or give the '
            'questions that belong to it',
        )
    return jobs, sorted(name for name in names if name not in about)


class JobRunner:
    """Examines bags with one model, on as many threads as the task says.

    Args:
        model: as open_checkpoint takes it.
        device: as Engine takes it.
        task: how bags are examined.
        folder: where parts are kept.

    Attributes:
        version: of what stands in a part.
        environment: versions and machine, for the key of a part and for metrics.json.
        model: id, whether it is trained, and SHA-256 of the weights.

    Raises:
        InputError: no such model, weights that are not finite, or no such device.
    """

    version: int | str = VERSION

    def __init__(self, model: str, device: str, task: EqaTask, folder: Path):
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

    def do(self, job: Job) -> Done:
        """Examine a bag, or find what was made of it before.

        Raises:
            InputError: 'out_unwritable'.
        """
        try:
            files = bag_files(job.bag)
        except InputError as error:
            return failed(job, str(error))
        key = self._key(job, files)
        known = _read(self.folder / f'{job.name}.json')
        if known is not None and known.get('key') == key:
            return Done(known, _read(self.folder / f'{job.name}.times.json') or {}, kept=True)
        try:
            with limited(self.task.threads):
                part, times, beside = self._watch(job)
        except InputError as error:
            done = failed(job, str(error), files=files, key=key)
            self._write(job.name, done)
            return done
        except Exception as error:  # one bag that nobody foresaw must not cost the others
            return failed(
                job,
                f'{job.bag} could not be examined ({type(error).__name__}: {error}); tell its recorder, '
                'or leave it out',
                files=files,
            )
        done = Done(part | {'files': files, 'key': key}, times)
        self._write(job.name, done, beside)
        return done

    def _watch(self, job: Job) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
        """Part and times of a bag, and what is kept beside them, by the ending of its file."""
        progress = examine_moments if self.task.scope == 'moment' else examine
        part, times, strip = progress(self.engine, self.task, job.bag, job.questions)
        return part, times, {} if strip is None else {'jpg': _jpeg(strip)}

    def _key(self, job: Job, files: dict[str, str]) -> str:
        """What decides a part, as a digest."""
        parts = (
            self.version,
            self.task.settings(),
            self.model,
            self._heads,
            self.environment,
            files,
            [asdict(question) for question in job.questions],
        )
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _write(self, name: str, done: Done, beside: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Write a part, its own file last: without it nothing counts."""
        contents = {
            **{f'{name}.{ending}': data for ending, data in beside.items()},
            f'{name}.times.json': json.dumps(done.times).encode(),
            f'{name}.json': json.dumps(done.part, indent=1, sort_keys=True, ensure_ascii=False).encode(),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for file, data in contents.items():
                unfinished = self.folder / f'{file}.unfinished'
                unfinished.write_bytes(data)
                unfinished.replace(self.folder / file)
        except OSError as error:
            raise InputError(
                'out_unwritable',
                f'{self.folder} cannot be written ({error.strerror}); free some space, '
                'or give another folder: what is finished is kept',
            ) from error


def _jpeg(strip: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(strip, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def failed(job: Job, why: str, **more: Any) -> Done:
    """A bag of which nothing can be used."""
    return Done({'bag': job.name, 'failed': why, 'answers': [], 'files': {}, 'troubles': [], **more}, {})


def run_jobs(
    worker: JobRunner,
    jobs: Sequence[Job],
    workers: int,
    model: str,
    device: str,
    progress: Callable[..., Iterable[Job]],
) -> list[Done]:
    """Do all jobs, in this process or in several; the order of what comes back is that of the jobs.

    Args:
        worker: of this process; with several processes it only says how.
        jobs: what to do.
        workers: processes; 1 works in this one.
        model: as open_checkpoint takes it.
        device: as Engine takes it.
        progress: see feed.Progress.

    Raises:
        InputError: 'out_unwritable'; what is finished is kept.
    """
    if workers == 1 or len(jobs) == 1:
        return [worker.do(job) for job in progress(jobs, len(jobs), 'bags', 'bag')]
    found: dict[str, Done] = {}
    context = multiprocessing.get_context('spawn')
    start = (type(worker), model, device, worker.task, worker.folder)
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_begin, initargs=start) as pool:
        pending = {pool.submit(_do, job): job for job in jobs}
        try:
            for future in progress(as_completed(pending), len(jobs), 'bags', 'bag'):
                done, error = future.result()
                if error:
                    raise InputError(*error)
                found[pending[future].name] = done
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    died = 'a process that examined it or another bag died, of memory perhaps; run it again with fewer --workers'
    return [found.get(job.name) or failed(job, f'{job.bag}: {died}') for job in jobs]


_worker: JobRunner | None = None


def _begin(kind: type[JobRunner], model: str, device: str, task: EqaTask, folder: Path) -> None:
    """Make the worker of a process, which lives no longer than its parent."""
    global _worker
    parent = multiprocessing.parent_process()

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _worker = kind(model, device, task, folder)


def _do(job: Job) -> tuple[Done | None, tuple[str, str] | None]:
    """Examine one bag in a process of its own; an InputError comes back as (reason, sentence)."""
    try:
        return _worker.do(job), None
    except InputError as error:
        return None, (error.reason, str(error))


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let torch and OpenCV use so many threads for a while."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none or it was damaged."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def stored(folder: Path) -> list[Done]:
    """The parts of a finished run, by name in order."""
    parts = {
        path.name.removesuffix('.json'): _read(path)
        for path in folder.glob('*.json')
        if not path.name.endswith('.times.json')
    }
    return [
        replace(Done(part, _read(folder / f'{name}.times.json') or {}), kept=True)
        for name, part in sorted(parts.items())
        if part is not None
    ]
