"""The course of a demo: what is asked when, what is noted of each moment, and what it comes to."""

import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from m3et_ros.cli.ask.app import RANDOM, answer_dict, frames, probability, untrained
from m3et_ros.cli.ask.client import Client, ask_together
from m3et_ros.cli.demo.poster import Caption, PosterRow, Sheet, draw
from m3et_ros.cli.watch import ResultListener, quantiles

QUESTIONS = (
    ('What is in the hand?', 'frame'),
    ('What is the person doing?', 'frame'),
    ('Which object is nearest to the camera?', 'frame'),
    ('Is the tap on?', 'frame'),
    ('What is being used?', 'frame'),
    ('How many cups can you see?', 'frame'),
    ('Can the person reach the table without walking?', 'frame'),
    ('What was done last?', 'episode'),
)
"""Questions with their scope, in the words of the kitchen's templates."""
PER_ROW = 2
IDLE = 3
"""A node that starts by itself and is still not configured after so many seconds has failed to."""
ANSWER_S = 30.0
PICTURES_S = 5.0
"""How long a frame's pictures may lag behind an answer about it."""


class Demo:
    """A demo under way."""

    def __init__(self, node: Client, below: str, camera: str, check: Callable[[], None]):
        """Begin to listen.

        Args:
            node: listens and asks.
            below: namespace of the model node.
            camera: prefix of the camera's topics.
            check: raises when a node of the demo has died.
        """
        self._node, self._below, self._check = node, below, check
        self._watch = ResultListener(node, below, camera)
        self._questions = cycle(QUESTIONS)
        self._rows: list[dict] = []
        self._start: float | None = None
        self._end = 0.0

    def look(self, seconds: float) -> None:
        """Take in what comes for so long; shorter when a signal comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._node.stopped.is_set():
            self._node.wait(lambda: False, min(0.2, deadline - time.monotonic()))
            self._check()
        self._end = time.monotonic()

    def begun(self) -> bool:
        """Whether all pictures of a frame have come; from then on time and frames are counted."""
        if self._start is None and self._watch.newest_complete() and self._watch.diagnostics:
            self._start = time.monotonic()
            self._watch.received.clear()
            self._watch.ages.clear()
        return self._start is not None

    def missing(self) -> str:
        """What is being waited for."""
        if not self._watch.received['rgb']:
            return 'the first picture of the simulated kitchen'
        if not self._watch.diagnostics:
            return 'the model node'
        return 'the first result of the model'

    def trouble(self) -> str:
        """Why the model node will not become active by itself; '' while it may."""
        if self._watch.idle < IDLE:
            return ''
        error = self._watch.diagnostics['last_error']
        return 'it stays unconfigured; try m3et robot with the same options.' if error == 'none' else error

    def weights(self) -> str:
        """One sentence about the model and whether it was trained."""
        model_id = self._watch.diagnostics['model_id']
        return untrained(model_id) if RANDOM in model_id else f'Model {model_id}.'

    def ask(self, say: Callable[[str], None]) -> None:
        """Ask the next questions about the newest frame, note the moment, and say the answers."""
        if self._node.stopped.is_set():
            return
        asked = [next(self._questions) for _ in range(PER_ROW)]
        answers = [answer_dict(a) for a in ask_together(self._node, self._below, asked, ANSWER_S)]
        stamp = answers[0]['stamp_ns']
        self._node.wait(lambda: self._watch.complete(stamp), PICTURES_S)
        if not self._watch.complete(stamp):
            stamp = self._watch.newest_complete()
        row = {
            'stamp_ns': stamp,
            'seconds': time.monotonic() - self._start,
            'answers': answers,
            'messages': self._watch.frames[stamp],
            'anticipation': self._anticipation(stamp),
        }
        self._rows.append(row)
        say(f'{row["seconds"]:5.1f} s')
        for answer in answers:
            say(
                f'  {answer["question"]}  {answer["text"]}  (confidence {probability(answer["confidence"])}, '
                f'{frames(answer)}, {1e3 * answer["latency_s"]:.0f} ms, image {1e3 * answer["age_s"]:.0f} ms old, '
                f'{answer["model_id"]})'
            )
        now, following = self._actions(row)
        if now.anticipated:
            say(f'  {now.anticipated}  ({now.truth}), {following.anticipated}')

    def summary(self) -> dict:
        """What was measured, and all answers, as plain Python."""
        watch, lasted = self._watch, self._end - self._start
        return {
            'model_id': watch.diagnostics['model_id'],
            'trained': RANDOM not in watch.diagnostics['model_id'],
            'device': watch.diagnostics.get('device'),
            'seconds': lasted,
            'frames_in': watch.received['rgb'],
            'frames_out': watch.received['completed'],
            'fps_in': watch.received['rgb'] / lasted,
            'fps_out': watch.received['completed'] / lasted,
            'age_s': quantiles(watch.ages),
            'drops': watch.drops(),
            'diagnostics': watch.diagnostics,
            'moments': [
                {
                    'stamp_ns': row['stamp_ns'],
                    'seconds': row['seconds'],
                    'answers': row['answers'],
                    'anticipation': row['anticipation'],
                    'truth': self._truth(row['stamp_ns']),
                }
                for row in self._rows
            ],
        }

    def draw(self, path: Path, summary: dict) -> None:
        """Write the picture; there must have been a moment to show."""
        age = summary['age_s']
        facts = [summary['model_id'], f'{summary["fps_in"]:.1f} frames/s in, {summary["fps_out"]:.1f} frames/s out']
        if age['p50'] is not None:
            facts.append(f'age of a result {1e3 * age["p50"]:.0f} ms (p95 {1e3 * age["p95"]:.0f} ms)')
        if not summary['trained']:
            facts.insert(1, 'random weights: the outputs mean nothing, and holes in the depth stay open')
        labels = self._watch.labels
        classes = (
            {}
            if labels is None
            else {i: (name, (c.r, c.g, c.b)) for i, name, c in zip(labels.ids, labels.names, labels.colors)}
        )
        draw(
            Sheet(
                'm3et_ros in the simulated kitchen', '  ·  '.join(facts), tuple(map(self._moment, self._rows)), classes
            ),
            path,
        )

    def _moment(self, row: dict) -> PosterRow:
        """Decode the images of a row."""
        from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg

        messages, asked = row['messages'], row['answers']
        actions = self._actions(row)
        said = tuple(
            Caption(
                answer['question'],
                f'{answer["text"]}  {probability(answer["confidence"])}',
                line.anticipated,
                line.truth,
            )
            for answer, line in zip(asked, actions)
        )
        return PosterRow(
            rgb_from_msg(messages['rgb']),
            depth_from_msg(messages['measured']),
            depth_from_msg(messages['completed']),
            rgb_from_msg(messages['overlay']),
            rgb_from_msg(messages['mask'])[..., 0],
            row['seconds'],
            said,
        )

    def _anticipation(self, stamp: int) -> dict | None:
        """What the model said about now and next for a frame, best first; None without an action head."""
        message = self._watch.frames[stamp].get('anticipation')
        if message is None:
            return None
        return {
            'horizon_s': message.horizon_s,
            'now': [{'label': a.label, 'score': a.score} for a in message.current_actions],
            'next': [{'label': a.label, 'score': a.score} for a in message.actions],
        }

    def _truth(self, stamp: int) -> dict:
        """What the simulator knows of now and next."""
        return {'now': _narration(self._watch.truths.get(stamp)), 'next': _narration(self._watch.next_action(stamp))}

    def _actions(self, row: dict) -> list[Caption]:
        """Lines about now and next: what was anticipated, and what was the case."""
        lines = []
        for when in ('now', 'next'):
            best = (row['anticipation'] or {}).get(when)
            anticipated = f'{when}: {best[0]["label"]}  {probability(best[0]["score"])}' if best else ''
            truth = self._truth(row['stamp_ns'])[when]
            known = truth or ('no action' if when == 'now' else 'not seen yet')
            lines.append(Caption(anticipated=anticipated, truth=f'{"" if best else when + ", "}in truth: {known}'))
        return lines


def _narration(action: dict | None) -> str | None:
    return action and action['narration']
