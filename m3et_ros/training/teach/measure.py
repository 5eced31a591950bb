"""Measure a model on the held-out frames of a labelled recording, before and after it is taught.

Depth is measured in holes that are cut into what the sensor measured; masks and answers are compared with the teachers,
who err, too. Each figure stands beside one that needs no model: OpenCV's Navier-Stokes for depth, and a guesser that
knows the commonest answer to each question of the training frames for answers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.frame import UNLABELLED, Frame
from m3et_ros.data.kitchen.questions.frame_wordings import phrasings
from m3et_ros.data.kitchen.sim.vocabulary import with_article
from m3et_ros.data.labelled.facts import names_of
from m3et_ros.data.labelled.samples import LabelledSamples
from m3et_ros.data.labelled.scene import noun_key
from m3et_ros.data.preprocess import squeeze_labels
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums
from m3et_ros.evaluation.metrics.hole_filling import fill_navier_stokes, known_mask
from m3et_ros.evaluation.tasks.cut_holes import cut, holed
from m3et_ros.evaluation.tasks.vqa import ask
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.understanding import question_reader
from m3et_ros.training.teach.label import FrameChoice

MOST_FRAMES = 50
"""Most held-out frames at the camera's resolution, evenly spread."""
HOLES = 0.08
"""Largest half axis of the holes as a share of the width (evaluation.tasks.cut_holes)."""
FAMILY_QUESTIONS = 12
"""Most questions of a family about a frame, evenly spread over its answers."""


@dataclass(frozen=True)
class Exam:
    """The held-out frames and questions."""

    # At the camera's resolution, in order.
    frames: tuple[Frame, ...]
    # The held-out split, without noise.
    data: LabelledSamples
    # Question -> its commonest answer on the training frames.
    guesses: Mapping[str, str]
    # Samples of the simulated kitchen with a question each; None without a cache.
    kitchen: Any = None
    # Question and its teachers' answer, by number of the frame in the split and family.
    asked: Mapping[int, Mapping[str, list[tuple[str, str]]]] = field(default_factory=dict)


def open_exam(
    folder: Path,
    classes: Sequence[str],
    answers: Sequence[str],
    *,
    bags: Sequence[Path],
    every: int,
    kitchen: Any = None,
) -> Exam:
    """Read the held-out frames of a labelled recording.

    Args:
        folder: folder of the data set.
        classes: those of the student once it is taught.
        answers: likewise.
        bags: the recordings.
        every: as they were labelled.
        kitchen: see Exam.
    """
    held = LabelledSamples(folder, classes=classes, answers=answers, split='held_out')
    train = LabelledSamples(folder, classes=classes, answers=answers)
    count = len(held)
    numbers = {int(held.numbers[i]) for i in np.linspace(0, count - 1, min(count, MOST_FRAMES)).round().astype(int)}
    chosen = (one.frame for number, one in enumerate(FrameChoice(bags, every)) if number in numbers)
    answered: dict[str, Counter[str]] = {}
    for number in map(int, train.numbers):
        for questions in _questions(train, number, most=10**9).values():
            for question, answer in questions:
                answered.setdefault(question, Counter())[answer] += 1
    guesses = {question: counts.most_common(1)[0][0] for question, counts in answered.items()}
    asked = {i: _questions(held, int(number), FAMILY_QUESTIONS) for i, number in enumerate(held.numbers)}
    return Exam(tuple(chosen), held, guesses, kitchen, asked)


def _questions(data: LabelledSamples, number: int, most: int) -> dict[str, list[tuple[str, str]]]:
    """Return questions in their first wording, with their answers, by family: at most `most`, answers in turn."""
    families: dict[str, dict[str, list[str]]] = {}
    for family, (kind, answer, values) in data.drafts(number):
        text = phrasings(kind, data.asked_by.version)[0].format(**values)
        families.setdefault(family, {}).setdefault(answer, []).append(text)
    found: dict[str, list[tuple[str, str]]] = {}
    for family, answers in families.items():
        for place in range(max(map(len, answers.values()))):
            own = [(texts[place], answer) for answer, texts in answers.items() if place < len(texts)]
            found.setdefault(family, []).extend(own[: max(most - len(found.get(family, [])), 0)])
    return found


def measure(checkpoint: Checkpoint, exam: Exam, progress: Progress = no_progress) -> dict[str, Any]:
    """Measure a model.

    Args:
        checkpoint: the model, before or after it is taught.
        exam: as from open_exam.
        progress: see data.progress.Progress.

    Returns:
        For JSON: 'depth' (RMSE in metres in cut holes, for the robot's own choice of filling, the model alone and
        Navier-Stokes), 'masks' (share of the teachers' pixels that have their class), 'answers' (accuracy by family,
        and of a guesser), 'existence' (mean accuracy over questions with yes and with no), 'unknown_words', 'actions'
        (verb and noun of each frame), 'kitchen' (accuracy). Parts that cannot be measured are absent.
    """
    engine = Engine(checkpoint, device=str(next(checkpoint.model.parameters()).device))
    found: dict[str, Any] = {}
    deep = [(frame, frame.depth) for frame in exam.frames if frame.depth is not None and known_mask(frame.depth).any()]
    if deep and 'depth' in checkpoint.model.config.tasks:
        found['depth'] = _depth(engine, deep, progress)
    if exam.data.contents['masks']:
        found |= _masks(engine, exam)
    if any(exam.asked.values()):
        found |= _answers(engine, exam, progress)
        found['unknown_words'] = unknown_words(checkpoint, exam.data)
    if 'mambavl' in checkpoint.heads:
        found['actions'] = _actions(engine, exam.frames)
    if exam.kitchen is not None:
        found['kitchen'] = _kitchen(checkpoint, exam.kitchen)
    return found


def _depth(engine: Engine, frames: Sequence[tuple[Frame, np.ndarray]], progress: Progress) -> dict[str, Any]:
    rows: dict[str, list[np.ndarray]] = {'auto': [], 'model': [], 'navier_stokes': []}
    engine.reset_stream()
    for number, (frame, measured) in enumerate(progress(frames, len(frames), 'holes in depth', 'frame')):
        hidden = cut(measured, np.random.default_rng((0, number)), HOLES)
        given = holed(frame, hidden)
        view = engine.encode(given)
        filled: dict[str, Any] = {
            'auto': engine.reconstruct(view, mask=False).depth,
            'model': engine.reconstruct(view, mask=False, fill='always').depth,
            'navier_stokes': fill_navier_stokes(np.where(hidden, np.nan, measured)),
        }
        for way, depth in filled.items():
            rows[way].append(depth_sums(np.nan_to_num(depth)[None], measured[None], hidden[None])[0])
    rmse = {way: round(float(depth_rates(np.sum(own, 0))[0]), 4) for way, own in rows.items()}
    return {'frames': len(frames), 'holes': HOLES, 'rmse_m': rmse}


def _masks(engine: Engine, exam: Exam) -> dict[str, Any]:
    if 'semseg' not in engine.config.tasks:
        return {}
    right = total = 0
    for i in range(len(exam.data)):
        target = squeeze_labels(exam.data.taught_mask(i), engine.config.semseg_size)
        sample = exam.data.view(i)
        logits = engine.decode(engine.encode(Frame(sample.rgb, sample.depth)), ['semseg'])['semseg']
        known = target != UNLABELLED
        right += int((logits[0].argmax(0).cpu().numpy() == target)[known].sum())
        total += int(known.sum())
    return {'masks': {'pixels': total, 'accuracy': round(right / total, 4)}} if total else {}


def _answers(engine: Engine, exam: Exam, progress: Progress) -> dict[str, Any]:
    if engine.checkpoint.model.answer_head is None:
        return {}
    labels = engine.labels.answers
    marks: dict[str, list[tuple[bool, bool]]] = {}
    existence: dict[str, list[tuple[bool, bool]]] = {'yes': [], 'no': []}
    for i in progress(range(len(exam.data)), len(exam.data), 'answers', 'frame'):
        pairs = [(family, *pair) for family, own in exam.asked[i].items() for pair in own]
        if not pairs:
            continue
        sample = exam.data.view(i)
        view = engine.encode(Frame(sample.rgb, sample.depth))
        best = engine.answer_all([question for _, question, _ in pairs], view).argmax(1).tolist()
        for (family, question, answer), number in zip(pairs, best, strict=True):
            mark = labels[number] == answer, exam.guesses.get(question) == answer
            marks.setdefault(family, []).append(mark)
            if family == 'existence':
                existence[answer].append(mark)
    found: dict[str, Any] = {
        'answers': {
            family: {'questions': len(own), 'accuracy': _share(own, 0), 'guesser': _share(own, 1)}
            for family, own in sorted(marks.items())
        }
    }
    if existence['yes'] and existence['no']:
        found['existence'] = {
            'questions': sum(map(len, existence.values())),
            'accuracy': round(sum(_share(own, 0) for own in existence.values()) / 2, 4),
            'guesser': round(sum(_share(own, 1) for own in existence.values()) / 2, 4),
        }
    return found


def _share(marks: Sequence[tuple[bool, bool]], which: int) -> float:
    return round(sum(mark[which] for mark in marks) / len(marks), 4)


def unknown_words(checkpoint: Checkpoint, data: LabelledSamples) -> list[str]:
    """Return the names of things in a data set that the robot would not understand in a question."""
    reader, names = question_reader(checkpoint), names_of(data.facts, ('thing',))
    if reader is None:
        return names
    texts = {name: phrasings('existence', 1)[0].format(article=with_article(noun_key(name))) for name in names}
    return [name for name, text in texts.items() if not reader.read(text).question]


def _actions(engine: Engine, frames: Sequence[Frame]) -> list[list[str]]:
    engine.reset_actions()
    found = []
    for frame in frames:
        anticipated = engine.anticipate(engine.encode(frame), horizon_s=1.0, top_k=1)
        if anticipated is not None:
            found.append([one.label for one in (*anticipated.now.verbs[:1], *anticipated.now.nouns[:1])])
    engine.reset_actions()
    return found


def _kitchen(checkpoint: Checkpoint, samples: Any) -> dict[str, Any]:
    predictions = ask(
        checkpoint.model, checkpoint.tokenizer, samples, answers=checkpoint.labels.answers, shown=('rgb', 'depth')
    )
    return {'questions': len(predictions), 'accuracy': round(float(np.mean([p.score for p in predictions])), 4)}


def rows_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the table: what was measured, without a model, before, after."""
    rows = []
    if 'depth' in before:
        one, other = before['depth']['rmse_m'], after['depth']['rmse_m']
        what = f'depth in cut holes, RMSE in m, {before["depth"]["frames"]} frames'
        rows += [
            (
                f'{what}, as the robot fills them',
                f'{one["navier_stokes"]:.3f}',
                f'{one["auto"]:.3f}',
                f'{other["auto"]:.3f}',
            ),
            (
                '... filled by the model alone',
                f'{one["navier_stokes"]:.3f}',
                f'{one["model"]:.3f}',
                f'{other["model"]:.3f}',
            ),
        ]
    if 'masks' in before:
        what = f'masks as the teachers have them, {before["masks"]["pixels"]:,} pixels'
        rows.append((what, '', f'{before["masks"]["accuracy"]:.1%}', f'{after["masks"]["accuracy"]:.1%}'))
    if 'existence' in before:
        one, other = before['existence'], after['existence']
        what = f'is it there?, as the teachers say, mean of yes and no, {one["questions"]:,} questions'
        rows.append((what, f'{other["guesser"]:.1%}', f'{one["accuracy"]:.1%}', f'{other["accuracy"]:.1%}'))
    for family, own in before.get('answers', {}).items():
        after_own = after['answers'][family]
        what = f'answers: {family.replace("_", " ")}, {own["questions"]:,} questions'
        rows.append((what, f'{own["guesser"]:.1%}', f'{own["accuracy"]:.1%}', f'{after_own["accuracy"]:.1%}'))
    if 'unknown_words' in before:
        unknown = [', '.join(part['unknown_words']) or 'none' for part in (before, after)]
        rows.append(('words not understood', '', unknown[0], unknown[1]))
    if 'actions' in before:
        same = np.mean([one == other for one, other in zip(before['actions'], after['actions'], strict=True)])
        rows.append(('action head, frames with the same verb and noun as before', '', '100.0%', f'{same:.1%}'))
    if 'kitchen' in before:
        what = f'questions in kept kitchens, {before["kitchen"]["questions"]:,}'
        rows.append((what, '', f'{before["kitchen"]["accuracy"]:.1%}', f'{after["kitchen"]["accuracy"]:.1%}'))
    return rows
