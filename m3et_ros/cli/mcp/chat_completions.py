"""Robots as the models of a server of OpenAI's chat completions: /v1/models and /v1/chat/completions."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from std_msgs.msg import Header

from m3et_ros.cli.mcp.calls import Busy, Calls
from m3et_ros.cli.mcp.chat_messages import EPISODE, ChatRequest, Completion, error_body, parse_request, said
from m3et_ros.cli.mcp.reports import AnswerReport
from m3et_ros.cli.mcp.robot_tools import RobotTools, Stopped, UnknownRobot, ignore
from m3et_ros.cli.output import Refused
from m3et_ros.data.errors import InputError
from m3et_ros.ros.convert import to_image_msg
from m3et_ros.srv import AskQuestion

MOST_BYTES = 12_000_000
"""Bytes of a request, which may hold an image."""

LOG = logging.getLogger(__name__)


class ChatCompletions:
    """Answers requests in the form of OpenAI with robots.

    Args:
        tools: asks the robots.
        calls: runs the questions.
    """

    def __init__(self, tools: RobotTools, calls: Calls):
        self._tools, self._calls = tools, calls
        self._since = int(time.time())

    def routes(self) -> list[Route]:
        """Return the routes of the server."""
        return [
            Route('/v1/models', self._list_models, methods=['GET']),
            Route('/v1/models/{name:path}', self._find_model, methods=['GET']),
            Route('/v1/chat/completions', self._complete, methods=['POST']),
        ]

    async def _list_models(self, request: Request) -> Response:
        try:
            return JSONResponse({'object': 'list', 'data': await self._models(request)})
        except Exception as error:
            return self._refuse(error)

    async def _find_model(self, request: Request) -> Response:
        name = request.path_params['name']
        try:
            for model in await self._models(request):
                if model['id'] == name:
                    return JSONResponse(model)
            raise UnknownRobot(f'There is no robot {name[:80]!r}; /v1/models lists those that answer.')
        except Exception as error:
            return self._refuse(error)

    async def _models(self, request: Request) -> list[dict[str, Any]]:
        """Return each robot twice: answering about the newest image, and from the memory of the episode."""
        found = await self._calls.run(self._tools.list_robots, request.is_disconnected)
        return [
            {'id': one.robot.lstrip('/') + end, 'object': 'model', 'created': self._since, 'owned_by': 'm3et'}
            for one in found.robots
            for end in ('', EPISODE)
        ]

    async def _complete(self, request: Request) -> Response:
        parts: asyncio.Queue[str | None] = asyncio.Queue()
        answering = None
        try:
            # On a thread, because a large image takes a while to decode.
            chat = await asyncio.to_thread(parse_request, await read_body(request))
            loop = asyncio.get_running_loop()
            work = partial(self._ask, chat, lambda text: loop.call_soon_threadsafe(parts.put_nowait, text))
            answering = asyncio.create_task(self._calls.run(work, request.is_disconnected))
            answering.add_done_callback(lambda _: parts.put_nowait(None))
            if not chat.stream:
                answer = await answering
                return JSONResponse(Completion(model_name(answer, chat)).whole(answer))
            # An error before the first word is a response of its own.
            first = await parts.get()
            if first is None:
                await answering
        except asyncio.CancelledError:
            if answering is not None:
                answering.cancel()
            raise
        except Exception as error:
            return self._refuse(error)
        events = self._events(Completion(chat.model), answering, parts, first)
        return StreamingResponse(events, media_type='text/event-stream', headers={'Cache-Control': 'no-cache'})

    async def _events(
        self,
        completion: Completion,
        answering: 'asyncio.Task[AnswerReport]',
        parts: 'asyncio.Queue[str | None]',
        part: str | None,
    ) -> AsyncIterator[str]:
        """Yield the events of an answer while it is written."""
        written = False
        try:
            yield event(completion.first())
            while part is not None:
                written = True
                yield event(completion.part(part))
                part = await parts.get()
            answer = await answering
            if not written or not answer.answerable:
                yield event(completion.part(said(answer)))
            yield event(completion.last(answer))
        except (Refused, InputError) as error:
            yield event(error_body(str(error), self._reason(error), 'server_error'))
        finally:
            answering.cancel()
        yield 'data: [DONE]\n\n'

    def _ask(self, chat: ChatRequest, write: Any, stopped: Stopped) -> AnswerReport:
        """Ask a robot; on a thread."""
        if chat.image is None:
            return self._tools.ask(chat.question, chat.scope, chat.robot, stopped, write if chat.stream else ignore)
        image = to_image_msg(chat.image, 'rgb8', Header())
        return self._tools.ask_request(AskQuestion.Request(question=chat.question, image=image), chat.robot, stopped)

    def _refuse(self, error: Exception) -> Response:
        """Return an error as a response."""
        if isinstance(error, ClientDisconnect):
            return Response(status_code=400)
        if isinstance(error, UnknownRobot):
            body, status = error_body(str(error), self._reason(error), param='model'), 404
        elif isinstance(error, Busy):
            body, status = error_body(str(error), 'busy', 'rate_limit_error'), 429
        elif isinstance(error, (Refused, InputError)):
            reason = self._reason(error)
            body, status = error_body(str(error), reason), 413 if reason == 'body_large' else 400
        else:
            LOG.error('A chat completion has failed.', exc_info=error)
            self._calls.counters.count('internal_errors')
            sentence = f'An internal error stopped the answer ({type(error).__name__}); the log of m3et mcp has more.'
            body, status = error_body(sentence, 'internal_error', 'server_error'), 500
        return JSONResponse(body, status)

    def _reason(self, error: Exception) -> str:
        """Count a refusal and return its reason in a word."""
        self._calls.counters.count('refused')
        if isinstance(error, InputError):
            return error.reason
        return 'model_not_found' if isinstance(error, UnknownRobot) else 'refused'


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        InputError: 'body_large', it has more than MOST_BYTES bytes.
    """
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise InputError(
                'body_large', f'The request has more than {MOST_BYTES} bytes; send a smaller image or fewer messages.'
            )
    return b''.join(parts)


def model_name(answer: AnswerReport, chat: ChatRequest) -> str:
    """Return the name of the model that answered, as /v1/models lists it."""
    return answer.robot.lstrip('/') + (EPISODE if chat.scope == 'episode' else '')


def event(document: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f'data: {json.dumps(document)}\n\n'
