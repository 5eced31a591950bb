"""OpenVINO beside torch: a child process builds the graphs, a thread loads them, the engine takes them between frames.

Tracing changes state of the whole interpreter and takes seconds of it, so nothing is traced where frames are served.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from threading import Lock, Thread
from typing import IO, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime.backends import Runner, Setting
from m3et_ros.runtime.backends.openvino import OpenVino
from m3et_ros.runtime.backends.prepared import (
    Prepared,
    Serving,
    artefact_folder,
    build_graphs,
    checked,
    refused,
    usable_sets,
)

BUILDER = 'm3et_ros.runtime.backends.builder'
NAME = OpenVino.name
NICE = 19
"""Priority of the child, as nice(1) counts it: frames come first on a busy CPU."""


class Closed(Exception):  # noqa: N818 - it ends the thread where nobody wants the graphs any more
    """The build was closed."""


class StoredGraphs(OpenVino):
    """OpenVINO that loads stored graphs and builds none.

    Args:
        setting: as OpenVino takes it.
        check_open: called before each graph; an exception ends the loading.
    """

    def __init__(self, setting: Setting, check_open: Callable[[], None]):
        super().__init__(setting)
        self._check_open = check_open

    def build(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Runner:
        """Load the stored blob.

        Raises:
            FileNotFoundError: there is none that can be read.
        """
        self._check_open()
        if (run := self.stored(name)) is None:
            raise FileNotFoundError(name)
        return run


class BackgroundBuild:
    """The graphs of a model, made while torch serves.

    Args:
        model: in float32 on the CPU, in eval mode; nobody may change its weights.
        precision: arithmetic of the graphs, 'float32' or 'bfloat16'.
        modality_sets: sets of image modalities that frames will have.
        report: gets lines of progress, from another thread.
        guides: number and length of the texts that heads read of every frame; None = there are none.
        adaptive: also make graphs that encode parts of a frame, for adaptive tokens.

    Attributes:
        serving: torch, with what is being done or why it failed.
        ready: the graphs and the runtime that serves by them; None until they are there.
    """

    def __init__(
        self,
        model: M3ET,
        precision: str,
        modality_sets: Sequence[Sequence[str]],
        report: Callable[[str], None],
        guides: tuple[int, int] | None = None,
        adaptive: bool = False,
    ):
        self._model, self._precision, self._report, self._guides = model, precision, report, guides
        self._adaptive = adaptive
        self._sets = usable_sets(model, modality_sets)
        self._threads = torch.get_num_threads()
        self.serving = Serving('torch', f'while {NAME} is being built')
        self.ready: tuple[Prepared, Serving] | None = None
        self._lock, self._closed = Lock(), False
        self._child: subprocess.Popen | None = None
        # A daemon: `close` waits for it, and a process that ends without it need not.
        self._thread = Thread(target=self._run, name='graphs', daemon=True)

    def start(self) -> None:
        """Start the thread; a second call changes nothing."""
        with self._lock:
            if not self._closed and self._thread.ident is None:
                self._thread.start()

    def close(self) -> None:
        """End the child and the thread, at the latest after the graph that is being loaded."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.kill()
        if self._thread.ident is not None:
            self._thread.join()

    # On the thread

    def _run(self) -> None:
        try:
            setting = Setting(self._precision, self._threads, artefact_folder(self._model, NAME, self._precision))
            found = self._stored(setting)
            if found is None:
                self._build(setting)
                found = self._stored(setting)
            if found is None:
                raise RuntimeError(f'a graph in {setting.folder} cannot be read after its build')
            self._check_open()
            ready = found, checked(found, self._model, self._sets, self._precision, self._guides)
        except Closed:
            return
        except Exception as problem:
            if not self._closed:
                self.serving = refused(NAME, problem, 'torch goes on')
            return
        self._report(f'Runtime {NAME} takes over from torch with the next frame ({ready[1].reason}).')
        self.serving = Serving('torch', f'until the next frame, which {NAME} takes')
        self.ready = ready

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def _stored(self, setting: Setting) -> Prepared | None:
        """Load the graphs; None where one of them is missing or cannot be read."""
        assert setting.folder is not None
        if not setting.folder.is_dir():
            return None
        try:
            backend = StoredGraphs(setting, self._check_open)
            return build_graphs(
                *(self._model, backend, self._precision, 'cpu', self._sets),
                *(lambda line: None, self._guides, self._adaptive),
            )
        except FileNotFoundError:
            return None

    def _build(self, setting: Setting) -> None:
        """Have a child build and store the graphs.

        Raises:
            RuntimeError: it failed; the message says why.
        """
        self._report(f'Runtime {NAME} is being built by a process of its own; torch serves until then.')
        with tempfile.TemporaryFile() as errors:
            with self._lock:
                self._check_open()
                # A session of its own: Ctrl-C and the end of a terminal reach the parent, which ends it.
                child = self._child = subprocess.Popen(
                    [sys.executable, '-P', '-m', BUILDER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            last: dict[str, Any] = {}
            try:
                with child:
                    last = self._follow(child, setting)
            except BrokenPipeError:
                pass  # it ended before it had read all; its exit code says more
            self._check_open()
            if 'done' not in last:
                ended = f'its build ended with code {child.returncode}: {last_line(errors)}'
                raise RuntimeError(last.get('failed', ended))

    def _follow(self, child: subprocess.Popen, setting: Setting) -> dict[str, Any]:
        """Send the model, and report the progress of the child until it ends; returns its last message."""
        assert child.stdin is not None and child.stdout is not None
        weights = save({name: tensor.detach().contiguous() for name, tensor in self._model.state_dict().items()})
        asked = {
            'config': self._model.config.to_dict(),
            'precision': setting.precision,
            'threads': setting.threads,
            'nice': NICE,
            'folder': str(setting.folder),
            'modality_sets': self._sets,
            'guides': self._guides,
            'adaptive': self._adaptive,
            'bytes': len(weights),
        }
        child.stdin.write(json.dumps(asked).encode() + b'\n')
        child.stdin.write(weights)
        child.stdin.flush()
        del weights
        message: dict[str, Any] = {}
        for line in child.stdout:
            message = json.loads(line)
            if 'report' in message and not self._closed:
                self._report(message['report'])
                progress = message['report'].removeprefix(f'Runtime {NAME}: ')
                self.serving = Serving('torch', f'while {NAME} is being built: {progress}')
        return message


def last_line(file: IO[bytes]) -> str:
    """Return the last line that a process wrote to a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2000))
    lines = file.read().decode(errors='replace').strip().splitlines()
    return lines[-1] if lines else 'it said nothing'
