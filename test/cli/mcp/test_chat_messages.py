"""Requests in the form of OpenAI, and responses to them."""

import base64
import json
import struct

import cv2
import numpy as np
import pytest

from m3et_ros.cli.mcp.chat_messages import MOST_SIDE, Completion, decode_image, error_body, parse_request, said
from m3et_ros.cli.mcp.reports import AnswerReport
from m3et_ros.data.errors import InputError

ANSWER = AnswerReport(
    robot='/m3et',
    question='What is it?',
    text='a cup',
    answerable=True,
    confidence=0.5,
    reason='',
    explanation='',
    suggestions=[],
    alternatives={},
    read_as='',
    scope='frame',
    frames_used=1,
    age_s=None,
    frame_id='',
    places=[],
    model_id='m@1',
    latency_s=0.1,
)
NONE = ANSWER.model_copy(
    update={'text': 'I cannot tell', 'answerable': False, 'explanation': 'No.', 'suggestions': ['Is it?', 'Why?']}
)


def url(pixels, kind='png'):
    return f'data:image/{kind};base64,' + base64.b64encode(cv2.imencode(f'.{kind}', pixels)[1]).decode()


def body(content='What is it?', **fields):
    return json.dumps({'model': 'm3et', 'messages': [{'role': 'user', 'content': content}]} | fields).encode()


def image_part(address):
    return {'type': 'image_url', 'image_url': {'url': address}}


TEXT = {'type': 'text', 'text': 'What is it?'}


def test_the_last_message_is_the_question():
    messages = [
        {'role': 'system', 'content': 'Be kind.'},
        {'role': 'user', 'content': 'First?'},
        {'role': 'assistant', 'content': 'Yes.'},
        {'role': 'user', 'content': [{'type': 'text', 'text': ' Second '}, {'type': 'text', 'text': 'part? '}]},
    ]
    chat = parse_request(body(messages=messages))
    assert (chat.model, chat.question, chat.image, chat.stream) == ('m3et', 'Second \npart?', None, False)
    assert (chat.robot, chat.scope) == ('m3et', 'frame')


def test_the_model_names_robot_and_scope():
    chat = parse_request(body(model='fleet/left:episode', stream=True))
    assert (chat.robot, chat.scope, chat.stream) == ('fleet/left', 'episode', True)
    assert parse_request(body(model=None)).robot is None
    assert parse_request(body(model=':episode')).robot is None


@pytest.mark.parametrize('kind', ['png', 'jpg', 'tiff'], ids=['png', 'jpeg', 'tiff'])
def test_an_image_is_decoded(kind):
    pixels = np.full((8, 16, 3), (50, 100, 200), np.uint8)
    chat = parse_request(body([TEXT, image_part(url(pixels, kind))]))
    assert chat.image.shape == (8, 16, 3) and chat.question == 'What is it?'
    np.testing.assert_allclose(chat.image[0, 0], (200, 100, 50), atol=3)


def test_an_image_is_turned_upright():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255
    exif = b'II*\0' + struct.pack('<IHHHIHHI', 8, 1, 274, 3, 1, 6, 0, 0)
    data = cv2.imencode('.png', pixels)[1].tobytes()
    data = data[:33] + struct.pack('>I', len(exif)) + b'eXIf' + exif + bytes(4) + data[33:]
    image = decode_image('data:image/png;base64,' + base64.b64encode(data).decode())
    assert image.shape == (6, 4, 3) and (image[:, 3] == 255).all()


def test_the_largest_image_is_read_and_a_larger_one_refused():
    assert decode_image(url(np.zeros((1, MOST_SIDE, 3), np.uint8))).shape == (1, MOST_SIDE, 3)
    with pytest.raises(InputError, match=f'has 1 x {MOST_SIDE + 1} pixels') as error:
        decode_image(url(np.zeros((MOST_SIDE + 1, 1, 3), np.uint8)))
    assert error.value.reason == 'too_large'


@pytest.mark.parametrize(
    'address',
    [
        'http://example.org/a.jpg',
        'file:///etc/passwd',
        'data:image/png;base64,%%%%',
        'data:image/png;base64,AAAA',
        'data:text/plain;base64,AAAA',
        None,
    ],
    ids=['http', 'file', 'no base64', 'no image', 'text', 'null'],
)
def test_an_address_elsewhere_and_what_is_no_image_are_refused(address):
    with pytest.raises(InputError) as error:
        parse_request(body([TEXT, image_part(address)]))
    assert error.value.reason == 'image_url'


@pytest.mark.parametrize(
    ('request_body', 'sentence'),
    [
        (b'{', 'not JSON'),
        (b'[' * 100_000, 'not JSON'),
        (b'\xff', 'not JSON'),
        (b'[]', 'messages is missing'),
        (body(messages=[]), 'messages is missing'),
        (body(messages=['x']), 'not of the role user'),
        (body(messages=[{'role': 'assistant', 'content': 'x'}]), 'not of the role user'),
        (body(model=7), 'model is not text'),
        (body(n=2), 'n is not 1'),
        (body(response_format={'type': 'json_object'}), 'response_format'),
        (body(tool_choice='required'), 'tool_choice'),
        (body(None), 'neither text nor a list'),
        (body(' '), 'has no text'),
        (body([image_part(url(np.zeros((2, 2, 3), np.uint8)))]), 'has no text'),
        (body([TEXT, {'type': 'input_audio'}]), "'input_audio' cannot be read"),
        (body([TEXT, *2 * [image_part(url(np.zeros((2, 2, 3), np.uint8)))]]), 'has 2 images'),
        (body([TEXT, image_part(url(np.zeros((2, 2, 3), np.uint8)))], model='a:episode'), 'no episode'),
    ],
    ids=[
        'json',
        'deep',
        'bytes',
        'list',
        'empty',
        'message',
        'role',
        'model',
        'n',
        'format',
        'tool',
        'content',
        'blank',
        'image alone',
        'audio',
        'two images',
        'episode of an image',
    ],
)
def test_a_request_that_is_none_is_refused_in_a_sentence(request_body, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_request(request_body)


def test_fields_that_change_nothing_are_taken():
    chat = parse_request(body(n=1, temperature=0.2, tool_choice='auto', response_format={'type': 'text'}, stream=False))
    assert chat.question == 'What is it?'


def test_an_answer_is_said_with_the_reason_where_there_is_none():
    assert said(ANSWER) == 'a cup'
    assert said(NONE) == 'I cannot tell. No. Did you mean: Is it? Why?'
    assert said(NONE.model_copy(update={'suggestions': []})) == 'I cannot tell. No.'


def test_a_whole_response_has_the_fields_of_openai():
    response = Completion('m3et').whole(ANSWER)
    assert response['object'] == 'chat.completion' and response['model'] == 'm3et' and 'usage' not in response
    assert response['id'].startswith('chatcmpl-') and response['created'] > 1_700_000_000
    message = {'role': 'assistant', 'content': 'a cup', 'refusal': None}
    assert response['choices'] == [{'index': 0, 'message': message, 'finish_reason': 'stop', 'logprobs': None}]
    assert response['m3et']['confidence'] == 0.5


def test_the_events_of_a_stream_have_one_id_and_end_with_a_reason():
    completion = Completion('m3et')
    events = [completion.first(), completion.part('a '), completion.last(ANSWER)]
    assert len({event['id'] for event in events}) == 1
    assert [event['choices'][0]['delta'] for event in events] == [
        {'role': 'assistant', 'content': ''},
        {'content': 'a '},
        {},
    ]
    assert [event['choices'][0]['finish_reason'] for event in events] == [None, None, 'stop']
    assert {event['object'] for event in events} == {'chat.completion.chunk'} and events[2]['m3et']['text'] == 'a cup'


def test_an_error_has_the_fields_of_openai():
    wanted = {'message': 'No.', 'type': 'invalid_request_error', 'param': 'model', 'code': 'model_not_found'}
    assert error_body('No.', 'model_not_found', param='model') == {'error': wanted}
