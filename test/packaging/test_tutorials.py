"""The commands of README and tutorials, run as they stand, in the order of the page.

A comment before each block says what happens to it: `run`, `run beside a robot`, `run in the background`, or why it
is not run: `once: ...` for the set-up, `needs: ...` for what a test has not got.
"""

import glob
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import cv2
import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs/tutorials').glob('*.md'))]
BLOCK = re.compile(r'(?:<!-- ([^>]*) -->\n)?```(\w*)\n(.*?)```', re.DOTALL)
RECORDED = 'm3et record kitchen --seed 20011 --frames 100'
ROBOT = 'm3et replay kitchen --robot --loop'


def blocks(page):
    """Return mark and commands of every block of commands."""
    return [(mark, text) for mark, language, text in BLOCK.findall(page.read_text()) if language in ('', 'bash')]


def lines(page):
    """Return the lines of a page that are run, each with True if a robot runs beside it."""
    found, robot = [], False
    for mark, text in blocks(page):
        robot |= mark == 'run in the background'
        if mark in ('run', 'run beside a robot'):
            found += [(robot or mark != 'run', line) for line in text.strip().splitlines()]
    return found


ALONE = [page for page in PAGES if False in [beside for beside, _ in lines(page)]]
WITH_ROBOT = [
    page for page in PAGES if {'run beside a robot', 'run in the background'} & {mark for mark, _ in blocks(page)}
]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_every_block_says_whether_it_is_run(page):
    marks = {mark.partition(':')[0] for mark, _ in blocks(page)}
    assert marks <= {'run', 'run beside a robot', 'run in the background', 'once', 'needs'}
    assert all(reason for mark, _ in blocks(page) if ':' in mark for reason in [mark.partition(': ')[2]])


@pytest.fixture(scope='module')
def m3et():
    """Run a line as a shell does, with nobody at the keyboard, and return its exit code.

    It runs in this process: in one of its own, each line would spend seconds on the import of torch.
    """

    def run(line):
        command, *words = shlex.split(line, comments=True)
        assert command == 'm3et'
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr('sys.stdin', io.StringIO())
            return main([one for word in words for one in sorted(glob.glob(word)) or [word]])

    return run


@pytest.fixture(scope='module')
def recorded(m3et, tmp_path_factory):
    """The folder of the recording that several pages begin with, and of a photo."""
    folder = tmp_path_factory.mktemp('recorded')
    with chdir(folder):
        assert m3et(RECORDED) == 0
    with BagReader(folder / 'kitchen') as bag:
        rgb = next(iter(frames(bag))).rgb
    cv2.imwrite(str(folder / 'photo.jpg'), rgb[..., ::-1])
    return folder


@pytest.mark.parametrize('page', ALONE, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(page, m3et, recorded, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for beside, line in lines(page):
        assert beside or line == RECORDED or m3et(line) == 0, f'{line}: {capsys.readouterr().err}'


@pytest.fixture(scope='module')
def robot(m3et, recorded):
    """The robot of the pages that have one: its folder and its domain. A shell starts it, and Ctrl-C ends it."""
    domain = str(1 + (int(os.environ['ROS_DOMAIN_ID']) + 49) % 100)
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    with (recorded / 'robot.log').open('w') as log:
        process = subprocess.Popen(
            ['bash', '-euc', f'exec {ROBOT}'],
            cwd=recorded,
            env=os.environ | {'PATH': path, 'ROS_DOMAIN_ID': domain},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('ROS_DOMAIN_ID', domain)
            deadline = time.monotonic() + 180
            while m3et('m3et ask "Is the tap on?" --timeout 60'):
                assert time.monotonic() < deadline, (recorded / 'robot.log').read_text()
        yield recorded, domain
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize('page', WITH_ROBOT, ids=lambda page: page.stem)
def test_the_commands_beside_a_robot_work(page, m3et, robot, capsys, monkeypatch):
    folder, domain = robot
    monkeypatch.chdir(folder)
    monkeypatch.setenv('ROS_DOMAIN_ID', domain)
    assert {text.strip() for mark, text in blocks(page) if mark == 'run in the background'} <= {ROBOT}
    for beside, line in lines(page):
        assert not beside or m3et(line) == 0, f'{line}: {capsys.readouterr().err}'
