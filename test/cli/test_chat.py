"""m3et chat: a conversation in a terminal and on a pipe, about an image and with a robot on real DDS."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.action import ActionServer
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.cli.chat import COMMANDS, Conversation
from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.msg import Answer
from m3et_ros.srv import AskQuestion

COMMAND = (sys.executable, '-m', 'm3et_ros.cli.main', 'chat')
PATIENT = ('--timeout', '60')


def answer(question, text='a cup', **fields):
    return {
        'question': question,
        'text': text,
        'confidence': 0.5,
        'alternatives': [],
        'answerable': True,
        'reason': '',
        'explanation': '',
        'suggestions': [],
        'read_as': question,
        'places_frame_id': '',
        'places': [],
        'frames_used': 1,
        'age_s': None,
        'latency_s': 0.25,
        'model_id': 'm@1',
    } | fields


def converse(monkeypatch, ask, text, *, plain):
    monkeypatch.setattr('sys.stdin', io.TextIOWrapper(io.BytesIO(text.encode('latin-1')), 'utf-8'))
    Conversation(ask, plain=plain).run()


def test_a_person_gets_details_a_history_and_the_last_answer_again(monkeypatch, capsys):
    text = ':last\n  What is it?  \n\nAnd?\n:history\n:last\n:help\n:foo\n:quit\nNot asked\n'

    def ask(question, write):
        if question == 'What is it?':
            write('a ')
            write('cup')
            return answer(question)
        return answer(question, 'I cannot tell', answerable=False, explanation='Why.', suggestions=['Is it a cup?'])

    converse(monkeypatch, ask, text, plain=False)
    shown = capsys.readouterr()
    lines = shown.out.replace('> ', '').splitlines()
    assert lines[:2] == ['a cup', '  confidence 0.50, one frame, took 250 ms, model m@1']
    refusal = ['I cannot tell', '  Why.', '  Did you mean: Is it a cup?', '  one frame, took 250 ms, model m@1']
    assert lines[2:6] == refusal
    assert lines[6:8] == ['1  What is it?  a cup (0.50)', '2  And?  I cannot tell']
    assert lines[8:13] == ['And?', *refusal]
    assert [line.split()[0] for line in lines[13:]] == list(COMMANDS)
    assert 'nothing was asked yet' in shown.err and "there is no command ':foo'" in shown.err
    assert 'Not asked' not in shown.out


def test_a_person_is_told_what_went_wrong_and_asks_on(monkeypatch, capsys):
    def ask(question, write):
        if question == 'x':
            raise Refused('Too long.')
        return answer(question, model_id='tiny-random-0')

    converse(monkeypatch, ask, 'x\ny\nz\n', plain=False)
    shown = capsys.readouterr()
    assert 'm3et: Too long.' in shown.err and shown.out.count('a cup') == 2
    assert shown.err.count('tiny has no trained weights yet') == 1


def test_on_a_pipe_each_question_gets_one_line_and_nothing_else(monkeypatch, capsys):
    def ask(question, write):
        write('part')
        return answer(question, f'{question}\nof two lines')

    converse(monkeypatch, ask, 'one\n\ntw\xff\n', plain=True)
    assert capsys.readouterr().out == 'one of two lines\ntw\ufffd of two lines\n'


def test_on_a_pipe_a_question_without_an_answer_ends_with_its_error(monkeypatch):
    def ask(question, write):
        raise Refused('Nobody answers.')

    with pytest.raises(Refused, match='Nobody answers'):
        converse(monkeypatch, ask, 'x\ny\n', plain=True)


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp('chat') / 'a.png'
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    return str(path)


def test_an_image_answers_question_after_question_on_a_pipe(picture):
    result = subprocess.run(
        [*COMMAND, '--image', picture, '--model', 'tiny', '--device', 'cpu'],
        input='What is in the hand?\nWhere is the cup?\nWhat is in the hand?\n',
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and lines[0] == lines[2] != '' and 'no trained weights' in result.stderr


def test_a_follow_up_that_leaves_words_out_is_not_answered_by_the_shipped_model(picture, monkeypatch, capsys):
    monkeypatch.setattr('sys.stdin', io.StringIO('and on the right?\n'))
    assert main(['chat', '--image', picture]) == 0
    assert capsys.readouterr().out == 'I cannot tell\n'


@pytest.fixture
def heeds_ctrl_c():
    """Processes that are started heed Ctrl-C, also where a shell runs the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(('end', 'code'), [(b'\x04', 0), (signal.SIGINT, 130)], ids=['ctrl-d', 'ctrl-c'])
def test_a_terminal_has_a_prompt_and_ctrl_d_and_ctrl_c_end_it(picture, heeds_ctrl_c, end, code):
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, '--image', picture, '--model', 'tiny'], stdin=inside, stdout=inside, stderr=inside
    )
    try:
        os.close(inside)
        shown = read_until(outside, b'> ')
        os.write(outside, b'What is in the hand?\n')
        shown += read_until(outside, b'> ')
        assert b'ask whole questions' in shown and b'confidence' in shown
        if isinstance(end, bytes):
            os.write(outside, end)
        else:
            process.send_signal(end)
            # A signal between the prompt and the wait for keys is noticed with the next line only.
            with suppress(OSError):
                os.write(outside, b'\n')
        read_until(outside, None)
        assert process.wait(60) == code
    finally:
        process.kill()
        process.wait()
        os.close(outside)


def read_until(terminal, mark):
    """Read until a mark; without one to the end."""
    shown = b''
    with suppress(OSError):  # the end of a terminal
        while part := os.read(terminal, 1024):
            shown += part
            if mark is not None and mark in shown:
                return shown
    assert mark is None, shown
    return shown


@pytest.fixture(scope='module')
def robots():
    """Two model nodes that record what they are asked; /writer has an answerer that writes."""
    asked = {'ranks': [], 'writes': []}
    context = rclpy.Context()
    rclpy.init(context=context, args=[])
    executor = SingleThreadedExecutor(context=context)
    nodes, servers = [], []
    for namespace, answerer in (('/chat_ranker', 'm3et'), ('/chat_writer', 'emma')):
        node = rclpy.create_node('model', namespace=namespace, context=context)
        node.declare_parameter('answerer', answerer)
        node.declare_parameter('answer_mode', 'classify')

        def on_request(request, response):
            asked['ranks'].append(request)
            response.success, response.answer = True, Answer(text='ranked', question=request.question)
            return response

        def on_goal(goal):
            asked['writes'].append(goal.request)
            goal.succeed()
            return AskStreaming.Result(success=True, answer=Answer(text='written', question=goal.request.question))

        node.create_service(AskQuestion, '~/ask', on_request)
        servers.append(ActionServer(node, AskStreaming, '~/ask_streaming', on_goal))
        executor.add_node(node)
        nodes.append(node)
    thread = threading.Thread(target=spin, args=(executor,))
    thread.start()
    yield asked
    rclpy.shutdown(context=context)
    thread.join(30)
    executor.shutdown(timeout_sec=1)
    for server in servers:
        server.destroy()
    for node in nodes:
        node.destroy_node()


def spin(executor):
    with suppress(ExternalShutdownException):
        while True:
            executor.spin_once(timeout_sec=0.05)


def test_a_robot_that_ranks_is_asked_through_the_service_and_one_that_writes_through_the_action(
    robots, monkeypatch, capsys
):
    for namespace, text in (('/chat_ranker', 'ranked'), ('/chat_writer', 'written')):
        monkeypatch.setattr('sys.stdin', io.StringIO('Where is it?\nAnd now?\n'))
        assert main(['chat', '--namespace', namespace, *PATIENT]) == 0
        assert capsys.readouterr().out == f'{text}\n{text}\n'
    assert robots['ranks'] == [AskQuestion.Request(question=words) for words in ('Where is it?', 'And now?')]
    assert robots['writes'] == [AskStreaming.Goal(question=words) for words in ('Where is it?', 'And now?')]


def test_without_a_robot_the_command_says_what_is_missing(capsys):
    assert main(['chat', '--namespace', '/nobody', '--timeout', '0.3']) == 1
    assert 'No model node answers in namespace /nobody' in capsys.readouterr().err


@pytest.mark.parametrize(
    'option', ['--depth', '--intrinsics', '--answerer-checkpoint'], ids=['depth', 'intrinsics', 'checkpoint']
)
def test_options_of_an_image_need_one(capsys, option):
    assert main(['chat', option, 'x']) == 1
    assert 'go with --image' in capsys.readouterr().err


def test_every_option_about_an_image_arrives(border, reach, every_option):
    read = border('m3et_ros.cli.ask.picture.read_frame', 'frame')
    opened = border('m3et_ros.cli.ask.picture.Picture', last=True)
    words = [
        'chat',
        *('--image', 'a.png'),
        *('--depth', 'b.npy'),
        *('--intrinsics', '50,60,31.5,23.5'),
        *('--model', 'tiny'),
        *('--device', 'cuda:1'),
        *('--answerer', 'emma'),
        *('--answerer-checkpoint', 'runs/emma'),
    ]
    reach(*words)
    assert read == [{'image': Path('a.png'), 'depth': Path('b.npy'), 'intrinsics': '50,60,31.5,23.5'}]
    (call,) = opened
    assert (call['frame'], call['model'], call['device'], call['answerer']) == ('frame', 'tiny', 'cuda:1', 'emma')
    assert str(call['checkpoint']) == 'runs/emma'
