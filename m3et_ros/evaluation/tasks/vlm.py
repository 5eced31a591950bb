"""Vision-language models of transformers under the questions and the rules of M3ET.

    ask_vlm(open_vlm('SmolVLM-256M'), KitchenSamples(cache, length=400))
    VlmRunner('SmolVLM-256M', 'cpu', for_vlm(EqaTask()), folder).run(job)

They see colours alone, as published models do, and write free text, which the normaliser of the VQA protocol compares
with the answers (docs/papers.md 7.1). PROMPT asks for short answers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.batches import cluster_of, rounded
from m3et_ros.evaluation.files import environment
from m3et_ros.evaluation.jobs import JobRunner
from m3et_ros.evaluation.metrics.answers import normalise
from m3et_ros.evaluation.predictions import Prediction
from m3et_ros.evaluation.tasks.bag_pass import STRIP, BagPass, jpeg, topics_of
from m3et_ros.evaluation.tasks.eqa import QUALITY, EqaTask, unanswered
from m3et_ros.evaluation.tasks.vqa_in_bags import MomentAsker, VqaTask, examine_moments
from m3et_ros.runtime.frame_comb import FrameComb
from m3et_ros.runtime.session import checked_question
from m3et_ros.runtime.vlm.model import VisionLanguageModel, open_vlm

PROMPT = '{} Answer the question using a single word or phrase.'
"""Words around a question; those of LLaVA for short answers."""
TOKENS = 32
"""Most tokens of a short answer."""


def score_text(text: str, answers: dict[str, float]) -> tuple[str, float]:
    """Return the answer that a free text is, and its score; the text itself and 0 where it is none.

    Args:
        text: what the model wrote.
        answers: answer to score in 0..1.
    """
    said = normalise(text)
    found = [answer for answer in answers if normalise(answer) == said]
    best = max(found, key=answers.__getitem__, default=None)
    return (text, 0.0) if best is None else (best, answers[best])


def ask_vlm(
    model: VisionLanguageModel, samples: Dataset[Sample], *, progress: Progress = no_progress, what: str = 'questions'
) -> list[Prediction]:
    """Ask a model every question of a data set; returns one prediction for each sample, in order.

    Args:
        model: the model.
        samples: map-style, with questions and answers.
        progress: see data.progress.Progress.
        what: description of the work for `progress`.
    """
    predictions = []
    for index in progress(range(len(samples)), len(samples), what, 'question'):  # type: ignore[arg-type]
        sample = samples[index]
        text = model.answer(PROMPT.format(sample.question), [sample.rgb], max_tokens=TOKENS).text
        predicted, score = score_text(text, dict(sample.answers))
        predictions.append(
            Prediction(
                index=index,
                key=sample.key,
                cluster=cluster_of(sample),
                family=sample.family,
                question=sample.question,
                answer=sample.answer,
                predicted=predicted,
                closed=sample.closed,
                score=score,
            )
        )
    return predictions


def ask_about(
    model: VisionLanguageModel, question: EqaQuestion, frames: Sequence[Frame], prompt: str = PROMPT
) -> tuple[dict[str, Any], list[float]]:
    """Ask one question about frames of a bag; returns as tasks.eqa.answered."""
    start = time.perf_counter()
    try:
        text = prompt.format(checked_question(question.question, parameter=''))
    except InputError as error:
        return unanswered(question, str(error)), []
    answer = model.answer(text, [frame.rgb for frame in frames], max_tokens=TOKENS)
    found = {
        'question_id': question.question_id,
        'answer': answer.text or None,
        'confidence': rounded(answer.confidence),
        'frames_used': len(frames),
        'first_ns': frames[0].stamp_ns,
        'last_ns': frames[-1].stamp_ns,
    }
    return found, [1e3 * (time.perf_counter() - start)]


@dataclass(frozen=True)
class VlmEqaTask(EqaTask):
    """Questions about the episode, from a few frames of it spread evenly, or about its last frame."""

    prompt: str = PROMPT

    def __post_init__(self):
        super().__post_init__()
        check_setting(self)

    def examine(
        self, engine: VisionLanguageModel, bag: Path, questions: Sequence[EqaQuestion]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
        """Examine a bag as a job, as EqaTask does, with a vision-language model."""
        start = time.perf_counter()
        episode: FrameComb[Frame] = FrameComb(self.memory_frames)
        with BagReader(bag) as reader:
            bag_pass = BagPass(reader, topics_of(reader, self.camera, self.remaps), self.every)
            for frame in bag_pass:
                episode.add(frame)
        bag_pass.require_frames(bag)
        frames = list(episode)[-1:] if self.scope == 'frame' else list(episode)
        asked = [ask_about(engine, question, frames, self.prompt) for question in questions]
        times = {
            'encode_ms': [],
            'answer_ms': [took for _, each in asked for took in each],
            'wall_s': time.perf_counter() - start,
        }
        strip = np.concatenate(bag_pass.strip[:: max(1, len(bag_pass.strip) // STRIP)][:STRIP], 1)
        return bag_pass.part(bag, [answer for answer, _ in asked]), times, {'jpg': jpeg(strip, QUALITY)}


@dataclass(frozen=True)
class VlmVqaTask(VqaTask):
    """Questions about single frames, each from the frame of its time."""

    prompt: str = PROMPT

    def __post_init__(self):
        super().__post_init__()
        check_setting(self)

    def examine(
        self, engine: VisionLanguageModel, bag: Path, questions: Sequence[EqaQuestion]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
        """Examine a bag as a job, as VqaTask does, with a vision-language model."""
        part, times, sheet = examine_moments(engine, self, bag, questions, asker=VlmAsker(engine, self, questions))
        return part, times, {} if sheet is None else {'jpg': jpeg(sheet, QUALITY)}


class VlmAsker(MomentAsker):
    """Ask a vision-language model about one frame after the other."""

    def answers_about(self, frame: Frame, places: Sequence[int]) -> list[tuple[dict[str, Any], list[float]]]:
        """Return the answers to the questions at these places with their times."""
        return [ask_about(self.engine, self.questions[place], [frame], self.task.prompt) for place in places]


def check_setting(task: EqaTask) -> None:
    """Refuse settings that a vision-language model cannot follow.

    Raises:
        ValueError: the scope is blind, or the answers are to be written, which they always are.
    """
    if task.scope == 'blind' or task.write or task.comb:
        raise ValueError(
            'a vision-language model writes its answers and needs images; leave out --scope blind, --generate and '
            '--memory'
        )


def for_vlm(task: EqaTask) -> VlmEqaTask | VlmVqaTask:
    """Return a task with the same settings for a vision-language model.

    Raises:
        ValueError: it cannot follow them.
    """
    kind = VlmVqaTask if isinstance(task, VqaTask) else VlmEqaTask
    return kind(**{field.name: getattr(task, field.name) for field in fields(task)})


class VlmRunner(JobRunner):
    """A JobRunner with a vision-language model in the place of M3ET.

    Args:
        model: as open_vlm takes it.
        device: likewise.
        task: one of for_vlm.
        folder: folder of the parts.

    Raises:
        InputError: the model cannot be opened.
    """

    def __init__(self, model: str, device: str, task: Any, folder: Path):
        self.engine = open_vlm(model, device=device)
        self.task, self.folder = task, folder
        self.environment = vlm_environment(self.engine) | {'threads': task.threads}
        self.model = vlm_facts(self.engine)
        self._heads: dict[str, str] = {}


def vlm_facts(model: VisionLanguageModel) -> dict[str, Any]:
    """Return the model for made_by of metrics.json; the digest is that of its files."""
    return {'id': model.model_id, 'trained': True, 'weights_sha256': model.weights_sha256}


def vlm_environment(model: VisionLanguageModel) -> dict[str, Any]:
    """Return versions and machine, as far as they may change a result of the model."""
    import transformers

    return environment(model.device) | {'transformers': transformers.__version__, 'dtype': str(model.dtype)}
