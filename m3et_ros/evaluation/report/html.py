"""The report of a run as one HTML file that needs no network: tables by Jinja2, charts by matplotlib.

write_report(out, run, rows, document)
write_comparison(out, (first_folder, second_folder))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.jobs import PARTS
from m3et_ros.evaluation.report.charts import category_bars, time_histogram
from m3et_ros.evaluation.report.thumbnails import Thumbnails, with_pictures
from m3et_ros.evaluation.tasks.eqa_results import (
    EqaRun,
    compare,
    read_document,
    read_run,
    sample_rows,
    scored_answers,
    times_of,
)
from m3et_ros.evaluation.tasks.eqa_scores import Scored

REPORT = 'report.html'
TEMPLATES = Path(__file__).resolve().parents[1] / 'templates'
SHOWN = 10
"""Best and worst samples that are shown."""


def write_report(
    out: Path,
    run: EqaRun,
    rows: Sequence[Scored],
    document: Mapping[str, Any],
    judge_failed: str = '',
    pictures: Sequence[Path] = (),
) -> Path:
    """Write report.html.

    Args:
        out: folder of the run.
        run: what was done.
        rows: its answers.
        document: its metrics.json.
        judge_failed: why there are no marks though they were wished for.
        pictures: folders in which pictures of frames lie; those of the run's own parts unless given.

    Returns:
        Where it is.

    Raises:
        InputError: 'out_unwritable'.
    """
    metrics, times = document['metrics'], times_of(run)
    parts = [('all', metrics['all']), *metrics['categories'].items()]
    encoded = [value for done in run.done for value in done.times.get('encode_ms', ())]
    pictured = Thumbnails(run, pictures or (out / PARTS,))
    best, worst = (with_pictures(shown, [pictured]) for shown in best_and_worst(sample_rows(run, rows)))
    asked_frames = sum(bag.get('asked_frames', 0) for bag in metrics['bags'].values())
    tables = [('Category', parts), ('Type of answer', list(metrics.get('answer_types', {}).items()))]
    page = render(
        'eqa.html',
        title=f'Questions about {"frames" if asked_frames else "episodes"}',
        metrics=metrics,
        made_by=document['made_by'],
        tables=[table for table in tables if table[1]],
        times=times,
        best=best,
        worst=worst,
        facts=facts(document['made_by'], metrics),
        judge_failed=judge_failed,
        asked_frames=asked_frames,
        categories_plot=_bars(parts),
        times_plot=time_histogram(encoded, 'time of a frame') if encoded else '',
    )
    return write_page(out, page)


def write_comparison(out: Path, folders: tuple[Path, Path]) -> dict[str, Any]:
    """Write report.html over two finished runs and return what was found.

    Raises:
        InputError: a folder is no finished run, they have no question in common, or 'out_unwritable'.
    """
    runs = [read_run(folder) for folder in folders]
    scored = [scored_answers(run) for run in runs]
    found = compare(*scored)
    documents = [read_document(folder) for folder in folders]
    parts = [('all', found['all']), *found['categories'].items()]
    better, worse = _changed(scored, [Thumbnails(run, [folder / PARTS]) for run, folder in zip(runs, folders)])
    names = [
        f'{number}: {origin["model"]["id"]}, {origin["settings"].get("scope", "answers")}'
        for number, origin in zip(('first', 'second'), (document['made_by'] for document in documents))
    ]
    bars = [
        (name, [{'value': part['exact_match'][which], 'low': None, 'high': None} for which in ('first', 'second')])
        for name, part in parts
    ]
    both = [dict(facts(document['made_by'], document['metrics'])) for document in documents]
    page = render(
        'compare.html',
        title='Two runs compared',
        found=found,
        parts=parts,
        better=better,
        worse=worse,
        plot=category_bars(bars, names),
        facts=[(name, both[0].get(name, ''), both[1].get(name, '')) for name in both[0] | both[1]],
    )
    write_page(out, page)
    return found


def best_and_worst(samples: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """Right answers of which the model was surest, and wrong ones, unanswered ones last; at most SHOWN each."""

    def sure(sample: Mapping[str, Any]) -> float:
        return sample['confidence'] or 0.0

    right = [sample for sample in samples if sample['exact_match'] == 1]
    wrong = [sample for sample in samples if sample['exact_match'] < 1]
    best = sorted(right, key=lambda sample: (-sure(sample), sample['question_id']))
    worst = sorted(
        wrong, key=lambda sample: (sample['answer'] is None, sample['best_f1'], -sure(sample), sample['question_id'])
    )
    return best[:SHOWN], worst[:SHOWN]


def facts(made_by: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run depends on, line by line."""
    model, questions = made_by['model'], made_by.get('questions')
    lines = [
        ('model', f'{model["id"]}{"" if model["trained"] else " (random weights)"}'),
        *([('SHA-256 of the weights', model['weights_sha256'])] if model['weights_sha256'] else []),
        *([('questions', f'{questions["asked"]} asked, SHA-256 {questions["sha256"]}')] if questions else []),
        *((f'SHA-256 of {file["name"]}', file['sha256']) for file in made_by.get('segments', ())),
    ]
    if 'judge' in made_by:
        judge = made_by['judge']
        lines.append(
            ('judge', f'{judge["model"]} at {judge["url"]}, temperature {judge["temperature"]}, seed {judge["seed"]}')
        )
    lines += [(f'setting {name}', str(value)) for name, value in made_by['settings'].items()]
    lines += [(name, str(value)) for name, value in made_by['environment'].items()]
    lines += [
        (f'SHA-256 of {bag}/{file}', digest)
        for bag, found in metrics['bags'].items()
        for file, digest in found['files'].items()
    ]
    return lines


def _bars(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    lines = {name: [part['guessing'][name] for _, part in parts] for name in parts[0][1]['guessing']}
    return category_bars([(name, [part['exact_match']]) for name, part in parts], ['exact match'], lines)


def _changed(scored: Sequence[Sequence[Scored]], pictures: Sequence[Thumbnails]) -> tuple[list[dict], list[dict]]:
    """Samples whose score the second run bettered, and worsened; the greatest changes first."""
    others = {row.question.question_id: row for row in scored[1]}
    pairs = [(row, others[row.question.question_id]) for row in scored[0] if row.question.question_id in others]
    found = []
    for sign in (1, -1):
        changed = [(sign * (other.best_f1 - one.best_f1), one, other) for one, other in pairs]
        changed = sorted(
            (item for item in changed if item[0] > 0), key=lambda item: (-item[0], item[1].question.question_id)
        )
        found.append(
            with_pictures(
                [
                    {
                        'question': one.question.question,
                        'reference': one.question.answer,
                        'category': one.question.category,
                        'question_id': one.question.question_id,
                        'episode': one.question.episode,
                        'first': one.answer,
                        'second': other.answer,
                    }
                    for _, one, other in changed[:SHOWN]
                ],
                pictures,
            )
        )
    return found[0], found[1]


def render(template: str, **values: Any) -> str:
    """Fill a template; texts of bags, questions and models are escaped."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters['percent'] = _percent
    return pages.get_template(template).render(**values)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.1f} %'


def write_page(out: Path, page: str) -> Path:
    """Write report.html; returns where it is.

    Raises:
        InputError: 'out_unwritable'.
    """
    path = out / REPORT
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix('.unfinished')
        unfinished.write_text(page, encoding='utf-8')
        unfinished.replace(path)
    except OSError as error:
        raise InputError(
            'out_unwritable',
            f'{path} cannot be written ({error.strerror}); free some space, or give '
            'another --out: the scores are kept where they are',
        ) from error
    return path
