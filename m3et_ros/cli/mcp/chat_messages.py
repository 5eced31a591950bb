"""Requests and responses in the form of OpenAI's chat completions, without a server.

https://platform.openai.com/docs/api-reference/chat says what the fields mean.
"""

import base64
import binascii
import json
import re
import time
import uuid
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from m3et_ros.cli.mcp.reports import AnswerReport
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.compressed import rgb_from_compressed
from m3et_ros.data.images.orientation import orientation, upright
from m3et_ros.data.images.sizes import check_claimed

MOST_SIDE = 4096
"""Pixels of the width and height of an image."""
EPISODE = ':episode'
"""End of the name of a model that answers from the memory of its robot. A namespace has no colon."""
DATA_URL = re.compile(r'data:image/[\w.+-]+;base64,(.*)', re.DOTALL)


@dataclass(frozen=True)
class ChatRequest:
    """A question in the form of a chat."""

    # Name of a model as the client gave it; '' for none.
    model: str
    question: str
    # (H, W, 3) uint8, R G B; None without an image.
    image: np.ndarray | None
    stream: bool

    @property
    def robot(self) -> str | None:
        """Namespace of the robot without a slash in front; None for the only one."""
        return self.model.removesuffix(EPISODE) or None

    @property
    def scope(self) -> str:
        """'frame' or 'episode'."""
        return 'episode' if self.model.endswith(EPISODE) else 'frame'


def parse_request(body: bytes) -> ChatRequest:
    """Return the question of a request: the last message, whose role is user.

    Args:
        body: JSON.

    Raises:
        InputError: 'invalid_request', it is no such request, or asks for what a robot cannot do; 'image_url', an image
            is not sent along; or the image cannot be decoded.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid('The body is not JSON; send a chat completion as OpenAI describes it.') from None
    if not isinstance(request, dict) or not isinstance(request.get('messages'), list) or not request['messages']:
        raise invalid('The field messages is missing or empty; give at least one message of the role user.')
    if request.get('n') not in (None, 1):
        raise invalid('n is not 1; a robot gives one answer, so leave n out.')
    kind = request.get('response_format')
    if kind is not None and (not isinstance(kind, dict) or kind.get('type') != 'text'):
        raise invalid('response_format is not text; a robot answers in words, so leave it out.')
    if request.get('tool_choice') not in (None, 'none', 'auto'):
        raise invalid('tool_choice asks for a call of a tool; a robot calls none, so leave it out.')
    model = request.get('model') or ''
    last = request['messages'][-1]
    if not isinstance(model, str) or not isinstance(last, dict) or last.get('role') != 'user':
        raise invalid('The last message is not of the role user, or model is not text; end with the question.')
    words, image = parse_content(last.get('content'))
    chat = ChatRequest(model, words, image, request.get('stream') is True)
    if image is not None and chat.scope == 'episode':
        raise invalid(f'An image has no episode; leave {EPISODE!r} out of the model, or the image out of the message.')
    return chat


def parse_content(content: Any) -> tuple[str, np.ndarray | None]:
    """Return the words and the image of a message.

    Args:
        content: text, or parts of the types text and image_url.

    Raises:
        InputError: as `parse_request`.
    """
    if isinstance(content, str):
        content = [{'type': 'text', 'text': content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise invalid('The content of the last message is neither text nor a list of parts.')
    words, images = [], []
    for part in content:
        kind = part.get('type')
        if kind == 'text' and isinstance(part.get('text'), str):
            words.append(part['text'])
        elif kind == 'image_url' and isinstance(part.get('image_url'), dict):
            images.append(decode_image(part['image_url'].get('url')))
        else:
            raise invalid(f'A part of the type {str(kind)[:40]!r} cannot be read; send text and image_url alone.')
    question = '\n'.join(words).strip()
    if not question:
        raise invalid('The last message has no text; ask something, such as "What is on the table?".')
    if len(images) > 1:
        raise invalid(f'The last message has {len(images)} images; a question is about one.')
    return question, images[0] if images else None


def decode_image(url: Any) -> np.ndarray:
    """Return the image (H, W, 3) uint8, R G B, of a data URL, turned upright.

    Raises:
        InputError: 'image_url', it is not such a URL; 'too_large'; or the file cannot be decoded.
    """
    match = DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        raise InputError(
            'image_url', 'An image is sent along, as "data:image/jpeg;base64,..."; nothing is fetched from elsewhere.'
        )
    try:
        data = base64.b64decode(match[1], validate=True)
    except (binascii.Error, ValueError):
        raise InputError('image_url', 'The image is not base64; encode the bytes of its file.') from None
    claimed = check_claimed(data, 'image')
    if claimed is None:
        raise InputError('image_url', 'The image is neither JPEG, PNG nor TIFF; convert it.')
    if max(claimed) > MOST_SIDE:
        raise InputError(
            'too_large',
            f'The image has {claimed[0]} x {claimed[1]} pixels and at most {MOST_SIDE} a side are read; '
            'make it smaller.',
        )
    return upright(rgb_from_compressed(SimpleNamespace(data=data, format='')), orientation(data))


def invalid(sentence: str) -> InputError:
    """Return the error for a request that is none."""
    return InputError('invalid_request', sentence)


def error_body(sentence: str, code: str, kind: str = 'invalid_request_error', param: str | None = None) -> dict:
    """Return an error in the form of OpenAI."""
    return {'error': {'message': sentence, 'type': kind, 'param': param, 'code': code}}


def said(answer: AnswerReport) -> str:
    """Return an answer as a person would read it: with its reason where it is none."""
    if answer.answerable:
        return answer.text
    near = f' Did you mean: {" ".join(answer.suggestions)}' if answer.suggestions else ''
    return f'{answer.text}. {answer.explanation}{near}'


class Completion:
    """The responses to one question; all have the same id.

    Args:
        model: name of the model, as it is reported.
    """

    def __init__(self, model: str):
        self._common = {'id': f'chatcmpl-{uuid.uuid4().hex}', 'created': int(time.time()), 'model': model}

    def whole(self, answer: AnswerReport) -> dict[str, Any]:
        """Return the whole response. It has no `usage`: a robot counts no tokens."""
        message = {'role': 'assistant', 'content': said(answer), 'refusal': None}
        choice = {'index': 0, 'message': message, 'finish_reason': 'stop', 'logprobs': None}
        return self._common | {'object': 'chat.completion', 'choices': [choice], 'm3et': answer.model_dump(mode='json')}

    def first(self) -> dict[str, Any]:
        """Return the first event of a stream."""
        return self._chunk({'role': 'assistant', 'content': ''}, None)

    def part(self, text: str) -> dict[str, Any]:
        """Return the event of a part of the answer."""
        return self._chunk({'content': text}, None)

    def last(self, answer: AnswerReport) -> dict[str, Any]:
        """Return the last event of a stream."""
        return self._chunk({}, 'stop') | {'m3et': answer.model_dump(mode='json')}

    def _chunk(self, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        choice = {'index': 0, 'delta': delta, 'finish_reason': finish, 'logprobs': None}
        return self._common | {'object': 'chat.completion.chunk', 'choices': [choice]}
