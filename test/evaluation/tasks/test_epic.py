"""The measured tables of EPIC-KITCHENS-100 against the official metrics, and the file of the challenge."""

import numpy as np
import pytest
import torch

from m3et_ros.data.checkpoints.history import TASKS, Correction, Expert, HistoryCheckpoint
from m3et_ros.data.epic.annotations import Annotations, Segment
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.history import QuestionWords
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.metrics.epic import anticipation_scores
from m3et_ros.evaluation.metrics.ranking import class_mean
from m3et_ros.evaluation.tasks.epic import (
    INPUT,
    anticipate,
    challenge_file,
    labels_of,
    measure,
    official_rows,
    ranks_of,
    sample_rows,
    summary,
)
from m3et_ros.evaluation.tasks.epic_forecast import CORRECTED, PLAIN
from m3et_ros.models.actions.history import HistoryConfig, HistoryModel
from m3et_ros.models.actions.ngram import NGram, NGramSettings


def classes(verbs, nouns):
    return Classes(
        tuple(f'v{i}' for i in range(verbs)), tuple(f'n{i}' for i in range(nouns)), ('a',) * verbs, ('b',) * nouns
    )


def made(verbs=5, nouns=4):
    asking = QuestionWords(classes(verbs, nouns))
    config = HistoryConfig(verbs=verbs, nouns=nouns, pairs=2, words=len(asking.words), d=8, e=8, hidden=8, N=4)
    expert = Expert(NGram([[], [0]], [0, 1], 2), NGramSettings(), 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HistoryModel(config).eval()
    return HistoryCheckpoint(
        (model,),
        classes(verbs, nouns),
        asking.words,
        {0: 30, 2001: 5},
        expert,
        dict.fromkeys(TASKS, Correction(0.5, 1.0)),
        1.0,
        ('P01',),
        (),
        (),
    )


@pytest.fixture(scope='module')
def annotations():
    rng = np.random.default_rng(1)
    segments = tuple(
        Segment(
            f'P0{1 + i % 3}_01_{i}',
            f'P0{1 + i % 3}_01',
            f'P0{1 + i % 3}',
            float(i),
            i + 0.5,
            int(rng.integers(0, 6)),
            int(rng.integers(0, 4)),
        )
        for i in range(40)
    )
    return Annotations(None, segments, ())


@pytest.fixture(scope='module')
def measured(annotations):
    checkpoint = made()
    found = anticipate(checkpoint, annotations, checkpoint.classes)
    ranks = ranks_of(checkpoint, found, annotations)
    rows = official_rows(annotations, unseen=['P03'], tail_verbs=[2], tail_nouns=[3])
    return checkpoint, found, ranks, rows


def test_the_tables_are_those_of_the_official_metrics(annotations, measured):
    _, _, ranks, rows = measured
    for kind in (PLAIN, CORRECTED):
        table = measure(ranks[kind], annotations, rows)
        official = anticipation_scores(ranks[kind], labels_of(annotations), rows)
        for row in ('all', 'unseen', 'tail'):
            for task in TASKS:
                found = table[row][task]
                assert found['mean_top5_recall']['value'] == pytest.approx(official[row][task], abs=1e-6)
                own = ranks[kind][task][rows[row][task]]
                assert found['top1']['value'] == pytest.approx((own < 1).mean(), abs=1e-6)
                assert found['top5']['low'] is None or found['top5']['low'] <= found['top5']['value']
    assert table['all']['verb']['top1']['videos'] == 3 and table['unseen']['verb']['top1']['low'] is None


def test_unknown_classes_count_as_wrong(annotations, measured):
    _, _, ranks, _ = measured
    unknown = labels_of(annotations)['verb'] == 5
    assert unknown.any()
    for kind in (PLAIN, CORRECTED):
        assert (ranks[kind]['verb'][unknown] == 5).all() and (ranks[kind]['action'][unknown] == 20).all()


def test_an_empty_row_is_none(annotations, measured):
    rows = official_rows(annotations, unseen=[], tail_verbs=[], tail_nouns=[])
    assert measure(measured[2][PLAIN], annotations, rows)['unseen'] == dict.fromkeys(TASKS)


def test_the_mean_over_classes_skips_those_that_a_draw_lacks():
    sums = np.array([[1.0, 0, 3, 2, 0, 4], [0, 0, 0, 1, 1, 1]])
    np.testing.assert_allclose(class_mean(sums), [(0.5 + 0.75) / 2, 0])


def test_every_column_of_a_sample_is_its_own(annotations, measured):
    checkpoint, found, ranks, _ = measured
    rows = sample_rows(checkpoint, found, ranks, annotations)
    assert len(rows) == len(annotations.segments)
    assert (rows[0]['visible'], rows[0]['lag_s'], rows[0]['last']) == (0, '', '')
    later = rows[9]
    segment, before = annotations.segments[9], annotations.segments[6]
    assert later['visible'] == 3 and later['lag_s'] == pytest.approx(segment.start_s - before.stop_s)
    assert later['noun_rank_plain'] == ranks[PLAIN]['noun'][9]
    assert (later['narration_id'], later['video_id'], later['participant_id']) == (
        segment.narration_id,
        segment.video,
        segment.participant,
    )

    def named(action):
        verb, noun = divmod(int(action), 1000)
        return f'v{verb} n{noun}' if verb < 5 and noun < 4 else f'{verb},{noun}'

    for row, one, i in zip(rows, annotations.segments, range(len(rows))):
        assert row['truth'] == named(1000 * one.verb + one.noun)
        for kind in (PLAIN, CORRECTED):
            assert row[f'expected_{kind}'] == named(found.actions[kind][0][i, 0])
            assert [row[f'{task}_rank_{kind}'] for task in TASKS] == [ranks[kind][task][i] for task in TASKS]
    assert any(row['expected_plain'] != row['expected_corrected'] for row in rows)
    assert later['last'] == named(1000 * before.verb + before.noun)
    found = summary(annotations)
    assert found['without_history'] == 3 and found['input'] == INPUT and 'no pixels' in INPUT
    assert (found['segments'], found['videos'], found['notes']) == (40, 3, [])


def test_other_class_lists_are_refused(annotations):
    with pytest.raises(InputError, match='4 verbs and 4 nouns and differ from those of the model .5 and 4.'):
        anticipate(made(), annotations, classes(4, 4))


def test_the_challenge_gets_its_format(annotations):
    checkpoint = made(97, 300)
    found = anticipate(checkpoint, annotations, checkpoint.classes)
    document = challenge_file(checkpoint, found, annotations)
    assert document['challenge'] == 'action_anticipation' and document['version'] == '0.2'
    assert set(document['results']) == {segment.narration_id for segment in annotations.segments}
    own = document['results'][annotations.segments[7].narration_id]
    assert (len(own['verb']), len(own['noun']), len(own['action'])) == (97, 300, 100)
    best = max(own['action'], key=own['action'].get)
    assert best == '{},{}'.format(*divmod(int(found.actions[CORRECTED][0][7, 0]), 1000))
    assert (document['sls_pt'], document['sls_tl'], document['sls_td']) == (0, 4, 3)
    plain = challenge_file(checkpoint, found, annotations, kind=PLAIN, supervision=(5, 1, 2))
    assert (plain['sls_pt'], plain['sls_tl'], plain['sls_td']) == (5, 1, 2)
    own = plain['results'][annotations.segments[7].narration_id]
    assert own['verb']['3'] == pytest.approx(found.verb[7, 3], abs=1e-4)
    ids, scores = (part[7] for part in found.actions[PLAIN])
    assert own['action']['{},{}'.format(*divmod(int(ids[0]), 1000))] == pytest.approx(scores[0], abs=1e-4)
    with pytest.raises(InputError, match='97 verbs and 300 nouns and the model 5 and 4'):
        challenge_file(made(), found, annotations)
