"""The server of the Model Context Protocol, by the package's own client."""

import asyncio
import base64

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from m3et_ros.cli.mcp.server import AgentServer

TOOLS = ['look', 'ask', 'where', 'what_happened', 'what_next', 'health', 'list_robots']


@pytest.fixture
def server(tools, calls):
    return AgentServer(tools, calls)


def call(server, name, **arguments):
    async def run():
        async with Client(server) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(run())


def test_every_tool_has_descriptions_schemas_and_reads_only(server):
    async def run():
        async with Client(server) as client:
            return (await client.list_tools()).tools, client.instructions

    tools, instructions = asyncio.run(run())
    assert [tool.name for tool in tools] == TOOLS and 'stands alone' in instructions
    for tool in tools:
        assert tool.description.endswith('.') and tool.annotations.read_only_hint and tool.output_schema
        arguments = tool.input_schema['properties']
        assert all(argument['description'] for argument in arguments.values())
        assert ('robot' in arguments) == (tool.name != 'list_robots')
        assert 'robot' not in tool.input_schema.get('required', ())


def test_look_returns_words_a_picture_and_fields(server):
    result = call(server, 'look', show='colour', robot='/known')
    words, picture = result.content
    assert words.text.startswith('Image of /known') and picture.mime_type == 'image/jpeg'
    assert base64.b64decode(picture.data).startswith(b'\xff\xd8')
    assert result.structured_content['in_view'][0] == {'name': 'table', 'share': 0.625, 'distance_m': 2.0}


@pytest.mark.parametrize(
    ('name', 'arguments', 'words', 'fields'),
    [
        ('ask', {'question': 'What?'}, 'a cup (confidence 0.75)', {'text': 'a cup', 'scope': 'frame'}),
        ('ask', {'question': 'What?', 'scope': 'episode'}, 'a cup (confidence 0.75)', {'scope': 'episode'}),
        ('where', {'thing': 'cup'}, 'on the table', {'found': True, 'frame_id': 'lens'}),
        ('what_happened', {'thing': 'cup'}, '/known remembers 2.5 s', {'frames': 3}),
        ('what_next', {}, 'Now: take cup', {'horizon_s': 1.5}),
        ('health', {}, '/known is ok', {'level': 'ok'}),
        ('list_robots', {}, '/known is ok: Running. Model: known@1.', {}),
    ],
    ids=['ask', 'ask the memory', 'where', 'what_happened', 'what_next', 'health', 'list_robots'],
)
def test_a_tool_returns_words_and_fields(server, name, arguments, words, fields):
    result = call(server, name, **arguments)
    assert not result.is_error and result.content[0].text.startswith(words)
    assert {key: result.structured_content[key] for key in fields} == fields


def test_the_words_of_an_answer_are_reported_while_it_is_written(server, known, until):
    heard = []

    async def hear(progress, total, message):
        heard.append((progress, message))

    async def run():
        async with Client(server) as client:
            asked = asyncio.create_task(client.call_tool('ask', {'question': known.SLOW}, progress_callback=hear))
            await until(lambda: heard)
            known.go_on.set()
            return await asked

    assert asyncio.run(run()).structured_content['text'] == 'a cup'
    assert heard[0] == (2, 'a ') and all(words == 'a cup'[:count] for count, words in heard)


@pytest.mark.parametrize(
    ('name', 'arguments', 'sentence'),
    [
        ('ask', {}, 'The arguments of ask are wrong: question: Field required.'),
        ('ask', {'question': 'x', 'scope': 'all'}, "wrong: scope: Input should be 'frame' or 'episode'."),
        ('ask', {'question': 'x' * 1_000_000}, 'The question has 1000000 characters and at most 10000 are sent'),
        ('where', {'thing': 'cup', 'robot': 'no body'}, 'use letters, digits and _'),
    ],
    ids=['missing', 'scope', 'long', 'name'],
)
def test_what_was_foreseen_is_an_error_of_one_sentence_and_counted(server, calls, name, arguments, sentence):
    result = call(server, name, **arguments)
    (content,) = result.content
    assert result.is_error and sentence in content.text and '\n' not in content.text
    assert calls.counters['refused'] == 1


def test_a_refusal_of_the_robot_is_its_sentence(server):
    result = call(server, 'where', thing='Refuse?')
    assert result.is_error and [one.text for one in result.content] == ['The robot refuses.']


def test_an_error_that_was_not_foreseen_is_not_shown(server, calls, monkeypatch):
    monkeypatch.setattr(server._tools, 'health', lambda robot, stopped: 1 // 0)
    result = call(server, 'health')
    assert result.is_error and 'health' in result.content[0].text and 'division' not in result.content[0].text
    assert calls.counters['refused'] == 0


def test_a_tool_that_is_none_is_refused(server):
    try:
        assert call(server, 'dance').is_error
    except MCPError as error:
        assert 'dance' in str(error)
