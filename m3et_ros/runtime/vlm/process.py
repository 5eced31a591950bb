"""A vision-language model in a process of its own, so that it shares neither interpreter nor memory with perception.

Threads of one Python process take turns at its interpreter: a model on a thread slows frames down whenever the machine
is busy. Here the caller's thread waits on a pipe.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import psutil
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.messages import read_message, write_message
from m3et_ros.runtime.vlm.model import VlmAnswer, ignore_text, never

CHECK_S = 0.05
"""Seconds between two looks at whether a question was cancelled."""
END_S = 10.0
"""Seconds that the process may take to end by itself."""


class VlmProcess:
    """A VisionLanguageModel of another process, with the same attributes and the same `answer`.

    A process that has ended, for example because memory ran out, is started again by the next question.

    Args:
        name, device, dtype: as open_vlm takes them.
        threads: CPU threads of the model; 0 takes half of the processors.

    Raises:
        InputError: those of open_vlm.
    """

    def __init__(self, name: str, *, device: str = 'auto', dtype: str = 'auto', threads: int = 0):
        threads = threads or max(1, (os.cpu_count() or 2) // 2)
        self._asked = {'name': name, 'device': device, 'dtype': dtype, 'threads': threads}
        self._number = 0
        # A question is written with its images as a whole.
        self._writing = Lock()
        self._start()

    def _start(self) -> None:
        command = [sys.executable, '-P', '-m', 'm3et_ros.runtime.vlm.worker', json.dumps(self._asked)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        facts = read_message(self._out)
        if facts is None:
            raise self._ended()
        if 'refused' in facts:
            self.close()
            raise InputError(facts['refused'], facts['sentence'])
        self.model_id, self.weights_sha256 = facts['model_id'], facts['weights_sha256']
        self.weight_bytes = facts['weight_bytes']
        self.device = torch.device(facts['device'])
        self.dtype: torch.dtype = getattr(torch, facts['dtype'].removeprefix('torch.'))

    @property
    def _out(self) -> Any:
        return self._process.stdout

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the process; 0 once it has ended."""
        try:
            return psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return 0

    def answer(
        self,
        question: str,
        images: Sequence[np.ndarray],
        *,
        max_tokens: int,
        on_text: Callable[[str], None] = ignore_text,
        cancelled: Callable[[], bool] = never,
    ) -> VlmAnswer:
        """Answer a question about images; see VisionLanguageModel.answer.

        Raises:
            ValueError, CancelledError, InputError: as there; also InputError vlm_ended, the process has ended.
            RuntimeError: a fault in the process.
        """
        if max_tokens < 1 or not images:
            raise ValueError(f'max_tokens is {max_tokens} with {len(images)} images; give at least one of each')
        if self._process.poll() is not None:
            self.close()
            self._start()
        self._number += 1
        done = Event()
        watch = Thread(target=self._watch, args=(self._number, cancelled, done), daemon=True)
        try:
            shapes = [image.shape for image in images]
            asked = {'number': self._number, 'text': question, 'max_tokens': max_tokens, 'shapes': shapes}
            with self._writing:
                write_message(self._process.stdin, asked)  # type: ignore[arg-type]
                for image in images:
                    self._process.stdin.write(np.ascontiguousarray(image).tobytes())  # type: ignore[union-attr]
                self._process.stdin.flush()  # type: ignore[union-attr]
            watch.start()
            return self._received(on_text)
        except OSError as error:
            raise self._ended() from error
        finally:
            done.set()

    def _received(self, on_text: Callable[[str], None]) -> VlmAnswer:
        """Hand on the text so far until the answer ends; return it."""
        while (message := read_message(self._out)) is not None:
            if 'so_far' in message:
                on_text(message['so_far'])
                continue
            end = message['end']
            if end == 'answered':
                text, tokens = message['text'], tuple(message['tokens'])
                return VlmAnswer(text, message['confidence'], tokens, message['latency_s'])
            if end == 'cancelled':
                raise CancelledError
            if end == 'refused':
                raise InputError(message['reason'], message['sentence'])
            raise RuntimeError(message['sentence'])
        raise self._ended()

    def _watch(self, number: int, cancelled: Callable[[], bool], done: Event) -> None:
        """Tell the process once the question is cancelled."""
        while not done.wait(CHECK_S):
            if cancelled():
                try:
                    with self._writing:
                        write_message(self._process.stdin, {'cancel': number})  # type: ignore[arg-type]
                except (OSError, ValueError):  # the process has ended, which `answer` reports
                    return
                return

    def _ended(self) -> InputError:
        self.close()
        return InputError(
            'vlm_ended',
            f'The process of the model {self._asked["name"]} has ended (exit code {self._process.returncode}), perhaps '
            'because memory ran out; ask again to start it anew, or give a smaller model.',
        )

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            try:
                stream.close()  # type: ignore[union-attr]
            except OSError:
                continue
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
