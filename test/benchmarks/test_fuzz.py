"""The short form of the fuzz benchmark, and that what it draws is hostile, seeded and complete."""

import json
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.ros import interfaces


def run(script, name, results, *words):
    """Run a script; return its exit code and what it wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [f'{name}.py', '--results', str(results), *map(str, words)])
        with pytest.raises(SystemExit) as end:
            script(name).main()
    return end.value.code, json.loads(results.read_text())


def test_a_node_survives_a_short_fuzz(script, tmp_path):
    code, found = run(script, 'fuzz', tmp_path / 'fuzz.json', '--model', 'tiny', '--messages', 60, '--requests', 12)
    assert code == 0, found['faults']
    assert found['messages'] == sum(found['messages_by_topic'].values()) == 60
    assert found['requests_by_reply'] == {'answered': 12} and found['files'] == 25
    assert found['blocks_that_held'] == len(found['blocks']) == 1
    assert found['interfaces'] == 20 and found['tracebacks_in_the_log'] == found['exit_code_at_the_end'] == 0
    assert sum(n for reason, n in found['counters_of_the_node'].items() if reason.startswith('dropped/')) > 0
    assert found['blocks'][0]['rss_mib'] > 100 and found['blocks'][0]['reader']['descriptors'] > 2


@pytest.mark.parametrize('row', interfaces.INPUTS, ids=lambda row: row.name)
def test_messages_of_every_input_are_drawn_from_the_seed(script, row):
    hostile, drawn = script('hostile'), []
    for _ in range(2):
        rng = random.Random(7)
        made = [hostile.message(rng, row.kind, row.name, hostile.Header().stamp) for _ in range(60)]
        # Padding in serialized messages is not initialised, so of damaged bytes the length is compared.
        drawn.append([(way, len(m) if isinstance(m, bytes) else str(m)) for way, m in made])
    assert drawn[0] == drawn[1] and len(set(drawn[0])) > 25
    assert {'fields', 'some_fields', 'bytes', 'good'} <= {way for way, _ in drawn[0]}


def test_the_good_messages_are_good(script):
    good = script('hostile').good
    from m3et_ros.ros.camera_inputs import DEPTH, RGB, PairedMessages

    stamp = script('hostile').Header().stamp
    for rgb in RGB.values():
        for depth in DEPTH.values():
            pair = SimpleNamespace(
                rgb=good(rgb.kind, rgb.name, stamp), depth=good(depth.kind, depth.name, stamp), error=None, stamp_ns=0
            )
            frame, problem = PairedMessages(pair, None, '').decode()
            assert problem is None and frame.rgb.shape == (48, 64, 3)
            assert 0.4 <= np.nanmin(frame.depth) < np.nanmax(frame.depth) < 4


def test_numbers_reach_their_limits_and_texts_their_bound(script):
    hostile, rng = script('hostile'), random.Random(0)
    for kind, low, high in (('int8', -128, 127), ('uint16', 0, 65535), ('int64', -(2**63), 2**63 - 1)):
        drawn = {hostile.number(rng, kind) for _ in range(300)}
        assert min(drawn) == low and max(drawn) == high
    assert {type(hostile.number(rng, kind)) for kind in ('boolean', 'double', 'octet')} == {bool, float, bytes}
    assert max(len(hostile.value(rng, 'string<5>', '')) for _ in range(200)) == 5
    assert len(hostile.value(rng, 'double[9]', np.zeros(9))) == 9
    lengths = {len(hostile.value(rng, 'sequence<float>', [])) for _ in range(100)}
    assert 0 in lengths and 50 < max(lengths) <= hostile.LONGEST


def test_bytes_are_damaged_in_every_way(script):
    data = bytes(range(256))
    made = [script('hostile').damaged(random.Random(seed), data) for seed in range(200)]
    assert sum(one != data for one in made) > 190
    assert min(map(len, made)) < 200 and max(map(len, made)) > 300


def test_an_outcome_is_read_refused_or_a_fault(script, tmp_path):
    def fail(error):
        def read(path):
            raise error

        return read

    outcome = script('hostile_files').outcome
    assert outcome(lambda path: None, tmp_path) == 'read'
    assert outcome(fail(InputError('file_size', 'It is too large.')), tmp_path) == 'refused: file_size'
    assert outcome(fail(KeyError('x')), tmp_path) == "fault: KeyError: 'x'"


def test_a_refusal_without_a_reason_is_a_fault(script):
    fuzz = SimpleNamespace(refusals=script('fuzz').Counter(), faults=[])
    for success, message in ((True, ''), (False, 'why'), (False, '')):
        response = SimpleNamespace(success=success, message=message)
        script('fuzz').Fuzz._judge(fuzz, 'ask', None, response)
    results = [SimpleNamespace(successful=False, reason=''), SimpleNamespace(successful=True, reason='')]
    script('fuzz').Fuzz._judge(fuzz, 'set_parameters', None, SimpleNamespace(results=results))
    assert fuzz.refusals == {'ask': 2, 'set_parameters': 1}
    assert [fault['refused_without_a_reason'] for fault in fuzz.faults] == ['ask', 'set_parameters']


def test_the_parts_of_an_action_are_services(script):
    from m3et_ros.action import AskQuestion

    service_type = script('fuzz').service_type
    assert service_type('m3et_ros/action/AskQuestion_SendGoal') is AskQuestion.Impl.SendGoalService
    assert service_type('lifecycle_msgs/srv/ChangeState').__name__ == 'ChangeState'
