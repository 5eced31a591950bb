"""Damaged files for fuzz.py, read in a process of their own: pictures, bags, checkpoints, memories, parameter files.

    python benchmarks/hostile_files.py FOLDER        # reads 'seed count' from stdin, writes a line of JSON for each

Every file is a good one that was damaged; it is either read, or refused by an InputError. Anything else is a fault.
"""

import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
from hostile import damaged
from rclpy.node import Node
from watched import alone, held, picture

from m3et_ros.cli.ask.picture import read_depth, read_frame
from m3et_ros.cli.output import Refused
from m3et_ros.cli.processes import end_with_parent
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.checkpoints.m3et import load_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.messages import stored_depth
from m3et_ros.ros import parameters, process
from m3et_ros.runtime.memory import EpisodeMemory
from m3et_ros.runtime.open_model import open_checkpoint

HANG_S = 30
"""Seconds that one file may take."""
Reader = Callable[[Path], object]


class Hang(BaseException):
    """A file was read for HANG_S seconds; no handler of the reader may take it for an error of its own."""


def good_files(folder: Path) -> None:
    """Write one good example of each kind of file."""
    rgb, depth = picture()
    cv2.imwrite(str(folder / 'rgb.jpg'), rgb)
    cv2.imwrite(str(folder / 'rgb.png'), rgb)
    cv2.imwrite(str(folder / 'rgb.tiff'), rgb)
    cv2.imwrite(str(folder / 'depth.png'), depth)
    np.save(folder / 'depth.npy', stored_depth(depth))
    for name, options in (
        ('raw', {}),
        ('zstd', {'zstd': True}),
        ('packed', {'images': 'compressed'}),
        ('sqlite', {'storage': 'sqlite3'}),
    ):
        with BagWriter(folder / name, **options) as bag:
            for index in range(3):
                stamp = 10**18 + index * 10**8
                bag.write_frame(Frame(rgb, stored_depth(depth), stamp, frame_id='camera'))
    checkpoint = open_checkpoint('tiny')
    save_checkpoint(folder / 'checkpoint', checkpoint, card='A checkpoint to be damaged.')
    (folder / 'parameters.yaml').write_text(parameters.as_yaml())


def copy_damaged(rng: random.Random, source: Path, target: Path) -> Path:
    """Copy a file, or a folder of which one file is damaged; a file may become a folder, and one may be missing."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
        part = rng.choice(sorted(path for path in target.rglob('*') if path.is_file()))
    else:
        shutil.copy(source, target)
        part = target
    data = part.read_bytes()
    part.unlink()
    kind = rng.random()
    if kind < 0.02:
        part.mkdir()
    elif kind > 0.03:
        part.write_bytes(damaged(rng, data))
    return target


def read_bag(path: Path) -> int:
    """Read a bag to its end, each message decoded, and the frames of its camera."""
    with BagReader(path) as bag:
        count = sum(1 for message in bag.messages() if _decoded(message))
        for _ in frames(bag, on_damaged=lambda error: None):
            count += 1
        if bag.damage:
            raise bag.damage
    return count


def _decoded(message: object) -> bool:
    decode(message)
    return True


def declare(path: Path) -> int:
    """Start a process with a parameter file as an executable would; the node declares all parameters."""

    class Declares(Node):
        def __init__(self):
            super().__init__('model')
            parameters.declare(self)
            parameters.unknown_overrides(self)
            parameters.unmatched_files(self, ['--params-file', str(path)])

    code = process.run(Declares, ['--ros-args', '--params-file', str(path)], serve=lambda node, stop: 0)
    if code:
        raise InputError('parameter_file', 'The process ended with exit code 1 and a sentence.')
    return code


def kinds(folder: Path) -> dict[str, tuple[tuple[str, ...], Reader]]:
    """Return the names of good files and their reader, by kind."""
    memory = EpisodeMemory(open_checkpoint('kitchen'))
    memory.save(folder / 'memory.safetensors')
    return {
        'pictures': (('rgb.jpg', 'rgb.png', 'rgb.tiff'), read_frame),
        'depth': (('depth.png', 'depth.npy'), read_depth),
        'bags': (('raw', 'zstd', 'packed', 'sqlite'), read_bag),
        'checkpoints': (('checkpoint',), load_checkpoint),
        'memories': (('memory.safetensors',), memory.restore),
        'parameters': (('parameters.yaml',), declare),
    }


def outcome(read: Reader, path: Path) -> str:
    """Read a file; return 'read', 'refused: reason' or 'fault: ...'."""
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANG_S)
    try:
        read(path)
    except InputError as error:
        return f'refused: {error.reason}'
    except Refused:
        return 'refused: command'
    except Hang:
        return f'fault: still read after {HANG_S} s'
    except Exception as error:
        return f'fault: {type(error).__name__}: {str(error)[:120]}'
    finally:
        signal.alarm(0)
    return 'read'


def _hangs(*_: object) -> None:
    raise Hang


def batch(folder: Path, known: dict, seed: int, count: int) -> dict:
    """Damage and read `count` files; return outcomes by kind, the faults, and what this process holds."""
    rng, found, faults = random.Random(seed), {kind: Counter() for kind in known}, []
    for index in range(count):
        kind = rng.choice(sorted(known))
        names, read = known[kind]
        source = folder / rng.choice(names)
        path = copy_damaged(rng, source, folder / f'damaged{source.suffix}')
        result = outcome(read, path)
        found[kind][result.split(':')[0] if result.startswith('fault') else result] += 1
        if result.startswith('fault'):
            faults.append({'seed': seed, 'index': index, 'kind': kind, 'file': source.name, 'fault': result})
    return {'outcomes': found, 'faults': faults, **held(psutil.Process())}


def answers(lines: Iterator[str], folder: Path) -> Iterator[dict]:
    """Answer each line 'seed count' with the result of a batch."""
    good_files(folder)
    known = kinds(folder)
    for line in lines:
        seed, count = map(int, line.split())
        yield batch(folder, known, seed, count)


def main() -> None:
    """Answer the lines of stdin until it ends."""
    end_with_parent()
    alone()
    with tempfile.TemporaryDirectory() as folder:
        for found in answers(sys.stdin, Path(folder)):
            print(json.dumps(found), flush=True)


if __name__ == '__main__':
    main()
