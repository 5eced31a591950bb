"""Questions from outside: the ask service, the streaming action, and what is said on ~/answer."""

from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import Future as Job
from functools import partial
from pathlib import Path

from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.messages import depth_from_msg, empty, rgb_from_msg
from m3et_ros.msg import Answer
from m3et_ros.ros import interfaces
from m3et_ros.ros.convert import answer_msg, stamp_msg, stamp_ns
from m3et_ros.ros.inference_thread import MAX_QUESTIONS
from m3et_ros.ros.outputs import publisher
from m3et_ros.runtime.engine import View
from m3et_ros.runtime.results import Reply
from m3et_ros.runtime.session import checked_question, checked_scope

INACTIVE = 'The model node is not active; activate it first (ros2 lifecycle set <node> activate).'
BUSY = 'Too many questions are waiting; ask again later.'
STOPPED = 'The node was deactivated while the question waited; ask again when it is active.'


async def outcome(node: LifecycleNode, job: Job):
    """Result of a job on another thread, awaited without blocking the executor."""
    done = Future()

    def finish(_):
        done.set_result(None)
        # A future set from another thread does not wake an executor that sleeps.
        if node.executor is not None:
            node.executor.wake()

    job.add_done_callback(finish)
    await done
    return job.result()


def attached_frame(image: Image, depth: Image) -> Frame | None:
    """The image sent along with a question; None when there is none.

    Raises:
        InputError: the image cannot be read, or depth came without an image or with another size.
    """
    if empty(image):
        if not empty(depth):
            raise InputError('image_missing', 'A depth image was sent without a colour image; send both or neither.')
        return None
    rgb = rgb_from_msg(image)
    metres = None if empty(depth) else depth_from_msg(depth)
    if metres is not None and metres.shape != rgb.shape[:2]:
        raise InputError(
            'depth_size',
            f'The depth is {metres.shape[1]}x{metres.shape[0]} and the image '
            f'{rgb.shape[1]}x{rgb.shape[0]}; send depth aligned to the colour image.',
        )
    return Frame(rgb, metres, stamp_ns(image.header.stamp), frame_id=image.header.frame_id)


class Questions:
    """Answers questions through the node's session, on its inference thread."""

    def __init__(self, node: LifecycleNode):
        self._node = node
        # A question that waits for the inference thread must not keep the next one from being taken.
        group = ReentrantCallbackGroup()
        self._publisher = publisher(node, interfaces.ANSWER)
        # As many goals at once as there are places in the queue must reach it, and learn that there are no more.
        many = QoSProfile(depth=2 * MAX_QUESTIONS)
        self._service = node.create_service(
            interfaces.ASK.kind, interfaces.ASK.name, self._on_ask, callback_group=group, qos_profile=many
        )
        self._action = ActionServer(
            node,
            AskStreaming,
            interfaces.ASK_STREAMING.name,
            execute_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=group,
            goal_service_qos_profile=many,
            result_service_qos_profile=many,
            cancel_service_qos_profile=many,
        )

    def publish_standing(self, view: View) -> None:
        """Answer the standing instruction for this frame; its words are already in the encoder's outputs."""
        if view.frame.instruction:
            self._publish(
                self._node.session.ask(view.frame.instruction, [view], scope='frame', top_k=self._node.settings.top_k),
                view,
            )

    async def _on_ask(self, request, response):
        response.success, response.message, answer = await self._run(lambda: self._answer(request))
        if answer is not None:
            response.answer = answer
        return response

    async def _on_goal(self, goal):
        result = AskStreaming.Result()
        result.success, result.message, answer = await self._run(lambda: self._stream(goal))
        if answer is not None:
            result.answer = answer
        if goal.is_cancel_requested:
            result.success, result.message = False, 'The question was cancelled.'
            goal.canceled()
        elif result.success:
            goal.succeed()
        else:
            goal.abort()
        return result

    async def _run(self, job) -> tuple[bool, str, Answer | None]:
        """Run a job on the inference thread: success, a sentence when there is none, and the answer."""
        worker = self._node.worker
        if worker is None:
            return False, INACTIVE, None
        queued = worker.submit(job)
        if queued is None:
            self._node.health.refuse(InputError('questions_waiting', BUSY))
            return False, BUSY, None
        try:
            return True, '', await outcome(self._node, queued)
        except InputError as error:
            self._node.health.refuse(error)
            return False, str(error), None
        except CancelledError:
            return False, STOPPED, None
        except Exception as error:
            return False, self._node.health.broke('answering a question', error), None

    def _answer(self, request) -> Answer:
        """Answer a service request; on the inference thread."""
        settings, session = self._node.settings, self._node.session
        question = checked_question(request.question, settings.max_question_chars)
        scope = checked_scope(request.scope)
        views = session.views(scope, attached_frame(request.image, request.depth))
        if empty(request.image):
            self._check_age(views[-1], request.max_age_s)
        reply = session.ask(
            question,
            views,
            scope=scope,
            top_k=request.top_k or settings.top_k,
            mode='generate' if session.tells(scope) else settings.answer_mode,
            max_tokens=self._most_tokens(scope),
        )
        return self._publish(reply, views[-1], written=True)

    def _stream(self, goal) -> Answer | None:
        """Answer a goal piece by piece; on the inference thread."""
        settings, session, request = self._node.settings, self._node.session, goal.request
        question = checked_question(request.question, settings.max_question_chars)
        scope = checked_scope(request.scope)
        views = session.views(scope)
        self._check_age(views[-1], request.max_age_s)
        text, reply = '', None
        for reply in session.write(question, views, scope=scope, max_tokens=self._most_tokens(scope)):
            if goal.is_cancel_requested:
                return None
            if reply.text != text:
                goal.publish_feedback(AskStreaming.Feedback(token=reply.text[len(text) :], text=reply.text))
                text = reply.text
        return self._publish(reply, views[-1], written=True)

    def _most_tokens(self, scope: str) -> int:
        settings = self._node.settings
        return settings.max_sentence_tokens if self._node.session.tells(scope) else settings.max_answer_tokens

    def _check_age(self, view: View, limit: float) -> None:
        age = (self._node.get_clock().now().nanoseconds - view.frame.stamp_ns) / 1e9
        if limit > 0 and age > limit:
            raise InputError(
                'too_old',
                f'The newest image is {age:.2f} s old and at most {limit:.2f} s were allowed; '
                'check the camera or raise max_age_s.',
            )

    def _publish(self, reply: Reply, view: View, *, written: bool = False) -> Answer:
        header = Header(stamp=stamp_msg(view.frame.stamp_ns), frame_id=view.frame.frame_id)
        message = answer_msg(
            reply, header, self._node.session.answered_by(reply.scope, written=written), self._node.get_clock().now()
        )
        self._publisher.publish(message)
        return message


# MERGED m3et_ros/ros/remembering: Services about the memory of the episode: begin anew, save what is remembered, go on from what was saved.
class Remembering:
    """Serves reset_memory, save_memory and restore_memory on the inference thread of a node."""

    def __init__(self, node: LifecycleNode):
        self._node = node
        for service, step in (
            (interfaces.RESET_MEMORY, self._reset),
            (interfaces.SAVE_MEMORY, self._save),
            (interfaces.RESTORE_MEMORY, self._restore),
        ):
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
        except Exception as error:
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
            raise InputError(
                'memory_file',
                'The parameter memory_file is empty; set it to a file such as /var/tmp/kitchen.safetensors.',
            )
        return Path(name).expanduser()
