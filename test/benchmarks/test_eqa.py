"""The benchmark of a memory on kitchens and a budget of seconds."""

import json
import sys

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.kitchen.cache.generate import generate


@pytest.fixture(scope='module')
def found(script, tmp_path_factory):
    pytest.importorskip('mujoco')
    out = tmp_path_factory.mktemp('eqa')
    train, test = (
        generate(
            out, seeds=seeds, size=32, stride=5, frames=40, backend='raycast', version=1, workers=0, progress=False
        )
        for seeds in (range(1, 4), range(20_003, 20_005))
    )
    short = ('--frames', 16, '--episodes', 4, '--asked', 4, '--batch', 2, '--questions', 4)
    assert main(['train', 'memory', *map(str, ('--data', train, '--from', 'tiny', '--out', out / 'run', *short))]) == 0
    record = (
        'record',
        out / 'bag',
        '--eqa',
        '--seed',
        20_003,
        '--frames',
        120,
        '--width',
        32,
        '--height',
        32,
        '--backend',
        'raycast',
        '--questions',
        4,
    )
    assert main([*map(str, record)]) == 0
    words = [
        '--model',
        out / 'run/checkpoint',
        '--data',
        train,
        '--test',
        test,
        '--frames',
        out / 'run/frames',
        '--out',
        out / 'bench',
        '--results',
        out / 'found.json',
        '--blind-samples',
        4,
        '--batch',
        2,
        '--marks',
        3,
        12,
        '--bag',
        out / 'bag',
        '--questions',
        out / 'bag/questions.json',
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['eqa.py', *map(str, words)])
        script('eqa').main()
    return json.loads((out / 'found.json').read_text()), out


def test_every_method_answers_the_same_questions(found):
    document, out = found
    lines = document['accuracy']['last_moments']
    assert {
        'memory',
        'memory_of_the_last_frame',
        'eight_frames',
        'last_frame',
        'no_frame',
        'blind_reader',
        'guess_majority',
        'guess_question',
    } <= set(lines)
    assert len({line['all']['questions'] for line in lines.values()}) == 1
    for line in lines.values():
        assert all(0 <= part['value'] <= 1 and part['questions'] > 0 for part in line.values())
        assert line['all']['low'] is line['all']['high'] is None  # two kitchens
    assert document['accuracy']['all_moments']['memory']['all']['questions'] >= lines['memory']['all']['questions']
    assert 0 <= document['accuracy']['seven_way_category']['value'] <= 1
    assert str(out) not in json.dumps(document)


def test_costs_and_speed_are_measured(found):
    document, _ = found
    assert set(document['costs']) == {'3', '12'}
    assert document['costs']['3']['bytes'] == document['costs']['12']['bytes'] > 1000
    for way in ('memory', 'eight_frames'):
        row = document['evaluation'][way]
        assert row['frames'] == 120 and row['times_real_time'] > 0 and row['questions'] > 0
