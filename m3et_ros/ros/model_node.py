"""The model node: camera topics in; depth, segmentation, answers and anticipation out.

    ros2 run m3et_ros model_node --ros-args --params-file config/robot.yaml -p autostart:=true
    python -m m3et_ros.ros.model_node --ros-args -p autostart:=true        # without the ros2 command

A lifecycle node: configure loads the weights, activate opens the topics, deactivate frees the memory of the device.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import cv2
import torch
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from m3et_ros.data.depth_checks import median_m
from m3et_ros.data.errors import InputError
from m3et_ros.ops.dispatch import describe
from m3et_ros.ros import interfaces, parameters, process
from m3et_ros.ros.camera_inputs import CameraInputs, PairedMessages
from m3et_ros.ros.convert import age_s
from m3et_ros.ros.demand import Demand
from m3et_ros.ros.diagnostics import Diagnostics, Status
from m3et_ros.ros.guards import guard_services
from m3et_ros.ros.health import Health
from m3et_ros.ros.heartbeat import HEARTBEAT, SERVES
from m3et_ros.ros.host import Host
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.ros.memory_services import MemoryServices
from m3et_ros.ros.model_loader import ModelLoader
from m3et_ros.ros.networks import NetworkFrame, Networks
from m3et_ros.ros.outputs import Anticipations, Perception
from m3et_ros.ros.services import INACTIVE, Questions, result_of
from m3et_ros.ros.twins import TwinWatch
from m3et_ros.ros.vlm_thread import VlmThread
from m3et_ros.runtime.adaptive import Adaptive
from m3et_ros.runtime.answerer import BESIDE, open_answerer
from m3et_ros.runtime.backends.prepared import MODALITY_SETS
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.selftest import self_test
from m3et_ros.runtime.session import Session
from m3et_ros.runtime.shared_model import Models
from m3et_ros.runtime.view import View
from m3et_ros.runtime.vlm.process import VlmProcess
from m3et_ros.srv import LoadModel

OK, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
HANG_S = 60.0
"""Seconds that one frame or answer may take before the node counts as hanging."""


class ModelNode(Host):
    """Owns the session while configured; the inference thread and the camera inputs while active."""

    # None in a node whose parameters were refused: it is destroyed before it has inputs.
    inputs: CameraInputs | None = None
    # Depth and segmentation networks of others; None likewise.
    networks: Networks | None = None
    # True after the start without a lifecycle manager has failed; the reason is in the log.
    start_failed = False
    # The newest frame, not decoded, while nobody needs its results; None while somebody does.
    _unread: PairedMessages | None = None
    # False when frames have passed that the action stream did not get.
    _stream_whole = True

    def __init__(
        self, *, models: Models | None = None, parameters_beside: parameters.Table = (), **kwargs: Any
    ) -> None:
        """Declare the parameters and create all that does not depend on the model.

        Args:
            models: opens the models; None opens each anew.
            parameters_beside: parameters of other nodes of the process, which are not reported as unknown here.
            kwargs: options of rclpy.node.Node.

        Raises:
            InputError: 'parameter', a value is of the wrong type or out of range.
        """
        super().__init__('model', **kwargs)
        self._models = models or Models()
        self.settings = parameters.declare(self)
        self.add_post_set_parameters_callback(self._on_parameters)
        self.health = Health(self.get_logger())
        guard_services(self, self.health.internal_error)
        self._perception = Perception(self, self.health.counters)
        self.networks = Networks(self, self._perception)
        self._anticipations = Anticipations(self, self.health.counters)
        self._questions = Questions(self, self._perception.publish_answer)
        self._memory_services = MemoryServices(self)
        self._demand = Demand(self)
        self.inputs = CameraInputs(self)
        self.diagnostics = Diagnostics(self, self._status)
        self._twins = TwinWatch(self, self.health.set_twin)
        self._loader = ModelLoader()
        load = interfaces.LOAD_MODEL
        self.create_service(load.kind, load.name, self._on_load_model, callback_group=ReentrantCallbackGroup())
        self._start_timer = self.create_timer(0.0, self._start) if self.settings.autostart else None
        for sentence in parameters.unknown_overrides(self, others=parameters_beside):
            self.get_logger().warning(sentence)
        # A file of a process with several nodes may be for one of them.
        if not parameters_beside:
            self.health.set_cause('parameter_file', ' '.join(parameters.unmatched_files(self, sys.argv)))

    @property
    def alive(self) -> bool:
        """False while the inference thread or the thread that takes the messages hangs or has ended."""
        inference = self.inference_thread
        return (inference is None or inference.busy_s < HANG_S) and self.inputs.alive

    @property
    def state_label(self) -> str:
        """Lifecycle state in a word: unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model on the host and check it; FAILURE leaves the node unconfigured with the reason in the log."""
        if not self._succeeds('configuring', self._configure):
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Move the model to its device, start the inference thread, open the topics."""
        result = super().on_activate(state)
        if not self._succeeds('activating', self._activate):
            self._halt()
            super().on_deactivate(state)
            return FAILURE
        engine = self.session.engine
        serving = f'{engine.serving.name} ({engine.serving.reason})'
        self.get_logger().info(f'Active with {engine.model_id} on {engine.device} by {serving}.')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the topics, drain the inference thread, free the device; the memory of the episode stays."""
        self._halt()
        if self.session is not None:
            # The newest view holds encoder outputs on the device, and its image is out of date after a pause.
            self.session.newest = self._unread = None
            self.health.idle = False
            self.session.engine.to('cpu')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the model and the memory of the episode."""
        self._drop_models()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop everything that runs."""
        self._halt()
        self._drop_models()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an exception in a transition, ready to be configured again."""
        self._halt()
        self._drop_models()
        return OK

    def _drop_models(self) -> None:
        self._end_build()
        self.session = None
        self._close_vlm()
        self.networks.drop()

    def _end_build(self) -> None:
        if self.session is not None:
            self.session.engine.close()

    def _close_vlm(self) -> None:
        if self.vlm is not None:
            self.vlm.close()
            self.vlm = None

    def destroy_node(self) -> None:
        """Stop the inference thread before the publishers it uses are destroyed."""
        self._halt()
        self._end_build()
        self._close_vlm()
        super().destroy_node()

    def _succeeds(self, activity: str, step: Callable[[], None]) -> bool:
        """Run a step of a transition; return False after an error, which rclpy itself would not report."""
        self.health.failure = ''
        try:
            with HEARTBEAT.long_work():
                step()
        except InputError as error:
            self.health.refuse(error)
            self.health.failure = str(error)
        except Exception as error:
            self.health.failure = self.health.internal_error(activity, error)
        return not self.health.failure

    def _configure(self) -> None:
        self.networks.load()
        session = self._load(self.settings.model)
        self._close_vlm()
        self.vlm = self._load_vlm()
        self.session = session
        self._report_model()

    def _activate(self) -> None:
        self.session.engine.to(self.settings.device)
        self.health.set_runtime(self.session.engine.serving)
        self.inference_thread = InferenceThread(self._process_frame)
        if self.vlm is not None:
            self.vlm.start()
        self.networks.start()
        self._publish_labels()
        process.freeze_garbage_collector()
        self.inputs.start()
        self.session.engine.start_build()

    def _halt(self) -> None:
        if self.inputs is not None:
            self.inputs.stop()
        if self.inference_thread is not None:
            # None first: questions that are still queued then learn that the node is no longer active.
            inference_thread, self.inference_thread = self.inference_thread, None
            inference_thread.close()
        if self.vlm is not None:
            self.vlm.stop()
        if self.networks is not None:
            self.networks.stop()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, name: str) -> Session:
        """Open a model, choose its runtime and check it.

        Raises:
            InputError: it cannot be used.
        """
        settings = self.settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
            cv2.setNumThreads(settings.threads)
        checkpoint, shared = self._models.open(name, seed=settings.seed)
        engine = Engine(checkpoint, tokens=settings.tokens, adaptive=Adaptive(settings.tokens_threshold), shared=shared)
        engine.prepare(
            settings.runtime,
            precision=settings.precision,
            device=settings.device,
            modality_sets=MODALITY_SETS if settings.depth_transport != 'none' else MODALITY_SETS[-1:],
            report=self.get_logger().info,
        )
        self_test(engine)
        session = Session(engine, memory_frames=settings.memory_frames, remember=settings.memory)
        session.answerer = open_answerer(settings.answerer, settings.answerer_checkpoint, engine)
        return session

    def _load_vlm(self) -> VlmThread | None:
        """Open the vision-language model beside M3ET; None for an answerer that has none.

        Raises:
            InputError: it cannot be used, or there is none that could answer the standing instruction.
        """
        settings = self.settings
        if settings.answerer in BESIDE:
            model = VlmProcess(
                settings.answerer_checkpoint,
                device=settings.answerer_device,
                dtype=settings.answerer_dtype,
                threads=settings.answerer_threads,
            )
            return VlmThread(model, memory_frames=settings.memory_frames)
        if settings.instruction_answerer != 'm3et':
            raise InputError(
                'answerer',
                f'instruction_answerer is vlm and the answerer is {settings.answerer}; set answerer to vlm or router.',
            )
        return None

    def _report_model(self) -> None:
        engine = self.session.engine
        self.health.set_runtime(engine.serving)
        self.health.kernels = describe(engine.device)

    def _publish_labels(self) -> None:
        now = Header(stamp=self.get_clock().now().to_msg())
        self._perception.publish_labels(self.networks.labels or self.session.engine.labels, now)

    # Frames, on the inference thread

    def _process_frame(self, messages: PairedMessages) -> None:
        """Decode a pair of messages, encode the frame and publish the results.

        The inference thread calls it with the pair that CameraInputs._offer_to_inference has put into the slot. While
        nobody needs its results the pair is stored as it came.
        """
        self.health.idle = not self.settings.memory and not self._demand.needs_frame(messages.instruction)
        self._unread = messages if self.health.idle else None
        if self.health.idle:
            self._stream_whole = False
            self.health.unneeded += 1
            return
        try:
            self._publish(self._observe(messages), messages)
        except InputError as error:
            self.health.refuse(error)
        except Exception as error:
            self.health.internal_error('a frame', error)

    def observe_newest(self) -> None:
        """Encode the newest frame if nobody has needed it until now; on the inference thread."""
        messages, self._unread = self._unread, None
        if messages is not None:
            try:
                self._observe(messages)
            except InputError as error:
                self.health.refuse(error)

    def _observe(self, messages: PairedMessages) -> View:
        """Decode and encode a frame.

        Raises:
            InputError: the colour image cannot be decoded.
        """
        frame, problem = messages.decode()
        if problem is not None:
            self.health.refuse(problem)
        self.inputs.watch.decoded(frame.rgb.shape, None if frame.depth is None else median_m(frame.depth))
        self.session.domain_every = self.settings.domain_check
        if self.vlm is not None:
            self.vlm.observe(frame, remember=self.settings.memory)
        self.health.encoded += 1
        return self.session.observe(frame)

    def _publish(self, view: View, messages: PairedMessages) -> None:
        settings, session, header = self.settings, self.session, messages.header
        # A frame that lost its depth gets none: what the model imagines would pass for a measurement.
        fill = 'never' if messages.depth_comes and view.frame.depth is None else settings.depth_fill
        info = messages.info_for(view.frame.rgb.shape)
        self._perception.publish(
            view,
            session.engine,
            header,
            info,
            fill=fill,
            alpha=settings.overlay_alpha,
            depth=self.networks.depth is None,
            mask=self.networks.segmentation is None,
        )
        self.networks.offer(NetworkFrame(view.frame, header, info, fill, settings.overlay_alpha))
        self._questions.answer_instruction(view)
        self._follow_actions(view, header)
        age = age_s(header, self.get_clock().now())
        self.health.frame_done(age, view.latency_s, view.share, depth=view.frame.depth is not None)

    def _follow_actions(self, view: View, header: Header) -> None:
        """Update the stream of actions, and read it where somebody subscribes."""
        settings, session = self.settings, self.session
        if not settings.memory and not self._anticipations.wanted:
            self._stream_whole = False
            return
        if not self._stream_whole:
            session.engine.reset_actions()
            self._stream_whole = True
        if self._anticipations.wanted:
            actions = session.anticipate(view, horizon_s=settings.horizon_s, top_k=settings.top_k)
            broken = '' if actions is None else actions.broken
            if actions is not None:
                self._anticipations.publish(actions, header, session.engine.model_id)
        else:
            broken = session.engine.follow(view)
        if broken:
            self.health.counters.count(broken)

    # Services, parameters and diagnostics

    async def _on_load_model(self, request: LoadModel.Request, response: LoadModel.Response) -> LoadModel.Response:
        """Replace the model; the old one serves every frame until the new one has passed its self-test."""
        model_id, response.message = None, INACTIVE
        if self.inference_thread is not None:
            queued = self._loader.start(lambda: self._replace_model(request.model))
            if queued is None:
                busy = InputError('load_busy', 'Another model is being loaded; ask again when that is done.')
                self.health.refuse(busy)
                response.message = str(busy)
            else:
                model_id, response.message = await result_of(self, queued, 'loading a model')
        response.success = model_id is not None
        response.model_id = model_id or ''
        return response

    def _replace_model(self, name: str) -> str:
        """Load a model and swap it in between two frames; on the loader's thread. Return its id.

        Raises:
            InputError: it cannot be used, or the node was deactivated meanwhile; the old model stays.
        """
        session = self._load(name)
        session.engine.to(self.settings.device)
        inference = self.inference_thread
        swapped = None if inference is None else inference.submit_urgent(lambda: self._swap_session(session))
        try:
            if swapped is None:
                raise CancelledError
            swapped.result().engine.close()
        except CancelledError:
            raise InputError(
                'load_stopped',
                f'The node was deactivated while {name!r} was being loaded; load it again when the node is active.',
            ) from None
        process.freeze_garbage_collector()
        return session.engine.model_id

    def _swap_session(self, session: Session) -> Session:
        """Let a session take over, with the newest frame of the old one, which is returned; on the inference thread."""
        session.domain_every = self.settings.domain_check
        if self.session.newest is not None:
            session.observe(self.session.newest.frame)
        old, self.session = self.session, session
        self._report_model()
        self._publish_labels()
        session.engine.start_build()
        return old

    def _on_parameters(self, changed: Sequence[Parameter]) -> None:
        self.settings = parameters.snapshot(self)
        if any(parameter.name == 'instruction' for parameter in changed):
            self.inputs.instructions.add(0, self.settings.instruction)

    def _status(self) -> Status:
        self.health.set_cause('vlm_slow', '' if self.vlm is None else self.vlm.slow)
        if self.session is not None:
            self.health.set_runtime(self.session.engine.serving)
        counts = self.inputs.sync.counts
        status = self.health.status(self.state_label, self.session, self.inference_thread, counts, self.vlm)
        return replace(status, values={**status.values, 'topic': self.inputs.topics, **self.networks.values()})

    def _start(self) -> None:
        """Configure and activate the node without a lifecycle manager."""
        self.destroy_timer(self._start_timer)
        if self.trigger_configure() != OK or self.trigger_activate() != OK:
            self.start_failed = True
            self.get_logger().fatal(f'The node cannot start: {self.health.failure}')
        else:
            HEARTBEAT.beat(SERVES)


def serve(node: ModelNode, stop: Callable[[], bool]) -> int:
    """Spin a node; the exception of a callback is counted in its diagnostics. Return 1 after a failed autostart."""
    process.spin(node, lambda: stop() or node.start_failed, node.health.internal_error, lambda: node.alive)
    return int(node.start_failed)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; return 1 when its parameters, model or device are refused."""
    return process.run(ModelNode, args, serve=serve)


if __name__ == '__main__':
    raise SystemExit(main())
