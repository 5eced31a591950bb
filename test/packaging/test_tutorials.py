"""The commands of README and tutorials, run as they stand, in the order of the page.

A comment before each block says what happens to it: `run`, `run beside a robot`, `run in the background`, or why it
is not run: `once: ...` for the set-up, `needs: ...` for what a test has not got.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import pytest

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs/tutorials').glob('*.md'))]
BLOCK = re.compile(r'(?:<!-- ([^>]*) -->\n)?```(\w*)\n(.*?)```', re.DOTALL)
ROBOT = 'm3et replay my_bag --robot --loop'


def blocks(page):
    """Return mark and commands of every block of commands."""
    return [(mark, text) for mark, language, text in BLOCK.findall(page.read_text()) if language in ('', 'bash')]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_every_block_says_whether_it_is_run(page):
    marks = {mark.partition(':')[0] for mark, _ in blocks(page)}
    assert marks <= {'run', 'run beside a robot', 'run in the background', 'once', 'needs'}
    assert all(reason for mark, _ in blocks(page) if ':' in mark for reason in [mark.partition(': ')[2]])


def shell(command, folder, timeout=300):
    """Run a line as a user's shell does, with the m3et of this environment on the PATH and nobody at the keyboard."""
    return subprocess.run(
        ['bash', '-euc', command],
        cwd=folder,
        env=os.environ | {'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@contextmanager
def background(command, folder):
    """Run a command while a block lasts, and Ctrl-C it at the end; a robot in it has answered once by then."""
    process = subprocess.Popen(
        ['bash', '-euc', f'exec {command}'],
        cwd=folder,
        env=os.environ | {'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 180
        while (ready := shell('m3et ask "Is the tap on?" --timeout 60', folder)).returncode:
            assert time.monotonic() < deadline, ready.stderr
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=120)
        finally:
            process.kill()


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    """A recording for the robot, and a photo."""
    folder = tmp_path_factory.mktemp('recordings')
    made = shell('m3et record my_bag --seed 20011 --frames 40 --compressed', folder)
    assert made.returncode == 0, made.stderr
    with BagReader(folder / 'my_bag') as bag:
        rgb = next(iter(frames(bag))).rgb
    cv2.imwrite(str(folder / 'photo.jpg'), rgb[..., ::-1])
    return folder


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(page, tmp_path, recordings):
    for thing in recordings.iterdir():
        (tmp_path / thing.name).symlink_to(thing)
    with ExitStack() as running:
        for mark, text in blocks(page):
            if mark == 'run in the background':
                running.enter_context(background(text.strip(), tmp_path))
            elif mark in ('run', 'run beside a robot'):
                beside = background(ROBOT, tmp_path) if mark == 'run beside a robot' else ExitStack()
                with beside:
                    for line in text.strip().splitlines():
                        result = shell(line, tmp_path)
                        assert result.returncode == 0, f'{line}: {result.stderr}'
