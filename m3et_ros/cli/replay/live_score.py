"""`m3et replay BAG --evaluate`: scores of the live robot on a recording, over DDS and in the time of the recording.

    m3et replay kitchens/20000 --evaluate --questions kitchens/questions.json --out results/live
    m3et replay kitchens/20000 --evaluate --out results/rates --rates 1 --rates 2 --rates 4

Every rate is played to a new robot. At the end of the first rate the questions about the bag are asked, about the
whole episode. The counts of served and dropped frames and the age of results are those of the node's diagnostics. No
two runs are the same; `m3et evaluate eqa` gives reproducible scores.
"""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3et_ros.cli.output import Refused, print_json, print_line, print_status, print_table
from m3et_ros.cli.processes import Child, running, stop_code, stop_signals, wait_for_end
from m3et_ros.cli.robot import MODEL_NODE

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticArray

    from m3et_ros.cli.ask.client import Client
    from m3et_ros.data.datasets.openeqa import EqaQuestion

REPLAY_NODE = 'm3et_ros.ros.replay_node'
START_S = 60.0
"""Seconds that a robot may take to load its model."""
SETTLE_S = 2.5
"""Seconds until the diagnostics, which come once a second, count the last frames too."""
ASK_S = 60.0
LEAST_SERVED = 0.95
"""Least share of served images at a rate that the robot sustains."""
SUPERSEDED = ('dropped/frame_superseded', 'synchroniser/rgb_superseded')
REPEATED = 'synchroniser/rgb_duplicate'
"""Keys of the diagnostics that count images which arrived and were passed over."""
LIVE, RESULTS = 'live.json', 'results.json'


@dataclass(frozen=True)
class LiveRun:
    """A recording to play to the robot at several rates, and the questions to ask."""

    bag: Path
    out: Path
    namespace: str
    # Arguments of the model node and of the replay node; the rate is added to the latter.
    robot: Sequence[str]
    player: Sequence[str]
    # Number of colour images that are played.
    images: int
    rates: Sequence[float]
    # Questions about this bag.
    questions: Sequence['EqaQuestion'] = field(default=())


def evaluate_live(live: LiveRun, *, as_json: bool) -> None:
    """Play all rates, ask, score, and write live.json and results.json.

    Args:
        live: recording, rates and questions.
        as_json: print JSON.

    Raises:
        Refused: a node ended by itself or did not start, or a signal came.
        InputError: a file cannot be written.
    """
    import torch

    from m3et_ros.data.datasets.openeqa import write_results
    from m3et_ros.evaluation.files import environment
    from m3et_ros.evaluation.tasks.eqa_scores import eqa_scores, score_answer

    rows, answers = [], []
    with stop_signals() as stopped:
        for number, rate in enumerate(live.rates):
            row, own = _play(live, rate, live.questions if number == 0 else (), stopped)
            rows.append(row)
            answers += own
            print_status(f'rate {rate:g}: {row["served"]} of {live.images} images served')
    sustained = [row['rate'] for row in rows if row['served_share'] >= LEAST_SERVED]
    document: dict[str, Any] = {
        'bag': live.bag.name,
        'images': live.images,
        'rates': rows,
        'highest_rate_kept_up_with': max(sustained, default=None),
        'environment': environment(torch.device('cpu')),
    }
    if answers:
        scored = [
            score_answer(question, answer['answer']) for question, answer in zip(live.questions, answers, strict=True)
        ]
        document |= {'answers': answers, 'metrics': eqa_scores(scored)}
        write_results(live.out / RESULTS, {answer['question_id']: answer['answer'] for answer in answers})
    (live.out / LIVE).write_text(
        json.dumps(document, indent=2, ensure_ascii=False) + '\n', encoding='utf-8', errors='backslashreplace'
    )
    if as_json:
        print_json(document)
    else:
        _print_scores(document, live.out)


def _play(
    live: LiveRun, rate: float, questions: Sequence['EqaQuestion'], stopped: threading.Event
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Play the recording once to a new robot; return its counts, see `counts_of`, and its answers."""
    from diagnostic_msgs.msg import DiagnosticArray

    from m3et_ros.cli.ask.client import client

    diagnostics: dict[str, str] = {}

    def on_diagnostics(message: 'DiagnosticArray') -> None:
        for status in message.status:
            if status.name.endswith(f'{live.namespace}/model'):
                diagnostics.update({pair.key: pair.value for pair in status.values})

    with client(stopped) as node:
        node.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, 10)
        robot = Child('model', MODEL_NODE, live.robot)
        with running(robot):
            _await_robot(node, live.namespace, robot, diagnostics)
            begin = time.monotonic()
            player = Child('replay', REPLAY_NODE, [*live.player, '-p', f'rate:={float(rate)}'])
            with running(player):
                ended = wait_for_end([player, robot], stopped)
            if ended is None:
                raise Refused('It was stopped.', stop_code(stopped))
            if ended is robot or player.code:
                raise ended.failure()
            seconds = time.monotonic() - begin
            node.spin_for(SETTLE_S)
            return counts_of(rate, seconds, live.images, diagnostics), _ask(node, live.namespace, questions)


def _await_robot(node: 'Client', namespace: str, robot: Child, diagnostics: dict[str, str]) -> None:
    """Wait until the robot is active and takes questions.

    Raises:
        Refused: a signal came, the robot has ended, or it needs longer than START_S.
    """
    from m3et_ros.srv import AskQuestion

    service = node.create_client(AskQuestion, f'{namespace}/model/ask')
    node.wait(
        lambda: robot.code is not None or (service.service_is_ready() and diagnostics.get('state') == 'active'), START_S
    )
    if node.stopped.is_set():
        raise Refused('It was stopped.', stop_code(node.stopped))
    if robot.code is not None:
        raise robot.failure()
    if diagnostics.get('state') != 'active' or not service.service_is_ready():
        raise Refused(
            f'The robot did not become active within {START_S:.0f} s; see its lines above, or try a smaller --model.'
        )


def counts_of(rate: float, seconds: float, images: int, diagnostics: dict[str, str]) -> dict[str, Any]:
    """Return the counts and ages of a robot from its diagnostics.

    Args:
        rate: speed of the replay.
        seconds: duration of the replay.
        images: number of colour images that were played.
        diagnostics: last values of the model node by key.

    Returns:
        Counts whose parts add up: images = lost + arrived, where a lost image was played and did not arrive, and
        arrived = served + superseded by a newer image + repeated stamps + unserved, which were refused, failed or
        still in hand at the end.

    Raises:
        Refused: more images arrived than were played.
    """
    served, arrived = int(diagnostics.get('frames_out', 0)), int(diagnostics.get('frames_in', 0))
    if arrived > images:
        raise Refused(
            f'{arrived} images arrived and {images} were played, so another camera publishes on the same topic; stop '
            'it, or give a --namespace and --camera of its own.'
        )
    superseded = sum(int(diagnostics.get(key, 0)) for key in SUPERSEDED)
    repeated = int(diagnostics.get(REPEATED, 0))
    return {
        'rate': rate,
        'seconds': round(seconds, 2),
        'images': images,
        'lost': images - arrived,
        'arrived': arrived,
        'served': served,
        'served_share': round(served / images, 4),
        'frames_without_depth': int(diagnostics.get('frames_without_depth', 0)),
        'superseded': superseded,
        'repeated': repeated,
        'unserved': arrived - served - superseded - repeated,
        'age_s': {name: float(diagnostics.get(f'age_s/{name}', 'nan')) for name in ('p50', 'p95')},
        'latency_s': {name: float(diagnostics.get(f'latency_s/{name}', 'nan')) for name in ('p50', 'p95')},
        'dropped': {
            key.partition('/')[2]: int(value) for key, value in diagnostics.items() if key.startswith('dropped/')
        },
        'causes': {
            key.partition('/')[2]: sentence for key, sentence in diagnostics.items() if key.startswith('causes/')
        },
        'model': diagnostics.get('model_id', ''),
    }


def _ask(node: 'Client', namespace: str, questions: Sequence['EqaQuestion']) -> list[dict[str, Any]]:
    """Ask about the episode; a question that is refused has the answer None and its trouble."""
    from m3et_ros.cli.ask.client import ask
    from m3et_ros.srv import AskQuestion

    rows = []
    for question in questions:
        row = {'question_id': question.question_id, 'answer': None}
        try:
            answer = ask(node, namespace, AskQuestion.Request(question=question.question, scope='episode'), ASK_S)
            row |= {
                'answer': answer.text or None,
                'frames_used': answer.frames_used,
                'confidence': round(answer.confidence, 6),
                'latency_s': round(answer.latency_s, 4),
            }
        except Refused as refused:
            row['trouble'] = str(refused)
        rows.append(row)
    return rows


def _print_scores(document: dict[str, Any], out: Path) -> None:
    rows = [('rate', 'images', 'served', 'share', 'lost', 'superseded', 'unserved', 'age p50', 'age p95', 'reasons')]
    for row in document['rates']:
        reasons = ', '.join(f'{name} {count}' for name, count in row['dropped'].items()) or '-'
        rows.append(
            (
                f'{row["rate"]:g}',
                row['images'],
                row['served'],
                f'{row["served_share"]:.3f}',
                row['lost'],
                row['superseded'] + row['repeated'],
                row['unserved'],
                f'{row["age_s"]["p50"]:.3f} s',
                f'{row["age_s"]["p95"]:.3f} s',
                reasons,
            )
        )
    print_table(rows, right=tuple(range(9)))
    for row in document['rates']:
        if row['frames_without_depth']:
            print_line(
                f'Rate {row["rate"]:g}: {row["frames_without_depth"]} of {row["served"]} served frames had no depth.'
            )
        for sentence in row['causes'].values():
            print_line(f'Rate {row["rate"]:g}: {sentence}')
    if 'metrics' in document:
        scores = document['metrics']['all']
        print_line(f'{scores["exact_match"]["value"]:.3f} of {scores["questions"]} questions about the episode right.')
    best = document['highest_rate_kept_up_with']
    print_line(
        f'Highest rate with under 5 % dropped: {"none" if best is None else f"{best:g}"}. Written to {out / LIVE}.'
    )
