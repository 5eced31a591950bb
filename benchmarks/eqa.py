r"""Measure the episode memory, which has a constant size: its answers against guesses, the last frame and eight frames.

    python benchmarks/eqa.py --model runs/memory/checkpoint --data CACHE ... --test CACHE --frames runs/memory/frames \
        --bag kitchens/20000 --questions kitchens/questions.json --out runs/eqa
                                                                # writes benchmarks/results/eqa.json

All methods answer the same questions, those at the last moment of every test kitchen; the memory also answers those of
all moments. The test cache holds kitchens with questions at several moments
(`m3et generate cache --stride 4 --frames 100`). The blind baseline is the memory's own reader, trained again on the
same questions with their text alone. Without --bag the time of an evaluation is not measured.
"""

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import RESULTS, run_script, write

from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import progress_reporter
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.datasets.openeqa import CATEGORIES, EqaQuestion, read_question_files
from m3et_ros.data.features.episodes import EncodedEpisodes, encode_frames
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.episodes import open_episodes
from m3et_ros.data.kitchen.cache.recipe import read_recipe, read_shards
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.files import made_by
from m3et_ros.evaluation.metrics.intervals import bootstrap_mean
from m3et_ros.evaluation.predictions import Prediction
from m3et_ros.evaluation.tasks.eqa import EqaTask, examine
from m3et_ros.evaluation.tasks.eqa_cached import asked_questions
from m3et_ros.evaluation.tasks.eqa_cached import memory_answers as cached_memory_answers
from m3et_ros.evaluation.tasks.eqa_scores import guesses, score_answer
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_comb import FrameComb
from m3et_ros.runtime.memory import EpisodeMemory
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.memory.answers import AnswerRecipe
from m3et_ros.training.memory.run import MemoryRecipe, encode_percepts, train_reader
from m3et_ros.training.run_state import TrainingSession

FRAMES = 8
"""Frames of an episode that the paper's method uses (docs/papers.md 2.5)."""

MARKS = (100, 10_000)
"""Numbers of frames after which costs are measured."""

Questions = Sequence[Sequence[Sequence[EqaQuestion]]]


class Methods:
    """Answers of one checkpoint to the questions of a cache, by several methods."""

    def __init__(self, checkpoint: Checkpoint, folders: Sequence[Path], frames: Path, out: Path, *, bf16: bool):
        self.checkpoint, self.head, self.out = checkpoint, checkpoint.heads['episode'], out
        self.engine = Engine(replace(checkpoint, heads={}))
        self.frames = KitchenSamples(folders, questions=False)
        encoded = encode_frames(checkpoint, folders, frames, bf16=bf16, noisy=False, progress=track)
        self.encoded = encode_percepts(self.head, open_episodes(folders), encoded, out / 'percepts-test', track)
        self.reading = QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, self.head.config.length)
        self.questions: Questions = asked_questions(self.encoded.episodes)
        self.last: Questions = [[*[[]] * (len(asked) - 1), asked[-1]] if asked else [] for asked in self.questions]

    def memory_answers(self, head: EpisodeHead, questions: Questions, **ways: Any) -> dict[str, Prediction]:
        """Return the answers of a memory by question id."""
        found = cached_memory_answers(head, self.encoded, questions, self.reading, **ways)
        return {given.key: given for given in found}

    def frame_answers(self, count: int) -> dict[str, str]:
        """Return M3ET's answers from `count` frames of the episode, the newest among them, by question id.

        They are stored in the folder of the run, so that another memory of the same model can reuse them.
        """
        path = self.out / f'{self.checkpoint.model_id}-{count}-frames.json'
        if path.exists():
            return json.loads(path.read_text(encoding='utf-8'))
        found = {}
        for episode, asked in track(
            list(zip(self.encoded.episodes, self.last)), len(self.last), f'answered from {count} frames', 'kitchen'
        ):
            views = [self.engine.encode(self._frame(n)) for n in self._chosen(episode, count)] if asked else []
            for question in (one for of_moment in asked for one in of_moment):
                found[question.question_id] = self._answer(question.question, views)
        write(path, found)
        return found

    def _chosen(self, episode: Any, count: int) -> list[int]:
        """Return frame numbers of an episode, evenly spaced up to its last moment."""
        if not episode.question_points or not count:
            return []
        last = episode.first + episode.question_points[-1].frame
        if count == 1:
            return [last]
        comb: FrameComb[int] = FrameComb(count)
        for number in range(episode.first, last + 1):
            comb.add(number)
        return list(comb)

    def _frame(self, number: int) -> Frame:
        sample = self.frames[number]
        return Frame(sample.rgb, sample.depth)

    @torch.inference_mode()
    def _answer(self, question: str, views: Sequence[Any]) -> str:
        if views:
            return self.engine.classify(question, views, top_k=1)[0].label
        ids, mask = self.checkpoint.tokenizer.encode([question], self.engine.config.text_length)
        model: M3ET = self.checkpoint.model
        return self.engine.labels.answers[int(model.answer_logits(model.add_text(None, ids, mask)).argmax())]


def scored(questions: Iterable[EqaQuestion], answers: dict[str, str]) -> dict[str, Any]:
    """Return the exact match of a method, overall and by category, with 95 % intervals over kitchens."""
    rows = [score_answer(question, answers[question.question_id]) for question in questions]
    names = sorted({row.question.category for row in rows})
    parts = {'all': rows} | {name: [row for row in rows if row.question.category == name] for name in names}
    table = {}
    for name, chosen in parts.items():
        kitchens = [row.question.episode.rpartition('-')[0] for row in chosen]
        found = bootstrap_mean([row.exact_match for row in chosen], kitchens)
        table[name] = {
            'value': rounded(found.value),
            'low': rounded(found.low),
            'high': rounded(found.high),
            'questions': len(chosen),
        }
    return table


def flat(questions: Questions) -> list[EqaQuestion]:
    """Return all questions in order."""
    return [one for asked in questions for of_moment in asked for one in of_moment]


def blind_reader(
    checkpoint: Checkpoint, encoded: EncodedEpisodes, out: Path, recipe: MemoryRecipe, bf16: bool
) -> EpisodeHead:
    """Train the reader of a memory again on text alone; it uses neither percepts nor action log."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = EpisodeHead(replace(checkpoint.heads['episode'].config, blind=True))
    session = TrainingSession(bf16=bf16, resume=True, report=progress_reporter(stages=True))
    train_reader(head, encoded, checkpoint, out, recipe=recipe, session=session)
    return head


def accuracy(methods: Methods, training: Sequence[EqaQuestion], blind: EpisodeHead | None) -> dict[str, Any]:
    """Score every method on the questions of the last moments, and the memory on all questions."""
    asked, last = flat(methods.questions), flat(methods.last)
    everything = methods.memory_answers(methods.head, methods.questions)
    rows = {'memory': {key: given.predicted for key, given in everything.items()}}
    newest = methods.memory_answers(methods.head, methods.last, last=True)
    rows['memory_of_the_last_frame'] = {key: given.predicted for key, given in newest.items()}
    for name, count in (('eight_frames', FRAMES), ('last_frame', 1), ('no_frame', 0)):
        rows[name] = methods.frame_answers(count)
    if blind is not None:
        rows['blind_reader'] = {
            key: given.predicted for key, given in methods.memory_answers(blind, methods.last).items()
        }
    for name, answers in guesses(last, training).items():
        rows[f'guess_{name}'] = {question.question_id: answer for question, answer in zip(last, answers)}
    seven = [given for given in everything.values() if given.family in CATEGORIES]
    right = [float(given.category == given.family) for given in seven]
    return {
        'last_moments': {name: scored(last, row) for name, row in rows.items()},
        'all_moments': {'memory': scored(asked, rows['memory'])},
        'seven_way_category': {
            'value': round(float(np.mean(right)), 4),
            'chance': round(1 / 7, 4),
            'questions': len(right),
        },
    }


@torch.inference_mode()
def costs(checkpoint: Checkpoint, marks: Sequence[int], rounds: int = 50) -> dict[str, Any]:
    """Measure the bytes of the memory and the CPU time of a frame after `marks` frames, without the encoding."""
    memory, config = EpisodeMemory(checkpoint), checkpoint.model.config
    random = torch.Generator().manual_seed(0)
    shape = config.image_size, config.image_size
    inputs = {m: torch.randn(1, channels, *shape, generator=random) for m, channels in config.image_channels.items()}
    images, found = checkpoint.model.eval().encode_images(inputs), {}
    for mark in sorted(marks):
        before = memory.frames
        for frame in track(range(before, mark), mark - before, f'memory after {mark} frames', 'frame'):
            memory.update(images, inputs, frame * int(1e9))
        found[str(mark)] = {'bytes': memory.bytes, 'ms': _milliseconds(memory, images, inputs, rounds)}
    return found


def _milliseconds(memory: EpisodeMemory, images: Any, inputs: Any, rounds: int) -> float:
    """Return the median time of further frames; the memory is restored afterwards."""
    before, times = dict(vars(memory)), []
    for _ in range(rounds):
        start = time.process_time()
        memory.update(images, inputs, memory.last_ns + int(1e9))
        times.append(time.process_time() - start)
    vars(memory).update(before)
    return round(1e3 * float(np.median(times)), 3)


def realtime(checkpoint: Checkpoint, bag: Path, questions: Sequence[Path]) -> dict[str, Any]:
    """Measure how much faster than real time a bag is evaluated, on one thread."""
    asked = [question for question in read_question_files(questions) if question.episode == bag.name]
    torch.set_num_threads(1)
    engine, found = Engine(checkpoint), {}
    for way, task in (('memory', EqaTask()), ('eight_frames', EqaTask(comb=True))):
        part, times, _ = examine(engine, task, bag, asked)
        found[way] = {
            'frames': part['frames'],
            'seconds': part['seconds'],
            'wall_s': round(times['wall_s'], 2),
            'questions': len(asked),
            'times_real_time': round(part['seconds'] / times['wall_s'], 2),
        }
    return found


def main() -> None:
    """Answer, train the blind reader, measure costs and write the figures."""
    asked = options()
    checkpoint = open_checkpoint(asked.model)
    methods = Methods(checkpoint, asked.test, asked.out / 'frames-test', asked.out, bf16=asked.bf16)
    episodes = open_episodes(asked.data)
    encoded = [asked.frames / path.parent.name / path.name for folder in asked.data for path in read_shards(folder)]
    blind = None
    if asked.blind_samples:
        learnt = encode_percepts(methods.head, episodes, encoded, asked.out / 'percepts', track)
        recipe = MemoryRecipe(remember=AnswerRecipe(samples=asked.blind_samples, batch=asked.batch))
        blind = blind_reader(checkpoint, learnt, asked.out / 'blind', recipe, asked.bf16)
    document = {
        'made_by': made_by(
            f'python benchmarks/eqa.py --model {Path(asked.model).name}',
            checkpoint,
            read_recipe(asked.test[0]),
            data=[read_recipe(folder).name for folder in asked.data],
            blind_samples=asked.blind_samples,
            frames=FRAMES,
        ),
        'accuracy': accuracy(methods, flat(asked_questions(episodes)), blind),
    }
    results = asked.results or RESULTS / 'eqa.json'
    write(results, document)
    if asked.bag:
        document['evaluation'] = realtime(checkpoint, asked.bag, asked.questions)
    write(results, document | {'costs': costs(checkpoint, asked.marks)})


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', required=True, help='checkpoint with a memory')
    parser.add_argument('--data', type=Path, nargs='+', required=True, help='caches that it was trained on')
    parser.add_argument('--test', type=Path, nargs='+', required=True, help='caches of test kitchens')
    parser.add_argument('--frames', type=Path, required=True, help='frames/ of the run that trained it')
    parser.add_argument('--bag', type=Path, help='recording whose evaluation is timed')
    parser.add_argument('--questions', type=Path, nargs='+', help='questions about it')
    parser.add_argument('--out', type=Path, required=True, help='folder of frames and runs')
    parser.add_argument('--results', type=Path, help='JSON file; default in benchmarks/results')
    parser.add_argument('--blind-samples', type=int, default=4000, help='episodes of the blind reader; 0 leaves it out')
    parser.add_argument('--batch', type=int, default=AnswerRecipe.batch)
    parser.add_argument('--marks', type=int, nargs='+', default=MARKS, help='frames after which costs are measured')
    parser.add_argument('--bf16', action='store_true', help='encode and train in bfloat16')
    return parser.parse_args()


if __name__ == '__main__':
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    run_script(main)
