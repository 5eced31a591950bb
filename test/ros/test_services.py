"""Questions as a client meets them: every field of a reply, every limit, every reason for a refusal."""

import threading
from functools import partial

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image
from service_bench import RGB, SERVICES, Bench
from std_msgs.msg import Header
from talkers import talker_folder

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.msg import Answer
from m3et_ros.ros import services
from m3et_ros.ros.convert import answer_msg, stamp_msg, to_image_msg
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.runtime.session import Session


def as_received(message):
    """The message with its float32 fields rounded, as it arrives."""
    return deserialize_message(serialize_message(message), type(message))


class Other:
    """An engine under another name."""

    model_id = 'other'

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)


@pytest.fixture
def bench(ros):
    return partial(Bench, ros)


@pytest.fixture
def calls(monkeypatch):
    """The keyword arguments of every Session.ask and Session.write_steps, which do their work as ever."""
    recorded = []

    def record(name):
        inner = getattr(Session, name)

        def wrapped(self, question, views, **options):
            recorded.append((name, question, options))
            return inner(self, question, views, **options)

        monkeypatch.setattr(Session, name, wrapped)

    record('ask')
    record('write_steps')
    return recorded


def test_every_field_of_an_answer_about_a_frame_reaches_the_client_and_the_topic(bench):
    bench = bench().activate()
    stamp = bench.now_ns() - 10**9
    session = bench.observe(stamp - 5, stamp).node.session
    response = bench.call('ask', question=' what is on the table? ', top_k=4)
    assert (response.success, response.message) == (True, '')
    answer = response.answer
    reply = session.ask('what is on the table?', [session.newest], scope='frame', top_k=4)
    header = Header(stamp=stamp_msg(stamp), frame_id='lens')
    expected = as_received(answer_msg(reply, header, 'tiny-random-0', bench.node.get_clock().now()))
    assert answer.latency_s > 0 and 1 <= answer.age_s <= expected.age_s
    expected.latency_s, expected.age_s = answer.latency_s, answer.age_s
    assert answer == expected
    assert (answer.scope, answer.frames_used, answer.span_start) == ('frame', 1, stamp_msg(stamp))
    assert bench.ros.until(lambda: bench.answers)[0] == answer


def test_an_answer_about_the_episode_names_its_frames_and_their_span(bench):
    bench = bench(memory_frames=3).activate()
    stamp = bench.now_ns()
    bench.observe(*range(stamp, stamp + 6))
    answer = bench.call('ask', question='what was there?', scope='episode').answer
    assert (answer.scope, answer.frames_used) == ('episode', 3)
    assert (answer.span_start, answer.header.stamp) == (stamp_msg(stamp), stamp_msg(stamp + 5))
    assert answer.model_id == 'tiny-random-0'


def test_the_number_of_alternatives_is_that_of_the_request_or_of_the_parameter(bench):
    bench = bench().activate().observe(1)
    assert len(bench.call('ask', question='what?', top_k=2).answer.alternatives) == 2
    assert len(bench.call('ask', question='what?').answer.alternatives) == 3
    bench.node.set_parameters([Parameter('top_k', value=6)])
    assert len(bench.call('ask', question='what?').answer.alternatives) == 6


@pytest.mark.parametrize('mode', ['classify', 'generate'])
def test_the_answer_mode_and_the_longest_answer_arrive(bench, calls, mode):
    bench = bench(answer_mode=mode, max_answer_tokens=2, max_sentence_tokens=5).activate().observe(1)
    assert bench.call('ask', question='what?').success
    written = ('write_steps', 'what?', {'scope': 'frame', 'max_tokens': 2})
    assert calls == [written if mode == 'generate' else ('ask', 'what?', {'scope': 'frame', 'top_k': 3})]
    calls.clear()
    assert bench.stream(question='what?').result.success
    assert calls == [written]


def test_an_answerer_writes_sentences_about_frames_and_m3et_answers_the_rest(bench, calls, tmp_path):
    folder = talker_folder(tmp_path / 'talker', 'ml_mamba')
    settings = {'answerer': 'ml_mamba', 'answerer_checkpoint': str(folder), 'instruction': 'what is this?'}
    bench = bench(max_answer_tokens=2, max_sentence_tokens=5, **settings).activate().observe(1)
    assert bench.call('ask', question='what?').answer.model_id == 'ml_mamba-random-0'
    assert calls == [('write_steps', 'what?', {'scope': 'frame', 'max_tokens': 5})]
    calls.clear()
    assert bench.call('ask', question='what?', scope='episode').answer.model_id == 'tiny-random-0'
    assert calls == [('ask', 'what?', {'scope': 'episode', 'top_k': 3})]
    calls.clear()
    assert bench.stream(question='what?').result.answer.model_id == 'ml_mamba-random-0'
    assert calls == [('write_steps', 'what?', {'scope': 'frame', 'max_tokens': 5})]
    bench.answers.clear()
    view = bench.node.session.engine.encode(Frame(RGB, stamp_ns=9, instruction='what is this?', frame_id='lens'))
    bench.node._questions.answer_instruction(view)
    answer = bench.ros.until(lambda: bench.answers)[0]
    assert (answer.question, answer.model_id, answer.scope) == ('what is this?', 'tiny-random-0', 'frame')
    assert (answer.header, len(answer.alternatives)) == (Header(stamp=stamp_msg(9), frame_id='lens'), 3)


def test_an_instruction_without_an_answer_is_published_and_reported_once(bench):
    bench, errors = bench(model='kitchen', domain_check=0).activate(), []
    for stamp in (9, 10, 11):
        words = 'is the tap on?' if stamp == 11 else 'Where is the dragon?'
        view = bench.node.session.engine.encode(Frame(RGB, stamp_ns=stamp, instruction=words))
        bench.node._questions.answer_instruction(view)
        errors.append(bench.node.health.last_error)
    bench.ros.until(lambda: len(bench.answers) == 3)
    first, second, third = bench.answers
    assert (first.text, first.reason, first.answerable) == ('I cannot tell', 'unknown_word', False)
    assert first.explanation == second.explanation and third.answerable and third.read_as == 'Is the tap on?'
    assert bench.refusals() == {'instruction_unknown_word': 1}
    assert errors[0].startswith("The standing instruction 'Where is the dragon?' gets no answer: ")


def test_the_least_confidence_is_a_parameter(bench):
    bench = bench(min_confidence=0.999).activate()
    bench.observe(bench.now_ns())
    answer = bench.call('ask', question='what?').answer
    assert (answer.reason, answer.text, len(answer.alternatives)) == ('unsure', 'I cannot tell', 3)
    bench.node.set_parameters([Parameter('min_confidence', value=-1.0)])
    assert bench.call('ask', question='what?').answer.answerable


def test_a_frame_without_an_instruction_is_not_answered(bench, calls):
    bench = bench().activate()
    bench.node._questions.answer_instruction(bench.node.session.engine.encode(Frame(RGB)))
    assert not calls


def test_an_image_may_be_old_unless_the_request_limits_its_age(bench):
    bench = bench().activate()
    bench.observe(bench.now_ns() - 60 * 10**9)
    assert bench.call('ask', question='what?').success
    assert bench.call('ask', question='what?', max_age_s=600.0).success
    for response in (
        bench.call('ask', question='what?', max_age_s=59.0),
        bench.stream(question='?', max_age_s=59.0).result,
    ):
        assert not response.success and response.answer == Answer()
        assert 'at most 59.00 s were allowed; check the camera or raise max_age_s' in response.message
        assert 60 <= float(response.message.split(' is ')[1].split()[0]) < 90
    assert bench.refusals() == {'too_old': 2}
    image = to_image_msg(RGB, 'rgb8', Header(stamp=stamp_msg(1)))
    assert bench.call('ask', question='what?', image=image, max_age_s=0.001).success, 'the age of a sent image is free'


@pytest.mark.parametrize('ahead_s,known', [(0.0, True), (60.0, False), (None, False)])
def test_an_age_that_the_clocks_do_not_tell_is_refused_where_it_matters(bench, ahead_s, known):
    bench = bench().activate()
    bench.observe(0 if ahead_s is None else bench.now_ns() + round(ahead_s * 1e9))
    response = bench.call('ask', question='what?', max_age_s=600.0)
    assert response.success is known
    assert known or 'its age is unknown' in response.message
    assert bench.refusals() == ({} if known else {'age_unknown': 1})
    assert bench.call('ask', question='what?').success


def test_depth_in_another_frame_or_unit_is_dealt_with_in_a_request_too(bench):
    bench = bench(depth_unit_m=0.0001).activate()
    image = to_image_msg(RGB, 'rgb8', Header(frame_id='colour'))
    depth = to_image_msg(np.full((48, 64), 15000, np.uint16), '16UC1', Header(frame_id='depth'))
    response = bench.call('ask', question='what?', image=image, depth=depth)
    assert not response.success and "'depth'" in response.message and bench.refusals() == {'depth_frame': 1}
    frame = services.attached_frame(image, to_image_msg(np.full((48, 64), 15000, np.uint16), '16UC1', Header()), 0.0001)
    np.testing.assert_allclose(frame.depth, 1.5, rtol=1e-6)


def test_an_image_sent_with_the_question_is_answered_and_not_remembered(bench):
    bench = bench().activate().observe(5)
    image = to_image_msg(255 - RGB, 'rgb8', Header(stamp=stamp_msg(77), frame_id='hand'))
    depth = to_image_msg(np.full((48, 64), 1.5, np.float32), '32FC1', Header())
    answer = bench.call('ask', question='what?', image=image, depth=depth).answer
    assert (answer.header, answer.frames_used) == (image.header, 1)
    assert bench.node.session.newest.frame.stamp_ns == 5
    assert bench.call('ask', question='what?', scope='episode').answer.frames_used == 1


def test_a_question_of_the_longest_length_is_answered_and_a_longer_one_refused(bench):
    bench = bench(max_question_chars=10).activate().observe(1)
    for ask in (lambda q: bench.call('ask', question=q), lambda q: bench.stream(question=q).result):
        assert ask(' ' + 'x' * 10).success
        assert 'has 11 characters and at most 10' in ask('x' * 11).message
    assert bench.refusals() == {'question_long': 2}


def test_attached_images_become_frames():
    header = Header(stamp=stamp_msg(77), frame_id='hand')
    rgb = to_image_msg(RGB, 'rgb8', header)
    metres = np.linspace(1, 2, 48 * 64, dtype=np.float32).reshape(48, 64)
    depth = to_image_msg(metres, '32FC1', Header(stamp=stamp_msg(99)))
    assert services.attached_frame(Image(), Image()) is None
    frame = services.attached_frame(rgb, Image())
    assert np.array_equal(frame.rgb, RGB) and frame.depth is None
    frame = services.attached_frame(rgb, depth)
    assert np.array_equal(frame.depth, metres)
    assert (frame.stamp_ns, frame.frame_id, frame.instruction) == (77, 'hand', '')
    info = CameraInfo(width=64, height=48, k=[50.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0])
    assert frame.K is None and services.attached_frame(rgb, depth, 0.0, CameraInfo()).K is None
    assert np.array_equal(services.attached_frame(rgb, depth, 0.0, info).K, np.reshape(info.k, (3, 3)))
    with pytest.raises(InputError, match='camera info is for images of 32x24, and the image is 64x48; send') as refused:
        services.attached_frame(rgb, depth, 0.0, CameraInfo(width=32, height=24, k=info.k))
    assert refused.value.reason == 'camera_info_size'
    with pytest.raises(InputError, match='without a colour image') as refused:
        services.attached_frame(Image(), depth)
    assert refused.value.reason == 'image_missing'
    with pytest.raises(InputError, match='depth is 64x47 but colour is 64x48.*; send depth aligned') as refused:
        services.attached_frame(rgb, to_image_msg(metres[1:], '32FC1', Header()))
    assert refused.value.reason == 'depth_size'


def test_every_field_of_a_streamed_answer_and_its_feedback(bench):
    bench = bench(answer_mode='generate').activate()
    stamp = bench.now_ns()
    bench.observe(stamp)
    written = bench.call('ask', question='where is the cup?').answer
    outcome = bench.stream(question='where is the cup?')
    result = outcome.result
    assert (outcome.status, result.success, result.message) == (GoalStatus.STATUS_SUCCEEDED, True, '')
    assert result.answer.latency_s > 0 and result.answer.age_s > 0
    result.answer.latency_s, result.answer.age_s = written.latency_s, written.age_s
    assert result.answer == written
    texts = [piece.text for piece in bench.feedback]
    assert [piece.token for piece in bench.feedback] == [b[len(a) :] for a, b in zip(['', *texts], texts)]
    assert all(text == written.text[: len(text)] for text in texts)


def test_a_cancelled_goal_ends_without_an_answer(bench, monkeypatch):
    bench, release, write = bench().activate().observe(1), threading.Event(), Session.write_steps

    def slowly(*args, **options):
        assert release.wait(60)
        return (yield from write(*args, **options))

    monkeypatch.setattr(Session, 'write_steps', slowly)
    goal = bench.goal(question='where is the cup?')
    bench.ros.until(goal.cancel_goal_async().result)
    release.set()
    outcome = bench.ros.until(goal.get_result_async().result)
    assert outcome.status == GoalStatus.STATUS_CANCELED
    assert outcome.result == AskStreaming.Result(message='The question was cancelled.')
    assert not bench.answers and bench.refusals() == {}


@pytest.mark.parametrize('streamed', [False, True])
def test_frames_and_another_model_come_between_two_tokens(bench, monkeypatch, streamed):
    """The answer is about the frame that was the newest when it began, by the model that began it."""
    bench, processed, begun, goes_on = (
        bench(answer_mode='generate').activate(),
        [],
        threading.Event(),
        threading.Event(),
    )
    bench.observe(bench.now_ns())
    alone = bench.call('ask', question='where is the cup?').answer
    old, write = bench.node.session, Session.write_steps

    def in_tokens(*args, **options):
        pieces = write(*args, **options)
        yield next(pieces)
        begun.set()
        # The thread is held here once, so that the frame is in the slot before the next token is due.
        assert goes_on.wait(60)
        return (yield from pieces)

    monkeypatch.setattr(Session, 'write_steps', in_tokens)
    monkeypatch.setattr(bench.node.inference_thread, '_on_frame', lambda _: processed.append(len(bench.answers)))
    bench.ros.until(lambda: len(bench.answers) == 1)
    waiting = bench.goal(question='where is the cup?').get_result_async() if streamed else None
    waiting = waiting or bench.send('ask', question='where is the cup?')
    bench.ros.until(begun.is_set)
    bench.node.inference_thread.offer('frame')
    swap = bench.node.inference_thread.submit_urgent(lambda: setattr(bench.node, 'session', Session(Other(old.engine))))
    goes_on.set()
    swap.result(60)
    outcome = bench.ros.until(waiting.result, 60)
    answer = outcome.result.answer if streamed else outcome.answer
    assert processed == [1]
    assert (answer.text, answer.header.stamp, answer.model_id) == (alone.text, alone.header.stamp, 'tiny-random-0')


def everything(bench, without=''):
    """The message of each service but one and of the action, none of which succeeds."""
    requests = {'ask': {'question': 'what?'}, 'load_model': {'model': 'tiny'}}
    responses = {name: bench.call(name, **requests.get(name, {})) for name in SERVICES if name != without}
    outcome = bench.stream(question='what?')
    assert outcome.status == GoalStatus.STATUS_ABORTED
    responses['ask_streaming'] = outcome.result
    assert not any(response.success for response in responses.values())
    assert responses['ask'].answer == responses['ask_streaming'].answer == Answer()
    return {name: response.message for name, response in responses.items()}


def test_an_inactive_node_refuses_everything_and_says_so(bench):
    bench = bench()
    assert set(everything(bench).values()) == {services.INACTIVE}
    assert bench.refusals() == {}


def test_a_full_queue_refuses_everything_as_busy_and_counts_it(bench):
    bench, gate = bench().activate().observe(1), threading.Event()
    bench.node.inference_thread.close()
    bench.node.inference_thread = InferenceThread(print, max_questions=1)
    bench.node.inference_thread.submit(lambda: gate.wait(60))
    answers = everything(bench, without='load_model')  # a model is loaded beside the questions
    assert set(answers.values()) == {services.BUSY}
    gate.set()
    assert bench.refusals() == {'questions_waiting': len(answers)}


def test_requests_that_wait_stop_no_timer_and_learn_that_the_node_was_deactivated(bench):
    bench, gate = bench().activate().observe(1), threading.Event()
    thread = bench.node.inference_thread
    thread.submit(lambda: gate.wait(60))
    requests = {'ask': {'question': 'what?'}}
    sent = {name: bench.send(name, **requests.get(name, {})) for name in SERVICES if name != 'load_model'}
    bench.ros.until(lambda: thread.waiting == 1 + len(sent))
    received = []
    bench.node.create_timer(0.01, lambda: received.append('tick'))
    bench.ros.until(lambda: received)  # what waits does not stop the timers of the node
    closer = threading.Thread(target=thread.close)
    closer.start()
    bench.ros.until(lambda: thread.submit(print) is None)
    gate.set()
    closer.join(20)
    for future in sent.values():
        response = bench.ros.until(future.result)
        assert not response.success and response.message == services.STOPPED
    assert bench.refusals() == {}


def test_an_internal_error_is_one_sentence_and_the_node_goes_on(bench, monkeypatch):
    bench = bench().activate().observe(1)

    def fail(*_, **__):
        raise ZeroDivisionError('by zero')

    with monkeypatch.context() as broken:
        broken.setattr(Session, 'views', fail)
        broken.setattr(Session, 'reset', fail)
        broken.setattr(ModelNode, '_load', fail)
        messages = {
            'answering a question': bench.call('ask', question='what?').message,
            'the memory of the episode': bench.call('reset_memory').message,
            'loading a model': bench.call('load_model', model='tiny').message,
        }
    for activity, message in messages.items():
        assert message == f'An internal error stopped {activity} (ZeroDivisionError: by zero); the node goes on.'
    assert bench.refusals() == {'internal_error': 3}
    assert bench.call('ask', question='what?').success
