"""Extend a model by classes and answers; what it could do before it does as before.

A new class or answer starts from the mean of the weights of its relatives, so its score is the mean of theirs: it never
exceeds the best of them, and the model decides as before until it has learnt the difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from m3et_ros.data.answer_parts import AnswerParts, answer_parts
from m3et_ros.data.calibration import Calibration
from m3et_ros.data.checkpoints.m3et import Checkpoint, random_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import UNLABELLED, Labels
from m3et_ros.data.kitchen.questions.frame_wordings import phrasings
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS, overlay_colours, plural, with_article
from m3et_ros.data.labelled.samples import LabelledSamples
from m3et_ros.data.labelled.scene import noun_key
from m3et_ros.data.questions.taught import Taught, TaughtField, TaughtKind
from m3et_ros.models.m3et.answers import PlacedAnswerHead
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime.understanding import taught_of

SORTS = {'colour': 'colour', 'place': 'place', 'side': 'side'}
"""Field of a wording -> the sort of its words, where they are no nouns."""
FORMS = {'article': 'one', 'plural': 'many'}
"""Field -> the form in which a wording takes its nouns."""


def extended(checkpoint: Checkpoint, classes: Sequence[str], answers: Sequence[str]) -> Checkpoint:
    """Return a checkpoint with more classes and answers; the given one stays as it is.

    Args:
        checkpoint: the model and its labels.
        classes: names to add; those that it has are left out.
        answers: answers to add, likewise.

    Raises:
        InputError: 'labels_full', there would be more than 255 classes.
    """
    labels, config = checkpoint.labels, checkpoint.model.config
    new_classes = [name for name in dict.fromkeys(classes) if name not in labels.classes]
    # A model without an answer head, or without segmentation, learns none.
    new_answers = [text for text in dict.fromkeys(answers) if text not in labels.answers] if config.answers else []
    total = len(labels.classes) + len(new_classes)
    if total > UNLABELLED:
        raise InputError(
            'labels_full',
            f'the student has {len(labels.classes)} classes and the recording shows {len(new_classes)} more, of '
            f'which {UNLABELLED} fit a mask; name the ones to teach by --name',
        )
    wider = replace(
        labels,
        classes=(*labels.classes, *new_classes),
        colors=(*labels.colors, *overlay_colours(total)[len(labels.classes) :]),
        answers=(*labels.answers, *new_answers),
    )
    before, after = answer_parts(labels), answer_parts(wider)
    model = build(
        replace(
            config,
            classes=total,
            answers=len(wider.answers) if config.answers else 0,
            answer_parts=len(after.names) if config.answer_parts else 0,
            look_parts=after.colours if config.look_parts else 0,
        )
    )
    model.load_state_dict(_wider_state(checkpoint.model, model, labels, wider, (before, after)))
    return replace(checkpoint, model=model.eval(), labels=wider)


def with_answers(checkpoint: Checkpoint, answers: Sequence[str], *, seed: int = 0) -> Checkpoint:
    """Return a checkpoint whose answer head has the given candidates; the given one stays as it is.

    Answers that follow those of the model are added to its head, as `extended` does. Another list gets a new head with
    random weights, and the rest of the model stays.

    Args:
        checkpoint: the model and its labels.
        answers: candidates in their order, each once.
        seed: seed of a new head.
    """
    labels, wanted = checkpoint.labels, tuple(answers)
    if wanted[: len(labels.answers)] == labels.answers:
        return extended(checkpoint, (), wanted[len(labels.answers) :]) if wanted != labels.answers else checkpoint
    made = random_checkpoint(
        checkpoint.model.config, checkpoint.tokenizer, replace(labels, answers=wanted, calibration=Calibration()), seed
    )
    own = {k: v for k, v in checkpoint.model.state_dict().items() if not k.startswith('answer_head.')}
    made.model.load_state_dict(made.model.state_dict() | own)
    return replace(checkpoint, model=made.model.eval(), labels=made.labels)


def _wider_state(
    old: M3ET, new: M3ET, labels: Labels, wider: Labels, parts: tuple[AnswerParts, AnswerParts]
) -> dict[str, Tensor]:
    """Return the state of the wider model."""
    state, sizes = old.state_dict(), new.state_dict()
    more = len(wider.classes) - len(labels.classes)
    every_class = [list(range(len(labels.classes)))] * more
    if more and 'adapters.semseg.embedding.weight' in state:
        state['adapters.semseg.embedding.weight'] = _grown(state['adapters.semseg.embedding.weight'], every_class)
    for name in ('decoders.semseg.output.weight', 'decoders.semseg.output.bias'):
        if more and name in state:  # the pixels of a patch are adjacent, class by class
            rows = state[name].unflatten(0, (len(labels.classes), -1))
            state[name] = _grown(rows, every_class).flatten(0, 1)
    head = old.answer_head
    if head is None:
        return state
    if isinstance(head, PlacedAnswerHead) and head.parts is not None:
        _widen_parts(state, sizes, *parts)
    else:
        added = [relatives(text, labels) for text in wider.answers[len(labels.answers) :]]
        last = f'answer_head.layers.{len(head.layers) - 1}'
        for name in (f'{last}.weight', f'{last}.bias'):
            state[name] = _grown(state[name], added)
    return state


def _widen_parts(state: dict[str, Tensor], sizes: dict[str, Tensor], before: AnswerParts, after: AnswerParts) -> None:
    """Widen the head whose answers are sums of parts, in place; parts keep their weights by their names."""
    state['answer_head.parts'] = after.matrix
    split = len(before.names) - before.colours, len(after.names) - after.colours
    for names, own, other in (
        (
            ('answer_head.layers.3.weight', 'answer_head.layers.3.bias'),
            before.names[: split[0]],
            after.names[: split[1]],
        ),
        (
            ('answer_head.look.encoded.weight', 'answer_head.look.encoded.bias', 'answer_head.look.bare.3.weight'),
            before.names[split[0] :],
            after.names[split[1] :],
        ),
    ):
        for name in names:
            if name in state:
                state[name] = torch.stack([_part_row(state[name], part, own) for part in other])
                assert state[name].shape == sizes[name].shape, name


def _part_row(rows: Tensor, part: str, own: Sequence[str]) -> Tensor:
    """Return the weights of a part: its own, or the mean of the parts of its kind, 'noun cup' for 'noun book'."""
    if part in own:
        return rows[own.index(part)]
    kind = part.split(' ')[0]
    same = [i for i, name in enumerate(own) if name.split(' ')[0] == kind] or list(range(len(own)))
    return rows[same].mean(0)


def _grown(rows: Tensor, added: Sequence[Sequence[int]]) -> Tensor:
    """Return rows (n, ...) with a row for each list of positions behind them, the mean of the rows there."""
    return torch.cat([rows, *(rows[list(places)].mean(0, keepdim=True) for places in added)])


def relatives(answer: str, labels: Labels) -> list[int]:
    """Return the positions of the answers of the same sort: names, things of the same colour, or else all.

    Args:
        answer: a new answer.
        labels: the labels before.
    """
    colour = answer.split(' ')[0]
    sorts: tuple[Callable[[str], bool], ...] = (
        lambda text: colour in COLOURS and ' ' in answer and text.startswith(f'{colour} '),
        lambda text: text in labels.classes,
    )
    for sort in sorts:
        found = [i for i, text in enumerate(labels.answers) if sort(text)]
        if found:
            return found
    return list(range(len(labels.answers)))


def extended_taught(checkpoint: Checkpoint, data: LabelledSamples) -> Taught:
    """Return what a model is taught that learns the questions of a data set on top of those it knows.

    Args:
        checkpoint: the model before.
        data: the split that it learns from.
    """
    base = checkpoint.labels.taught or taught_of(checkpoint) or Taught({})
    nouns = [noun_key(name) for name in data.asked_by.nouns]
    plain = {with_article(noun): name for noun, name in zip(nouns, data.asked_by.nouns, strict=True)}
    plain |= {plural(noun): name for noun, name in zip(nouns, data.asked_by.nouns, strict=True)}
    frame = dict(base.frame)
    for kind, asked in _asked(data).items():
        known = frame.get(kind) or TaughtKind(phrasings(kind, data.asked_by.version))
        fields = dict(known.fields)
        for name, values in asked.items():
            words = [plain.get(value, value) if name in FORMS else value for value in values]
            before = fields.get(name) or TaughtField(SORTS.get(name, 'noun'), (words[0],), FORMS.get(name, 'plain'))
            fields[name] = replace(before, words=tuple(dict.fromkeys([*before.words, *words])))
        frame[kind] = replace(known, fields=fields)
    open_questions = dict.fromkeys(fact.question for fact in data.answered)
    frame |= {f'open_{i}': TaughtKind((question,)) for i, question in enumerate(open_questions)}
    forms = {name: (with_article(noun), plural(noun)) for noun, name in zip(nouns, data.asked_by.nouns, strict=True)}
    return Taught(frame, base.episode, {**base.forms, **forms})


def _asked(data: LabelledSamples) -> dict[str, dict[str, dict[str, None]]]:
    """Return kind -> field -> the values with which a split asks."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for number in map(int, data.numbers):
        for _, (kind, _, values) in data.drafts(number):
            fields = found.setdefault(kind, {})
            for name, value in values.items():
                fields.setdefault(name, {})[value] = None
    return found
