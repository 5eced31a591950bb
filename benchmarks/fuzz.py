"""Fuzz a running model node over DDS, and every file that the package reads; seeded.

    python benchmarks/fuzz.py --minutes 8                           # writes benchmarks/results/fuzz.json
    python benchmarks/fuzz.py --messages 100000 --requests 5000     # the whole, about 50 minutes on two cores

A block sends MESSAGES messages to the topics that the node subscribes to (of one transport each for colour and depth)
and REQUESTS requests to every service, action, parameter and lifecycle interface that the graph shows, and reads FILES
damaged files in another process. After a block, parameters and lifecycle state are put back; then a good frame must be
served, and a good question must get the answer that it got before the first block. Transitions to shutdown are not
requested: the node obeys them.
"""

import importlib
import json
import random
import re
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hostile import TEXTS, damaged, fill, message
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger
from timing import finish, options
from watched import WatchedNode, alone

from m3et_ros.cli.output import print_status
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros import interfaces
from m3et_ros.ros.camera_inputs import DEPTH, RGB
from m3et_ros.ros.convert import stamp_msg
from m3et_ros.ros.process import prepare
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.srv import LoadModel

MESSAGES, REQUESTS, FILES = 500, 25, 25
NAMESPACE = '/fuzz'
EVERY_S = 0.005
"""Pause between two messages: a frame that is refused takes less than that."""
GOOD_S = 90.0
"""Seconds that a good frame and a good question may take after a block on a busy machine."""
SHUTDOWNS = (5, 6, 7)
GUARDED = ('is not a valid Parameter.Type', 'Transition is not registered')
"""Errors of rclpy that a request causes and ros/guards.py turns into refusals; another internal error is a fault."""


class Files:
    """The process that reads damaged files; started again after its death."""

    def __init__(self):
        self.deaths: list[dict[str, Any]] = []
        self._start()

    def batch(self, seed: int, count: int) -> dict | None:
        """Read a batch of damaged files; return None when the process died or hung."""
        try:
            self._process.stdin.write(f'{seed} {count}\n')
            self._process.stdin.flush()
            ready, _, _ = select.select([self._process.stdout], [], [], 300)
            line = self._process.stdout.readline() if ready else ''
        except BrokenPipeError:
            line = ''
        if line:
            return json.loads(line)
        self.close()
        self.deaths.append({'seed': seed, 'code': self._process.returncode})
        self._start()
        return None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        file = Path(__file__).with_name('hostile_files.py')
        self._process = subprocess.Popen(
            [sys.executable, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


class Fuzz:
    """A node under fuzz, and what became of all that was sent."""

    def __init__(self, asked, folder: Path):
        self.rng, self._folder = random.Random(asked.seed), folder
        self.sent, self.topics, self.replies, self.refusals = Counter(), Counter(), Counter(), Counter()
        self.faults: list[dict[str, Any]] = []
        self._served: set[int] = set()
        self._model = asked.model
        self.memory, self._checkpoint = folder / 'memory.safetensors', folder / 'checkpoint'
        save_checkpoint(self._checkpoint, open_checkpoint('tiny'), card='A checkpoint to be damaged.')
        # Without a least confidence and a check of the domain the good question always gets an answer of the model.
        values = ['autostart:=true', 'threads:=1', 'domain_check:=0', 'min_confidence:=0.0']
        values += [f'model:={asked.model}', f'memory_file:={self.memory}']
        # Offline, so that a hub id in a request costs no download.
        self.robot = WatchedNode(NAMESPACE, [w for v in values for w in ('-p', v)], {'HF_HUB_OFFLINE': '1'})
        self.robot.node.create_subscription(
            ActionAnticipation, f'{self.robot.name}/anticipation', self._on_result, QoSProfile(depth=50)
        )
        self.begin()

    def begin(self) -> None:
        """Note the services, parameters and the answer to a good question of a fresh node."""
        robot = self.robot
        robot.spin(lambda: robot.diagnosis.get('state') == 'active' or not robot.running, 180)
        answer = robot.ask().answer
        self.reference = answer.text, answer.model_id
        self.services = robot.spin(self._services, 30)
        names = robot.call(ListParameters, 'list_parameters', ListParameters.Request()).result.names
        described = robot.call(DescribeParameters, 'describe_parameters', DescribeParameters.Request(names=names))
        self.names = list(names)
        live = [d.name for d in described.descriptors if not (d.read_only or d.name.startswith('qos_'))]
        values = robot.call(GetParameters, 'get_parameters', GetParameters.Request(names=live)).values
        self._restore = [Parameter(name=name, value=value) for name, value in zip(live, values, strict=True)]
        self.good()
        robot.call(Trigger, 'save_memory', Trigger.Request())
        self._saved = self.memory.read_bytes() if self.memory.exists() else b'memory'

    def _services(self) -> dict[str, str]:
        found = self.robot.node.get_service_names_and_types_by_node('model', NAMESPACE)
        return {name: kinds[0] for name, kinds in found}

    def _on_result(self, result: ActionAnticipation) -> None:
        self._served.add(result.header.stamp.sec * 10**9 + result.header.stamp.nanosec)

    def messages(self, count: int) -> None:
        """Send messages to the topics of one transport of colour and one of depth."""
        node, rng = self.robot.node, self.rng
        rows = [RGB[rng.choice(sorted(RGB))], DEPTH[rng.choice(sorted(DEPTH))]]
        rows += [interfaces.RGB_INFO, interfaces.INSTRUCTION, interfaces.INSTRUCTION_TEXT]
        own = {self.robot.rgb: interfaces.RGB, self.robot.depth: interfaces.DEPTH}
        for publisher in own:
            node.destroy_publisher(publisher)
        made = {row: node.create_publisher(row.kind, f'{NAMESPACE}/{row.name}', 100) for row in rows}
        self.robot.spin(lambda: all(p.get_subscription_count() for p in made.values()), 20)
        weights = [6, 4, 1, 1, 1]
        for _ in range(count):
            if not self.robot.running:
                break
            row = rng.choices(rows, weights)[0]
            way, one = message(rng, row.kind, row.name, stamp_msg(time.time_ns()))
            made[row].publish(one)
            self.sent[way] += 1
            self.topics[row.name] += 1
            self.robot.spin(bool, EVERY_S)
        self.robot.spin(bool, 1.0)
        for publisher in made.values():
            node.destroy_publisher(publisher)
        self.robot.rgb, self.robot.depth = (
            node.create_publisher(row.kind, f'{NAMESPACE}/{row.name}', 1) for row in own.values()
        )

    def requests(self, count: int) -> None:
        """Send requests, one after the other, to services drawn from all that the graph shows."""
        for _ in range(count):
            if not self.robot.running:
                break
            name = self.rng.choice(sorted(self.services))
            kind = service_type(self.services[name])
            request = self._request(name, kind)
            response = self.robot.call(kind, name, request)
            short = name.removeprefix(f'{self.robot.name}/')
            if response is None:
                self.replies['lost'] += 1
                self.faults.append({'lost': short, 'request': str(request)[:300], 'node_lives': self.robot.running})
                continue
            self.replies['answered'] += 1
            self._judge(short, kind, response)
            if kind is ChangeState and response.success:
                self.robot.bring_up()

    def _request(self, name: str, kind: type) -> Any:
        rng, request = self.rng, fill(self.rng, kind.Request(), self.rng.choice((1.0, 0.6)))
        if kind is ChangeState and (request.transition.id in SHUTDOWNS or 'shutdown' in request.transition.label):
            request.transition.id = rng.choice((0, 1, 2, 3, 4, 8, 10, 255))
        for parameter in getattr(request, 'parameters', ()):
            parameter.name = rng.choice((*self.names, rng.choice(TEXTS)))
        if isinstance(getattr(request, 'names', None), list):
            request.names = [rng.choice((*self.names, rng.choice(TEXTS))) for _ in range(rng.randrange(5))]
        if name.endswith('/restore_memory') and rng.random() < 0.9:
            self.memory.write_bytes(damaged(rng, self._saved))
        if name.endswith('/save_memory') and rng.random() < 0.5:
            self.memory.unlink(missing_ok=True)  # a damaged memory is not replaced
        if name.endswith('/load_model') and rng.random() < 0.7:
            path = rng.choice(sorted(self._checkpoint.iterdir()))
            copy = self._folder / 'damaged'
            copy.mkdir(exist_ok=True)
            for part in self._checkpoint.iterdir():
                data = part.read_bytes()
                (copy / part.name).write_bytes(damaged(rng, data) if part == path else data)
            request.model = str(copy)
        return request

    def _judge(self, name: str, kind: type, response: Any) -> None:
        """Count refusals, and those that give no reason although their type has a field for one."""
        results = [getattr(response, 'result', None), *getattr(response, 'results', ())]
        for one in (response, *results):
            success = getattr(one, 'success', getattr(one, 'successful', None))
            if success is False:
                self.refusals[name] += 1
                reason = getattr(one, 'message', getattr(one, 'reason', None))
                # A result that was asked for by an unknown goal has a status that says so.
                if reason == '' and not name.endswith('/get_result'):
                    self.faults.append({'refused_without_a_reason': name, 'response': str(response)[:300]})

    def good(self) -> dict[str, bool]:
        """Put parameters, model and state back; then serve a good frame and ask a good question.

        Returns:
            What held: the node is active, the frame was served, the answer was that of the beginning.
        """
        robot = self.robot
        if not robot.running:
            return {'active': False, 'frame': False, 'answer': False}
        active = robot.bring_up()
        robot.call(SetParameters, 'set_parameters', SetParameters.Request(parameters=self._restore))
        if robot.ask(GOOD_S).answer.model_id != self.reference[1]:
            robot.call(LoadModel, 'load_model', LoadModel.Request(model=self._model), 180)
        stamps: set[int] = set()
        self._served.clear()
        end = time.monotonic() + GOOD_S
        while not stamps & self._served and time.monotonic() < end and robot.running:
            stamps.add(robot.show())
            robot.spin(lambda: stamps & self._served, 0.2)
        reply = robot.ask(GOOD_S)
        answered = reply is not None and (reply.answer.text, reply.answer.model_id) == self.reference
        return {'active': active, 'frame': bool(stamps & self._served), 'answer': answered}


def service_type(name: str) -> type:
    """Return the class of a service, also of those that an action consists of."""
    package, folder, short = name.split('/')
    module = importlib.import_module(f'{package}.{folder}')
    if folder == 'srv':
        return getattr(module, short)
    action, _, part = short.rpartition('_')
    return getattr(getattr(module, action).Impl, f'{part}Service')


def block(fuzz: Fuzz, files: Files, seed: int, counts: tuple[int, int], read: Counter) -> dict[str, Any]:
    """Run one block of so many messages and requests; return what the processes hold, and whether all is well."""
    fuzz.messages(counts[0])
    fuzz.requests(counts[1])
    found = files.batch(seed, min(FILES, max(counts)))
    for kind, outcomes in found['outcomes'].items() if found else ():
        read.update({f'{kind}, {outcome}': count for outcome, count in outcomes.items()})
    fuzz.faults += found['faults'] if found else []
    reader = {key: found[key] for key in ('rss_mib', 'threads', 'descriptors')} if found else {}
    return {**fuzz.good(), **fuzz.robot.held(), 'reader': reader}


def counted(diagnosis: dict[str, str]) -> Counter:
    """Return the counters of a node by reason, and the frames that arrived and were served."""
    keys = [key for key in diagnosis if key.startswith(('dropped/', 'synchroniser/'))]
    return Counter({key: int(diagnosis[key]) for key in (*keys, 'frames_in', 'frames_out') if key in diagnosis})


def run(asked, folder: Path) -> dict[str, Any]:
    """Run blocks until all is sent or the time is over; return the document."""
    fuzz, files = Fuzz(asked, folder), Files()
    robot, blocks, read, total, deaths = fuzz.robot, [], Counter(), Counter(), []
    start = time.monotonic()
    before = robot.held()
    messages, requests = asked.messages, asked.requests
    try:
        while (messages or requests) and time.monotonic() - start < asked.minutes * 60:
            counts = min(MESSAGES, messages), min(REQUESTS, requests)
            messages, requests = messages - counts[0], requests - counts[1]
            blocks.append(block(fuzz, files, asked.seed * 10**6 + len(blocks), counts, read))
            print_status(f'block {len(blocks)}: {blocks[-1]}')
            if not robot.running:
                deaths.append({'block': len(blocks), 'code': robot.code, 'log': robot.log()[-3000:]})
                total += counted(robot.diagnosis)
                robot.start()
                fuzz.begin()
        robot.spin(bool, 2.5)
        total += counted(robot.diagnosis)
    finally:
        files.close()
        log, code = robot.log(), robot.close()
    internal = sorted(set(re.findall(r'An internal error stopped .{1,200}', log)))
    unguarded = [{'internal_error': text} for text in internal if not any(words in text for words in GUARDED)]
    return {
        **{key: getattr(asked, key) for key in ('seed', 'model')},
        'minutes': round((time.monotonic() - start) / 60, 1),
        'messages': sum(fuzz.sent.values()),
        'messages_by_way': dict(fuzz.sent),
        'messages_by_topic': dict(fuzz.topics),
        'requests': sum(fuzz.replies.values()),
        'requests_by_reply': dict(fuzz.replies),
        'interfaces': len(fuzz.services),
        'requests_refused': dict(fuzz.refusals.most_common()),
        'counters_of_the_node': dict(sorted(total.items())),
        'files': sum(read.values()),
        'files_by_outcome': dict(sorted(read.items())),
        'deaths_of_the_node': deaths,
        'deaths_of_the_reader': files.deaths,
        'tracebacks_in_the_log': log.count('Traceback'),
        'internal_errors_in_the_log': internal[:40],
        'exit_code_at_the_end': code,
        'faults': fuzz.faults + unguarded,
        'blocks_that_held': sum(one['active'] and one['frame'] and one['answer'] for one in blocks),
        'held_before': before,
        'blocks': blocks,
    }


def main() -> None:
    """Fuzz and write what came of it; exit code 1 after a death, a lost reply or another fault."""
    parser = options(__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--messages', type=int, default=100_000)
    parser.add_argument('--requests', type=int, default=5_000)
    parser.add_argument('--minutes', type=float, default=float('inf'), help='end after this time')
    parser.add_argument('--model', default='kitchen')
    asked = parser.parse_args()
    alone()
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        found = run(asked, Path(folder))
    finish('fuzz', found, asked.results)
    bad = found['deaths_of_the_node'] or found['deaths_of_the_reader'] or found['faults']
    raise SystemExit(bool(bad or found['blocks_that_held'] < len(found['blocks'])))


if __name__ == '__main__':
    main()
