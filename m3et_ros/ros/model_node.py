"""The model node: camera topics in; depth, segmentation, answers and anticipation out.

    ros2 run m3et_ros model_node --ros-args --params-file config/robot.yaml -p autostart:=true
    python -m m3et_ros.ros.model_node --ros-args -p autostart:=true        # without the ros2 command

A lifecycle node: weights are loaded on configure, topics open on activate, device memory is freed on deactivate.
"""

from collections.abc import Callable

import cv2
import torch
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header

from m3et_ros.data.errors import InputError
from m3et_ros.ros import interfaces, parameters, process
from m3et_ros.ros.camera.inputs import CameraInputs, PairedMessages
from m3et_ros.ros.convert import age_s
from m3et_ros.ros.diagnostics import Diagnostics
from m3et_ros.ros.health import Health
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.ros.outputs import Anticipations, Perception
from m3et_ros.ros.services import INACTIVE, Questions, Remembering, outcome
from m3et_ros.runtime.adaptive import Adaptive
from m3et_ros.runtime.answerer import open_answerer
from m3et_ros.runtime.backends.prepared import PLAN
from m3et_ros.runtime.engine import Engine, View
from m3et_ros.runtime.selftest import self_test
from m3et_ros.runtime.session import Session
from m3et_ros.runtime.shared_model import Models

OK, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ModelNode(LifecycleNode):
    """Owns the session (configured), the inference thread and the inputs (active)."""

    # A node whose parameters are refused is destroyed before it has any of these.
    session: Session | None = None
    worker: InferenceThread | None = None
    inputs: CameraInputs | None = None

    def __init__(self, *, models: Models | None = None, beside: parameters.Table = (), **kwargs):
        """Declare parameters and what does not depend on the model.

        Args:
            models: opens models; None = of its own.
            beside: parameters of other nodes of the process, which are no mistake where they are given for all nodes.
            kwargs: of the node.
        """
        super().__init__('model', **kwargs)
        self._models = models or Models()
        self.settings = parameters.declare(self)
        self.add_post_set_parameters_callback(self._on_parameters)
        self.health = Health(self)
        self._perception = Perception(self)
        self._anticipations = Anticipations(self)
        self._questions = Questions(self)
        self._remembering = Remembering(self)
        self.inputs = CameraInputs(self, self._offer)
        self.diagnostics = Diagnostics(self, self.health.status)
        self.create_service(interfaces.LOAD_MODEL.kind, interfaces.LOAD_MODEL.name, self._on_load_model)
        self._start_timer = self.create_timer(0.0, self._start) if self.settings.autostart else None
        for sentence in parameters.unknown_overrides(self, others=beside):
            self.get_logger().warning(sentence)

    @property
    def state_label(self) -> str:
        """Lifecycle state in a word: unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model on the host and check it; FAILURE leaves the node unconfigured with the reason in the log."""
        if not self._tried('configuring', self._configure):
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Place the model on its device, start the inference thread, open the topics."""
        outcome = super().on_activate(state)
        if not self._tried('activating', self._activate):
            self._halt()
            super().on_deactivate(state)
            return FAILURE
        self.get_logger().info(
            f'Active with {self.session.engine.model_id} on {self.session.engine.device} '
            f'by {self.session.engine.serving.name}.'
        )
        return outcome

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the topics, drain the inference thread, free the device; the memory of the episode stays."""
        self._halt()
        if self.session is not None:
            # Its encoder outputs are on the device, and what it showed is over; the memory of the episode is not.
            self.session.newest = None
            self.session.engine.to('cpu')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget model and memory."""
        self.session = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever runs."""
        self._halt()
        self.session = None
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured, ready to be configured again."""
        self._halt()
        self.session = None
        return OK

    def destroy_node(self) -> None:
        """Stop the inference thread before the entities it publishes on disappear."""
        self._halt()
        super().destroy_node()

    def _tried(self, doing: str, step: Callable[[], None]) -> bool:
        """Whether a step of a transition succeeded; rclpy would swallow its exception without a word."""
        try:
            step()
        except InputError as error:
            self.health.refuse(error)
            return False
        except Exception as error:
            self.health.broke(doing, error)
            return False
        return True

    def _configure(self) -> None:
        self.session = self._load(self.settings.model)

    def _activate(self) -> None:
        self.session.engine.to(self.settings.device)
        self.health.runtime(self.session.engine.serving)
        self.worker = InferenceThread(self._see)
        self._perception.start(self.session.engine.labels, Header(stamp=self.get_clock().now().to_msg()))
        process.settle()
        self.inputs.start()

    def _halt(self) -> None:
        if self.inputs is not None:
            self.inputs.stop()
        if self.worker is not None:
            # In this order questions that are still queued learn that the node is no longer active.
            worker, self.worker = self.worker, None
            worker.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, name: str) -> Session:
        """Open a checkpoint and check it.

        Raises:
            InputError: it cannot be used.
        """
        settings = self.settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
            cv2.setNumThreads(settings.threads)
        checkpoint, shared = self._models.open(name, seed=settings.seed)
        engine = Engine(checkpoint, tokens=settings.tokens, adaptive=Adaptive(settings.tokens_threshold), shared=shared)
        plan = PLAN if settings.depth_transport != 'none' else PLAN[-1:]
        engine.prepare(
            settings.runtime,
            precision=settings.precision,
            device=settings.device,
            plan=plan,
            tell=self.get_logger().info,
        )
        self.health.runtime(engine.serving)
        self.health.kernels = self_test(engine)
        session = Session(engine, memory_frames=settings.memory_frames)
        session.answerer = open_answerer(settings.answerer, settings.answerer_checkpoint, engine)
        return session

    # Frames, on the inference thread

    def _offer(self, sample: PairedMessages) -> None:
        if self.worker is not None and self.worker.offer(sample):
            self.health.counters.count('frame_superseded')

    def _see(self, sample: PairedMessages) -> None:
        try:
            frame, problem = sample.decode()
            if problem is not None:
                self.health.refuse(problem)
            self._publish(self.session.observe(frame), sample)
        except InputError as error:
            self.health.refuse(error)
        except Exception as error:
            self.health.broke('a frame', error)

    def _publish(self, view: View, sample: PairedMessages) -> None:
        settings, session, header = self.settings, self.session, sample.header
        fill = settings.depth_fill == 'always' or (settings.depth_fill == 'auto' and session.engine.trained)
        self._perception.publish(view, session.engine, header, sample.info, fill=fill, alpha=settings.overlay_alpha)
        self._questions.publish_standing(view)
        actions = session.anticipate(view, horizon_s=settings.horizon_s, top_k=settings.top_k)
        if actions is not None:
            if actions.broken:
                self.health.counters.count(actions.broken)
            self._anticipations.publish(actions, header, session.engine.model_id)
        self.health.frame_done(age_s(header, self.get_clock().now()), view.latency_s, view.share)

    # Services and parameters

    async def _on_load_model(self, request, response):
        """Swap the model; the old one serves until the new one has passed its self-test."""
        job = self.worker.submit(lambda: self._swap(request.model)) if self.worker is not None else None
        if job is None:
            response.message = INACTIVE
            return response
        try:
            response.model_id = await outcome(self, job)
            response.success = True
        except InputError as error:
            self.health.refuse(error)
            response.message = str(error)
        except Exception as error:
            response.message = self.health.broke('loading a model', error)
        return response

    def _swap(self, name: str) -> str:
        session = self._load(name)
        session.engine.to(self.settings.device)
        self.session = session
        process.settle()
        self._perception.start(session.engine.labels, Header(stamp=self.get_clock().now().to_msg()))
        return session.engine.model_id

    def _on_parameters(self, changed) -> None:
        self.settings = parameters.snapshot(self)
        if any(parameter.name == 'instruction' for parameter in changed):
            self.inputs.instructions.add(0, self.settings.instruction)

    def _start(self) -> None:
        """Come up without a lifecycle manager."""
        self.destroy_timer(self._start_timer)
        if self.trigger_configure() == OK:
            self.trigger_activate()


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; 1 when its parameters are refused."""
    return process.run(ModelNode, args)


if __name__ == '__main__':
    raise SystemExit(main())
