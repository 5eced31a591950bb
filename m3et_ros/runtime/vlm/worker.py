"""Serve a vision-language model to the process that started this one: the program of a child.

    python -P -m m3et_ros.runtime.vlm.worker '{"name": FOLDER, "device": "cpu", "dtype": "auto", "threads": 1}'

Messages are JSON with their length before them (runtime.vlm.messages); the images of a question follow as bytes. Only
runtime.vlm.process starts it. It ends when its input ends, and so with its parent.
"""

import json
import os
import signal
import sys
import threading
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import Any, BinaryIO

import numpy as np
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.messages import read_message, write_message
from m3et_ros.runtime.vlm.model import VisionLanguageModel, open_vlm

NICE = 10
"""Priority as nice(1) counts it, so that frames come first on a busy CPU."""


class Worker:
    """Reads questions and cancellations on a thread of its own, and answers on the main thread."""

    def __init__(self, given: BinaryIO, said: BinaryIO):
        self._given, self._said = given, said
        self._questions: SimpleQueue[tuple[dict[str, Any], list[np.ndarray]] | None] = SimpleQueue()
        self._cancelled = -1

    def serve(self, model: VisionLanguageModel) -> None:
        """Answer until the input ends."""
        threading.Thread(target=self._read, daemon=True).start()
        while (question := self._questions.get()) is not None:
            self._answer(model, *question)

    def _read(self) -> None:
        while (message := read_message(self._given)) is not None:
            if 'cancel' in message:
                self._cancelled = message['cancel']
                continue
            images = []
            for shape in message['shapes']:
                pixels = self._given.read(int(np.prod(shape)))
                images.append(np.frombuffer(pixels, np.uint8).reshape(shape))
            self._questions.put((message, images))
        # Nobody waits for the present answer any more.
        self._cancelled = sys.maxsize
        self._questions.put(None)

    def _answer(self, model: VisionLanguageModel, question: dict[str, Any], images: list[np.ndarray]) -> None:
        number = question['number']

        def send(**message: Any) -> None:
            try:
                write_message(self._said, message | {'number': number})
            except OSError as error:
                raise CancelledError from error  # the parent has ended

        try:
            answer = model.answer(
                question['text'],
                images,
                max_tokens=question['max_tokens'],
                on_text=lambda text: send(so_far=text),
                cancelled=lambda: self._cancelled >= number,
            )
        except CancelledError:
            if self._cancelled < sys.maxsize:
                send(end='cancelled')
        except InputError as error:
            send(end='refused', reason=error.reason, sentence=str(error))
        except Exception as error:
            send(end='failed', sentence=f'{type(error).__name__}: {error}')
        else:
            send(end='answered', **vars(answer))


def main() -> int:
    """Open the model of the first argument and serve it; return 1 where it is refused."""
    given, said = sys.stdin.buffer, os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # what a library prints must not stand between messages
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked['threads'])
    try:
        model = open_vlm(asked['name'], device=asked['device'], dtype=asked['dtype'])
    except InputError as error:
        write_message(said, {'refused': error.reason, 'sentence': str(error)})
        return 1
    facts = {name: getattr(model, name) for name in ('model_id', 'weights_sha256', 'weight_bytes')}
    write_message(said, facts | {'device': str(model.device), 'dtype': str(model.dtype)})
    Worker(given, said).serve(model)
    return 0


if __name__ == '__main__':
    # Nothing is left to be saved, and tearing torch down takes seconds on a busy machine.
    os._exit(main())
