"""The challenge file."""

import json

import numpy as np
import pytest

from m3et_ros.evaluation.metrics.challenge import submission
from m3et_ros.evaluation.metrics.epic import rank_actions

SETTINGS = {'challenge': 'action_anticipation', 'supervision': (2, 3, 4)}


def scores(n=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 97)).astype(np.float32), rng.normal(size=(n, 300)).astype(np.float32)


def test_the_layout_of_version_02():
    verbs, nouns = scores()
    actions = rank_actions(verbs, nouns)
    file = json.loads(json.dumps(submission(['P01_11_0', 'P01_11_1'], verbs, nouns, actions, **SETTINGS)))
    results = file.pop('results')
    assert file == {'version': '0.2', 'challenge': 'action_anticipation', 'sls_pt': 2, 'sls_tl': 3, 'sls_td': 4}
    assert list(results) == ['P01_11_0', 'P01_11_1']
    segment = results['P01_11_1']
    assert list(segment['verb']) == [str(i) for i in range(97)] and len(segment['noun']) == 300
    assert segment['verb']['3'] == pytest.approx(verbs[1, 3])
    best = max(segment['action'], key=segment['action'].get)
    assert len(segment['action']) == 100 and best == f'{verbs[1].argmax()},{nouns[1].argmax()}'


def test_without_actions_the_server_forms_them():
    file = submission(['a', 'b'], *scores(), None, **SETTINGS)
    assert set(file['results']['a']) == {'verb', 'noun'}


@pytest.mark.parametrize(('level', 'allowed'), [(-1, False), (0, True), (5, True), (6, False)])
@pytest.mark.parametrize('place', range(3))
def test_levels_of_supervision_are_0_to_5(level, allowed, place):
    supervision = tuple(level if i == place else 2 for i in range(3))
    if allowed:
        file = submission(['a', 'b'], *scores(), None, challenge='action_recognition', supervision=supervision)
        assert (file['sls_pt'], file['sls_tl'], file['sls_td']) == supervision
    else:
        with pytest.raises(ValueError, match='0 to 5'):
            submission(['a', 'b'], *scores(), None, challenge='action_recognition', supervision=supervision)


def test_what_the_server_refuses_is_refused_here():
    verbs, nouns = scores()
    ids, values = rank_actions(verbs, nouns)
    with pytest.raises(ValueError, match='challenge is'):
        submission(['a', 'b'], verbs, nouns, None, challenge='detection', supervision=(0, 0, 0))
    with pytest.raises(ValueError, match='0 to 5'):
        submission(['a', 'b'], verbs, nouns, None, challenge='action_recognition', supervision=(-1, 0, 0))
    with pytest.raises(ValueError, match='twice'):
        submission(['a', 'a'], verbs, nouns, None, **SETTINGS)
    with pytest.raises(ValueError, match=r'the server takes \(2, 97\)'):
        submission(['a', 'b'], verbs[:, :5], nouns, None, **SETTINGS)
    with pytest.raises(ValueError, match='once in a row'):
        submission(['a', 'b'], verbs, nouns, (np.zeros_like(ids), values), **SETTINGS)
