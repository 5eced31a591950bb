"""The scripts that train, ship and tabulate: commands with all their options, limits, and marks of significance."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(f'{name}_script', ROOT / 'scripts' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    """Return the training script, its options, and the list of commands that it would run."""
    module, commands = load('train_kitchen'), []
    monkeypatch.setattr(module, 'm3et', lambda *words, processes=1: commands.append(list(words)) or '{"path": "made"}')
    monkeypatch.setattr(module, 'halve', lambda source, to: 'kitchen@1')
    monkeypatch.setattr(module, 'machine_options', lambda: ('--workers', '1', '--bf16'))
    return module, argparse.Namespace(out=tmp_path, to=tmp_path / 'shipped', seed='7'), commands


def options_of(words):
    """Return the values of each option of a command."""
    found = {}
    for word, value in zip(words, [*words[1:], None], strict=True):
        if word.startswith('--'):
            found.setdefault(word, []).append(value)
    return found


def test_a_stage_is_trained_with_all_its_options_and_resumed(kitchen, tmp_path):
    module, given, commands = kitchen
    folder = module.stage('vqa', given, [Path('a'), Path('b')], ('--from', 'start'))
    assert folder == tmp_path / 'vqa/checkpoint' and commands[0][:2] == ['train', 'vqa']
    options = options_of(commands[0])
    assert options['--data'] == ['a', 'b'] and options['--from'] == ['start'] and options['--seed'] == ['7']
    assert options['--out'] == [str(tmp_path / 'vqa')] and options['--optimiser'] == ['muon']
    assert '--bf16' in options and '--resume' not in options
    (tmp_path / 'vqa').mkdir()
    (tmp_path / 'vqa/state.safetensors').touch()
    module.stage('vqa', given, [Path('a')], ())
    assert commands[1][-1] == '--resume'
    (tmp_path / 'vqa/checkpoint').mkdir()
    (tmp_path / 'vqa/checkpoint/config.json').touch()
    module.stage('vqa', given, [Path('a')], ())
    assert len(commands) == 2  # completed steps are not repeated


def test_a_head_reads_the_shipped_model_and_the_frames_of_the_memory(kitchen, tmp_path):
    module, given, commands = kitchen
    module.head('memory', given, [Path('a')])
    module.head('actions', given, [Path('a')])
    memory, actions = map(options_of, commands)
    assert memory['--from'] == actions['--from'] == [str(given.to)] and memory['--seed'] == actions['--seed'] == ['7']
    assert '--tokens' not in memory and actions['--tokens'] == [str(tmp_path / 'memory/frames')]
    assert actions['--length'] == ['60'] and '--workers' not in memory and '--bf16' in memory


def test_a_cache_is_rendered_with_its_seeds_and_frames(kitchen):
    module, _, commands = kitchen
    assert module.cache(Path('caches'), '0:640', module.STEADY) == Path('made')
    assert commands == [['generate', 'caches', '--seeds', '0:640', '--frames', '100', '--stride', '4', '--json']]


def test_a_measurement_is_made_once_and_holds_no_path(kitchen, tmp_path):
    module, given, commands = kitchen
    out = tmp_path / 'kitchen@1-vqa'
    out.mkdir()
    (out / 'metrics.json').write_text(json.dumps({'model': str(given.to), 'run': f'{given.out}/vqa'}))
    assert module.measure('vqa', given, 'kitchen@1') == {'model': 'kitchen', 'run': 'build/train/vqa'}
    assert commands == []


@pytest.mark.parametrize(
    ('key', 'low', 'high', 'mark'),
    [
        ('miou', 0.01, 0.02, ' (better)'),
        ('miou', -0.02, -0.01, ' (worse)'),
        ('rmse_in_holes_m', 0.01, 0.02, ' (worse)'),
        ('rmse_in_holes_m', -0.02, -0.01, ' (better)'),
        ('miou', -0.01, 0.02, ''),
        ('miou', 0.0, 0.02, ''),
        ('miou', None, None, ''),
    ],
)
def test_differences_are_marked_only_if_their_interval_excludes_zero(key, low, high, mark):
    row = {key: {'value': 0.5}, 'less_full': {key: {'value': (low or 0.02) + (high or 0), 'low': low, 'high': high}}}
    module = load('run_tables')
    assert module._figure(row, key, '{:.1f}') == f'0.5{mark}'
    assert module._figure({key: {'value': 0.5}}, key, '{:.1f}') == '0.5' and module._figure({}, key, '{}') == '-'


@pytest.mark.parametrize('name', ['run_tables'])
def test_a_page_needs_each_block_exactly_once(name):
    module = load(name)
    block = '<!-- talk: old -->\nx\n<!-- end -->'
    assert module.filled(f'a\n{block}\nb', 'talk', 'new') == (
        'a\n<!-- talk: scripts/run_tables.py -->\nnew\n<!-- end -->\nb'
    )
    for text in ('nothing', f'{block}\n{block}'):
        with pytest.raises(SystemExit, match='blocks called talk'):
            module.filled(text, 'talk', 'new')


@pytest.mark.parametrize(
    ('value', 'more', 'verdict'),
    [
        (1.6, True, 'reached'),
        (1.59, True, '**missed**'),
        (4.0, True, 'aim reached'),
        (1.6, False, 'reached'),
        (1.61, False, '**missed**'),
    ],
)
def test_a_goal_is_reached_at_its_very_figure(monkeypatch, value, more, verdict):
    module = load('performance_tables')
    aim = 4.0 if more else 0.5
    goal = module.Goal('speed', 1.6, aim, 'ssd', lambda result: result['value'], more)
    monkeypatch.setattr(module, 'GOALS', (goal,))
    monkeypatch.setattr(module, 'load', lambda name: {'value': value})
    assert module.goals().splitlines()[-1].endswith(f'| {verdict} |')


def test_a_talk_model_card_holds_no_path(tmp_path):
    module = load('ship_talk')
    given = argparse.Namespace(to=tmp_path / 'to', run=tmp_path / 'run')
    text = f'm3et train talk --data /somewhere/else/cache --out {given.run}/x; stored in {given.to}'
    assert module.portable(text, given) == 'm3et train talk --data build/cache --out build/talk/x; stored in m3et_talk'


def test_the_tests_have_their_own_requirements():
    module = load('set_up')
    for tests in (False, True):
        options = argparse.Namespace(ros='kilted', tests=tests)
        assert module.requirement_lists(options) == ['run', 'kilted', 'kilted-build', *(['test'] if tests else [])]
