"""`m3et evaluate eqa`: questions about recordings, read from the bags themselves; and what is done with finished runs.

    m3et record kitchens --eqa --seed 20000 --episodes 20
    m3et evaluate eqa kitchens/*/ --questions kitchens/questions.json --model kitchen --out results/eqa
    m3et evaluate answers results.json --questions open-eqa-v0.json --out results/other
    m3et evaluate merge results/one results/two --out results/both
    m3et evaluate compare results/before results/after --out results/change

--out gets metrics.json, per_sample.csv, results.json in OpenEQA's schema and report.html. The same command on the same
machine writes the same metrics.json, with any number of workers; a run that was stopped goes on where it was.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from m3et_ros.cli.evaluate.common import (
    AtLeast,
    Camera,
    JudgeModel,
    JudgePrompt,
    JudgeUrl,
    Ray,
    Remaps,
    Threads,
    Train,
    chosen_judge,
    renamed,
)
from m3et_ros.cli.output import Json, emit, note, say, table
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import command_line

BELOW = 2
"""Exit code of a result below --at-least."""

UNTOLD = {'out', 'as_json', 'at_least', 'workers', 'ray'}
TOLD = 3
"""Questions of a bag of which is said why they stay unanswered."""

Out = Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv, results.json and report.html.')]
Questions = Annotated[list[Path], typer.Option(help="Question file in OpenEQA's schema; may be given several times.")]


def eqa(
    context: typer.Context,
    bags: Annotated[list[Path], typer.Argument(help='rosbag2 folders, .mcap or .db3 files.')],
    *,
    questions: Questions,
    out: Out,
    model: Annotated[str, typer.Option(help='Checkpoint folder, named size, or owner/name on the Hub.')],
    scope: Annotated[
        Literal['episode', 'frame', 'blind'],
        typer.Option(help='Answer from the memory of the whole bag, from its last frame, or without looking.'),
    ] = 'episode',
    write: Annotated[bool, typer.Option('--generate', help='Let the text decoder answer.')] = False,
    every: Annotated[int, typer.Option(min=1, help='Look at every n-th colour image only.')] = 1,
    memory: Annotated[
        Literal['trained', 'comb'],
        typer.Option(
            help='Answer for the episode from what the model has learnt to remember, if it has, or from a few frames '
            'of it.'
        ),
    ] = 'trained',
    memory_frames: Annotated[int, typer.Option(min=2, help='How many these are.')] = 8,
    camera: Camera = None,
    remaps: Remaps = None,
    train: Train = None,
    at_least: AtLeast = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_prompt: JudgePrompt = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help='Processes, each with a model of its own.')] = 1,
    ray: Ray = None,
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help='cpu, cuda, cuda:N, or auto for CUDA where there is one.')] = 'cpu',
    as_json: Json = False,
) -> None:
    """Answer questions about recordings, scored per category; a bag that cannot be read costs no other."""
    from m3et_ros.evaluation.tasks.eqa import EqaTask

    task = EqaTask(scope, write, every, memory_frames, camera, renamed(remaps or []), memory == 'comb', threads)
    judge = chosen_judge(judge_url, judge_model, judge_prompt)
    evaluate_recordings(
        context, bags, task, Ask(questions, out, model, train or [], judge, at_least, workers, ray, device, as_json)
    )


def answers(
    context: typer.Context,
    results: Annotated[
        Path, typer.Argument(help="Answers in OpenEQA's schema: question_id and answer, null for none.")
    ],
    *,
    questions: Questions,
    out: Out,
    train: Train = None,
    at_least: AtLeast = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_prompt: JudgePrompt = None,
    as_json: Json = False,
) -> None:
    """Score answers that were given elsewhere, by any model."""
    from m3et_ros.data.datasets.openeqa import read_question_files
    from m3et_ros.evaluation.tasks.eqa_results import given_answers

    run = given_answers(results, read_question_files(questions), command_line(context, UNTOLD))
    training, judge = read_question_files(train or []), chosen_judge(judge_url, judge_model, judge_prompt)
    _make(out)
    _finish(out, run, training, judge, at_least=at_least, as_json=as_json)


def merge(
    folders: Annotated[list[Path], typer.Argument(help='--out of finished runs over other bags.')],
    *,
    out: Out,
    train: Train = None,
    at_least: AtLeast = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_prompt: JudgePrompt = None,
    as_json: Json = False,
) -> None:
    """Put runs of m3et evaluate eqa over other bags together, as if they had been one."""
    from m3et_ros.data.datasets.openeqa import read_question_files
    from m3et_ros.evaluation.jobs import PARTS
    from m3et_ros.evaluation.tasks.eqa_results import keep_parts, merge_runs

    run, training = merge_runs(folders), read_question_files(train or [])
    judge = chosen_judge(judge_url, judge_model, judge_prompt)
    _make(out)
    keep_parts(out / PARTS, [folder / PARTS for folder in folders], run)
    _finish(out, run, training, judge, at_least=at_least, as_json=as_json)


def compare(
    first: Annotated[Path, typer.Argument(help='--out of a finished run.')],
    second: Annotated[Path, typer.Argument(help='--out of another on the same questions.')],
    *,
    out: Annotated[Path, typer.Option(help='Folder for report.html and compare.json.')],
    at_least: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help='End with exit code 2 where exact match of the second is not above the first by this.'
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs question by question."""
    from m3et_ros.evaluation.report.html import write_comparison

    _make(out)
    found = write_comparison(out, (first, second))
    if as_json:
        emit(found)
    else:
        _tell_difference(found, out)
    gain = found['all']['exact_match']['difference']
    if at_least is not None and gain < at_least:
        note(f'exact match changed by {gain:+.4f}, which is below {at_least:+g}')
        raise typer.Exit(BELOW)


@dataclass(frozen=True)
class Ask:
    """What is asked about recordings, and where it is answered; see the options of `m3et evaluate eqa`."""

    questions: list[Path]
    out: Path
    model: str
    train: list[Path]
    # As from chosen_judge.
    judge: Any
    at_least: float | None
    workers: int
    ray: str | None
    device: str
    as_json: bool


def evaluate_recordings(context: typer.Context, bags: list[Path], task: Any, ask: Ask) -> None:
    """Answer questions about recordings as an EqaTask says, write everything and say it.

    Raises:
        InputError: questions cannot be read or belong to no bag, the model cannot be opened, or nothing can be written.
        Refused: --out cannot be made.
        typer.Exit: with BELOW, below the threshold.
    """
    from m3et_ros.data.datasets.openeqa import read_question_files
    from m3et_ros.evaluation.jobs import PARTS, JobRunner, match_bags, run_jobs
    from m3et_ros.evaluation.jobs_ray import run_on_ray
    from m3et_ros.evaluation.tasks.eqa_results import EqaRun

    asked, training = read_question_files(ask.questions), read_question_files(ask.train)
    jobs, without = match_bags(bags, asked)
    _make(ask.out)
    worker = JobRunner(ask.model, ask.device, task, ask.out / PARTS)
    done = (
        run_on_ray(worker, jobs, ask.workers, ask.ray, ask.model, ask.device, track)
        if ask.ray
        else run_jobs(worker, jobs, ask.workers, ask.model, ask.device, track)
    )
    _tell_troubles([one.part for one in done])
    made_by = {
        'command': command_line(context, UNTOLD),
        'settings': task.settings(),
        'model': worker.model,
        'environment': worker.environment,
    }
    chosen = tuple(question for job in jobs for question in job.questions)
    timed = sum(question.time is not None for question in chosen)
    if timed and task.scope in ('episode', 'frame'):
        note(f'{timed} questions have a time, which plays no part here; m3et evaluate vqa answers from the frame of it')
    run = EqaRun(made_by, chosen, tuple(done), len(asked) - len(chosen), tuple(without))
    if without:
        note(f'no question is about {", ".join(without)}')
    _finish(ask.out, run, training, ask.judge, at_least=ask.at_least, as_json=ask.as_json)


def _tell_troubles(parts: list[dict[str, Any]]) -> None:
    """What is wrong with bags and questions."""
    for part in parts:
        for trouble in filter(None, (part.get('failed'), *part['troubles'])):
            note(f'{part["bag"]}: {trouble}')
        troubled = [answer for answer in part['answers'] if 'trouble' in answer]
        for answer in troubled[:TOLD]:
            note(f'{answer["question_id"]} stays unanswered: {answer["trouble"]}')
        if len(troubled) > TOLD:
            note(f'{part["bag"]}: {len(troubled) - TOLD} more questions stay unanswered; per_sample.csv says why')


def _make(out: Path) -> None:
    from m3et_ros.cli.evaluate.common import _make as make

    make(out)


def _finish(out: Path, run: Any, training: list, judge: Any, *, at_least: float | None, as_json: bool) -> None:
    """Score a run, write everything, say it, and end with 2 below a threshold."""
    from m3et_ros.data.errors import InputError
    from m3et_ros.evaluation.judge import mark_answers
    from m3et_ros.evaluation.report.html import write_report
    from m3et_ros.evaluation.tasks.eqa_results import document, scored_answers, write_run

    marks, why = None, ''
    if judge is not None:
        try:
            marks = mark_answers(out, scored_answers(run), judge, progress=track)
        except InputError as error:
            why = str(error)
            note(f'm3et: {why}; the rest is scored')
    rows = scored_answers(run, marks)
    found = document(run, rows, training, None if marks is None else judge.recorded())
    write_run(out, run, rows, found)
    report = write_report(out, run, rows, found, why)
    emit(found) if as_json else _tell(found['metrics'], report)
    reached = found['metrics']['all']['exact_match']['value']
    if at_least is not None and reached < at_least:
        note(f'exact match {reached:.4f} is below {at_least}')
        raise typer.Exit(BELOW)


def _tell(metrics: dict[str, Any], report: Path) -> None:
    lines = list(metrics['all']['guessing'])
    judged, told = ('llm_match' in metrics['all'], 'vqa_soft' in metrics['all'])
    rows = [
        (
            'category',
            'exact match',
            '95 % interval',
            'best F1',
            *(['VQA score'] if told else []),
            *(['LLM-match'] if judged else []),
            'unanswered',
            *(f'guess: {line}' for line in lines),
            'questions',
        )
    ]
    for name, part in (('all', metrics['all']), *metrics['categories'].items()):
        found = part['exact_match']
        span = '-' if found['low'] is None else f'{found["low"]:.3f} to {found["high"]:.3f}'
        rows.append(
            (
                name,
                f'{found["value"]:.3f}',
                span,
                f'{part["best_f1"]["value"]:.3f}',
                *([f'{part["vqa_soft"]["value"]:.3f}' if 'vqa_soft' in part else '-'] if told else []),
                *([f'{part["llm_match"]["percent"]["value"]:.1f}'] if judged else []),
                f'{part["unanswered"]:.3f}',
                *(f'{part["guessing"][line]:.3f}' for line in lines),
                part['questions'],
            )
        )
    say(table(rows, right=tuple(range(1, len(rows[0])))))
    bags = metrics['bags']
    failed = [name for name, bag in bags.items() if 'failed' in bag]
    read = f'Answered from {len(bags) - len(failed)} of {len(bags)} bags. ' if bags else ''
    say(f'\n{read}Read {report}.')


def _tell_difference(found: dict[str, Any], out: Path) -> None:
    rows = [('category', 'first', 'second', 'change', '95 % interval', 'better', 'worse', 'questions')]
    for name, part in (('all', found['all']), *found['categories'].items()):
        row = part['exact_match']
        span = '-' if row['low'] is None else f'{row["low"]:+.3f} to {row["high"]:+.3f}'
        rows.append(
            (
                name,
                f'{row["first"]:.3f}',
                f'{row["second"]:.3f}',
                f'{row["difference"]:+.3f}',
                span,
                part['better'],
                part['worse'],
                part['questions'],
            )
        )
    say(table(rows, right=tuple(range(1, 8))))
    say(f'\nRead {out / "report.html"}.')
