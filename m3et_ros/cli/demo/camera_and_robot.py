"""A running demo: its questions, the record of each moment, and the final measurements."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from m3et_ros.cli.ask.app import RANDOM, answer_dict, describe_frames, format_probability, untrained_warning
from m3et_ros.cli.ask.client import Client, ask_together
from m3et_ros.cli.demo.poster import Caption, Poster, PosterRow, draw
from m3et_ros.cli.demo.result_listener import ResultListener, quantiles
from m3et_ros.data.kitchen.questions.frame_wordings import action

QUESTIONS = (
    ('What is in the hand?', 'frame'),
    ('What is the person doing?', 'frame'),
    ('Which object is nearest to the camera?', 'frame'),
    ('Is the tap on?', 'frame'),
    ('What is being used?', 'frame'),
    ('How many cups can you see?', 'frame'),
    ('Can the person reach the cup without walking?', 'frame'),
    ('What was done last?', 'episode'),
)
"""Questions with their scope, in the wordings of the kitchen."""
PER_ROW = 2
MAX_UNCONFIGURED = 3
"""Reports, one per second, of an unconfigured node after which its start has failed; it configures itself."""
ANSWER_S = 30.0
PICTURES_S = 5.0
"""Seconds that the pictures of a frame may come after an answer about it."""
SPIN_S = 0.2


class Demo:
    """A running demo.

    Args:
        node: node that listens and asks.
        namespace: namespace of the model node.
        camera: prefix of the camera's topics.
        check: raises if a node of the demo has ended.
    """

    def __init__(self, node: Client, namespace: str, camera: str, check: Callable[[], None]):
        self._node, self._namespace, self._check = node, namespace, check
        self._results = ResultListener(node, namespace, camera)
        self._questions = cycle(QUESTIONS)
        self._rows: list[dict[str, Any]] = []
        self._start: float | None = None
        self._end = 0.0

    def listen(self, seconds: float) -> None:
        """Receive messages for a time, shorter if a signal comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._node.stopped.is_set():
            self._node.spin_for(min(SPIN_S, deadline - time.monotonic()))
            self._check()
        self._end = time.monotonic()

    def begun(self) -> bool:
        """Return True once all pictures of a frame have come; time and frames are counted from then on."""
        if self._start is None and self._results.newest_complete() and self._results.diagnostics:
            self._start = time.monotonic()
            self._results.received.clear()
            self._results.ages.clear()
        return self._start is not None

    def missing(self) -> str:
        """Return a description of the results that are still missing."""
        if not self._results.received['rgb']:
            return 'the first image of the simulated kitchen'
        if not self._results.diagnostics:
            return 'the model node'
        return 'the first result of the model'

    def trouble(self) -> str:
        """Return the reason why the model node will not become active by itself; '' while it still may."""
        if self._results.unconfigured < MAX_UNCONFIGURED:
            return ''
        error = self._results.diagnostics['last_error']
        return 'it stays unconfigured; try m3et robot with the same options.' if error == 'none' else error

    def describe_model(self) -> str:
        """Return one sentence about the model, with a warning if it has random weights."""
        model_id = self._results.diagnostics['model_id']
        return untrained_warning(model_id) if RANDOM in model_id else f'Model {model_id}.'

    def ask(self, print_event: Callable[[str], None]) -> None:
        """Ask the next questions about the newest frame, record the moment, and print the answers."""
        if self._node.stopped.is_set():
            return
        questions = [next(self._questions) for _ in range(PER_ROW)]
        answers = [answer_dict(a) for a in ask_together(self._node, self._namespace, questions, ANSWER_S)]
        stamp = answers[0]['stamp_ns']
        self._node.wait(lambda: self._results.complete(stamp), PICTURES_S)
        if not self._results.complete(stamp):
            stamp = self._results.newest_complete()
        row = {
            'stamp_ns': stamp,
            'seconds': time.monotonic() - self._start,
            'answers': answers,
            'messages': self._results.frames[stamp],
            'true_answers': [self._true_answer(answer) for answer in answers],
            'anticipation': self._anticipation(stamp),
        }
        self._rows.append(row)
        print_event(f'{row["seconds"]:5.1f} s')
        for answer, true in zip(answers, row['true_answers'], strict=True):
            verdict = '' if true is None else ', right' if answer['text'] == true else f', in truth {true}'
            print_event(
                f'  {answer["question"]}  {answer["text"]}{verdict}  '
                f'(confidence {format_probability(answer["confidence"])}, '
                f'{describe_frames(answer)}, {1e3 * answer["latency_s"]:.0f} ms, '
                f'image {1e3 * answer["age_s"]:.0f} ms old, {answer["model_id"]})'
            )
        now, following = self._actions(row)
        if now.anticipated:
            print_event(f'  {now.anticipated}  ({now.truth}), {following.anticipated}')

    def summary(self) -> dict[str, Any]:
        """Return the measurements and all answers as plain Python."""
        results, duration = self._results, self._end - self._start
        return {
            'model_id': results.diagnostics['model_id'],
            'trained': RANDOM not in results.diagnostics['model_id'],
            'device': results.diagnostics.get('device'),
            'seconds': duration,
            'frames_in': results.received['rgb'],
            'frames_out': results.received['completed'],
            'fps_in': results.received['rgb'] / duration,
            'fps_out': results.received['completed'] / duration,
            'age_s': quantiles(results.ages),
            'drops': results.drops(),
            'diagnostics': results.diagnostics,
            'moments': [
                {
                    'stamp_ns': row['stamp_ns'],
                    'seconds': row['seconds'],
                    'answers': row['answers'],
                    'true_answers': row['true_answers'],
                    'anticipation': row['anticipation'],
                    'truth': self._truth(row['stamp_ns']),
                }
                for row in self._rows
            ],
        }

    def draw(self, path: Path, summary: dict[str, Any]) -> None:
        """Write the poster of all moments; there must be at least one."""
        age = summary['age_s']
        facts = [summary['model_id'], f'{summary["fps_in"]:.1f} frames/s in, {summary["fps_out"]:.1f} frames/s out']
        if age['p50'] is not None:
            facts.append(f'age of a result {1e3 * age["p50"]:.0f} ms (p95 {1e3 * age["p95"]:.0f} ms)')
        if not summary['trained']:
            facts.insert(1, 'random weights: the outputs mean nothing, and holes in the depth stay open')
        classes = {}
        if labels := self._results.labels:
            for i, name, colour in zip(labels.ids, labels.names, labels.colors, strict=True):
                classes[i] = (name, (colour.r, colour.g, colour.b))
        rows = tuple(self._poster_row(row) for row in self._rows)
        draw(Poster('m3et_ros in the simulated kitchen', '  ·  '.join(facts), rows, classes), path)

    def _poster_row(self, row: dict[str, Any]) -> PosterRow:
        """Decode the images of a moment."""
        from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg

        messages = row['messages']
        captions = tuple(
            replace(
                anticipated,
                question=answer['question'],
                answer=f'{answer["text"]}  {format_probability(answer["confidence"])}',
                right=None if true is None else answer['text'] == true,
                true_answer=true or '',
            )
            for answer, true, anticipated in zip(row['answers'], row['true_answers'], self._actions(row), strict=True)
        )
        return PosterRow(
            rgb_from_msg(messages['rgb']),
            depth_from_msg(messages['measured']),
            depth_from_msg(messages['completed']),
            rgb_from_msg(messages['overlay']),
            rgb_from_msg(messages['mask'])[..., 0],
            row['seconds'],
            captions,
        )

    def _anticipation(self, stamp: int) -> dict[str, Any] | None:
        """Return current and next actions that the model reported for a frame, best first; None without them."""
        message = self._results.frames[stamp].get('anticipation')
        if message is None:
            return None
        return {
            'horizon_s': message.horizon_s,
            'now': [{'label': a.label, 'score': a.score} for a in message.current_actions],
            'next': [{'label': a.label, 'score': a.score} for a in message.actions],
        }

    def _true_label(self, stamp: int, when: str) -> str | None:
        """Return the label of the true action now or next, without its tool and place; None where there is none."""
        found = self._results.truths.get(stamp) if when == 'now' else self._results.next_action(stamp)
        return action(found['verb'], found['noun']) if found else None

    def _truth(self, stamp: int) -> dict[str, str | None]:
        """Return the current and the next action of the simulator; None where there is none."""
        actions = {'now': self._results.truths.get(stamp), 'next': self._results.next_action(stamp)}
        return {when: action['narration'] if action else None for when, action in actions.items()}

    def _true_answer(self, answer: dict[str, Any]) -> str | None:
        """Return the true answer to an answered question at the time of its frame; None where it has none."""
        return self._results.answers.get(answer['stamp_ns'], {}).get(answer['question'])

    def _actions(self, row: dict[str, Any]) -> list[Caption]:
        """Return captions for the current and the next action: what was anticipated, and the truth."""
        captions = []
        for when in ('now', 'next'):
            best = (row['anticipation'] or {}).get(when)
            anticipated = f'{when}: {best[0]["label"]}  {format_probability(best[0]["score"])}' if best else ''
            true, label = self._truth(row['stamp_ns'])[when], self._true_label(row['stamp_ns'], when)
            absent = 'no action' if when == 'now' else 'not known yet'
            truth = f'in truth: {true or absent}'
            right = best[0]['label'] == label if best and label else None
            captions.append(
                Caption(anticipated=anticipated, expected=right, truth=truth if best else f'{when}, {truth}')
            )
        return captions
