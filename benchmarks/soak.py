"""Watch a model node over time: memory, threads, descriptors, rates, ages; up/down loops; model swaps under 30 Hz.

    python benchmarks/soak.py --minutes 120 --loops 1000 --swaps 100 --kills 10    # the whole, about 2.5 hours
    python benchmarks/soak.py --minutes 5 --loops 100 --swaps 20 --kills 3    # writes results/soak.json, docs/soak.png

The soak has the simulated camera (RGB-D) and a question every --question-s seconds. Growth is the slope of the memory
after WARM_UP of the time, with an interval from the means of BLOCKS blocks, which makes neighbouring samples count
little. A loop is configure, activate, deactivate, cleanup. While models are swapped, a question about the same picture
is asked all the time; its answer must be the one that the model named in it gave when it served alone.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.qos import QoSProfile
from timing import finish, options
from watched import QUESTION, WatchedNode, alone

from m3et_ros.cli.output import print_status
from m3et_ros.cli.processes import Child, running
from m3et_ros.cli.ros_names import assignments, camera_remaps, ros_arguments
from m3et_ros.cli.supervision import STEADY_S
from m3et_ros.evaluation.metrics.intervals import student_t
from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros.process import prepare
from m3et_ros.srv import AskQuestion, LoadModel

PLOT = Path(__file__).resolve().parents[1] / 'docs' / 'soak.png'
NAMESPACE, CAMERA = '/soak', '/soak/camera'
WARM_UP = 0.2
BLOCKS = 12
LEVEL = 0.95
HELD = ('rss_mib', 'threads', 'descriptors')
REPORTED = ('rate_in_hz', 'rate_out_hz', 'age_s/p50', 'age_s/p95', 'questions_waiting')
UP, DOWN = (1, 3), (4, 2)
"""Ids of the transitions: configure and activate, deactivate and cleanup."""


def growth(seconds: list[float], values: list[float]) -> dict[str, float]:
    """Return the growth of a value in an hour.

    Args:
        seconds: time of each sample, ascending, at least BLOCKS of them.
        values: the samples.

    Returns:
        `per_hour` with its 95 % interval `low`..`high`, and the same in per cent of the mean as `percent_...`.
    """
    hours, y = (
        np.array([part.mean() for part in np.array_split(np.asarray(v, float), BLOCKS)]) for v in (seconds, values)
    )
    hours = hours / 3600
    x = hours - hours.mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    half = student_t(LEVEL, BLOCKS - 2) * float(np.sqrt((rest @ rest) / (BLOCKS - 2) / (x @ x)))
    found = {'per_hour': slope, 'low': slope - half, 'high': slope + half}
    share = 100 / float(y.mean())
    return {k: round(v, 3) for k, v in (found | {f'percent_{k}': v * share for k, v in found.items()}).items()}


def node(model: str, *parameters: str, remaps: tuple[str, ...] = (), supervised: bool = False) -> WatchedNode:
    """Start a model node."""
    words = [w for value in (f'model:={model}', 'threads:=1', *parameters) for w in ('-p', value)]
    return WatchedNode(NAMESPACE, [*words, *(w for rule in remaps for w in ('-r', rule))], supervised=supervised)


def ready(robot: WatchedNode) -> None:
    """Wait until the node is active."""
    if not robot.spin(lambda: robot.diagnosis.get('state') == 'active', 300):
        raise SystemExit(f'The node did not become active: {robot.log()[-1000:]}')


def sample(robot: WatchedNode, start: float) -> dict[str, float]:
    """Return what the node holds and reports now; NaN values are left out."""
    found = {'s': round(time.monotonic() - start, 1), **robot.held()}
    values = {key: float(robot.diagnosis.get(key, 'nan')) for key in REPORTED}
    return found | {key: value for key, value in values.items() if value == value}


def soak(asked) -> dict[str, Any]:
    """Run the node on the simulated camera and sample it."""
    robot = node(asked.model, 'autostart:=true', remaps=tuple(camera_remaps(CAMERA)))
    # The kitchen changes every 600 images, so that the memory of an episode and the renderer are renewed too.
    options_ = assignments(width=320, height=240, rate_hz=asked.rate, episode_frames=600, depth_noise=True)
    camera = Child(
        'camera', 'm3et_ros.ros.camera_sim', ros_arguments(namespace=CAMERA, parameters=options_), show=False
    )
    samples, asked_at, questions, answered = [], 0.0, 0, 0
    with running(camera):
        ready(robot)
        robot.spin(lambda: float(robot.diagnosis.get('frames_out', 0)) > 0, 120)
        start = time.monotonic()
        while (now := time.monotonic() - start) < asked.minutes * 60 and robot.running:
            if now - asked_at >= asked.question_s:
                asked_at, questions = now, questions + 1
                reply = robot.call(AskQuestion, 'ask', AskQuestion.Request(question=QUESTION))
                answered += reply is not None and reply.success
            due = start + (len(samples) + 1) * asked.every_s
            robot.spin(lambda due=due: time.monotonic() >= due, asked.every_s)
            samples.append(sample(robot, start))
        lived, frames = robot.running, robot.diagnosis.get('frames_out')
    code = robot.close()
    warm = [s for s in samples if s['s'] > WARM_UP * asked.minutes * 60]
    return {
        'minutes': asked.minutes,
        'lived': lived,
        'exit_code': code,
        'frames_served': int(frames),
        'questions': questions,
        'questions_answered': answered,
        'growth_mib': growth([s['s'] for s in warm], [s['rss_mib'] for s in warm]),
        'threads': sorted({s['threads'] for s in warm}),
        'descriptors': sorted({s['descriptors'] for s in warm}),
        'samples': samples,
    }


def loops(asked) -> dict[str, Any]:
    """Bring the node up and down again and again."""
    robot, failures, samples, start = node(asked.model), 0, [], time.monotonic()
    for number in range(asked.loops):
        if not robot.running:
            break
        failures += sum(not robot.change(n) for n in (*UP, *DOWN))
        samples.append({'s': round(time.monotonic() - start, 1), **robot.held()})
        if number % 10 == 9:
            print_status(f'loop {number + 1}: {samples[-1]}')
    good = all(robot.change(n) for n in UP) and robot.ask()
    lived, code = robot.running, robot.close()
    return {
        'loops': len(samples),
        'failures': failures,
        'lived': lived,
        'good_answer_at_the_end': bool(good and good.success),
        'exit_code': code,
        'first': samples[0],
        'middle': samples[len(samples) // 2],
        'last': samples[-1],
        'samples': samples,
    }


class Asking:
    """A question about one picture, asked again and again while models are swapped."""

    def __init__(self, robot: WatchedNode):
        self._client = robot.node.create_client(AskQuestion, f'{robot.name}/ask')
        self._robot, self._future = robot, None
        self.known: dict[str, str] = {}
        self.asked = self.answered = 0
        self.wrong: list[str] = []

    def learn(self, model_id: str, text: str) -> None:
        """Note the answer of a model that serves alone."""
        self.known[model_id] = text

    def go_on(self) -> None:
        """Judge an answer that has come and ask again."""
        if self._future is not None and not self._future.done():
            return
        self.judge()
        self._future = self._client.call_async(self._robot.question())
        self.asked += 1

    def judge(self) -> None:
        """Judge the last answer."""
        if self._future is None or not self._future.done():
            return
        reply, self._future = self._future.result(), None
        self.answered += 1
        if not reply.success or self.known.get(reply.answer.model_id) != reply.answer.text:
            self.wrong.append(f'{reply.answer.model_id}: {reply.answer.text or reply.message}')

    @property
    def lost(self) -> int:
        return self.asked - self.answered


def swaps(asked) -> dict[str, Any]:
    """Load two models in turn while frames come at 30 Hz and a question is always open."""
    robot = node(asked.model, 'autostart:=true', 'domain_check:=0', 'min_confidence:=0.0')
    ready(robot)
    served: list[float] = []
    robot.node.create_subscription(
        ActionAnticipation,
        f'{robot.name}/anticipation',
        lambda _: served.append(time.monotonic()),
        QoSProfile(depth=100),
    )
    asking, names = Asking(robot), (asked.other, asked.model)
    for name in names:
        load(robot, name)
        answer = robot.ask().answer
        asking.learn(answer.model_id, answer.text)
    robot.node.create_timer(1 / 30, robot.show)
    timer = robot.node.create_timer(0.02, asking.go_on)
    robot.spin(lambda: len(served) > 10, 60)
    served.clear()
    refused, samples, start = [], [], time.monotonic()
    for number in range(asked.swaps):
        message = load(robot, names[number % 2])
        refused += [message] if message else []
        samples.append({'s': round(time.monotonic() - start, 1), **robot.held()})
        print_status(f'swap {number + 1}: {samples[-1]}')
    took = time.monotonic() - start
    timer.cancel()
    robot.spin(lambda: asking.judge() or not asking.lost, 60)
    gaps = np.diff(served) if len(served) > 1 else np.zeros(1)
    lived, code = robot.running, robot.close()
    return {
        'swaps': len(samples),
        'refused': refused,
        'lived': lived,
        'exit_code': code,
        'models': asking.known,
        'questions': asking.asked,
        'lost': asking.lost,
        'wrong': asking.wrong[:20],
        'frames_hz': round(len(served) / took, 2),
        'longest_gap_s': round(float(gaps.max()), 3),
        'seconds_a_swap': round(took / max(1, len(samples)), 2),
        'first': samples[0],
        'last': samples[-1],
        'samples': samples,
    }


def kills(asked) -> dict[str, Any]:
    """Kill the supervised node with signal 9 again and again; return the seconds until each answers again."""
    robot = node(asked.model, 'autostart:=true', supervised=True)
    ready(robot)
    took = []
    for _ in range(asked.kills):
        # After a minute of service a node is started again at once.
        robot.spin(bool, STEADY_S + 1 if took else 0)
        (child,) = robot.process.children()
        start = time.monotonic()
        child.kill()
        while not (robot.ask(1.0)) and time.monotonic() - start < 120:
            pass
        took.append(round(time.monotonic() - start, 2))
        print_status(f'kill {len(took)}: {took[-1]} s')
    (child,), lived, code = robot.process.children(), robot.running, robot.close()
    return {'seconds_until_an_answer': took, 'lived': lived, 'exit_code': code, 'orphan': child.is_running()}


def load(robot: WatchedNode, name: str) -> str:
    """Load a model; return '' or the reason why not."""
    reply = robot.call(LoadModel, 'load_model', LoadModel.Request(model=name), 180)
    return 'no reply' if reply is None else '' if reply.success else reply.message


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw memory, threads and descriptors, rates and ages of the soak, and memory over loops and swaps."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), layout='constrained')
    soaked = found['soak']['samples'] if 'soak' in found else []
    minutes = [s['s'] / 60 for s in soaked]
    panels = (
        (axes[0][0], ('rss_mib',), 'MiB', 'Soak: resident memory'),
        (axes[0][1], ('threads', 'descriptors'), 'number', 'Soak: threads and descriptors'),
        (axes[0][2], ('rate_in_hz', 'rate_out_hz'), 'Hz', 'Soak: images in, results out'),
        (axes[1][0], ('age_s/p50', 'age_s/p95'), 's', 'Soak: age of the results'),
    )
    for axis, keys, unit, title in panels:
        for key in keys:
            axis.plot(minutes, [s.get(key, float('nan')) for s in soaked], label=key)
        axis.set(xlabel='minutes', ylabel=unit, title=title)
        axis.legend()
    for axis, key, what in ((axes[1][1], 'loops', 'up/down loops'), (axes[1][2], 'swaps', 'model swaps')):
        axis.plot([s['rss_mib'] for s in found[key]['samples']] if key in found else [])
        axis.set(xlabel=what, ylabel='MiB', title=f'Resident memory over {what}')
    for axis in axes.flat:
        axis.grid(True, alpha=0.3)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Watch, draw and write the figures; exit code 1 after a death, a failure, or a lost or wrong answer."""
    parser = options(__doc__)
    parser.add_argument('--minutes', type=float, default=120.0, help='length of the soak; 0 leaves it out')
    parser.add_argument('--loops', type=int, default=0, help='up/down loops; 0 leaves them out')
    parser.add_argument('--swaps', type=int, default=0, help='model swaps under 30 Hz; 0 leaves them out')
    parser.add_argument('--kills', type=int, default=0, help='kills of the supervised node; 0 leaves them out')
    parser.add_argument('--model', default='kitchen')
    parser.add_argument('--other', default='tiny', help='model that is swapped with it')
    parser.add_argument('--rate', type=float, default=10.0, help='images per second of the simulated camera')
    parser.add_argument('--every-s', type=float, default=5.0, help='seconds between two samples')
    parser.add_argument('--question-s', type=float, default=10.0, help='seconds between two questions')
    parser.add_argument('--plot', type=Path, default=PLOT)
    asked = parser.parse_args()
    alone()
    prepare()
    found: dict[str, Any] = {'model': asked.model, 'rate_hz': asked.rate}
    if asked.minutes:
        found['soak'] = soak(asked)
        print_status(f'soak: {found["soak"]["growth_mib"]}')
    found |= {'loops': loops(asked)} if asked.loops else {}
    found |= {'swaps': swaps(asked)} if asked.swaps else {}
    found |= {'kills': kills(asked)} if asked.kills else {}
    plot(found, asked.plot)
    finish('soak', found, asked.results)
    bad = (
        found.get('loops', {}).get('failures')
        or found.get('swaps', {}).get('lost')
        or found.get('swaps', {}).get('wrong')
    )
    lived = all(found[part]['lived'] for part in ('soak', 'loops', 'swaps', 'kills') if part in found)
    raise SystemExit(bool(bad or not lived))


if __name__ == '__main__':
    main()
