"""The table of decoding: models of one size, states as large as the context, and figures that follow from the rows."""

import json
import sys

import pytest
import torch

from m3et_ros.layers.kv_cache import AttentionState


@pytest.fixture(scope='module')
def decode():
    import decode

    return decode


def test_models_are_of_one_size_and_differ_in_their_layers(decode):
    built = decode.models(128, 4, 256)
    counts = {name: decode.parameters(model) for name, model in built.items()}
    assert set(built['mamba'].config.schedule) == {'M'} and built['hybrid_1/2'].config.schedule == 'STST'
    assert all(0.8 < count / counts['transformer'] < 1.25 for count in counts.values())


def test_filled_states_have_the_shapes_that_reading_leaves(decode):
    for model in decode.models(64, 4, 64).values():
        read = model(torch.zeros(1, 12, dtype=torch.int64), return_states=True).states
        made = decode.filled(model, 12)
        for one, other in zip(read, made):
            assert type(one) is type(other)
            assert [p.shape for p in one if p is not None] == [p.shape for p in other if p is not None]
        grows = any(isinstance(state, AttentionState) for state in made)
        assert (decode.state_bytes(decode.filled(model, 24)) > decode.state_bytes(made)) == grows


def test_the_table_is_written(decode, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'decode.json'
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'decode.py',
            '--width',
            '64',
            '--layers',
            '4',
            '--vocabulary',
            '64',
            '--contexts',
            '8',
            '32',
            '--tokens',
            '2',
            '--rounds',
            '1',
            '--results',
            str(out),
        ],
    )
    decode.main()
    found = json.loads(out.read_text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '| Against the Transformer at a context of | 8 | 32 |'
    assert '| transformer (`TTTT`) | 1.0 x, +0.0% | 1.0 x, +0.0% |' in lines
    assert '3.6 x, -27.5 %' in lines[-1] and all(line.count('|') == 4 for line in lines)
    rows, told = found['rows'], found['against_the_transformer']
    assert told['transformer']['times_as_fast'] == {'8': 1.0, '32': 1.0}
    assert told['mamba']['state_less']['32'] > told['mamba']['state_less']['8'] > 0 or told['mamba']['state_less']
    at = rows['hybrid_1/2']['contexts']['32']
    assert at['bytes'] == at['state_bytes'] + 4 * rows['hybrid_1/2']['parameters']
    base = rows['transformer']['contexts']['32']
    assert told['hybrid_1/2']['memory_less']['32'] == pytest.approx(1 - at['bytes'] / base['bytes'], abs=1e-4)
