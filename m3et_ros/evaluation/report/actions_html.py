"""The report on actions in recordings as one HTML file that needs no network.

write_action_report(out, document, found, times)
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m3et_ros.evaluation.jobs import PARTS, Done
from m3et_ros.evaluation.report.charts import category_bars, time_histogram
from m3et_ros.evaluation.report.html import SHOWN, facts, render, write_page
from m3et_ros.evaluation.tasks.actions import TASKS
from m3et_ros.evaluation.tasks.actions_in_bags import read_picture
from m3et_ros.evaluation.tasks.actions_results import KINDS, ActionResults, SegmentResult, way_of

NAMES = {'recognition': 'What is done', 'anticipation': 'What comes next, a second before'}
MEASURES = {'top1': 'top-1', 'top5': 'top-5', 'mean_top5_recall': 'mean top-5 recall'}


def write_action_report(
    out: Path, document: Mapping[str, Any], found: ActionResults, times: Mapping[str, Any], done: Sequence[Done]
) -> Path:
    """Write report.html.

    Args:
        out: folder of the run, with its parts.
        document: metrics.json.
        found: what it was made of.
        times: what times.json holds.
        done: of all bags.

    Returns:
        Where it is.

    Raises:
        InputError: 'out_unwritable'.
    """
    metrics, made_by = document['metrics'], document['made_by']
    encoded = [value for one in done for value in one.times.get('encode_ms', ())]
    best, worst = ([_shown(told, found, out / PARTS) for told in some] for some in best_and_worst(found.told))
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
        times_plot=time_histogram(encoded, 'time of a frame') if encoded else '',
    )
    return write_page(out, page)


def best_and_worst(rows: Sequence[SegmentResult]) -> tuple[list[SegmentResult], list[SegmentResult]]:
    """Segments recognised of which the model was surest, and those taken for something else, the surest first; at most
    SHOWN each.
    """
    asked = sorted((row for row in rows if 'recognition' in row.said), key=_doubt)
    right = [row for row in asked if row.said['recognition'].ranks['action'] == 0]
    return right[:SHOWN], [row for row in asked if row.said['recognition'].ranks['action'] > 0][:SHOWN]


def _doubt(row: SegmentResult) -> tuple[float, str]:
    return -row.said['recognition'].best[0].score, row.one.segment.narration_id


def _shown(told: SegmentResult, found: ActionResults, folder: Path) -> dict[str, Any]:
    """A segment as the template takes it."""
    segment, said = told.one.segment, told.said['recognition']
    jpeg = read_picture(folder, found.parts[segment.video], said.place)
    following = told.said.get('anticipation')
    return {
        'bag': segment.video,
        'id': segment.narration_id,
        'start_s': segment.start_s,
        'stop_s': segment.stop_s,
        'truth': f'{found.labels.verbs[told.one.verb]} {found.labels.nouns[told.one.noun]}',
        'narration': segment.narration,
        'at_s': said.asked_at_s,
        'best': said.best,
        'rank': said.ranks['action'],
        'expected': following.best[0].label if following else '',
        'picture': f'data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}' if jpeg else '',
    }


def _ways(metrics: Mapping[str, Any], head: Any) -> list[tuple[str, list[tuple[str, bool, Mapping]]]]:
    """Task to (way, whether the robot asks so, scores of all segments)."""
    return [
        (
            task,
            [
                (way, way == way_of(task, head), subsets['all'])
                for way, subsets in metrics[task].items()
                if way != 'left_out'
            ],
        )
        for task in TASKS
        if set(metrics[task]) - {'left_out'}
    ]


def _charts(by_verb: Mapping[str, Mapping[str, Mapping]]) -> list[tuple[str, str]]:
    """Task to bars: top-1 of the action, by the true verb."""
    return [
        (
            task,
            category_bars(
                [(f'{verb} ({part["samples"]})', [part['action']['top1']]) for verb, part in verbs.items()],
                ['top-1'],
                what='actions right',
            ),
        )
        for task, verbs in by_verb.items()
        if verbs
    ]
