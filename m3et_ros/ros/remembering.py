"""Services about the memory of the episode: begin anew, save what is remembered, go on from what was saved."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rclpy.lifecycle import LifecycleNode

from m3et_ros.data.errors import InputError
from m3et_ros.ros import interfaces
from m3et_ros.ros.questions import INACTIVE, outcome


class Remembering:
    """Serves reset_memory, save_memory and restore_memory on the inference thread of a node."""

    def __init__(self, node: LifecycleNode):
        self._node = node
        for service, step in ((interfaces.RESET_MEMORY, self._reset), (interfaces.SAVE_MEMORY, self._save),
                              (interfaces.RESTORE_MEMORY, self._restore)):
            node.create_service(service.kind, service.name, partial(self._serve, step))

    async def _serve(self, step: Callable[[], str], request, response):
        worker = self._node.worker
        job = worker.submit(step) if worker is not None else None
        if job is None:
            response.message = INACTIVE
            return response
        try:
            response.message = await outcome(self._node, job)
            response.success = True
        except InputError as error:
            self._node.health.refuse(error)
            response.message = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a disk does, the node lives on and says so
            response.message = self._node.health.broke('the memory of the episode', error)
        return response

    def _reset(self) -> str:
        self._node.session.reset()
        return 'A new episode begins.'

    def _save(self) -> str:
        path, memory = self._file(), self._node.session.learnt_memory()
        memory.save(path)
        return f'{memory.frames} frames of the episode are remembered in {path}.'

    def _restore(self) -> str:
        path, memory = self._file(), self._node.session.learnt_memory()
        memory.restore(path)
        return f'The episode goes on from {path}, after {memory.frames} frames.'

    def _file(self) -> Path:
        """Where the memory is kept.

        Raises:
            InputError: the parameter does not say.
        """
        name = self._node.settings.memory_file
        if not name:
            raise InputError('memory_file', 'The parameter memory_file is empty; set it to a file such as '
                             '/var/tmp/kitchen.safetensors.')
        return Path(name).expanduser()
