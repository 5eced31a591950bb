"""Results of an evaluation as Markdown tables for a model card or a README.

print(vqa_table(json.loads((folder / 'metrics.json').read_text())['metrics']))
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from m3et_ros.data.errors import printable


def vqa_table(metrics: Mapping[str, Any]) -> str:
    """Return a table of accuracy next to blind baselines: all questions, those of one frame, each family and subset.

    Questions about held-out combinations are divided by family and into open ones and those with yes or no as answers.
    The last row is the expected calibration error of the answer head.
    """
    subsets = metrics['subsets']
    whole = subsets['all']
    rows = [
        ('all families', whole),
        ('answerable from one frame', whole['answerable_from_one_frame']),
        *((name.replace('_', ' '), part) for name, part in whole['families'].items()),
        *((f'{name.replace("_", " ")}: all families', part) for name, part in subsets.items() if name != 'all'),
        *_by_form(subsets.get('held_out', {})),
    ]
    cells = [
        (
            name,
            share(part['accuracy']),
            plain(part.get('best_blind')),
            plain(part.get('majority')),
            str(part['samples']),
        )
        for name, part in rows
    ]
    if 'written' in whole:
        written = whole['written']
        cells.insert(
            1,
            ('all families, written by the text decoder', share(written['accuracy']), '', '', str(written['samples'])),
        )
    if 'calibration_error' in whole:
        error = share(whole['calibration_error'])
        cells.append(('calibration error, all families', error, '', '', str(whole['samples'])))
    return table(('Questions', 'Accuracy', 'Best blind guess', 'Majority of the family', 'Asked'), cells)


def _by_form(held_out: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and part of the open and the closed held-out questions: all of them, then those of each family."""
    for name, part in (('all families', held_out), *held_out.get('families', {}).items()):
        for form, found in part.get('forms', {}).items():
            yield f'held out: {name.replace("_", " ")}, {form}', found


def reconstruction_table(metrics: Mapping[str, Any]) -> str:
    """Return a table of PSNR, segmentation and depth, with the hole fillers next to the model."""
    hidden, full, alone = metrics['hidden'], metrics['full'], metrics['rgb_only']
    holes = full['depth_in_holes']
    cells = [
        ('PSNR of hidden colour patches, 70 % of all tokens hidden', number(hidden['psnr_hidden_db'], 'dB')),
        ('the same, whole image with the visible patches', number(hidden['psnr_pasted_db'], 'dB')),
        (f'segmentation mIoU, {full["segmentation"]["classes"]} classes', share(full['segmentation']['miou'])),
        ('segmentation pixel accuracy', share(full['segmentation']['pixel_accuracy'])),
        ('segmentation mIoU without depth', share(alone['segmentation']['miou'])),
        ('depth RMSE inside holes, model (depth_fill: always)', number(holes['model']['rmse_m'], 'm')),
        ('the same before it is joined to the measured depth', number(holes['model_alone']['rmse_m'], 'm')),
    ]
    # Results from before depth_fill had these ways lack them.
    cells += [
        (f'depth RMSE inside holes, depth_fill: {way}', number(holes[way]['rmse_m'], 'm'))
        for way in ('auto', 'smooth')
        if way in holes
    ]
    for name, found in holes.items():
        if isinstance(found, Mapping) and 'model_below' in found:
            cells += [
                (f'depth RMSE inside holes, {name.replace("_", " ")}', number(found['rmse_m'], 'm')),
                ('the model is below by', share(found['model_below'])),
            ]
    for size, ways in metrics.get('cut_holes', {}).get('rmse_m', {}).items():
        for way in ('auto', 'model', 'smooth', 'navier_stokes'):
            name = f'depth RMSE in holes cut into the depth, {float(size):.1%} of the width, {way.replace("_", " ")}'
            cells.append((name, number(ways[way], 'm')))
    cells += [
        ('depth RMSE from colour alone', number(alone['depth']['rmse_m'], 'm')),
        ('depth delta_1 from colour alone', share(alone['depth']['delta1'])),
    ]
    return table(('Measure', 'Value'), cells)


WITH_LABELS = {
    'oracle': 'oracle (given a true half: an upper bound)',
    'history': 'history (given the true action before)',
}
"""Ways whose questions contain true labels."""


def actions_table(metrics: Mapping[str, Any]) -> str:
    """Return a table of recognition and anticipation next to baselines from past labels."""
    ways = [
        (f'{task}, asked {WITH_LABELS.get(way, way.replace("_", " "))}', subsets['all']['action'])
        for task in ('recognition', 'anticipation')
        for way, subsets in metrics.get(task, {}).items()
        if way != 'left_out'
    ]
    ways += [
        (f'anticipation, {name.replace("_", " ")} of true labels', found['action'])
        for name, found in metrics.get('references', {}).items()
    ]
    figures = ('top1', 'top5', 'mean_top5_recall_unbalanced')
    return table(
        ('Action, verb and noun', 'Top-1', 'Top-5', 'Mean top-5 recall'),
        ((name, *(share(found[figure]) for figure in figures)) for name, found in ways),
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; in its cells nothing begins another cell, a line or HTML."""
    head = tuple(head)
    return '\n'.join(f'| {" | ".join(map(_cell, cells))} |' for cells in (head, ('---',) * len(head), *rows))


def replace_block(page: str, name: str, script: str, text: str) -> str:
    """Return a page with the text between a pair of markers, <!-- name: ... --> and <!-- end -->, replaced.

    Args:
        page: the page.
        name: name of the block.
        script: the script that writes it, named in its first marker.
        text: the new text.

    Raises:
        ValueError: the page has no such block, or several.
    """
    block = f'<!-- {name}: {script} -->\n{text.strip()}\n<!-- end -->'
    page, count = re.subn(rf'<!-- {name}: .*?<!-- end -->', lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f'there are {count} blocks called {name}; one is needed')
    return page


def _cell(text: str) -> str:
    return printable(text).replace('&', '&amp;').replace('<', '&lt;').replace('|', '\\|')


def plain(value: float | None) -> str:
    """Format a share without an interval, '71.2 %'; '' for None."""
    return '' if value is None else f'{100 * value:.1f} %'


def share(found: Mapping[str, Any]) -> str:
    """Format a share with its 95 % interval, '71.2 % (69.8 to 72.6)'."""
    return _with_interval(found, 1, 100, ' %')


def number(found: Mapping[str, Any], unit: str) -> str:
    """Format a number with its 95 % interval, '0.142 m (0.131 to 0.155)'."""
    return _with_interval(found, 1 if unit == 'dB' else 3, 1, f' {unit}')


def _with_interval(found: Mapping[str, Any], digits: int, factor: float, unit: str) -> str:
    """Format a value with its interval, which a single cluster lacks."""
    value, low, high = (
        None if found[name] is None else f'{factor * found[name]:.{digits}f}' for name in ('value', 'low', 'high')
    )
    if value is None:
        return 'none'
    if low is None:
        return f'{value}{unit}'
    return f'{value}{unit} ({low} to {high})'
