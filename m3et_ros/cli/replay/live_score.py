"""`m3et replay BAG --evaluate`: the live robot on a recording, over DDS and in the time of the recording, scored.

    m3et replay kitchens/20000 --evaluate --questions kitchens/questions.json --out results/live
    m3et replay kitchens/20000 --evaluate --out results/rates --rates 1 --rates 2 --rates 4

Every rate is played to a robot of its own. At the end of the first the questions about the bag are asked, about the
whole episode; what was served and dropped, and how old results were, is what the node's diagnostics say. Nothing of
this is the same twice: for scores that are, there is `m3et evaluate eqa`.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3et_ros.cli.output import Refused, emit, note, say, table
from m3et_ros.cli.processes import Child, running, stop_signals, watch

MODEL_NODE, REPLAY_NODE = 'm3et_ros.ros.model_node', 'm3et_ros.ros.replay_node'
START_S = 60.0
"""How long a robot may take to load its model."""
SETTLE_S = 2.5
"""Diagnostics come once a second: those of the last frames are waited for."""
ASK_S = 60.0
LEAST_SERVED = 0.95
"""Share of the images that must be served at a rate that counts as kept up with."""
LIVE = 'live.json'


@dataclass(frozen=True)
class Live:
    """What is to be played and asked."""

    bag: Path
    out: Path
    # Namespace of the robot, and command lines of both nodes, that of the player without its rate.
    below: str
    robot: Sequence[str]
    player: Sequence[str]
    # Colour images in the recording.
    images: int
    rates: Sequence[float]
    # Questions about this bag.
    questions: Sequence[Any] = field(default=())


def evaluate_live(live: Live, *, as_json: bool) -> None:
    """Play all rates, ask, score, and write live.json and results.json.

    Raises:
        Refused: a node ended by itself, did not come up, or a signal came.
        InputError: a file cannot be written.
    """
    from m3et_ros.data.datasets.openeqa import write_results
    from m3et_ros.evaluation.report.files import environment
    from m3et_ros.evaluation.tasks.eqa_scores import eqa_scores, score_answer

    rows, answers = [], []
    with stop_signals() as stopped:
        for number, rate in enumerate(live.rates):
            asked = live.questions if not number else ()
            row, said = _play(live, rate, asked, stopped)
            rows.append(row)
            answers += said
            note(f'rate {rate:g}: {row["served"]} of {live.images} images served')
    kept = [row['rate'] for row in rows if row['served_share'] >= LEAST_SERVED]
    document: dict[str, Any] = {
        'bag': live.bag.name,
        'images': live.images,
        'rates': rows,
        'highest_rate_kept_up_with': max(kept, default=None),
        'environment': environment(_cpu()),
    }
    if answers:
        scored = [score_answer(question, answer['answer']) for question, answer in zip(live.questions, answers)]
        document |= {'answers': answers, 'metrics': eqa_scores(scored)}
        write_results(live.out / 'results.json', {answer['question_id']: answer['answer'] for answer in answers})
    (live.out / LIVE).write_text(json.dumps(document, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
    emit(document) if as_json else _tell(document, live.out)


def _cpu() -> Any:
    import torch

    return torch.device('cpu')


def _play(live: Live, rate: float, questions: Sequence[Any], stopped: Any) -> tuple[dict[str, Any], list[dict]]:
    """Play the recording once to a new robot: what its diagnostics say at the end, and its answers."""
    from diagnostic_msgs.msg import DiagnosticArray

    from m3et_ros.cli.ask.client import client
    from m3et_ros.srv import AskQuestion

    told: dict[str, str] = {}

    def hear(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(f'{live.below}/model'):
                told.update({pair.key: pair.value for pair in status.values})

    with client(stopped) as node:
        node.create_subscription(DiagnosticArray, '/diagnostics', hear, 10)
        robot = Child('model', MODEL_NODE, live.robot)
        with running(robot):
            ready = node.create_client(AskQuestion, f'{live.below}/model/ask')
            if (
                not node.wait(
                    lambda: robot.code is not None or (ready.service_is_ready() and told.get('state') == 'active'),
                    START_S,
                )
                or robot.code is not None
            ):
                raise Refused('It was stopped.') if stopped.is_set() else robot.failure()
            begin = time.monotonic()
            player = Child('replay', REPLAY_NODE, [*live.player, '-p', f'rate:={float(rate)}'])
            with running(player):
                ended = watch([player, robot], stopped)
            if ended is None or ended is robot or player.code:
                raise Refused('It was stopped.') if ended is None else ended.failure()
            seconds = time.monotonic() - begin
            before = dict(told)
            node.wait(lambda: told == before and False, SETTLE_S)
            return _row(rate, seconds, live.images, told), _ask(node, live.below, questions)


def _row(rate: float, seconds: float, images: int, told: dict[str, str]) -> dict[str, Any]:
    """What the diagnostics of a robot come to."""
    served = int(told.get('frames_out', 0))
    return {
        'rate': rate,
        'seconds': round(seconds, 2),
        'served': served,
        'served_share': round(served / images, 4),
        'arrived': int(told.get('frames_in', 0)),
        'age_s': {name: float(told.get(f'age_s/{name}', 'nan')) for name in ('p50', 'p95')},
        'latency_s': {name: float(told.get(f'latency_s/{name}', 'nan')) for name in ('p50', 'p95')},
        'dropped': {key.partition('/')[2]: int(value) for key, value in told.items() if key.startswith('dropped/')},
        'model': told.get('model_id', ''),
    }


def _ask(node: Any, below: str, questions: Sequence[Any]) -> list[dict]:
    """Ask about the episode; a question that is refused stays unanswered, and says why."""
    from m3et_ros.cli.ask.client import ask
    from m3et_ros.srv import AskQuestion

    found = []
    for question in questions:
        row = {'question_id': question.question_id, 'answer': None}
        try:
            answer = ask(node, below, AskQuestion.Request(question=question.question, scope='episode'), ASK_S)
            row |= {
                'answer': answer.text or None,
                'frames_used': answer.frames_used,
                'confidence': round(answer.confidence, 6),
                'latency_s': round(answer.latency_s, 4),
            }
        except Refused as refused:
            row['trouble'] = str(refused)
        found.append(row)
    return found


def _tell(document: dict[str, Any], out: Path) -> None:
    rows = [('rate', 'served', 'share', 'age p50', 'age p95', 'dropped')]
    for row in document['rates']:
        reasons = ', '.join(f'{name} {count}' for name, count in row['dropped'].items()) or '-'
        rows.append(
            (
                f'{row["rate"]:g}',
                row['served'],
                f'{row["served_share"]:.3f}',
                f'{row["age_s"]["p50"]:.3f} s',
                f'{row["age_s"]["p95"]:.3f} s',
                reasons,
            )
        )
    say(table(rows, right=tuple(range(5))))
    if 'metrics' in document:
        found = document['metrics']['all']
        say(f'{found["exact_match"]["value"]:.3f} of {found["questions"]} questions about the episode are right.')
    best = document['highest_rate_kept_up_with']
    say(f'Highest rate with under 5 % dropped: {"none" if best is None else f"{best:g}"}. Written to {out / LIVE}.')
