"""`m3et evaluate eqa`: questions about recordings, answered from the bags; and `answers`, `merge` and `compare`.

    m3et record kitchens --eqa --seed 20000 --episodes 20
    m3et evaluate eqa kitchens/*/ --questions kitchens/questions.json --out results/eqa
    m3et evaluate answers results.json --questions open-eqa-v0.json --out results/other
    m3et evaluate merge results/one results/two --out results/both
    m3et evaluate compare results/before results/after --out results/change

--out gets metrics.json, per_sample.csv, results.json in OpenEQA's schema and report.html. The same command on the same
machine writes the same metrics.json, with any number of workers; a run that was stopped is resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from m3et_ros.cli.evaluate.common import (
    BELOW_THRESHOLD,
    BagTopics,
    ClusterRun,
    ScoreOptions,
    check_threshold,
    format_interval,
    make_out,
    print_troubles,
    recorded_command,
    refusing,
)
from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import print_json, print_line, print_status, print_table
from m3et_ros.cli.progress import track

if TYPE_CHECKING:
    from m3et_ros.data.datasets.openeqa import EqaQuestion
    from m3et_ros.evaluation.jobs import JobRunner
    from m3et_ros.evaluation.judge import Judge
    from m3et_ros.evaluation.tasks.eqa import EqaTask
    from m3et_ros.evaluation.tasks.eqa_results import EqaRun

MAX_UNANSWERED = 3
"""Unanswered questions of a bag that are printed with their reason."""
REPORT = 'report.html'

Questions = Annotated[list[Path], typer.Option(help="Question file in OpenEQA's schema; may be given several times.")]
Out = Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv, results.json and report.html.')]


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions(BagTopics):
    """Options of answers about an episode."""

    scope: Annotated[
        Literal['episode', 'frame', 'blind'],
        typer.Option(help='Answer from the memory of the whole bag, from its last frame, or without any image.'),
    ] = 'episode'
    write: Annotated[bool, typer.Option('--generate', help='Let the text decoder answer.')] = False
    every: Annotated[int, typer.Option(min=1, help='Encode every n-th colour image only.')] = 1
    memory: Annotated[
        Literal['trained', 'comb'],
        typer.Option(
            help="Answer from the model's trained memory, if it has one, or from a few frames of the episode."
        ),
    ] = 'trained'
    memory_frames: Annotated[int, typer.Option(min=2, help='Number of these frames.')] = 8


@expand_options(
    'bags questions out model answerer answerer_checkpoint scope write every memory memory_frames camera remaps train '
    'at_least judge_url judge_model judge_prompt workers ray threads device as_json'
)
def eqa(
    context: typer.Context,
    bags: Annotated[list[Path], typer.Argument(help='rosbag2 folders, .mcap or .db3 files.')],
    questions: Questions,
    run: ClusterRun,
    episode: EpisodeOptions,
    scoring: ScoreOptions,
    as_json: Json = False,
) -> None:
    """Answer questions about recordings, scored by category; a bag that cannot be read does not stop the others."""
    from m3et_ros.evaluation.tasks.eqa import EqaTask

    task = EqaTask(
        scope=episode.scope,
        write=episode.write,
        every=episode.every,
        memory_frames=episode.memory_frames,
        camera=episode.camera,
        remaps=episode.renamed(),
        comb=episode.memory == 'comb',
        threads=run.threads,
    )
    evaluate_recordings(context, bags, questions, task, run, scoring, as_json=as_json)


@expand_options('results questions out train at_least judge_url judge_model judge_prompt as_json')
def answers(
    context: typer.Context,
    results: Annotated[
        Path, typer.Argument(help="Answers in OpenEQA's schema: question_id and answer, null for none.")
    ],
    questions: Questions,
    out: Out,
    scoring: ScoreOptions,
    as_json: Json = False,
) -> None:
    """Score answers of any other model."""
    from m3et_ros.data.datasets.openeqa import read_question_files
    from m3et_ros.evaluation.tasks.eqa_results import answers_run

    run = answers_run(results, read_question_files(questions), recorded_command(context))
    training, judge = read_question_files(scoring.train or []), scoring.judge()
    make_out(out)
    _finish(out, run, training, judge, at_least=scoring.at_least, as_json=as_json)


@expand_options('folders out train at_least judge_url judge_model judge_prompt as_json')
def merge(
    folders: Annotated[list[Path], typer.Argument(help='--out of finished runs over different bags.')],
    out: Out,
    scoring: ScoreOptions,
    as_json: Json = False,
) -> None:
    """Merge runs of m3et evaluate eqa over different bags into one."""
    from m3et_ros.data.datasets.openeqa import read_question_files
    from m3et_ros.evaluation.jobs import PARTS
    from m3et_ros.evaluation.tasks.eqa_results import copy_parts, merge_runs

    run, training, judge = merge_runs(folders), read_question_files(scoring.train or []), scoring.judge()
    make_out(out)
    copy_parts(out / PARTS, [folder / PARTS for folder in folders], run)
    _finish(out, run, training, judge, at_least=scoring.at_least, as_json=as_json)


def compare(
    first: Annotated[Path, typer.Argument(help='--out of a finished run.')],
    second: Annotated[Path, typer.Argument(help='--out of another run on the same questions.')],
    *,
    out: Annotated[Path, typer.Option(help='Folder for report.html and compare.json.')],
    at_least: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help='End with exit code 2 if the gain in exact match from first to second is below this.'
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs question by question."""
    from m3et_ros.evaluation.report.html import write_comparison

    make_out(out)
    comparison = write_comparison(out, (first, second))
    if as_json:
        print_json(comparison)
    else:
        _print_comparison(comparison, out)
    gain = comparison['all']['exact_match']['difference']
    if at_least is not None and gain < at_least:
        print_status(f'exact match changed by {gain:+.4f}, which is below {at_least:+g}')
        raise typer.Exit(BELOW_THRESHOLD)


def evaluate_recordings(
    context: typer.Context,
    bags: list[Path],
    questions: list[Path],
    task: 'EqaTask',
    run: ClusterRun,
    scoring: ScoreOptions,
    *,
    as_json: bool,
) -> None:
    """Answer questions about recordings, and write and print the scores.

    Args:
        context: typer context of the verb, for the recorded command.
        bags: the recordings.
        questions: question files.
        task: settings for reading the bags and answering.
        run: model, device, processes and folder of results.
        scoring: baselines, judge and threshold.
        as_json: print JSON.

    Raises:
        InputError: questions cannot be read or belong to no bag, the model cannot be opened, or results cannot be
            written.
        Refused: --out cannot be made.
        typer.Exit: the exact match is below the threshold.
    """
    from m3et_ros.data.datasets.openeqa import read_question_files
    from m3et_ros.evaluation.jobs import match_bags, run_jobs
    from m3et_ros.evaluation.jobs_ray import run_on_ray
    from m3et_ros.evaluation.tasks.eqa_results import EqaRun

    asked, training, judge = read_question_files(questions), read_question_files(scoring.train or []), scoring.judge()
    jobs, without = match_bags(bags, asked)
    run.check_answerer(context)
    make_out(run.out)
    runner, model = _runner(run, task)
    workers = run.workers or 1
    if run.ray:
        done = run_on_ray(runner, jobs, workers, run.ray, model, run.device, track)
    else:
        done = run_jobs(runner, jobs, workers, model, run.device, track)
    parts = [one.part for one in done]
    print_troubles(parts)
    _print_unanswered(parts)
    made_by = {
        'command': recorded_command(context),
        'settings': runner.task.settings(),
        'model': runner.model,
        'environment': runner.environment,
    }
    chosen = tuple(question for job in jobs for question in job.questions)
    _print_unused(chosen, task, without)
    result = EqaRun(made_by, chosen, tuple(done), len(asked) - len(chosen), tuple(without))
    _finish(run.out, result, training, judge, at_least=scoring.at_least, as_json=as_json)


def _runner(run: ClusterRun, task: 'EqaTask') -> 'tuple[JobRunner, str]':
    """Return the runner of the model that answers, and the name by which further processes open it."""
    from m3et_ros.evaluation.jobs import PARTS, JobRunner
    from m3et_ros.evaluation.tasks.vlm import VlmRunner, for_vlm

    if run.answerer_checkpoint is None:
        return JobRunner(run.model, run.device, task, run.out / PARTS), run.model
    own = refusing(for_vlm, task)
    return VlmRunner(run.answerer_checkpoint, run.device, own, run.out / PARTS), run.answerer_checkpoint


def _print_unused(chosen: 'Sequence[EqaQuestion]', task: 'EqaTask', without: Sequence[str]) -> None:
    """Print what of the input was not used: times of questions, and bags without questions."""
    timed = sum(question.time is not None for question in chosen)
    if timed and task.scope in ('episode', 'frame'):
        print_status(
            f'{timed} questions have a time, which is not used here; m3et evaluate vqa uses the frame at that time'
        )
    if without:
        print_status(f'no question is about {", ".join(without)}')


def _print_unanswered(parts: Sequence[dict[str, Any]]) -> None:
    """Print why questions stay unanswered, up to MAX_UNANSWERED of each bag."""
    for part in parts:
        unanswered = [answer for answer in part['answers'] if 'trouble' in answer]
        for answer in unanswered[:MAX_UNANSWERED]:
            print_status(f'{answer["question_id"]} stays unanswered: {answer["trouble"]}')
        more = len(unanswered) - MAX_UNANSWERED
        if more > 0:
            print_status(f'{part["bag"]}: {more} more questions stay unanswered; per_sample.csv says why')


def _finish(
    out: Path,
    run: 'EqaRun',
    training: 'Sequence[EqaQuestion]',
    judge: 'Judge | None',
    *,
    at_least: float | None,
    as_json: bool,
) -> None:
    """Score a run, write and print the results, and check the threshold."""
    from m3et_ros.data.errors import InputError
    from m3et_ros.evaluation.judge import mark_answers
    from m3et_ros.evaluation.report.html import write_report
    from m3et_ros.evaluation.tasks.eqa_results import document, scored_answers, write_run

    marks, trouble = None, ''
    if judge is not None:
        try:
            marks = mark_answers(out, scored_answers(run), judge, progress=track)
        except InputError as error:
            trouble = str(error)
            print_status(f'm3et: {trouble}; the rest is scored')
    rows = scored_answers(run, marks)
    scores = document(run, rows, training, None if marks is None else judge.recorded())
    write_run(out, run, rows, scores)
    report = write_report(out, run, rows, scores, trouble)
    if as_json:
        print_json(scores)
    else:
        _print_metrics(scores['metrics'], report)
    check_threshold('exact match', scores['metrics']['all']['exact_match']['value'], at_least)


def _print_metrics(metrics: dict[str, Any], report: Path) -> None:
    baselines = list(metrics['all']['guessing'])
    judged, people = 'llm_match' in metrics['all'], 'vqa_soft' in metrics['all']
    header = ['category', 'exact match', '95 % interval', 'best F1']
    if people:
        header.append('VQA score')
    if judged:
        header.append('LLM-match')
    header += ['unanswered', *(f'guess: {name}' for name in baselines), 'questions']
    rows = [header]
    for name, part in (('all', metrics['all']), *metrics['categories'].items()):
        exact = part['exact_match']
        row = [name, f'{exact["value"]:.3f}', format_interval(exact), f'{part["best_f1"]["value"]:.3f}']
        if people:
            row.append(f'{part["vqa_soft"]["value"]:.3f}' if 'vqa_soft' in part else '-')
        if judged:
            row.append(f'{part["llm_match"]["percent"]["value"]:.1f}')
        row += [f'{part["unanswered"]:.3f}', *(f'{part["guessing"][one]:.3f}' for one in baselines), part['questions']]
        rows.append(row)
    print_table(rows, right=tuple(range(1, len(header))))
    bags = metrics['bags']
    readable = sum('failed' not in bag for bag in bags.values())
    read = f'Answered from {readable} of {len(bags)} bags. ' if bags else ''
    print_line(f'\n{read}Read {report}.')


def _print_comparison(comparison: dict[str, Any], out: Path) -> None:
    rows = [('category', 'first', 'second', 'change', '95 % interval', 'better', 'worse', 'questions')]
    for name, part in (('all', comparison['all']), *comparison['categories'].items()):
        exact = part['exact_match']
        rows.append(
            (
                name,
                f'{exact["first"]:.3f}',
                f'{exact["second"]:.3f}',
                f'{exact["difference"]:+.3f}',
                format_interval(exact, sign='+'),
                part['better'],
                part['worse'],
                part['questions'],
            )
        )
    print_table(rows, right=tuple(range(1, 8)))
    print_line(f'\nRead {out / REPORT}.')
