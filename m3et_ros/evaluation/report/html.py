"""Report of a run as one HTML file that needs no network; tables by Jinja2, charts by matplotlib.

write_report(out, run, rows, document)
write_comparison(out, (first_folder, second_folder))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from m3et_ros.data.files import refuse_unwritable, write_atomically
from m3et_ros.evaluation.jobs import PARTS, times_of
from m3et_ros.evaluation.report.charts import category_bars, time_histogram
from m3et_ros.evaluation.report.thumbnails import Thumbnails, with_pictures
from m3et_ros.evaluation.tasks.eqa_results import EqaRun, compare, read_document, read_run, sample_rows, scored_answers
from m3et_ros.evaluation.tasks.eqa_scores import ScoredAnswer

REPORT = 'report.html'
TEMPLATES = Path(__file__).resolve().parents[1] / 'templates'
SHOWN = 10
"""Number of best and of worst samples in a report."""


def write_report(
    out: Path, run: EqaRun, rows: Sequence[ScoredAnswer], document: Mapping[str, Any], judge_failed: str = ''
) -> Path:
    """Write report.html.

    Args:
        out: folder of the run, with the pictures of its parts.
        run: the run.
        rows: its answers.
        document: content of its metrics.json.
        judge_failed: reason why there are no marks although a judge was asked.

    Returns:
        Path of the report.

    Raises:
        InputError: 'out_unwritable'.
    """
    metrics = document['metrics']
    parts = [('all', metrics['all']), *metrics['categories'].items()]
    encode_ms = [value for result in run.results for value in result.times.get('encode_ms', ())]
    thumbnails = Thumbnails(run, [out / PARTS])
    best, worst = (with_pictures(some, [thumbnails]) for some in best_and_worst(sample_rows(run, rows)))
    asked_frames = sum(bag.get('asked_frames', 0) for bag in metrics['bags'].values())
    bars = [(name, [part['exact_match']]) for name, part in parts]
    baselines = {name: [part['guessing'][name] for _, part in parts] for name in metrics['all']['guessing']}
    tables = [('Category', parts), ('Type of answer', list(metrics.get('answer_types', {}).items()))]
    page = render(
        'eqa.html',
        title=f'Questions about {"frames" if asked_frames else "episodes"}',
        metrics=metrics,
        made_by=document['made_by'],
        tables=[table for table in tables if table[1]],
        times=times_of(run.results),
        best=best,
        worst=worst,
        facts=facts(document['made_by'], metrics),
        judge_failed=judge_failed,
        asked_frames=asked_frames,
        categories_plot=category_bars(bars, ['exact match'], baselines),
        times_plot=time_histogram(encode_ms, 'time of a frame') if encode_ms else '',
    )
    return write_page(out, page)


def write_comparison(out: Path, folders: tuple[Path, Path]) -> dict[str, Any]:
    """Write a report.html that compares two finished runs, and return the comparison.

    Raises:
        InputError: a folder is not a finished run, the runs have no question in common, or 'out_unwritable'.
    """
    runs = [read_run(folder) for folder in folders]
    scored = [scored_answers(run) for run in runs]
    found = compare(*scored)
    documents = [read_document(folder) for folder in folders]
    parts = [('all', found['all']), *found['categories'].items()]
    thumbnails = [Thumbnails(run, [folder / PARTS]) for run, folder in zip(runs, folders, strict=True)]
    better, worse = _changed(scored, thumbnails)
    names = []
    for which, document in zip(('first', 'second'), documents, strict=True):
        made_by = document['made_by']
        names.append(f'{which}: {made_by["model"]["id"]}, {made_by["settings"].get("scope", "answers")}')
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
    """Return at most SHOWN right and SHOWN wrong answers, the most confident first and unanswered questions last."""

    def confidence(sample: Mapping[str, Any]) -> float:
        return sample['confidence'] or 0.0

    right = [sample for sample in samples if sample['exact_match'] == 1]
    wrong = [sample for sample in samples if sample['exact_match'] < 1]
    best = sorted(right, key=lambda sample: (-confidence(sample), sample['question_id']))
    worst = sorted(
        wrong,
        key=lambda sample: (sample['answer'] is None, sample['best_f1'], -confidence(sample), sample['question_id']),
    )
    return best[:SHOWN], worst[:SHOWN]


def facts(made_by: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return everything that a run depends on as names and values."""
    model = made_by['model']
    lines = [('model', f'{model["id"]}{"" if model["trained"] else " (random weights)"}')]
    if model['weights_sha256']:
        lines.append(('SHA-256 of the weights', model['weights_sha256']))
    if 'questions' in made_by:
        questions = made_by['questions']
        lines.append(('questions', f'{questions["asked"]} asked, SHA-256 {questions["sha256"]}'))
    lines += [(f'SHA-256 of {file["name"]}', file['sha256']) for file in made_by.get('segments', ())]
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


def _changed(
    scored: Sequence[Sequence[ScoredAnswer]], thumbnails: Sequence[Thumbnails]
) -> tuple[list[dict], list[dict]]:
    """Return samples whose score is better and worse in the second run, the greatest changes first."""
    others = {row.question.question_id: row for row in scored[1]}
    pairs = [(row, others[row.question.question_id]) for row in scored[0] if row.question.question_id in others]
    found = []
    for sign in (1, -1):
        changed = [(sign * (second.best_f1 - first.best_f1), first, second) for first, second in pairs]
        changed = [item for item in changed if item[0] > 0]
        changed.sort(key=lambda item: (-item[0], item[1].question.question_id))
        samples = [
            {
                'question': first.question.question,
                'reference': first.question.answer,
                'category': first.question.category,
                'question_id': first.question.question_id,
                'episode': first.question.episode,
                'first': first.answer,
                'second': second.answer,
            }
            for _, first, second in changed[:SHOWN]
        ]
        found.append(with_pictures(samples, thumbnails))
    return found[0], found[1]


def render(template: str, **values: Any) -> str:
    """Fill in a template; texts of bags, questions and models are escaped."""
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
    """Write report.html and return its path.

    Raises:
        InputError: 'out_unwritable'.
    """
    path = out / REPORT
    with refuse_unwritable(path, 'free some space, or give another --out: the scores are kept'):
        out.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as unfinished:
            unfinished.write_text(page, encoding='utf-8', errors='backslashreplace')
    return path
