"""The page in a real browser: a question typed, an answer read, pictures, a robot and a server that come back."""

import asyncio
import json
import os
from contextlib import contextmanager
from dataclasses import asdict

import pytest
from chromium import PROGRAM, Chromium, until
from view_page import Visitor, page

from m3et_ros.runtime.results import Place

pytestmark = pytest.mark.skipif(PROGRAM is None, reason='no Chromium or Chrome: apt-get install chromium')


@pytest.fixture
def browser(tmp_path):
    """An empty page."""
    opened = Chromium(tmp_path / 'profile')
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def served(tmp_path, *options):
    """A page whose cookies outlive its server."""
    with page(*options, environment=os.environ | {'M3ET_CACHE': str(tmp_path / 'cache')}) as running:
        yield running


STAMP = 'Number(document.getElementById("colour").dataset.stamp || 0)'
BANNER = 'document.getElementById("banner").hidden ? "" : document.getElementById("banner").textContent'


def type_question(browser, text):
    browser.run('document.getElementById("question").focus()')
    browser.call('Input.insertText', text=text)
    for kind in ('keyDown', 'keyUp'):
        browser.call(
            'Input.dispatchKeyEvent', type=kind, key='Enter', code='Enter', windowsVirtualKeyCode=13, text='\r'
        )


def test_a_question_is_typed_and_its_answer_read_while_pictures_change(browser, robot, tmp_path):
    with served(tmp_path) as (address, _):
        browser.open(address)
        first = browser.wait(STAMP)
        browser.wait(f'{STAMP} > {first}')
        browser.wait('Number(document.getElementById("depth").dataset.stamp || 0)')
        browser.wait('document.querySelectorAll("#classes li").length')
        assert browser.run('location.search') == ''  # the token is not left in the address
        type_question(browser, 'What is <b>this</b>?')
        answer = browser.wait('document.querySelector("#answers .mine:not(.pending) .a")?.textContent')
        assert (
            answer and browser.run('document.querySelector("#answers .q span").textContent') == 'What is <b>this</b>?'
        )
        assert browser.run('document.querySelectorAll("#answers b").length') == 0
        assert browser.run('document.getElementById("question").value') == ''
        assert browser.run('document.getElementById("robot").value') == robot
        assert browser.wait('document.getElementById("next").textContent.length > 2')
        point = 'const b = document.getElementById("depth-stage").getBoundingClientRect();'
        point += 'document.getElementById("depth-stage").dispatchEvent(new PointerEvent("pointermove",'
        point += '{clientX: b.left + b.width / 10, clientY: b.top + b.height / 10}))'
        browser.run(f'(() => {{ {point} }})()')
        browser.wait('document.getElementById("pointer").textContent.includes("1.50 m")')
        assert browser.run('document.getElementById("overlay").style.display') == ''
        browser.run('document.getElementById("overlay-on").click()')
        assert browser.run('document.getElementById("overlay").style.display') == 'none'


def test_the_places_of_an_answer_are_drawn_with_their_names(browser, robot, tmp_path):
    places = [Place('cup', 0.9, (50.0, 40.0), (30, 20, 40, 40), (0.1, 0.2, 1.3), None, 1.32, 1.0)]
    places.append(Place('pot', 0.4, (5.0, 4.0), (0, 0, 0, 0)))
    with served(tmp_path) as (address, _):
        browser.open(address)
        browser.wait(STAMP)
        told = json.dumps([asdict(place) for place in places])
        drawn = f'showPlaces({told}, colours.at(-1)); const svg = document.getElementById("places");'
        drawn += 'return [[...svg.querySelectorAll("text")].map(e => e.textContent), svg.getAttribute("viewBox"),'
        drawn += 'svg.querySelectorAll(".box").length, document.getElementById("moment").hidden, held.stamp]'
        *found, held = browser.run(f'(() => {{ {drawn} }})()')
        assert found == [['cup · 1.32 m', 'pot'], '0 0 160 120', 1, False]
        # The picture goes on when the place has been shown.
        browser.wait(f'document.getElementById("moment").hidden && {STAMP} > {held}')
        assert browser.run('document.querySelectorAll("#places *").length') == 0


def test_nothing_is_wider_than_a_phone_and_the_theme_can_be_switched(browser, robot, tmp_path):
    inside = '[...document.querySelectorAll(".bar > *")].every(e => e.scrollHeight <= e.closest(".bar").clientHeight)'
    with served(tmp_path) as (address, _):
        browser.open(address)
        browser.wait(STAMP)
        for width in (320, 390):
            browser.call(
                'Emulation.setDeviceMetricsOverride', width=width, height=844, deviceScaleFactor=2, mobile=True
            )
            browser.wait(f'document.documentElement.clientWidth == {width}')
            assert browser.run('document.documentElement.scrollWidth') == width and browser.run(inside)
        ground = 'getComputedStyle(document.body).backgroundColor'
        before = browser.run(ground)
        browser.run('document.getElementById("theme").click()')
        assert browser.run(ground) != before


def test_a_robot_that_goes_is_said_and_it_comes_back(browser, start_robot, tmp_path):
    with served(tmp_path, '--namespace', '/two') as (address, _):
        with start_robot('/two'):
            browser.open(address)
            browser.wait(STAMP)
        until(lambda: '/two has reported nothing' in browser.run(BANNER))
        last = browser.run(STAMP)
        with start_robot('/two'):
            browser.wait(f'{STAMP} > {last} && document.getElementById("banner").hidden')


def test_the_page_comes_back_when_the_server_does(browser, robot, tmp_path):
    with served(tmp_path) as (address, _):
        browser.open(address)
        browser.wait(STAMP)
        port = address.split(':')[2].split('/')[0]
    until(lambda: 'connection to the server is lost' in browser.run(BANNER))
    last = browser.run(STAMP)
    with served(tmp_path, '--port', port):
        browser.wait(f'{STAMP} > {last} && document.getElementById("banner").hidden')


def test_a_page_whose_server_has_another_key_is_sent_to_the_new_address(browser, tmp_path):
    with served(tmp_path) as (address, _):
        browser.open(address)
        browser.wait('document.getElementById("pill").textContent != "Connecting"')
        port = address.split(':')[2].split('/')[0]
    with served(tmp_path / 'other', '--port', port):
        until(lambda: 'Open the address' in browser.run(BANNER))


def test_a_wrong_token_gives_a_sentence(browser, tmp_path):
    with served(tmp_path) as (address, _):
        browser.open(address + 'x')
        assert 'The token is wrong' in browser.run('document.body.textContent')


def test_a_page_of_another_site_cannot_connect(browser, tmp_path):
    async def refused(address):
        async with Visitor(address) as visitor:
            await visitor.send('show', robot='', pictures=[])
            return (await visitor.next('state'))['refused']

    with served(tmp_path) as (address, _):
        socket = address.partition('?')[0].replace('http', 'ws') + 'ws'
        script = f'new Promise(end => {{ const s = new WebSocket("{socket}"); s.onopen = () => end("open");'
        assert browser.run(f'{script} s.onerror = () => end("refused"); }})') == 'refused'
        assert asyncio.run(refused(address)) == {'origin': 1}
