"""The child answers, streams, cancels and refuses; here its loop runs on pipes of this process."""

import os
import threading

import numpy as np
import pytest
from tiny_vlms import vlm_folder

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.messages import read_message, write_message
from m3et_ros.runtime.vlm.model import open_vlm
from m3et_ros.runtime.vlm.worker import Worker

RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return open_vlm(str(vlm_folder(tmp_path_factory.mktemp('vlm') / 'endless', endless=True)), device='cpu')


@pytest.fixture(scope='module')
def pipes(model):
    """The ends of the parent; the worker is on a daemon thread, as it ends with its process alone."""
    (given, to), (back, said) = os.pipe(), os.pipe()
    worker = Worker(os.fdopen(given, 'rb'), os.fdopen(said, 'wb'))
    threading.Thread(target=worker.serve, args=(model,), daemon=True).start()
    return os.fdopen(to, 'wb'), os.fdopen(back, 'rb')


def ask(pipes, number, max_tokens):
    write_message(pipes[0], {'number': number, 'text': 'What?', 'max_tokens': max_tokens, 'shapes': [RGB.shape]})
    pipes[0].write(RGB.tobytes())
    pipes[0].flush()


def until_the_end(pipes):
    messages = [read_message(pipes[1])]
    while 'end' not in messages[-1]:
        messages.append(read_message(pipes[1]))
    return messages


def test_an_answer_is_streamed_and_ends_with_all_of_its_fields(model, pipes):
    ask(pipes, 1, 6)
    *parts, last = until_the_end(pipes)
    wanted = model.answer('What?', [RGB], max_tokens=6)
    assert last['end'] == 'answered' and last['number'] == 1
    assert (last['text'], tuple(last['tokens']), last['confidence']) == (wanted.text, wanted.tokens, wanted.confidence)
    assert parts and parts[-1]['so_far'] == wanted.text


def test_a_cancelled_question_ends_and_the_next_one_is_answered(pipes):
    ask(pipes, 2, 5000)
    assert 'so_far' in read_message(pipes[1])
    write_message(pipes[0], {'cancel': 2})
    assert until_the_end(pipes)[-1] == {'end': 'cancelled', 'number': 2}
    ask(pipes, 3, 1)
    assert until_the_end(pipes)[-1]['end'] == 'answered'


@pytest.mark.parametrize(
    ('error', 'wanted'),
    [
        (
            InputError('model_memory', 'Too large.'),
            {'end': 'refused', 'reason': 'model_memory', 'sentence': 'Too large.'},
        ),
        (KeyError('x'), {'end': 'failed', 'sentence': "KeyError: 'x'"}),
    ],
    ids=['refused', 'failed'],
)
def test_errors_are_told(model, pipes, monkeypatch, error, wanted):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(model, 'answer', fail)
    ask(pipes, 9, 1)
    assert until_the_end(pipes)[-1] == wanted | {'number': 9}
