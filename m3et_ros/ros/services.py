"""Questions from outside: ~/ask, ~/ask_streaming and ~/answer."""

from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError
from concurrent.futures import Future as QueuedFuture
from functools import partial
from typing import TypeVar

from rclpy.action import CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.data.depth_checks import check_frame_id
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, check_aligned
from m3et_ros.data.images.messages import depth_from_msg, empty, rgb_from_msg
from m3et_ros.data.questions.reader import REASONS
from m3et_ros.msg import Answer
from m3et_ros.ros import interfaces
from m3et_ros.ros.camera.stream_watch import AHEAD_S, expected_size
from m3et_ros.ros.clients import REQUEST_NUMBER, Clients, NumberingActionServer
from m3et_ros.ros.convert import age_s, answer_msg, intrinsics_of, stamp_msg, stamp_ns
from m3et_ros.ros.host import Host
from m3et_ros.ros.inference_thread import MAX_QUESTIONS, GaveWay, Steps, in_one_step
from m3et_ros.ros.outputs import publisher
from m3et_ros.runtime.answerer import ROUTER
from m3et_ros.runtime.places import Locator
from m3et_ros.runtime.results import Reply
from m3et_ros.runtime.session import Session, checked_question, checked_scope
from m3et_ros.runtime.view import View
from m3et_ros.runtime.vlm.model import ignore_text, never
from m3et_ros.srv import AskQuestion

INACTIVE = 'The model node is not active; activate it first (ros2 lifecycle set <node> activate).'
BUSY = 'Too many questions are waiting; ask again later.'
STOPPED = 'The node was deactivated before the question was answered; ask again when it is active.'

ACTIVITY = 'answering a question'

ResultT = TypeVar('ResultT')
Request = AskQuestion.Request | AskStreaming.Goal


async def run_on_inference_thread(
    host: Host, steps: Steps[ResultT], activity: str, client: Hashable = ''
) -> tuple[ResultT | None, str]:
    """Run the steps of a question on the inference thread, without blocking the executor.

    The service that awaits it needs a ReentrantCallbackGroup: in the default group of the node every timer and every
    other service would have to wait too.

    Args:
        host: node whose thread it is.
        steps: runs on the thread, with frames between two of its steps.
        activity: completes the sentence 'An internal error stopped ...'.
        client: the clients of the thread take turns.

    Returns:
        The result and ''; or None and one sentence that says why there is no result. Errors are counted.
    """
    # Read once: another thread may deactivate the node meanwhile.
    inference = host.inference_thread
    if inference is None:
        return None, INACTIVE
    queued = inference.submit_steps(steps, client=client)
    if queued is None:
        host.health.refuse(InputError('questions_waiting', BUSY))
        return None, BUSY
    return await result_of(host, queued, activity)


async def result_of(host: Host, queued: QueuedFuture[ResultT], activity: str) -> tuple[ResultT | None, str]:
    """Await a job on another thread, without blocking the executor.

    Args:
        host: node whose executor awaits it.
        queued: the job.
        activity: completes the sentence 'An internal error stopped ...'.

    Returns:
        As run_on_inference_thread.
    """
    done = Future()

    def wake_executor(_: object) -> None:
        done.set_result(None)
        # A future that another thread completes does not wake a sleeping executor.
        if host.executor is not None:
            host.executor.wake()

    queued.add_done_callback(wake_executor)
    await done
    try:
        return queued.result(), ''
    except InputError as error:
        host.health.refuse(error)
        return None, str(error)
    except CancelledError:
        return None, STOPPED
    except GaveWay:
        host.health.refuse(InputError('questions_waiting', BUSY))
        return None, BUSY
    except Exception as error:
        return None, host.health.internal_error(activity, error)


def check_memory(host: Host) -> None:
    """Refuse what needs the memory of the episode where there is none.

    Raises:
        InputError: memory_off.
    """
    if not host.settings.memory:
        raise InputError(
            'memory_off',
            'The parameter memory is off, so nothing of the episode is remembered; ask about the frame, or start the '
            'node with memory:=true.',
        )


def attached_frame(image: Image, depth: Image, unit_m: float = 0.0, info: CameraInfo | None = None) -> Frame | None:
    """Return the image that came with a question as a frame; None if there is none.

    Args:
        image: colour; empty for none.
        depth: depth aligned to it; empty for none.
        unit_m: metres of one unit of the depth; 0 = by its encoding.
        info: intrinsics of the colour image; None or unset for none.

    Raises:
        InputError: the image cannot be decoded, depth came without an image, or depth or intrinsics are for images of
            another size.
    """
    if empty(image):
        if not empty(depth):
            raise InputError('image_missing', 'A depth image was sent without a colour image; send both or neither.')
        return None
    rgb = rgb_from_msg(image)
    metres = None if empty(depth) else depth_from_msg(depth, unit_m)
    if metres is not None:
        check_aligned(rgb.shape, metres.shape, 'send depth aligned to the colour image')
        check_frame_id(image.header.frame_id, depth.header.frame_id)
    size = None if info is None else expected_size(info)
    if size not in (None, rgb.shape[:2]):
        raise InputError(
            'camera_info_size',
            f'The camera info is for images of {size[1]}x{size[0]}, and the image is {rgb.shape[1]}x{rgb.shape[0]}; '
            'send that of the image, or none.',
        )
    K = intrinsics_of(info)
    return Frame(rgb, metres, stamp_ns(image.header.stamp), frame_id=image.header.frame_id, K=K)


class Questions:
    """Answers questions with the node's session, on its inference thread."""

    def __init__(self, host: Host, show: Callable[[Answer], None]):
        """Offer the service and the action.

        Args:
            host: node with the session.
            show: gets every answer, to show it in pictures and in space; from several threads.
        """
        self._host, self._show = host, show
        self._unanswered = ''
        # The present answer of the vision-language model to the standing instruction.
        self._instructed: QueuedFuture | None = None
        group = ReentrantCallbackGroup()
        self._publisher = publisher(host, interfaces.ANSWER, host.health.counters)
        # Twice the queue: the goals that do not fit into it must arrive too, to be refused with a reason.
        many = QoSProfile(depth=2 * MAX_QUESTIONS)
        self._service = host.create_service(
            interfaces.ASK.kind, interfaces.ASK.name, self._on_ask, callback_group=group, qos_profile=many
        )
        self._ask_clients, self._goal_clients = Clients(), Clients()
        self._action = NumberingActionServer(
            host,
            AskStreaming,
            interfaces.ASK_STREAMING.name,
            execute_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=group,
            goal_service_qos_profile=many,
            result_service_qos_profile=many,
            cancel_service_qos_profile=many,
        )

    def answer_instruction(self, view: View) -> None:
        """Answer the standing instruction for a frame, if there is one; the encoder has read its words already."""
        question = view.frame.instruction
        if not question:
            return
        if self._host.settings.instruction_answerer != 'm3et':
            self._instruct_vlm(question, view.frame)
            return
        # Every frame pays for it, so a thing is not looked at once more.
        reply = self._session(closely=False).ask(question, [view], scope='frame', top_k=self._host.settings.top_k)
        if reply.reason in REASONS and question != self._unanswered:
            # Once: the same words come with every frame.
            self._unanswered = question
            self._host.health.refuse(
                InputError(
                    f'instruction_{reply.reason}',
                    f'The standing instruction {question[:80]!r} gets no answer: {reply.explanation}',
                )
            )
        self._publish(reply, view.frame, self._host.session.answered_by(reply.scope, written=False))

    def _session(self, *, closely: bool = True) -> Session:
        """Return the session with the parameters of answers as they are set now.

        Args:
            closely: look at small things once more to find their places.
        """
        session, least = self._host.session, self._host.settings.min_confidence
        session.min_confidence = session.engine.labels.calibration.min_confidence if least < 0 else least
        session.domain_every = self._host.settings.domain_check
        session.locator = Locator(session.engine, self._host.settings.depth_fill, closely)
        session.camera = f'the camera topic {self._host.resolve_topic_name(interfaces.RGB.name)}'
        return session

    async def _on_ask(self, request: AskQuestion.Request, response: AskQuestion.Response) -> AskQuestion.Response:
        client = 'ask', self._ask_clients.of(REQUEST_NUMBER.get())
        answer, response.message = await self._run(self._answer(request), request, client)
        response.success = answer is not None
        if answer is not None:
            response.answer = answer
        return response

    async def _on_goal(self, goal: ServerGoalHandle) -> AskStreaming.Result:
        result = AskStreaming.Result()
        client = 'ask_streaming', self._goal_clients.of(self._action.take_number(goal))
        answer, result.message = await self._run(self._stream(goal), goal.request, client, goal)
        result.success = answer is not None
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

    async def _run(
        self, steps: Steps[Answer | None], request: Request, client: Hashable, goal: ServerGoalHandle | None = None
    ) -> tuple[Answer | None, str]:
        """Have a question answered by M3ET, by the vision-language model, or by the first of them that is sure.

        Args:
            steps: the answer of M3ET or of an answerer beside it.
            request: the question.
            client: clients take turns.
            goal: receives the answer while it is written; None for a service request.
        """
        host, vlm = self._host, self._host.vlm
        if vlm is None:
            return await run_on_inference_thread(host, steps, ACTIVITY, client)
        if host.settings.answerer == ROUTER:
            sure = in_one_step(partial(self._answer_if_sure, request, goal))
            answer, problem = await run_on_inference_thread(host, sure, ACTIVITY, client)
            if answer is not None:
                vlm.note('left_to_m3et')
            if answer is not None or problem:
                return answer, problem
            vlm.note('handed_on')
        if host.inference_thread is None:
            return None, INACTIVE
        if not host.settings.memory:
            _, problem = await run_on_inference_thread(host, in_one_step(host.observe_newest), ACTIVITY, client)
            if problem:
                return None, problem
        queued = vlm.submit(in_one_step(partial(self._answer_by_vlm, request, goal)), client)
        if queued is None:
            host.health.refuse(InputError('questions_waiting', BUSY))
            return None, BUSY
        answer, problem = await result_of(host, queued, ACTIVITY)
        if problem == STOPPED:
            vlm.note('stopped')
        return answer, problem

    def _answer_if_sure(self, request: Request, goal: ServerGoalHandle | None) -> Answer | None:
        """Return the answer of M3ET if it was taught the question and is sure; on the inference thread."""
        settings, session = self._host.settings, self._session()
        question = checked_question(request.question, settings.max_question_chars)
        scope = self._scope(request)
        sent = self._sent_frame(request)
        views = self._views(scope, sent)
        if sent is None:
            self._check_age(views[-1].frame, request.max_age_s)
        reply = session.ask(question, views, scope=scope, top_k=request.top_k or settings.top_k)
        if not reply.answerable or reply.confidence < settings.router_confidence:
            return None
        if goal is not None:
            goal.publish_feedback(AskStreaming.Feedback(token=reply.text, text=reply.text))
        return self._publish(reply, views[-1].frame, session.engine.model_id)

    def _answer_by_vlm(self, request: Request, goal: ServerGoalHandle | None) -> Answer | None:
        """Answer with the vision-language model, on its thread. Return None once the goal is cancelled."""
        settings, vlm, camera = self._host.settings, self._host.vlm, self._session().camera
        question = checked_question(request.question, settings.max_question_chars)
        scope = self._scope(request)
        sent = self._sent_frame(request)
        frames = vlm.frames(scope, camera) if sent is None else [sent]
        if sent is None:
            self._check_age(frames[-1], request.max_age_s)
        written = ''

        def cancelled() -> bool:
            return goal is not None and goal.is_cancel_requested

        def stream(text: str) -> None:
            nonlocal written
            if goal is not None:
                goal.publish_feedback(AskStreaming.Feedback(token=text[len(written) :], text=text))
            written = text

        try:
            if cancelled():
                raise CancelledError
            reply = vlm.answer(
                question,
                frames,
                scope=scope,
                max_tokens=settings.max_sentence_tokens,
                on_text=stream,
                cancelled=cancelled,
            )
        except CancelledError:
            if not cancelled():
                raise
            vlm.note('cancelled')
            return None
        return self._publish(reply, frames[-1], vlm.model_id)

    def _instruct_vlm(self, question: str, frame: Frame) -> None:
        """Let the vision-language model answer the standing instruction for a frame, unless it is at an older one."""
        if self._instructed is not None and not self._instructed.done():
            return
        host, vlm = self._host, self._host.vlm

        def answer() -> None:
            reply = vlm.answer(
                question,
                [frame],
                scope='frame',
                max_tokens=host.settings.max_sentence_tokens,
                on_text=ignore_text,
                cancelled=never,
            )
            self._publish(reply, frame, vlm.model_id)

        def report(done: QueuedFuture) -> None:
            error = None if done.cancelled() else done.exception()
            if isinstance(error, InputError):
                host.health.refuse(error)
            elif isinstance(error, Exception) and not isinstance(error, CancelledError):
                host.health.internal_error('answering the standing instruction', error)

        self._instructed = vlm.submit(in_one_step(answer), 'instruction')
        if self._instructed is not None:
            self._instructed.add_done_callback(report)

    def _scope(self, request: Request) -> str:
        """Return 'frame' or 'episode'.

        Raises:
            InputError: scope_unknown, memory_off.
        """
        scope = checked_scope(request.scope)
        if scope == 'episode':
            check_memory(self._host)
        return scope

    def _views(self, scope: str, frame: Frame | None = None) -> list[View]:
        """Return the views that a question rests on, as Session.views, with the newest frame also of an idle node."""
        if frame is None:
            self._host.observe_newest()
        return self._host.session.views(scope, frame)

    def _sent_frame(self, request: Request) -> Frame | None:
        """Return the image that came with a request; a goal has none."""
        if isinstance(request, AskStreaming.Goal):
            return None
        return attached_frame(request.image, request.depth, self._host.settings.depth_unit_m, request.camera_info)

    def _answer(self, request: AskQuestion.Request) -> Steps[Answer]:
        """Answer a service request; on the inference thread, with a step for each token of a written answer."""
        settings, session = self._host.settings, self._session()
        question = checked_question(request.question, settings.max_question_chars)
        scope = self._scope(request)
        views = self._views(scope, self._sent_frame(request))
        if empty(request.image):
            self._check_age(views[-1].frame, request.max_age_s)
        # Another model may take over between two steps.
        model_id = session.answered_by(scope)
        if settings.answer_mode == 'generate' or session.answerer_for(scope) is not None:
            reply = yield from session.write_steps(question, views, scope=scope, max_tokens=self._max_tokens(scope))
        else:
            reply = session.ask(question, views, scope=scope, top_k=request.top_k or settings.top_k)
        return self._publish(reply, views[-1].frame, model_id)

    def _stream(self, goal: ServerGoalHandle) -> Steps[Answer | None]:
        """Answer a goal, a step for each token; on the inference thread. Return None once the goal is cancelled."""
        settings, session, request = self._host.settings, self._session(), goal.request
        question = checked_question(request.question, settings.max_question_chars)
        scope = self._scope(request)
        views = self._views(scope)
        self._check_age(views[-1].frame, request.max_age_s)
        model_id, text, whole = session.answered_by(scope), '', None
        pieces = session.write_steps(question, views, scope=scope, max_tokens=self._max_tokens(scope))
        while whole is None:
            try:
                reply = next(pieces)
            except StopIteration as end:
                reply = whole = end.value
            if goal.is_cancel_requested:
                return None
            if reply.text != text:
                goal.publish_feedback(AskStreaming.Feedback(token=reply.text[len(text) :], text=reply.text))
                text = reply.text
            if whole is None:
                yield
        return self._publish(whole, views[-1].frame, model_id)

    def _max_tokens(self, scope: str) -> int:
        settings = self._host.settings
        m3et_answers = self._host.session.answerer_for(scope) is None
        return settings.max_answer_tokens if m3et_answers else settings.max_sentence_tokens

    def _check_age(self, frame: Frame, max_age_s: float) -> None:
        age = age_s(_header(frame), self._host.get_clock().now())
        if max_age_s > 0 and not age >= -AHEAD_S:
            raise InputError(
                'age_unknown',
                f'The newest image is {age:.2f} s old by the clock of this node, so its age is unknown; set the clocks '
                'right (docs/diagnostics.md) or leave max_age_s out.',
            )
        if max_age_s > 0 and age > max_age_s:
            raise InputError(
                'too_old',
                f'The newest image is {age:.2f} s old and at most {max_age_s:.2f} s were allowed; '
                'check the camera or raise max_age_s.',
            )

    def _publish(self, reply: Reply, frame: Frame, model_id: str) -> Answer:
        """Publish a reply on ~/answer.

        Args:
            reply: reply of the session.
            frame: newest frame that it is about.
            model_id: model that answered.
        """
        message = answer_msg(reply, _header(frame), model_id, self._host.get_clock().now())
        self._publisher.publish(message)
        self._show(message)
        return message


def _header(frame: Frame) -> Header:
    return Header(stamp=stamp_msg(frame.stamp_ns), frame_id=frame.frame_id)
