"""The jobs of eqa_jobs on the machines of a Ray cluster, or on this one; the parts are the same.

Bags, a model that is a folder, and the folder of the run have to lie where every machine finds them by the same path.
Whoever starts the cluster says how many processors it has; a worker takes as many as the task has threads.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.jobs import Done, Job, JobRunner, failed
from m3et_ros.evaluation.tasks.eqa import EqaTask

LOCAL = 'local'
"""The address that starts a cluster on this machine, and ends it."""


class Remote:
    """A worker on some machine; see eqa_jobs.Worker for its arguments."""

    def __init__(self, model: str, device: str, task: EqaTask, folder: Path):
        self._worker = JobRunner(model, device, task, folder)

    def do(self, job: Job) -> tuple[Done | None, tuple[str, str] | None]:
        """Examine one bag; an InputError comes back as (reason, sentence)."""
        try:
            return self._worker.do(job), None
        except InputError as error:
            return None, (error.reason, str(error))


def run_on_ray(
    worker: JobRunner,
    jobs: Sequence[Job],
    workers: int,
    address: str,
    model: str,
    device: str,
    progress: Callable[..., Iterable[Any]],
) -> list[Done]:
    """Do all jobs on a cluster; the order of what comes back is that of the jobs.

    Args:
        worker: of this process; it only says how.
        jobs: what to do.
        workers: how many on the whole cluster.
        address: of the cluster, as ray has it, or LOCAL.
        model: as open_checkpoint takes it.
        device: as Engine takes it.
        progress: see feed.Progress.

    Raises:
        InputError: 'ray' where Ray is not installed or no cluster answers; 'out_unwritable', what is finished is kept.
    """
    ray = _connected(address, workers * worker.task.threads)
    try:
        make = ray.remote(Remote).options(num_cpus=worker.task.threads)
        found_model = str(Path(model).resolve()) if Path(model).is_dir() else model
        pool = [
            make.remote(found_model, device, worker.task, worker.folder.resolve())
            for _ in range(min(workers, len(jobs)))
        ]
        waiting = [replace(job, bag=job.bag.resolve()) for job in jobs]
        return _gathered(ray, pool, waiting, progress)
    finally:
        ray.shutdown()


def _connected(address: str, processors: int) -> Any:
    """The library, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise InputError(
            'ray',
            "Ray is not installed; pip install 'm3et_ros[ray]', or leave --ray out for the processes of this machine.",
        ) from error
    local = {'num_cpus': processors, 'include_dashboard': False} if address == LOCAL else {'address': address}
    try:
        ray.init(**local, log_to_driver=False, logging_level='error')
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            'ray',
            f'No Ray cluster answers at {address} ({str(error).splitlines()[0]}); give the address '
            f'that ray start printed, or {LOCAL}.',
        ) from error
    return ray


def _gathered(ray: Any, pool: list, jobs: Sequence[Job], progress: Callable[..., Iterable[Any]]) -> list[Done]:
    """Hand each idle worker the next job until all are done; a worker that dies costs the bag that it had."""
    free, left, running, found = list(pool), list(jobs), {}, {}
    for _ in progress(range(len(jobs)), len(jobs), 'bags', 'bag'):
        while free and left:
            actor, job = free.pop(), left.pop(0)
            running[actor.do.remote(job)] = actor, job
        (reference,), _ = ray.wait(list(running), num_returns=1)
        actor, job = running.pop(reference)
        try:
            done, error = ray.get(reference)
        except ray.exceptions.RayError as lost:
            found[job.name] = failed(job, f'{job.bag}: its worker was lost ({type(lost).__name__}); run it again')
            if not running and not free:
                break
            continue
        free.append(actor)
        if error:
            raise InputError(*error)
        found[job.name] = done
    return [found.get(job.name) or failed(job, f'{job.bag}: no worker was left; run it again') for job in jobs]
