"""The memory of the episode from outside: the services that reset, save and restore it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rclpy.callback_groups import ReentrantCallbackGroup
from std_srvs.srv import Trigger

from m3et_ros.data.errors import InputError
from m3et_ros.ros import interfaces
from m3et_ros.ros.host import Host
from m3et_ros.ros.inference_thread import in_one_step
from m3et_ros.ros.services import check_memory, run_on_inference_thread


class MemoryServices:
    """Resets, saves and restores the memory of the episode, on the inference thread of the node."""

    def __init__(self, host: Host):
        """Offer the three services."""
        self._host = host
        for service, job in (
            (interfaces.RESET_MEMORY, self._reset),
            (interfaces.SAVE_MEMORY, self._save),
            (interfaces.RESTORE_MEMORY, self._restore),
        ):
            host.create_service(
                service.kind, service.name, partial(self._on_request, job), callback_group=ReentrantCallbackGroup()
            )

    async def _on_request(
        self, job: Callable[[], str], _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        done, problem = await run_on_inference_thread(self._host, in_one_step(job), 'the memory of the episode')
        response.success = done is not None
        response.message = done or problem
        return response

    def _reset(self) -> str:
        self._host.session.reset()
        if self._host.vlm is not None:
            self._host.vlm.reset()
        return 'A new episode begins.'

    def _save(self) -> str:
        path, memory = self._file(), self._host.session.memory
        memory.save(path)
        return f'{memory.frames} frames of the episode are remembered in {path}.'

    def _restore(self) -> str:
        path, memory = self._file(), self._host.session.memory
        memory.restore(path)
        return f'The episode goes on from {path}, after {memory.frames} frames.'

    def _file(self) -> Path:
        """Return the file of the memory.

        Raises:
            InputError: the parameter memory is off, or memory_file is empty.
        """
        check_memory(self._host)
        name = self._host.settings.memory_file
        if not name:
            raise InputError(
                'memory_file',
                'The parameter memory_file is empty; set it to a file such as /var/tmp/kitchen.safetensors.',
            )
        return Path(name).expanduser()
