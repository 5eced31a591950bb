"""Results of questions about bags: write, read, merge and compare runs.

The folder of a run holds metrics.json, per_sample.csv, questions.json and results.json in OpenEQA's schema, times.json
with all measured times, report.html and parts/. Everything but times.json and report.html is the same for the same
evaluation, with any number of processes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3et_ros import __version__
from m3et_ros.data.datasets.openeqa import EqaQuestion, read_questions, read_results, write_questions, write_results
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.files import METRICS, write_metrics, write_samples
from m3et_ros.evaluation.jobs import PARTS, JobResult, bag_fields, stored, write_times
from m3et_ros.evaluation.metrics.intervals import mean_rows, paired_difference
from m3et_ros.evaluation.tasks.eqa_scores import FIGURES, ScoredAnswer, eqa_scores, score_answer

QUESTIONS, RESULTS = 'questions.json', 'results.json'


@dataclass(frozen=True)
class EqaRun:
    """A finished run."""

    # Command, settings, model, environment and questions of the run.
    made_by: dict[str, Any]
    # The questions that were asked.
    questions: tuple[EqaQuestion, ...]
    # A result for each bag, in the order of names.
    results: tuple[JobResult, ...]
    # Number of questions about bags that were not given.
    not_asked: int = 0
    # Bags without questions.
    without_questions: tuple[str, ...] = ()


def questions_digest(questions: Iterable[EqaQuestion]) -> str:
    """Return the SHA-256 over questions, their times and answers in the order of question_id."""
    digest = hashlib.sha256()
    for question in sorted(questions, key=lambda q: q.question_id):
        asked: list[Any] = [question.question_id, question.question, *question.references]
        if question.time is not None or question.answers:
            asked.append({'time': question.time, 'answers': question.answers})
        digest.update(json.dumps(asked).encode() + b'\0')
    return digest.hexdigest()


def answers_run(path: Path, questions: Sequence[EqaQuestion], command: str) -> EqaRun:
    """Make a run of a result file of any model; it has no bags and no times.

    Args:
        path: the result file.
        questions: all questions; those that the file does not answer count as unanswered.
        command: command line for metrics.json.

    Raises:
        InputError: the file cannot be read, or it answers a question that is not among these ('eqa_schema').
    """
    answers = read_results(path)
    strange = sorted(answers.keys() - {question.question_id for question in questions})
    if strange:
        raise InputError(
            'eqa_schema',
            f'{path} answers question_id {strange[0]!r}, which is not in the question files; give the questions that '
            'were asked',
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    made_by = {
        'command': command,
        'settings': {'results_sha256': digest},
        'environment': {'m3et_ros': __version__},
        'model': {'id': path.stem, 'trained': True, 'weights_sha256': None},
    }
    return EqaRun(made_by, tuple(questions), (_without_bag(path.name, answers),))


def _without_bag(name: str, answers: Mapping[str, str | None]) -> JobResult:
    """Return answers as the result of a bag without frames."""
    listed = [{'question_id': key, 'answer': answers[key]} for key in sorted(answers)]
    return JobResult({'bag': name, 'answers': listed}, {})


def scored_answers(run: EqaRun, marks: Mapping[str, float | None] | None = None) -> list[ScoredAnswer]:
    """Score the answer to every question of a run, in the order of the questions."""
    answers = {answer['question_id']: answer['answer'] for answer in _answers(run)}
    return [
        score_answer(question, answers.get(question.question_id), (marks or {}).get(question.question_id))
        for question in run.questions
    ]


def _answers(run: EqaRun) -> Iterator[dict[str, Any]]:
    return (answer for result in run.results for answer in result.part['answers'])


def document(
    run: EqaRun,
    rows: Sequence[ScoredAnswer],
    training: Sequence[EqaQuestion] = (),
    judge: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of metrics.json.

    Args:
        run: the run.
        rows: as scored_answers returns them.
        training: see eqa_scores.
        judge: settings of the judge (Judge.recorded); None where no judge was asked.
    """
    bags = {result.part['bag']: bag_fields(result) for result in run.results if 'files' in result.part}
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
            'failed_bags': sum('failed' in result.part for result in run.results),
            'not_asked': run.not_asked,
            'bags_without_questions': list(run.without_questions),
        },
    }


def sample_rows(run: EqaRun, rows: Sequence[ScoredAnswer]) -> list[dict[str, Any]]:
    """Return the rows of per_sample.csv."""
    answers = {answer['question_id']: answer for answer in _answers(run)}
    table = []
    for row in rows:
        question, answer = row.question, answers.get(row.question.question_id, {})
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
                **{name: answer.get(name) for name in ('confidence', 'frames_used', 'first_ns', 'last_ns', 'frame_s')},
                **{figure: rounded(getattr(row, figure)) for figure in FIGURES},
                'vqa_soft': rounded(row.vqa_soft),
                'vqa_soft_older': rounded(row.vqa_soft_older),
                'mark': row.mark,
                'trouble': answer.get('trouble'),
            }
        )
    return table


def write_run(out: Path, run: EqaRun, rows: Sequence[ScoredAnswer], found: Mapping[str, Any]) -> None:
    """Write everything but the report and the parts.

    Args:
        out: folder of the run.
        run: the run.
        rows: its answers, as scored_answers returns them.
        found: content of metrics.json.

    Raises:
        InputError: 'out_unwritable'.
    """
    with refuse_unwritable(out, 'free some space, or give another --out: finished parts are kept'):
        out.mkdir(parents=True, exist_ok=True)
        write_samples(out, sample_rows(run, rows))
        write_questions(out / QUESTIONS, run.questions)
        write_results(out / RESULTS, {row.question.question_id: row.answer for row in rows})
        write_times(out, run.results)
        write_metrics(out, found)


def read_document(folder: Path) -> dict[str, Any]:
    """Read metrics.json of a run.

    Raises:
        InputError: 'eqa_run' where the folder has none.
    """
    try:
        found = json.loads((folder / METRICS).read_text(encoding='utf-8'))
        found['made_by']['questions'], found['metrics']['categories']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            'eqa_run', f'{folder} is not a finished --out folder of m3et evaluate eqa ({error}); give one'
        ) from error
    return found


def read_run(folder: Path) -> EqaRun:
    """Read a finished run from its folder.

    Raises:
        InputError: 'eqa_run' where the folder is incomplete, or as read_questions.
    """
    found = read_document(folder)
    metrics = found['metrics']
    made_by = {
        name: value
        for name, value in found['made_by'].items()
        if name not in ('questions', 'training_questions', 'judge')
    }
    parts = {result.part['bag']: result for result in stored(folder / PARTS)}
    missing = [name for name in metrics['bags'] if name not in parts]
    if missing:
        raise InputError(
            'eqa_run', f'{folder / PARTS} lacks {", ".join(missing)}; run its command again: {made_by.get("command")}'
        )
    results = tuple(parts[name] for name in sorted(metrics['bags']))
    if not results:
        results = (_without_bag(RESULTS, read_results(folder / RESULTS)),)
    return EqaRun(
        made_by,
        tuple(read_questions(folder / QUESTIONS)),
        results,
        metrics['not_asked'],
        tuple(metrics['bags_without_questions']),
    )


def merge_runs(folders: Sequence[Path]) -> EqaRun:
    """Merge runs over different bags with the same model and settings into one.

    Raises:
        InputError: 'eqa_merge' where model or settings differ, or a bag or question is in two of them; as read_run.
    """
    runs = [read_run(folder) for folder in folders]
    for folder, run in zip(folders[1:], runs[1:], strict=True):
        for name in ('model', 'settings'):
            if run.made_by[name] != runs[0].made_by[name]:
                raise InputError(
                    'eqa_merge',
                    f'{folder} was made with another {name} than {folders[0]}; merge runs that differ in bags only',
                )
    bags: dict[str, Path] = {}
    for folder, run in zip(folders, runs, strict=True):
        for result in run.results:
            name = result.part['bag']
            if name in bags:
                raise InputError('eqa_merge', f'{name} is in {bags[name]} and in {folder}; give each bag once')
            bags[name] = folder
    questions = {question.question_id: question for run in runs for question in run.questions}
    if len(questions) < sum(len(run.questions) for run in runs):
        raise InputError(
            'eqa_merge', f'a question_id occurs in two of {", ".join(map(str, folders))}; give each question its own'
        )
    return EqaRun(
        _merged_origin(runs),
        tuple(questions[name] for name in sorted(questions)),
        tuple(sorted((result for run in runs for result in run.results), key=lambda result: result.part['bag'])),
        _left_over(runs, len(questions)),
        tuple(sorted({name for run in runs for name in run.without_questions} - bags.keys())),
    )


def copy_parts(target: Path, sources: Sequence[Path], run: EqaRun) -> None:
    """Copy the parts of merged runs into one folder, so that the merged run can be merged and compared again.

    Args:
        target: folder of the parts of the merged run.
        sources: folders of the parts of the runs.
        run: the merged run.

    Raises:
        InputError: 'out_unwritable'.
    """
    with refuse_unwritable(target, 'free some space, or give another --out'):
        target.mkdir(parents=True, exist_ok=True)
        for result in run.results:
            for source in sources:
                for suffix in ('.json', '.times.json', '.jpg'):
                    path = source / f'{result.part["bag"]}{suffix}'
                    if path.exists() and path.resolve() != (target / path.name).resolve():
                        shutil.copyfile(path, target / path.name)


def _merged_origin(runs: Sequence[EqaRun]) -> dict[str, Any]:
    """Return made_by of merged runs: all commands, and further environments where they differ."""
    origin = runs[0].made_by | {'command': ' ; '.join(sorted({run.made_by['command'] for run in runs}))}
    others = [run.made_by['environment'] for run in runs if run.made_by['environment'] != origin['environment']]
    return origin | ({'further_environments': others} if others else {})


def _left_over(runs: Sequence[EqaRun], asked: int) -> int:
    """Count the questions that no run asked; runs of one question file count each other's questions as not asked."""
    totals = {run.not_asked + len(run.questions) for run in runs}
    if len(totals) > 1:
        return sum(run.not_asked for run in runs)
    return max(0, totals.pop() - asked)


def compare(first: Sequence[ScoredAnswer], second: Sequence[ScoredAnswer]) -> dict[str, Any]:
    """Compare the second run with the first, question by question; intervals are over episodes.

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


def _differences(pairs: Sequence[tuple[ScoredAnswer, ScoredAnswer]]) -> dict[str, Any]:
    """Return second minus first of every figure, and the numbers of better and worse answers."""
    episodes = [row.question.episode for row, _ in pairs]
    found: dict[str, Any] = {'questions': len(pairs)}
    for figure in FIGURES:
        first, second = ([getattr(pair[i], figure) for pair in pairs] for i in (0, 1))
        interval = paired_difference(mean_rows(second), mean_rows(first), clusters=episodes)
        found[figure] = {
            'first': rounded(sum(first) / len(first)),
            'second': rounded(sum(second) / len(second)),
            'difference': rounded(interval.value),
            'low': rounded(interval.low),
            'high': rounded(interval.high),
        }
    found['better'] = sum(second.best_f1 > first.best_f1 for first, second in pairs)
    found['worse'] = sum(second.best_f1 < first.best_f1 for first, second in pairs)
    return found
