"""What a run of questions about bags comes to: metrics.json, per_sample.csv, result files, merged and compared.

A run's folder holds metrics.json, per_sample.csv, questions.json and results.json in OpenEQA's schema, times.json (all
that a clock has measured), report.html and parts/. Everything but times.json and report.html is the same for the same
evaluation, however many processes did it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3et_ros import __version__
from m3et_ros.data.datasets.openeqa import EqaQuestion, read_questions, read_results, write_questions, write_results
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.jobs import PARTS, Done, stored
from m3et_ros.evaluation.metrics.intervals import mean_rows, paired_difference
from m3et_ros.evaluation.metrics.latency import latency_summary
from m3et_ros.evaluation.report.files import METRICS, write_metrics, write_samples
from m3et_ros.evaluation.tasks.eqa_scores import FIGURES, Scored, eqa_scores, score_answer

QUESTIONS, RESULTS, TIMES = 'questions.json', 'results.json', 'times.json'
OF_A_BAG = (
    'camera',
    'files',
    'frames',
    'asked_frames',
    'seconds',
    'spoilt_frames',
    'longest_gap_s',
    'troubles',
    'failed',
)


@dataclass(frozen=True)
class EqaRun:
    """A run that is finished."""

    # What it depends on: command, settings, model, environment, questions.
    made_by: dict[str, Any]
    # What was asked.
    questions: tuple[EqaQuestion, ...]
    # One for each bag, by name in order.
    done: tuple[Done, ...]
    # Questions about bags that were not given.
    not_asked: int = 0
    # Bags about which there was no question.
    without_questions: tuple[str, ...] = ()


def questions_digest(questions: Iterable[EqaQuestion]) -> str:
    """SHA-256 over questions, their times and answers, by question_id in order: whatever file they came from."""
    digest = hashlib.sha256()
    for question in sorted(questions, key=lambda q: q.question_id):
        asked: list[Any] = [question.question_id, question.question, *question.references]
        if question.time is not None or question.answers:
            asked.append({'time': question.time, 'answers': question.answers})
        digest.update(json.dumps(asked).encode() + b'\0')
    return digest.hexdigest()


def given_answers(path: Path, questions: Sequence[EqaQuestion], command: str) -> EqaRun:
    """A run out of a result file, whoever answered: no bags, no times.

    Args:
        path: of the result file.
        questions: all of them; those that the file does not answer count as unanswered.
        command: what is written down.

    Raises:
        InputError: the file cannot be read, or answers a question that is not among these ('eqa_schema').
    """
    said = read_results(path)
    strange = sorted(said.keys() - {question.question_id for question in questions})
    if strange:
        raise InputError(
            'eqa_schema',
            f'{path} answers question_id {strange[0]!r}, which is in none of the question '
            'files; give the questions that were asked',
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    made_by = {
        'command': command,
        'settings': {'results_sha256': digest},
        'environment': {'m3et_ros': __version__},
        'model': {'id': path.stem, 'trained': True, 'weights_sha256': None},
    }
    return EqaRun(made_by, tuple(questions), (_told(path.name, said),))


def _told(name: str, said: Mapping[str, str | None]) -> Done:
    """Answers without a bag."""
    return Done({'bag': name, 'answers': [{'question_id': key, 'answer': said[key]} for key in sorted(said)]}, {})


def scored_answers(run: EqaRun, marks: Mapping[str, float | None] | None = None) -> list[Scored]:
    """Every question of a run with its answer and scores, in the order of the questions."""
    said = {answer['question_id']: answer['answer'] for done in run.done for answer in done.part['answers']}
    return [
        score_answer(question, said.get(question.question_id), (marks or {}).get(question.question_id))
        for question in run.questions
    ]


def document(
    run: EqaRun, rows: Sequence[Scored], training: Sequence[EqaQuestion] = (), judge: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What metrics.json holds.

    Args:
        run: what was done.
        rows: as scored_answers gives them.
        training: see eqa_scores.
        judge: what decided the marks (Judge.recorded); None where nobody was asked.
    """
    bags = {
        done.part['bag']: {name: done.part[name] for name in OF_A_BAG if name in done.part}
        for done in run.done
        if 'files' in done.part
    }
    made_by = run.made_by | {'questions': {'sha256': questions_digest(run.questions), 'asked': len(run.questions)}}
    if training:
        made_by['training_questions'] = {'sha256': questions_digest(training), 'count': len(training)}
    if judge is not None:
        made_by['judge'] = dict(judge)
    metrics = eqa_scores(rows, training, judged=judge is not None)
    return {
        'made_by': made_by,
        'metrics': metrics
        | {
            'bags': bags,
            'failed_bags': sum('failed' in done.part for done in run.done),
            'not_asked': run.not_asked,
            'bags_without_questions': list(run.without_questions),
        },
    }


def sample_rows(run: EqaRun, rows: Sequence[Scored]) -> list[dict[str, Any]]:
    """Rows of per_sample.csv."""
    more = {answer['question_id']: answer for done in run.done for answer in done.part['answers']}
    table = []
    for row in rows:
        question, said = row.question, more.get(row.question.question_id, {})
        table.append(
            {
                'question_id': question.question_id,
                'episode': question.episode,
                'category': question.category,
                'question': question.question,
                'reference': question.answer,
                'extra_references': ' | '.join(question.extra_answers),
                'time': question.time,
                'answer': row.answer,
                **{name: said.get(name) for name in ('confidence', 'frames_used', 'first_ns', 'last_ns', 'frame_s')},
                **{figure: rounded(getattr(row, figure)) for figure in FIGURES},
                'vqa_soft': None if row.vqa_soft is None else rounded(row.vqa_soft),
                'mark': row.mark,
                'trouble': said.get('trouble'),
            }
        )
    return table


def times_of(run: EqaRun) -> dict[str, Any]:
    """What clocks have measured, over all bags: milliseconds, and recorded seconds per second of one process."""
    times = [done.times for done in run.done if done.times]
    found: dict[str, Any] = {}
    for name in ('encode_ms', 'answer_ms'):
        values = [value for one in times for value in one[name]]
        found[name] = vars(latency_summary(values)) if values else None
    worked = sum(one['wall_s'] for one in times)
    recorded = sum(done.part.get('seconds', 0) for done in run.done if done.times)
    return found | {
        'recorded_s': recorded,
        'worked_s': worked,
        'times_real_time': recorded / worked if worked else None,
    }


def write_run(out: Path, run: EqaRun, rows: Sequence[Scored], found: Mapping[str, Any]) -> None:
    """Write everything but the report and the parts.

    Raises:
        InputError: 'out_unwritable'.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_samples(out, sample_rows(run, rows))
        write_questions(out / QUESTIONS, run.questions)
        write_results(out / RESULTS, {row.question.question_id: row.answer for row in rows})
        (out / TIMES).write_text(json.dumps(times_of(run), indent=2) + '\n', encoding='utf-8')
        write_metrics(out, found)
    except OSError as error:
        raise InputError(
            'out_unwritable',
            f'{out} cannot be written ({error.strerror}); free some space, or give '
            'another --out: what is finished in its parts is kept',
        ) from error


def read_document(folder: Path) -> dict[str, Any]:
    """metrics.json of a run.

    Raises:
        InputError: 'eqa_run' where the folder holds none.
    """
    try:
        found = json.loads((folder / METRICS).read_text(encoding='utf-8'))
        found['made_by']['questions'], found['metrics']['categories']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            'eqa_run', f'{folder} is no folder that m3et evaluate eqa has finished ({error}); give its --out'
        ) from error
    return found


def read_run(folder: Path) -> EqaRun:
    """A finished run, from its folder.

    Raises:
        InputError: 'eqa_run', or the questions cannot be read.
    """
    found = read_document(folder)
    metrics = found['metrics']
    made_by = {
        name: value
        for name, value in found['made_by'].items()
        if name not in ('questions', 'training_questions', 'judge')
    }
    done = {one.part['bag']: one for one in stored(folder / PARTS)}
    missing = [name for name in metrics['bags'] if name not in done]
    if missing:
        raise InputError(
            'eqa_run', f'{folder / PARTS} lacks {", ".join(missing)}; run its command again: {made_by.get("command")}'
        )
    parts = tuple(done[name] for name in sorted(metrics['bags'])) or (_told(RESULTS, read_results(folder / RESULTS)),)
    return EqaRun(
        made_by,
        tuple(read_questions(folder / QUESTIONS)),
        parts,
        metrics['not_asked'],
        tuple(metrics['bags_without_questions']),
    )


def merge_runs(folders: Sequence[Path]) -> EqaRun:
    """Runs of other bags with the same model and settings, as if they had been one.

    Raises:
        InputError: 'eqa_merge' where model or settings differ, or a bag or question is in two of them; as read_run.
    """
    runs = [read_run(folder) for folder in folders]
    for folder, run in zip(folders[1:], runs[1:]):
        for name in ('model', 'settings'):
            if run.made_by[name] != runs[0].made_by[name]:
                raise InputError(
                    'eqa_merge',
                    f'{folder} was made with another {name} than {folders[0]}; merge runs '
                    'that differ in their bags alone',
                )
    bags: dict[str, Path] = {}
    for folder, run in zip(folders, runs):
        for done in run.done:
            if done.part['bag'] in bags:
                raise InputError(
                    'eqa_merge',
                    f'{done.part["bag"]} is in {bags[done.part["bag"]]} and in {folder}; give each bag once',
                )
            bags[done.part['bag']] = folder
    questions = {question.question_id: question for run in runs for question in run.questions}
    if len(questions) < sum(len(run.questions) for run in runs):
        raise InputError(
            'eqa_merge', f'a question_id stands in two of {", ".join(map(str, folders))}; give each question its own'
        )
    return EqaRun(
        _merged_origin(runs),
        tuple(questions[name] for name in sorted(questions)),
        tuple(sorted((one for run in runs for one in run.done), key=lambda one: one.part['bag'])),
        _left_over(runs, len(questions)),
        tuple(sorted({name for run in runs for name in run.without_questions} - bags.keys())),
    )


def keep_parts(target: Path, sources: Sequence[Path], run: EqaRun) -> None:
    """Lay the parts of merged runs into one folder, so that it can be merged and compared in its turn.

    Raises:
        InputError: 'out_unwritable'.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        for done in run.done:
            for source in sources:
                for suffix in ('.json', '.times.json', '.jpg'):
                    path = source / f'{done.part["bag"]}{suffix}'
                    if path.exists() and path.resolve() != (target / path.name).resolve():
                        shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise InputError(
            'out_unwritable', f'{target} cannot be written ({error.strerror}); free some space, or give another --out'
        ) from error


def _merged_origin(runs: Sequence[EqaRun]) -> dict[str, Any]:
    """made_by of merged runs: all commands, and further environments where they differ."""
    origin = runs[0].made_by | {'command': ' ; '.join(sorted({run.made_by['command'] for run in runs}))}
    others = [run.made_by['environment'] for run in runs if run.made_by['environment'] != origin['environment']]
    return origin | ({'further_environments': others} if others else {})


def _left_over(runs: Sequence[EqaRun], asked: int) -> int:
    """Questions that no run asked: each run counts those of the others' bags among its own, if they shared a file."""
    totals = {run.not_asked + len(run.questions) for run in runs}
    return max(0, totals.pop() - asked) if len(totals) == 1 else sum(run.not_asked for run in runs)


def compare(first: Sequence[Scored], second: Sequence[Scored]) -> dict[str, Any]:
    """How far the second run is above the first, question by question; intervals over episodes.

    Raises:
        InputError: 'eqa_compare' where they have no question in common.
    """
    others = {row.question.question_id: row for row in second}
    pairs = [
        (row, others[row.question.question_id])
        for row in first
        if row.question.question_id in others and others[row.question.question_id].question == row.question
    ]
    if not pairs:
        raise InputError('eqa_compare', 'the two runs have no question in common; compare runs on the same questions')
    categories = sorted({row.question.category for row, _ in pairs})
    return {
        'common': len(pairs),
        'only_first': len(first) - len(pairs),
        'only_second': len(second) - len(pairs),
        'all': _differences(pairs),
        'categories': {
            name: _differences([pair for pair in pairs if pair[0].question.category == name]) for name in categories
        },
    }


def _differences(pairs: Sequence[tuple[Scored, Scored]]) -> dict[str, Any]:
    """Second less first of every figure, and how many answers got better and worse."""
    episodes = [row.question.episode for row, _ in pairs]
    found: dict[str, Any] = {'questions': len(pairs)}
    for figure in FIGURES:
        one, other = ([getattr(pair[i], figure) for pair in pairs] for i in (0, 1))
        interval = paired_difference(mean_rows(other), mean_rows(one), clusters=episodes)
        found[figure] = {
            'first': rounded(sum(one) / len(one)),
            'second': rounded(sum(other) / len(other)),
            'difference': rounded(interval.value),
            'low': rounded(interval.low),
            'high': rounded(interval.high),
        }
    found['better'] = sum(other.best_f1 > one.best_f1 for one, other in pairs)
    found['worse'] = sum(other.best_f1 < one.best_f1 for one, other in pairs)
    return found
