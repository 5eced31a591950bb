"""The tools of running robots as a server of the Model Context Protocol."""

import asyncio
import base64
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import Field, ValidationError

from m3et_ros import __version__
from m3et_ros.cli.mcp.calls import Calls
from m3et_ros.cli.mcp.reports import (
    AnswerReport,
    HappenedReport,
    HealthReport,
    LookReport,
    NextReport,
    RobotsReport,
    WhereReport,
)
from m3et_ros.cli.mcp.robot_tools import RobotTools, Stopped
from m3et_ros.cli.mcp.sight import Show
from m3et_ros.cli.output import Refused
from m3et_ros.data.errors import InputError

INSTRUCTIONS = (
    'Tools of robots with a camera. Begin with look or list_robots. Each question stands alone: the robot knows '
    'nothing of this conversation. "I cannot tell" is an honest answer; its reason and near questions come with it. '
    "Pixels are those of the camera's image; metres are in its optical frame: x right, y down, z forward."
)
READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)

ReportT = TypeVar('ReportT')
RobotName = Annotated[
    str | None, Field(description='Namespace of the robot, such as "/m3et"; needed only if list_robots has several.')
]


class AgentServer(MCPServer):
    """A server whose tools are those of `RobotTools`.

    Args:
        tools: the tools.
        calls: runs them.
    """

    def __init__(self, tools: RobotTools, calls: Calls):
        super().__init__(
            'm3et', title='M3ET robots', version=__version__, instructions=INSTRUCTIONS, log_level='WARNING'
        )
        self._tools, self._calls = tools, calls
        for tool in (
            self.look,
            self.ask,
            self.where,
            self.what_happened,
            self.what_next,
            self.health,
            self.list_robots,
        ):
            self.add_tool(tool, description=inspect.cleandoc(tool.__doc__ or ''), annotations=READ_ONLY)

    async def look(
        self,
        context: Context,
        show: Annotated[
            Show,
            Field(
                description='"overlay": colours with the segmentation over them; "colour": as the camera shows it; '
                '"depth": distances as colours, near red, far blue, unknown black.'
            ),
        ] = 'overlay',
        robot: RobotName = None,
    ) -> Annotated[CallToolResult, LookReport]:
        """Return the newest picture of the robot's camera, and the classes in view with their shares and distances."""
        report, jpeg = await self._run(context, partial(self._tools.look, robot, show))
        picture = ImageContent(data=base64.b64encode(jpeg).decode('ascii'), mime_type='image/jpeg')
        return result_of(report, picture)

    async def ask(
        self,
        context: Context,
        question: Annotated[
            str, Field(description='A whole question in English, such as "Is there a cup on the table?".')
        ],
        scope: Annotated[
            Literal['frame', 'episode'],
            Field(description='"frame" asks about the newest image, "episode" about all that the robot remembers.'),
        ] = 'frame',
        robot: RobotName = None,
    ) -> Annotated[CallToolResult, AnswerReport]:
        """Ask the robot a question about what its camera shows now, or about what it remembers."""
        parts: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def write(part: str) -> None:
            loop.call_soon_threadsafe(parts.put_nowait, part)

        progress = asyncio.create_task(report_parts(context, parts))
        try:
            return result_of(await self._run(context, partial(self._tools.ask, question, scope, robot, write=write)))
        finally:
            progress.cancel()

    async def where(
        self,
        context: Context,
        thing: Annotated[str, Field(description='A thing, such as "red cup", or a question with "where" or "which".')],
        robot: RobotName = None,
    ) -> Annotated[CallToolResult, WhereReport]:
        """Return the place of a thing in the newest image: in words, as a pixel, and in metres where depth is known."""
        return result_of(await self._run(context, partial(self._tools.where, thing, robot)))

    async def what_happened(
        self,
        context: Context,
        thing: Annotated[
            str | None, Field(description='Also ask what is remembered of this thing, such as "cup".')
        ] = None,
        robot: RobotName = None,
    ) -> Annotated[CallToolResult, HappenedReport]:
        """Return the finished actions that the robot remembers, and the answers that it has given."""
        return result_of(await self._run(context, partial(self._tools.what_happened, thing, robot)))

    async def what_next(self, context: Context, robot: RobotName = None) -> Annotated[CallToolResult, NextReport]:
        """Return the action in front of the camera now and the next one that the robot expects, with probabilities."""
        return result_of(await self._run(context, partial(self._tools.what_next, robot)))

    async def health(self, context: Context, robot: RobotName = None) -> Annotated[CallToolResult, HealthReport]:
        """Return the robot's state: what is wrong and how to fix it, rates, ages of results, drops and its model."""
        return result_of(await self._run(context, partial(self._tools.health, robot)))

    async def list_robots(self, context: Context) -> Annotated[CallToolResult, RobotsReport]:
        """List the robots that answer, with their state, model and camera."""
        return result_of(await self._run(context, self._tools.list_robots))

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Context | None = None) -> Any:
        """Call a tool; every error that was foreseen becomes one sentence.

        Raises:
            ToolError: with that sentence.
        """
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, (Refused, InputError)):
                self._calls.counters.count('refused')
                raise ToolError(str(cause)) from None
            if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
                self._calls.counters.count('refused')
                raise ToolError(f'The arguments of {name} are wrong: {faults(cause)}.') from None
            raise

    async def _run(self, context: Context, work: Callable[[Stopped], ReportT]) -> ReportT:
        # A request of HTTP tells when its client has left; on stdio the call is cancelled then.
        request = context.request_context.request
        left: Callable[[], Awaitable[bool]] | None = request.is_disconnected if request is not None else None
        return await self._calls.run(work, left)


async def report_parts(context: Context, parts: 'asyncio.Queue[str]') -> None:
    """Report the words of an answer while it is written, as progress; its unit is a character."""
    written = ''
    while True:
        written += await parts.get()
        await context.report_progress(len(written), message=written)


def result_of(report: Any, *more: ImageContent) -> CallToolResult:
    """Return a report as the result of a tool: its words, further content, and its fields."""
    return CallToolResult(
        content=[TextContent(text=report.words()), *more], structured_content=report.model_dump(mode='json')
    )


def faults(error: ValidationError) -> str:
    """Return what is wrong with arguments, in one line."""
    return '; '.join(f'{".".join(map(str, one["loc"]))}: {one["msg"]}' for one in error.errors())
