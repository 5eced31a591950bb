"""CPU time of the page's server: 10 pictures a second of each kind at VGA to one browser, and nobody looking.

    python benchmarks/view.py --json benchmarks/results/view.json

A process of its own publishes what a robot publishes: colour, measured depth, camera_info, completed depth, masks,
answers, actions and health. The share is CPU time of the server by the clock on the wall, so that a busy machine does
not change it much. The browser is a WebSocket client that takes everything.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

RATE_HZ = 10.0
WIDTH, HEIGHT = 640, 480
KINDS = ('colour', 'depth', 'mask')


def publish() -> None:
    """Publish what a robot and its camera publish, until the process is ended."""
    import numpy as np
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from m3et_ros.cli.robots import connect
    from m3et_ros.msg import ActionAnticipation, ScoredLabel
    from m3et_ros.ros.convert import stamp_msg, to_image_msg

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.stack([128 + 80 * np.sin(x / 50), 128 + 70 * np.cos(y / 40), 128 + 60 * np.sin((x + y) / 60)], -1)
    colours = [(waves + rng.normal(0, 6, waves.shape)).clip(0, 255).astype(np.uint8) for _ in range(4)]
    depth = (1.5 + x / 300 + rng.normal(0, 0.005, x.shape)).astype(np.float32)
    measured = np.round(depth * 1000).astype(np.uint16)
    measured[(x // 40 + y // 40) % 9 == 0] = 0
    mask = ((x + 40 * np.sin(y / 30)) // 80).astype(np.uint8)
    node_name, topics = '/bench/model', {'rgb': '/bench/rgb', 'depth': '/bench/depth', 'camera_info': '/bench/info'}
    with connect(threading.Event()) as robots:
        node = robots.node
        rgb, raw = node.create_publisher(Image, '/bench/rgb', 1), node.create_publisher(Image, '/bench/depth', 1)
        info = node.create_publisher(CameraInfo, '/bench/info', 1)
        completed = node.create_publisher(Image, f'{node_name}/depth/image', 1)
        masks = node.create_publisher(Image, f'{node_name}/segmentation/mask', 1)
        actions = node.create_publisher(ActionAnticipation, f'{node_name}/anticipation', 1)
        health = node.create_publisher(DiagnosticArray, '/diagnostics', 1)
        values = [KeyValue(key=f'topic/{key}', value=name) for key, name in topics.items()]
        values += [KeyValue(key='state', value='active'), KeyValue(key='rate_in_hz', value='10.0')]
        status = DiagnosticStatus(name=node_name, level=DiagnosticStatus.OK, message='Running.', values=values)
        due, turn = time.monotonic(), 0
        while True:
            header = Header(stamp=stamp_msg(time.time_ns()), frame_id='eye')
            rgb.publish(to_image_msg(colours[turn % 4], 'rgb8', header))
            raw.publish(to_image_msg(measured, '16UC1', header))
            info.publish(CameraInfo(header=header, width=WIDTH, height=HEIGHT, k=[500.0] * 9))
            completed.publish(to_image_msg(depth, '32FC1', header))
            masks.publish(to_image_msg(mask, 'mono8', header))
            scored = [ScoredLabel(id=0, label='open drawer', score=0.7)]
            actions.publish(ActionAnticipation(header=header, horizon_s=1.0, actions=scored, current_actions=scored))
            if turn % 10 == 0:
                health.publish(DiagnosticArray(header=header, status=[status]))
            turn, due = turn + 1, due + 1 / RATE_HZ
            time.sleep(max(0.0, due - time.monotonic()))


async def look(address: str, server: int, seconds: float) -> dict:
    """Take everything for a time and return the share of a core and the pictures a second."""
    import aiohttp
    import psutil

    home, _, token = address.partition('?token=')
    process, counts = psutil.Process(server), dict.fromkeys(KINDS, 0)
    received, start, before = 0, None, 0.0
    async with (
        aiohttp.ClientSession(headers={'Authorization': f'Bearer {token}'}) as session,
        session.ws_connect(f'{home}ws', max_msg_size=0) as socket,
    ):
        await socket.send_json({'type': 'show', 'robot': '/bench', 'pictures': KINDS})
        settled = None
        async for message in socket:
            now = time.monotonic()
            if message.type is aiohttp.WSMsgType.BINARY:
                settled = settled or now
                if start is None and now > settled + 5:
                    start, before = now, cpu(process)
                if start is not None:
                    length = int.from_bytes(message.data[:4], 'little')
                    counts[json.loads(message.data[4 : 4 + length])['kind']] += 1
                    received += len(message.data)
            if start is not None and now > start + seconds:
                took = now - start
                return {
                    'seconds': round(took, 1),
                    'core_share': round((cpu(process) - before) / took, 4),
                    'pictures_per_s': {kind: round(count / took, 2) for kind, count in counts.items()},
                    'megabytes_per_s': round(received / took / 1e6, 2),
                }
    raise RuntimeError('the server has ended the connection')


def cpu(process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=20.0)
    parser.add_argument('--json', type=Path)
    parser.add_argument('--publish', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish()
    import psutil

    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    view = subprocess.Popen(
        [sys.executable, '-m', 'm3et_ros.cli.main', 'view', '--port', '0', '--namespace', 'bench'],
        stdout=subprocess.PIPE,
        text=True,
    )
    robot = subprocess.Popen([sys.executable, __file__, '--publish'])
    try:
        address = re.search(r'http://\S+', view.stdout.readline())[0]
        looking = asyncio.run(look(address, view.pid, options.seconds))
        time.sleep(12)  # the server leaves the graph some seconds after the last browser
        process = psutil.Process(view.pid)
        before, start = cpu(process), time.monotonic()
        time.sleep(options.seconds)
        closed = {'core_share': round((cpu(process) - before) / (time.monotonic() - start), 4)}
    finally:
        for one in (view, robot):
            one.terminate()
            one.wait(60)
    result = {'width': WIDTH, 'height': HEIGHT, 'rate_hz': RATE_HZ, 'looking': looking, 'closed': closed}
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
