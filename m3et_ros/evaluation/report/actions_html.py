"""Report on actions in recordings as one HTML file that needs no network.

write_action_report(out, document, found, times, results)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m3et_ros.evaluation.jobs import PARTS, JobResult
from m3et_ros.evaluation.report.charts import category_bars, time_histogram
from m3et_ros.evaluation.report.html import SHOWN, facts, render, write_page
from m3et_ros.evaluation.report.thumbnails import data_uri
from m3et_ros.evaluation.tasks.actions import TASKS
from m3et_ros.evaluation.tasks.actions_in_bags import read_picture
from m3et_ros.evaluation.tasks.actions_results import KINDS, ActionResults, SegmentResult, way_of

NAMES = {'recognition': 'The action under way', 'anticipation': 'The next action, a second before it starts'}
MEASURES = {'top1': 'top-1', 'top5': 'top-5', 'mean_top5_recall': 'mean top-5 recall'}


def write_action_report(
    out: Path, document: Mapping[str, Any], found: ActionResults, times: Mapping[str, Any], results: Sequence[JobResult]
) -> Path:
    """Write report.html.

    Args:
        out: folder of the run, with its parts.
        document: content of metrics.json.
        found: results that the report shows.
        times: content of times.json.
        results: results of all bags.

    Returns:
        Path of the report.

    Raises:
        InputError: 'out_unwritable'.
    """
    metrics, made_by = document['metrics'], document['made_by']
    encode_ms = [value for result in results for value in result.times.get('encode_ms', ())]
    best, worst = ([_sample(row, found, out / PARTS) for row in some] for some in best_and_worst(found.rows))
    page = render(
        'actions.html',
        title='Actions in recordings',
        made_by=made_by,
        metrics=metrics,
        names=NAMES,
        kinds=KINDS[::-1],
        measures=MEASURES,
        ways=_ways(metrics, found.head),
        best=best,
        worst=worst,
        charts=_charts(metrics['by_verb']),
        times=times,
        facts=facts(made_by, metrics),
        times_plot=time_histogram(encode_ms, 'time of a frame') if encode_ms else '',
    )
    return write_page(out, page)


def best_and_worst(rows: Sequence[SegmentResult]) -> tuple[list[SegmentResult], list[SegmentResult]]:
    """Return at most SHOWN recognised and SHOWN confused segments, the most confident first."""

    def order(row: SegmentResult) -> tuple[float, str]:
        return -row.predictions['recognition'].best[0].score, row.labelled.segment.narration_id

    asked = sorted((row for row in rows if 'recognition' in row.predictions), key=order)
    right = [row for row in asked if row.predictions['recognition'].ranks['action'] == 0]
    wrong = [row for row in asked if row.predictions['recognition'].ranks['action'] > 0]
    return right[:SHOWN], wrong[:SHOWN]


def _sample(row: SegmentResult, found: ActionResults, folder: Path) -> dict[str, Any]:
    """Return a segment with a recognition as the template takes it."""
    segment, recognition = row.labelled.segment, row.predictions['recognition']
    anticipation = row.predictions.get('anticipation')
    return {
        'bag': segment.video,
        'id': segment.narration_id,
        'start_s': segment.start_s,
        'stop_s': segment.stop_s,
        'truth': f'{found.labels.verbs[row.labelled.verb]} {found.labels.nouns[row.labelled.noun]}',
        'narration': segment.narration,
        'at_s': recognition.asked_at_s,
        'best': recognition.best,
        'rank': recognition.ranks['action'],
        'expected': anticipation.best[0].label if anticipation else '',
        'picture': data_uri(read_picture(folder, found.parts[segment.video], recognition.frame)),
    }


def _ways(metrics: Mapping[str, Any], head: Any) -> list[tuple[str, list[tuple[str, bool, Mapping]]]]:
    """Return task to (way, True for the robot's way, scores of all segments)."""
    ways = []
    for task in TASKS:
        own = [
            (way, way == way_of(task, head), subsets['all'])
            for way, subsets in metrics[task].items()
            if way != 'left_out'
        ]
        if own:
            ways.append((task, own))
    return ways


def _charts(by_verb: Mapping[str, Mapping[str, Mapping]]) -> list[tuple[str, str]]:
    """Return task to bars of top-1 accuracy of the action, by true verb."""
    charts = []
    for task, verbs in by_verb.items():
        if verbs:
            bars = [(f'{verb} ({part["samples"]})', [part['action']['top1']]) for verb, part in verbs.items()]
            charts.append((task, category_bars(bars, ['top-1'], what='actions right')))
    return charts
