"""A thread for each model that is loaded while another one serves."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread, get_native_id
from typing import TypeVar

ResultT = TypeVar('ResultT')
NICE = 10
"""Priority of the thread as nice(1) counts it, so that frames come first on a busy CPU."""


class ModelLoader:
    """Runs one job at a time, each on a thread of its own."""

    def __init__(self):
        self._lock, self._busy = Lock(), False

    def start(self, job: Callable[[], ResultT]) -> Future[ResultT] | None:
        """Start a job.

        Args:
            job: loads a model; a download may take minutes.

        Returns:
            Its future; None while another job runs.
        """
        with self._lock:
            if self._busy:
                return None
            self._busy = True
        future: Future[ResultT] = Future()
        # A daemon: a download must not keep the process from ending.
        Thread(target=self._run, args=(job, future), name='model_loader', daemon=True).start()
        return future

    def _run(self, job: Callable[[], ResultT], future: Future[ResultT]) -> None:
        if hasattr(os, 'setpriority') and os.uname().sysname == 'Linux':  # elsewhere it would be of the whole process
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
        try:
            result = job()
        except BaseException as error:
            self._busy = False
            future.set_exception(error)
        else:
            self._busy = False
            future.set_result(result)
