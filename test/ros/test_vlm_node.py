"""A vision-language model on a running node: who answers, streaming, cancelling, a full queue, and other models."""

import numpy as np
import psutil
import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tiny_vlms import vlm_folder

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.msg import ActionAnticipation, Answer
from m3et_ros.ros import model_node
from m3et_ros.ros.camera.sync import Pair
from m3et_ros.ros.camera_inputs import PairedMessages
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.ros.services import BUSY, STOPPED
from m3et_ros.ros.vlm_thread import MAX_WAITING
from m3et_ros.runtime.vlm.model import open_vlm
from m3et_ros.srv import AskQuestion, LoadModel

RGB = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(3)]
S = 10**9
QUESTION = 'What is it?'
LONG_S = 60
MANY = QoSProfile(depth=200)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A model that never stops by itself."""
    return vlm_folder(tmp_path_factory.mktemp('vlm') / 'endless', endless=True)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch, request):
    """The model of a node is opened in this process, where it starts sooner, unless a test is about its own one."""
    if 'robot_here' not in request.fixturenames:
        monkeypatch.setattr(model_node, 'VlmProcess', lambda name, threads, **options: open_vlm(name, **options))


class Bench:
    """An active node in this process with its clients."""

    def __init__(self, ros, folder, answerer='vlm', **settings):
        self.ros, self.feedback = ros, []
        given = {'model': 'tiny', 'answerer': answerer, 'answerer_checkpoint': str(folder), 'max_sentence_tokens': 4}
        given = [Parameter(name, value=value) for name, value in (given | settings).items()]
        self.node = ros.add(ModelNode(context=ros.context, namespace='robot', parameter_overrides=given))
        client = ros.node('client')
        kinds = {'ask': AskQuestion, 'load_model': LoadModel, 'reset_memory': Trigger}
        self.clients = {
            name: client.create_client(kind, f'/robot/model/{name}', qos_profile=MANY) for name, kind in kinds.items()
        }
        self.streaming = ActionClient(client, AskStreaming, '/robot/model/ask_streaming')
        self.answers = []
        client.create_subscription(Answer, '/robot/model/answer', self.answers.append, 100)
        self.node.trigger_configure()
        self.node.trigger_activate()
        every = [one.service_is_ready for one in self.clients.values()]
        ros.until(lambda: all(ready() for ready in every) and self.streaming.server_is_ready(), LONG_S)

    def observe(self, *images):
        """Let the node process frames as its inference thread does."""
        for number, rgb in enumerate(images, 1):
            frame = Frame(rgb, None, number * S, frame_id='lens')

            def job(frame=frame):
                self.node.vlm.observe(frame)
                self.node.session.observe(frame)

            self.node.inference_thread.submit(job).result(LONG_S)
        return self

    def send(self, question=QUESTION, **fields):
        return self.clients['ask'].call_async(AskQuestion.Request(question=question, **fields))

    def ask(self, question=QUESTION, **fields):
        return self.ros.until(self.send(question, **fields).result, LONG_S)

    def goal(self, question=QUESTION, **fields):
        sent = self.streaming.send_goal_async(
            AskStreaming.Goal(question=question, **fields), feedback_callback=lambda m: self.feedback.append(m.feedback)
        )
        return self.ros.until(sent.result, LONG_S)

    def values(self):
        return self.node.vlm.values()


@pytest.fixture
def bench(ros, folder):
    return lambda *args, **settings: Bench(ros, folder, *args, **settings)


@pytest.mark.parametrize('answerer', ['vlm', 'router'])
def test_an_idle_node_gives_the_model_the_newest_image_when_asked(bench, answerer):
    bench = bench(answerer, memory=False, router_confidence=1.0)
    for number, rgb in enumerate(RGB[:2], 1):
        header = Header(stamp=stamp_msg(number * S), frame_id='lens')
        messages = PairedMessages(Pair(number * S, to_image_msg(rgb, 'rgb8', header)), None, '')
        bench.node.inference_thread.submit(lambda given=messages: bench.node._process_frame(given)).result(LONG_S)
    # The client of the bench listens to answers, which an image without an instruction has none of.
    assert bench.node.health.idle and bench.node.health.encoded == 0
    answer = bench.ask().answer
    assert (answer.header.stamp, answer.frames_used) == (stamp_msg(2 * S), 1)
    assert answer.model_id == bench.node.vlm.model_id and bench.node.health.encoded == 1
    refused = bench.ask(scope='episode')
    assert not refused.success and refused.message.startswith('The parameter memory is off')


def test_questions_go_to_the_model_and_its_answers_carry_its_id(bench, folder):
    bench = bench().observe(*RGB)
    vlm = open_vlm(str(folder), device='cpu')
    answer = bench.ask().answer
    wanted = vlm.answer(QUESTION, RGB[2:], max_tokens=4)
    assert (answer.text, answer.model_id, answer.read_as) == (wanted.text, vlm.model_id, QUESTION)
    assert answer.confidence == pytest.approx(wanted.confidence, rel=1e-3) and answer.answerable
    assert (answer.scope, answer.frames_used, answer.header.stamp) == ('frame', 1, stamp_msg(3 * S))
    assert answer.header.frame_id == 'lens' and bench.ros.until(lambda: bench.answers)[0] == answer
    whole = bench.ask(scope='episode').answer
    wanted = vlm.answer(QUESTION, RGB, max_tokens=4)
    assert (whole.text, whole.frames_used, whole.span_start) == (wanted.text, 3, stamp_msg(S))
    sent = bench.ask(image=to_image_msg(RGB[0], 'rgb8', whole.header)).answer
    assert sent.text == vlm.answer(QUESTION, RGB[:1], max_tokens=4).text and sent.frames_used == 1
    values = bench.values()
    assert (values['answers'], values['waiting'], values['device'], values['dtype']) == (3, 0, 'cpu', 'float32')
    assert values['model_id'] == vlm.model_id and values['latency_s']['p50'] > 0 and values['tokens_per_s'] > 0
    assert values['weights_mib'] == vlm.weight_bytes / 2**20
    assert bench.node._status().values['answerer'] == values and bench.node.health.causes == {}


def test_refusals_are_those_of_m3et(bench):
    bench = bench()
    assert 'No image has arrived yet; check the camera topic /robot/rgb' in bench.ask().message
    bench.observe(RGB[0])
    assert bench.ask(' ').message.startswith('The question is empty')
    assert 'is unknown; use "frame" or "episode"' in bench.ask(scope='week').message
    assert 'The newest image is' in bench.ask(max_age_s=0.5).message
    counts = bench.node.health.counters.snapshot()
    assert counts == {'no_frame': 1, 'question_empty': 1, 'scope_unknown': 1, 'too_old': 1}
    reset = bench.ros.until(bench.clients['reset_memory'].call_async(Trigger.Request()).result, LONG_S)
    assert reset.success and 'No image has arrived' in bench.ask().message


def test_an_answer_streams_and_a_cancelled_one_stops(bench):
    bench = bench(max_sentence_tokens=12).observe(RGB[0])
    outcome = bench.ros.until(bench.goal().get_result_async().result, LONG_S)
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED and bench.feedback
    assert ''.join(one.token for one in bench.feedback) == bench.feedback[-1].text
    assert outcome.result.answer.text.startswith(bench.feedback[-1].text)


def test_a_cancelled_question_stops_and_is_counted(bench):
    bench = bench(max_sentence_tokens=1024).observe(RGB[0])
    goal = bench.goal()
    bench.ros.until(lambda: bench.feedback, LONG_S)
    bench.ros.until(goal.cancel_goal_async().result, LONG_S)
    outcome = bench.ros.until(goal.get_result_async().result, LONG_S)
    assert (outcome.status, outcome.result.message) == (GoalStatus.STATUS_CANCELED, 'The question was cancelled.')
    assert (bench.values()['cancelled'], bench.values()['answers'], bench.answers) == (1, 0, [])


def test_a_full_queue_refuses_and_counts(bench):
    bench = bench(max_sentence_tokens=1024).observe(RGB[0])
    sent = [bench.send() for _ in range(MAX_WAITING + 3)]
    full = [one for one in sent if bench.ros.until(lambda: sum(s.done() for s in sent) >= 3, LONG_S) and one.done()]
    assert len(full) == 3 and all(one.result().message == BUSY for one in full)
    assert bench.node.health.counters['questions_waiting'] == 3 and bench.values()['waiting'] == MAX_WAITING
    bench.node.trigger_deactivate()
    bench.ros.until(lambda: all(one.done() for one in sent), LONG_S)
    assert {one.result().message for one in sent} == {BUSY, STOPPED}
    assert bench.values()['stopped'] == MAX_WAITING and bench.values()['answers'] == 0
    bench.node.trigger_activate()
    assert 'No image has arrived' in bench.ask().message  # the last one is of before the pause


def test_another_m3et_takes_over_while_the_model_goes_on_answering(bench):
    bench = bench(max_sentence_tokens=64).observe(RGB[0])
    goal = bench.goal()
    bench.ros.until(lambda: bench.feedback, LONG_S)
    load = bench.clients['load_model'].call_async(LoadModel.Request(model='tiny'))
    assert bench.ros.until(load.result, LONG_S).success
    outcome = bench.ros.until(goal.get_result_async().result, LONG_S)
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED
    assert outcome.result.answer.model_id == bench.node.vlm.model_id


def test_the_router_leaves_to_m3et_what_it_is_sure_of(bench):
    bench = bench('router', min_confidence=0.0, router_confidence=0.0).observe(RGB[0])
    first = bench.ask('what is on the table?').answer
    assert first.model_id == 'tiny-random-0' and first.text in bench.node.session.engine.labels.answers
    outcome = bench.ros.until(bench.goal('what is on the table?').get_result_async().result, LONG_S)
    assert (outcome.result.answer.model_id, bench.feedback[-1].text) == ('tiny-random-0', outcome.result.answer.text)
    bench.node.set_parameters([Parameter('router_confidence', value=1.0)])
    second = bench.ask('what is on the table?').answer
    assert second.model_id == bench.node.vlm.model_id
    values = bench.values()
    assert (values['left_to_m3et'], values['handed_on'], values['answers']) == (2, 1, 1)
    assert len(bench.ros.until(lambda: len(bench.answers) == 3 and bench.answers, LONG_S)) == 3
    bench.node.set_parameters([Parameter('router_confidence', value=0.0), Parameter('min_confidence', value=1.0)])
    assert bench.ask('what is on the table?').answer.model_id == bench.node.vlm.model_id  # m3et cannot tell


@pytest.mark.parametrize('who', ['m3et', 'vlm'])
def test_the_standing_instruction_stays_with_m3et_or_goes_to_the_model(bench, who):
    bench = bench(instruction='what is this?', instruction_answerer=who)
    view = bench.node.session.engine.encode(Frame(RGB[0], None, 7 * S, instruction='what is this?'))
    for _ in range(2):
        bench.node.inference_thread.submit(lambda: bench.node._questions.answer_instruction(view)).result(LONG_S)
    answer = bench.ros.until(lambda: bench.answers, LONG_S)[0]
    assert (answer.question, answer.header.stamp) == ('what is this?', stamp_msg(7 * S))
    assert answer.model_id == {'m3et': 'tiny-random-0', 'vlm': bench.node.vlm.model_id}[who]


def test_parameters_arrive_and_wrong_ones_are_refused(bench, ros, folder, monkeypatch):
    opened = []

    def recorded(*args, threads, **options):
        opened.append((args, threads, options))
        return open_vlm(*args, **options)

    monkeypatch.setattr(model_node, 'VlmProcess', recorded)
    active = bench(answerer_device='cpu', answerer_dtype='bfloat16', answerer_threads=3, memory_frames=2).observe(*RGB)
    assert opened == [((str(folder),), 3, {'device': 'cpu', 'dtype': 'bfloat16'})]
    assert active.values()['dtype'] == 'bfloat16' and active.ask(scope='episode').answer.frames_used == 2
    for settings, words in (
        ({'answerer': 'm3et', 'instruction_answerer': 'vlm'}, 'set answerer to vlm or router'),
        ({'answerer': 'vlm'}, 'give a folder or hf:owner/name as its checkpoint'),
    ):
        given = [Parameter(name, value=value) for name, value in {'model': 'tiny', **settings}.items()]
        node = ros.add(ModelNode(context=ros.context, namespace='picky', parameter_overrides=given))
        node.trigger_configure()
        assert words in node.health.failure and node.vlm is None


def test_an_error_in_the_instruction_is_counted(bench, monkeypatch):
    bench = bench(instruction='what is this?', instruction_answerer='vlm')
    view = bench.node.session.engine.encode(Frame(RGB[0], None, S, instruction='what is this?'))
    for error, reason in (
        (InputError('model_memory', 'Too large.'), 'model_memory'),
        (RuntimeError(), 'internal_error'),
    ):

        def fail(*args, error=error, **options):
            raise error

        monkeypatch.setattr(bench.node.vlm, 'answer', fail)
        bench.node.inference_thread.submit(lambda: bench.node._questions.answer_instruction(view)).result(LONG_S)
        bench.ros.until(lambda reason=reason: bench.node.health.counters[reason] == 1, LONG_S)


@pytest.mark.timeout(600)
def test_a_node_serves_frames_while_the_process_of_the_model_answers_and_ends_it(robot_here, folder):
    running = robot_here('robot', 'answerer:=vlm', f'answerer_checkpoint:={folder}', 'max_sentence_tokens:=50')
    served = running.listen(ActionAnticipation, 'anticipation')
    running.ros.until(lambda: running.rgb.get_subscription_count() and running.asker.service_is_ready(), 240)
    (child,) = (one for one in psutil.Process().children() if 'm3et_ros.runtime.vlm.worker' in one.cmdline())
    stamps = iter(range(100, 100_000))

    def show_until(condition):
        running.ros.until(lambda: (running.show(next(stamps)) and running.pause(0.05)) or condition(), LONG_S)

    show_until(lambda: served)
    asked = running.asker.call_async(AskQuestion.Request(question=QUESTION))
    before = len(served)
    show_until(lambda: len(served) > before)
    response = running.ros.until(asked.result, LONG_S)
    assert response.success and response.answer.model_id.startswith('endless@'), response.message
    running.ros.until(lambda: running.diagnosis().get('answerer/answers') == '1', LONG_S)
    assert float(running.diagnosis()['answerer/process_memory_mib']) > 50
    running.stop()
    running.ros.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, LONG_S)
