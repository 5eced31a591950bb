"""One line for each model in a table over several runs of m3et evaluate vqa or eqa, as JSON and Markdown.

    lines = merged([lines_of(folder) for folder in folders])
    print(models_table(lines))

Only lines about the same questions are compared: `set` names the questions, and each set has a table of its own.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import parse_json, read_regular
from m3et_ros.evaluation.files import METRICS
from m3et_ros.evaluation.report.markdown import share, table

SCHEMA = 1
MODELS = 'models.json'
FIELDS = ('set', 'task', 'questions', 'model', 'prompt', 'score', 'best_blind', 'unanswered', 'families', 'command')


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run, or of a table that was written before.

    Args:
        path: folder of a run, or the file models.json of a table or its folder.

    Raises:
        InputError: table_source, it is none of them.
    """
    file = path / METRICS if (path / METRICS).is_file() else path / MODELS if path.is_dir() else path
    try:
        document = parse_json(read_regular(file, 'give the folder of a run'))
        if 'lines' in document:
            return [{name: line[name] for name in FIELDS} for line in document['lines']]
        return [_kitchen_line(document) if 'cache' in document['made_by'] else _bag_line(document)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            'table_source',
            f'{path} has no results of m3et evaluate vqa or eqa ({type(error).__name__}: {error}); give the folder of '
            f'a run, or a {MODELS}.',
        ) from error


def _kitchen_line(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of a run over the kitchens of a cache."""
    made, whole = document['made_by'], document['metrics']['subsets']['all']
    drawn = {name: made['settings'][name] for name in ('seed', 'samples', 'noise')}
    return {
        'set': _digest([made['cache'], drawn]),
        'task': f'kitchens {made["cache"]["name"]}',
        'questions': whole['samples'],
        'model': made['model']['id'],
        'prompt': made['settings'].get('prompt', ''),
        'score': whole['accuracy'],
        'best_blind': whole.get('best_blind'),
        'unanswered': None,
        'families': {name: part['accuracy']['value'] for name, part in whole['families'].items()},
        'command': made['command'],
    }


def _bag_line(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of a run over recordings."""
    made, metrics = document['made_by'], document['metrics']
    whole, scope = metrics['all'], made['settings'].get('scope', '')
    return {
        'set': _digest([made['questions']['sha256'], 'moment' if scope == 'moment' else 'episode']),
        'task': f'recordings, {scope}',
        'questions': whole['questions'],
        'model': made['model']['id'],
        'prompt': made['settings'].get('prompt', ''),
        'score': whole['exact_match'],
        'best_blind': None,
        'unanswered': whole['unanswered'],
        'families': {name: part['exact_match']['value'] for name, part in metrics['categories'].items()},
        'command': made['command'],
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def merged(groups: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Merge lines: the last one of a model on a set and task counts; sets in order of their task, best models first."""
    found = {(line['set'], line['task'], line['model'], line['prompt']): dict(line) for one in groups for line in one}
    return sorted(
        found.values(), key=lambda line: (line['task'], line['set'], -(line['score']['value'] or 0.0), line['model'])
    )


def document(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of models.json."""
    return {'schema': SCHEMA, 'lines': list(lines)}


def models_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table for each set of questions, a line for each model."""
    parts = []
    for name in dict.fromkeys(line['set'] for line in lines):
        own = [line for line in lines if line['set'] == name]
        families = sorted({family for line in own for family in line['families']})
        rows = [
            (
                line['model'],
                line['task'],
                share(line['score']),
                _percent(line['unanswered']),
                *(_percent(line['families'].get(family)) for family in families),
            )
            for line in own
        ]
        blind = next((line['best_blind'] for line in own if line['best_blind'] is not None), None)
        note = '' if blind is None else f'; the best guess without images has {_percent(blind)}'
        header = ('Model', 'Task', 'Right', 'Unanswered', *(family.replace('_', ' ') for family in families))
        parts.append(f'{own[0]["questions"]} questions, set `{name}`{note}:\n\n{table(header, rows)}')
    return '\n\n'.join(parts)


def _percent(value: float | None) -> str:
    return '' if value is None else f'{100 * value:.1f}%'
