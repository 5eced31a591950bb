"""Predictions over bags are those of the robot itself; every column and field of the results is its own."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames
from m3et_ros.evaluation.jobs import PARTS
from m3et_ros.evaluation.tasks.actions import References
from m3et_ros.evaluation.tasks.actions_results import ActionResults, files_digest, way_of, write_run

START = 1_700_000_000 * 10**9
MADE_BY = {
    'command': 'm3et evaluate actions a b',
    'settings': {'rate_hz': 2.5},
    'environment': {'torch': '2.13'},
    'model': {'id': 'tiny@1', 'trained': False, 'weights_sha256': 'ab' * 32},
    'segments': [{'name': 's.csv', 'sha256': 'cd' * 32}],
}


def test_predictions_are_those_of_the_robot_at_that_frame(action_run, action_shots):
    """The robot gets every frame; here only the frames that its stream uses were encoded."""
    _, runner, _, _, found = action_run
    predicted = {
        (row.labelled.segment.narration_id, task): prediction
        for row in found.rows
        for task, prediction in row.predictions.items()
    }
    assert set(predicted) == {
        (f'{bag}_{n}', task)
        for bag in 'ab'
        for n, task in ((0, 'recognition'), (1, 'recognition'), (1, 'anticipation'))
    }
    for bag in 'ab':
        runner.engine.reset_actions()
        for at, shot in enumerate(action_shots[bag]):
            live_all = runner.engine.anticipate(
                runner.engine.encode(Frame(shot, None, START + at * 10**8)), horizon_s=1, top_k=5
            )
            for (name, task), prediction in predicted.items():
                if name[0] == bag and round(10 * prediction.asked_at_s) == at:
                    live = live_all.now if task == 'recognition' else live_all.next
                    assert [one.label for one in prediction.best] == [one.label for one in live.actions]
                    assert [one.score for one in prediction.best] == pytest.approx(
                        [one.score for one in live.actions], abs=2e-3
                    )
    assert [predicted[f'a_{n}', 'recognition'].asked_at_s for n in (0, 1)] == pytest.approx([0.8, 3.2])
    assert predicted['a_1', 'anticipation'].asked_at_s == pytest.approx(1.2)


def test_metrics_count_what_was_scored_and_what_was_left_out(action_run):
    metrics = action_run[4].metrics
    assert metrics['recognition']['chain']['all']['samples'] == 4
    assert metrics['recognition']['left_out'] == {'outside_the_frames': 4}
    assert metrics['anticipation']['follow']['all']['action']['top1']['kitchens'] == 2
    assert metrics['failed_bags'] == 1 and 'damaged' in metrics['bags']['c']['failed']
    assert metrics['bags']['a']['frames_taken_in'] == 11 and metrics['bags']['a']['streams'] == 1
    assert metrics['segments'] == {
        'asked_for': 12,
        'elsewhere': 0,
        'unknown': {'segments': 0, 'verbs': {}, 'nouns': {}},
    }
    verbs = metrics['by_verb']['recognition']
    assert sum(part['samples'] for part in verbs.values()) == 4
    right = sum(part['samples'] * part['action']['top1']['value'] for part in verbs.values())
    assert right / 4 == pytest.approx(metrics['recognition']['chain']['all']['action']['top1']['value'])


def test_every_column_of_a_segment_is_its_own(action_run, tmp_path):
    _, _, _asked, done, found = action_run
    write_run(tmp_path, found.document(MADE_BY), found, done)
    assert json.loads((tmp_path / 'metrics.json').read_text()) == found.document(MADE_BY)
    assert json.loads((tmp_path / 'times.json').read_text())['encode_ms']['count'] == 22
    rows = list(csv.DictReader((tmp_path / 'per_sample.csv').open()))
    assert [row['narration_id'] for row in rows[:3]] == ['a_2', 'a_0', 'a_1'] and len(rows) == 8
    assert list(rows[0])[:7] == ['bag', 'narration_id', 'participant_id', 'start_s', 'stop_s', 'verb', 'noun']
    for row, result in zip(rows, found.rows):
        segment = result.labelled.segment
        assert (row['bag'], row['participant_id']) == (segment.video, 'P')
        assert (float(row['start_s']), float(row['stop_s'])) == (segment.start_s, segment.stop_s)
        assert row['verb'] == found.labels.verbs[result.labelled.verb]
        assert row['noun'] == found.labels.nouns[result.labelled.noun]
        for task in ('recognition', 'anticipation'):
            prediction = result.predictions.get(task)
            if prediction is None:
                assert all(row[name] == '' for name in row if name.startswith(task))
                continue
            assert float(row[f'{task}_asked_at_s']) == pytest.approx(prediction.asked_at_s, abs=1e-6)
            for kind in ('verb', 'noun', 'action'):
                assert int(row[f'{task}_{kind}_rank']) == prediction.ranks[kind]
            for n, best in enumerate(prediction.best):
                assert row[f'{task}_{n + 1}'] == best.label
                assert float(row[f'{task}_{n + 1}_p']) == pytest.approx(best.score, abs=1e-6)


def test_nothing_to_score_is_refused(action_run):
    folder, runner, asked, done, _ = action_run
    with pytest.raises(InputError, match='none of the bags can be used; the first: .*damaged'):
        ActionResults(runner.engine.checkpoint, asked, done[2:], folder / PARTS)
    late = replace(asked, segments={bag: own[3:] for bag, own in asked.segments.items()})
    with pytest.raises(InputError, match='count from the first colour frame'):
        ActionResults(runner.engine.checkpoint, late, done, folder / PARTS)


def test_a_head_without_a_table_of_followers_is_asked_by_the_chain(action_run):
    head = action_run[4].head
    assert way_of('recognition', head) == 'chain' and way_of('anticipation', head) == 'follow'
    assert way_of('anticipation', type('Head', (), {'follows': None})()) == 'chain'


def test_files_of_segments_are_named_with_their_checksum(tmp_path):
    (tmp_path / 's.csv').write_bytes(b'segments')
    assert files_digest([tmp_path / 's.csv']) == [{'name': 's.csv', 'sha256': hashlib.sha256(b'segments').hexdigest()}]


def test_baselines_of_training_labels_stand_in_the_metrics(action_run):
    folder, runner, asked, results, found = action_run
    training = EpisodeFrames('0', 0, np.arange(4.0), (Action(0, 1, 0, 0), Action(2, 3, 1, 1)))
    with_baselines = ActionResults(
        runner.engine.checkpoint, asked, results, folder / PARTS, References([training])
    ).metrics
    assert set(with_baselines['references']) == {'prior', 'repeat_last', 'bigram'}
    assert 'references' not in found.metrics
