"""A made-up EPIC-KITCHENS-100 folder: official file names and columns, people who do things in a plausible order."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

VERBS = ('take', 'put', 'wash', 'open', 'close', 'turn-on', 'turn-off')
NOUNS = ('tap', 'spoon', 'plate', 'cupboard', 'board:chopping', 'knife')
COLUMNS = (
    'narration_id',
    'participant_id',
    'video_id',
    'narration_timestamp',
    'start_timestamp',
    'stop_timestamp',
    'start_frame',
    'stop_frame',
    'narration',
    'verb',
    'verb_class',
    'noun',
    'noun_class',
    'all_nouns',
    'all_noun_classes',
)
REAL = Path(os.environ.get('EPIC_100_ANNOTATIONS', Path(__file__).parents[2] / 'shared/data/ek100'))
needs_real = pytest.mark.skipif(
    not (REAL / 'EPIC_100_train_labels.csv').is_file(),
    reason='the EPIC-KITCHENS-100 annotations are not here; set EPIC_100_ANNOTATIONS',
)


def clock(seconds):
    return f'{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{seconds % 60:05.2f}'


def row(name, start, stop, verb, noun, **changes):
    video = name.rsplit('_', 1)[0]
    values = {
        'narration_id': name,
        'participant_id': video.split('_')[0],
        'video_id': video,
        'start_timestamp': clock(start),
        'stop_timestamp': clock(stop),
        'start_frame': int(start * 60),
        'stop_frame': int(stop * 60),
        'verb': VERBS[verb] if verb < len(VERBS) else '',
        'verb_class': verb,
        'noun_class': noun,
        'all_noun_classes': f'[{noun}]',
    }
    return dict.fromkeys(COLUMNS, '') | values | changes


def write(path, columns, rows):
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def kitchen_rows(video, segments, seed):
    """People wash up: whatever is taken is washed, then put; now and then a cupboard opens and closes."""
    rng, rows, now = np.random.default_rng(seed), [], 2.0
    todo = []
    while len(rows) < segments:
        if not todo:
            noun = int(rng.integers(1, 6))
            todo = [(3, 3), (4, 3)] if noun == 3 else [(0, noun), (5, 0), (2, noun), (6, 0), (1, noun)]
        verb, noun = todo.pop(0)
        length, pause = rng.uniform(0.4, 3, 2)
        rows.append(row(f'{video}_{len(rows)}', now, now + length, verb, noun))
        now += length + (pause - 0.8)
    return rows


def make_folder(folder, *, videos=14, segments=30, validation=2):
    """Write class, tail and video lists, a training and a validation file; people P01 to P04, P05 in validation."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, keys in (('verb', VERBS), ('noun', NOUNS)):
        write(
            folder / f'EPIC_100_{name}_classes.csv',
            ('id', 'key', 'instances', 'category'),
            [{'id': i, 'key': key, 'instances': f"['{key}']", 'category': key[0]} for i, key in enumerate(keys)],
        )
        write(folder / f'EPIC_100_tail_{name}s.csv', (name,), [{name: 5}])
    names = [f'P{1 + i % 4:02d}_{i:02d}' for i in range(videos)]
    exam = [f'P05_{i:02d}' for i in range(validation)]
    for file, own in (('train', names), ('validation', exam)):
        write(
            folder / f'EPIC_100_{file}.csv',
            COLUMNS,
            [r for i, video in enumerate(own) for r in kitchen_rows(video, segments, seed=hash_of(video))],
        )
    write(
        folder / 'EPIC_100_video_info.csv',
        ('video_id', 'duration', 'fps', 'resolution'),
        [{'video_id': v, 'duration': 120.5, 'fps': 50.0, 'resolution': '1920x1080'} for v in names + exam],
    )
    return folder


def hash_of(text):
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 2**31
