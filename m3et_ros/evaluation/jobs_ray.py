"""Run jobs on a Ray cluster, or on a cluster of this machine; the parts are those of jobs.run_jobs.

Bags, a model folder and the folder of the run need the same path on every machine. The user who
starts the cluster sets its number of processors; a worker takes as many as the task has threads.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.jobs import BagTask, Job, JobResult, JobRunner, failed

LOCAL = 'local'
"""Address that starts a cluster on this machine, and stops it afterwards."""


class RemoteRunner:
    """A JobRunner on some machine of the cluster; it takes the same arguments."""

    def __init__(self, model: str, device: str, task: BagTask, folder: Path):
        self._runner = JobRunner(model, device, task, folder)

    def run(self, job: Job) -> tuple[JobResult | None, tuple[str, str] | None]:
        """Run one job; an InputError is returned as (reason, sentence)."""
        try:
            return self._runner.run(job), None
        except InputError as error:
            return None, (error.reason, str(error))


def run_on_ray(
    runner: JobRunner,
    jobs: Sequence[Job],
    workers: int,
    address: str,
    model: str,
    device: str,
    progress: Callable[..., Iterable[Any]],
) -> list[JobResult]:
    """Run all jobs on a cluster.

    Args:
        runner: runner of this process, for its task and folder.
        jobs: the jobs.
        workers: number of workers on the whole cluster.
        address: address of the cluster as Ray prints it, or LOCAL.
        model: as open_checkpoint takes it.
        device: as Engine takes it.
        progress: see data.progress.Progress.

    Returns:
        Results in the order of the jobs.

    Raises:
        InputError: 'ray' where Ray is not installed or no cluster answers; 'out_unwritable', finished parts are kept.
    """
    ray = _connected(address, workers * runner.task.threads)
    try:
        make = ray.remote(RemoteRunner).options(num_cpus=runner.task.threads)
        found_model = str(Path(model).resolve()) if Path(model).is_dir() else model
        pool = [
            make.remote(found_model, device, runner.task, runner.folder.resolve())
            for _ in range(min(workers, len(jobs)))
        ]
        waiting = [replace(job, bag=job.bag.resolve()) for job in jobs]
        return _collect(ray, pool, waiting, progress)
    finally:
        ray.shutdown()


def _connected(address: str, processors: int) -> Any:
    """Connect to a cluster and return the library."""
    try:
        import ray
    except ImportError as error:
        raise InputError(
            'ray',
            "Ray is not installed; pip install 'm3et_ros[ray]', or leave --ray out to use processes of this machine.",
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


def _collect(ray: Any, pool: list, jobs: Sequence[Job], progress: Callable[..., Iterable[Any]]) -> list[JobResult]:
    """Hand each idle worker the next job until all are done; a worker that dies loses only its own bag."""
    free, left, running, found = list(pool), list(jobs), {}, {}
    for _ in progress(range(len(jobs)), len(jobs), 'bags', 'bag'):
        while free and left:
            actor, job = free.pop(), left.pop(0)
            running[actor.run.remote(job)] = actor, job
        (reference,), _ = ray.wait(list(running), num_returns=1)
        actor, job = running.pop(reference)
        try:
            result, error = ray.get(reference)
        except ray.exceptions.RayError as lost:
            found[job.name] = failed(job, f'{job.bag}: its worker was lost ({type(lost).__name__}); run it again')
            if not running and not free:
                break
            continue
        free.append(actor)
        if error:
            raise InputError(*error)
        found[job.name] = result
    return [found.get(job.name) or failed(job, f'{job.bag}: no worker was left; run it again') for job in jobs]
