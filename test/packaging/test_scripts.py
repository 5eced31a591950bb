"""The scripts that train, ship and tabulate: commands with all their options, limits, and marks of significance."""

import argparse
import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Imported before a test replaces load_checkpoint, so that they keep the real one.
import m3et_ros.evaluation.tasks.calibrate
import m3et_ros.runtime.open_model  # noqa: F401
from m3et_ros.cli.train.app import app
from m3et_ros.data.calibration import Calibration
from m3et_ros.data.errors import InputError

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
    monkeypatch.setattr(module, 'm3et', lambda *words, processes=1: commands.append(list(words)) or '{}')
    monkeypatch.setattr(module, 'halve', lambda source, to, calibration=None: 'kitchen@1')
    monkeypatch.setattr(module, 'machine_options', lambda: ('--workers', '1', '--bf16'))
    return module, argparse.Namespace(size='kitchen2', out=tmp_path, to=tmp_path / 'shipped', seed='7'), commands


def options_of(words):
    """Return the values of each option of a command."""
    found = {}
    for word, value in zip(words, [*words[1:], None], strict=True):
        if word.startswith('--'):
            found.setdefault(word, []).append(value)
    return found


def test_a_stage_is_trained_with_all_its_options_and_resumed(kitchen, tmp_path):
    module, given, commands = kitchen
    plan = module.KITCHEN
    folder = module.stage('vqa', plan, given, [Path('a'), Path('b')], ('--from', 'start'))
    assert folder == tmp_path / 'vqa/checkpoint' and commands[0][:2] == ['train', 'vqa']
    options = options_of(commands[0])
    assert options['--data'] == ['a', 'b'] and options['--from'] == ['start'] and options['--seed'] == ['7']
    assert options['--out'] == [str(tmp_path / 'vqa')] and options['--optimiser'] == ['muon']
    assert '--bf16' in options and '--resume' not in options
    (tmp_path / 'vqa').mkdir()
    (tmp_path / 'vqa/state.safetensors').touch()
    module.stage('vqa', plan, given, [Path('a')], ())
    assert commands[1][-1] == '--resume'
    (tmp_path / 'vqa/checkpoint').mkdir()
    (tmp_path / 'vqa/checkpoint/config.json').touch()
    module.stage('vqa', plan, given, [Path('a')], ())
    assert len(commands) == 2  # completed steps are not repeated


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        ('kitchen', {'--samples': ['96000'], '--questions': ['16'], '--lr': ['1e-3'], '--batch': ['32']}),
        (
            'kitchen2',
            {
                '--samples': ['120000'],
                '--questions': ['32'],
                '--noise': ['wide'],
                '--average': ['0.999'],
                '--milestone-minutes': ['30'],
            },
        ),
    ],
)
def test_every_option_of_a_stage_is_one_of_the_command(kitchen, size, expected):
    module, given, commands = kitchen
    for name in ('pretrain', 'vqa'):
        module.stage(name, module.PLANS[size], given, [], ())
    assert expected.items() <= options_of(commands[1]).items() and ('--tempered' in commands[1]) == (size == 'kitchen2')
    known = {option for parameter in typer.main.get_command(app).commands['vqa'].params for option in parameter.opts}
    assert all(set(options_of(words)) <= known for words in commands)
    assert options_of(commands[0])['--samples'] == ['26000'] and '--questions' not in commands[0]


def test_stage_one_starts_on_the_first_caches_and_stage_two_reads_all(kitchen, monkeypatch):
    module, given, _ = kitchen
    events = []
    monkeypatch.setattr(module, 'cache', lambda root, seeds, fields: events.append((seeds, fields)) or Path(str(seeds)))
    monkeypatch.setattr(module, 'm3et', lambda *words, processes=1: events.append(words[1]))
    assert module.train(module.KITCHEN, given) == given.out / 'vqa/checkpoint'
    fields = {'frames': 22, 'stride': 14, 'version': 1}
    first, second, third = module.KITCHEN.seeds
    assert events == [(first, fields), (second, fields), 'pretrain', (third, fields), 'vqa']
    assert [*first, *second, *third] == list(range(10_000))


def test_a_head_reads_the_shipped_model_and_the_frames_of_the_memory(kitchen, tmp_path):
    module, given, commands = kitchen
    out = tmp_path / 'milestone'
    assert module.head('memory', given, out, [Path('a')]) == out / 'memory/checkpoint'
    module.head('actions', given, out, [Path('a')])
    memory, actions = map(options_of, commands)
    assert memory['--from'] == actions['--from'] == [str(given.to)] and memory['--seed'] == actions['--seed'] == ['7']
    assert '--tokens' not in memory and actions['--tokens'] == [str(out / 'memory/frames')]
    assert actions['--length'] == ['60'] and '--workers' not in memory and '--bf16' in memory
    assert memory['--out'] == [str(out / 'memory')]


def test_a_cache_is_rendered_with_its_fields_once_no_other_process_renders_it(kitchen, monkeypatch):
    module, _, _ = kitchen
    asked, waited = [], []

    def generate(root, *, seeds, workers, **fields):
        asked.append((root, seeds, fields))
        if len(asked) == 1:
            raise InputError('cache_busy', 'Another run is making it.')
        return Path('made')

    monkeypatch.setattr(module, 'generate', generate)
    monkeypatch.setattr(module.time, 'sleep', waited.append)
    assert module.cache(Path('caches'), range(640), module.STEADY) == Path('made')
    assert asked == [(Path('caches'), range(640), {'frames': 100, 'stride': 4})] * 2 and waited == [module.BUSY_S]
    monkeypatch.setattr(module, 'generate', lambda *a, **o: (_ for _ in ()).throw(InputError('disk_full', 'Full.')))
    with pytest.raises(InputError, match='Full'):
        module.cache(Path('caches'), range(640), module.STEADY)


@pytest.mark.parametrize('size', ['kitchen', 'kitchen2'])
def test_rendering_alone_makes_every_cache_that_the_rest_reads(kitchen, monkeypatch, size):
    module, given, _ = kitchen
    plan, made = module.PLANS[size], []
    monkeypatch.setattr(module, 'cache', lambda root, seeds, fields: made.append((seeds, tuple(fields))) or Path('x'))
    module.render(plan, given)
    rendered = list(made)
    made.clear()
    monkeypatch.setattr(module, 'calibration', lambda *a: None)
    monkeypatch.setattr(module, 'measure', lambda *a: {})
    monkeypatch.setattr(module, 'results', lambda *a: '')
    monkeypatch.setattr(module, 'head', lambda name, given, out, episodes: given.out)
    given.to.mkdir()
    (given.out / 'README.md').write_text('# card')
    module.train(plan, given)
    module.finish(plan, given, given.out, given.out)
    assert made == rendered and len(made) == len(plan.seeds) + 3


def test_a_calibration_is_fitted_once_and_stored(kitchen, monkeypatch):
    module, given, _ = kitchen
    fits, opened = [], []
    wanted = Calibration(1.25, 0.0, {'rgb': tuple(i / 200 for i in range(201))}, {'red bowl': 2.5})
    monkeypatch.setattr(
        'm3et_ros.data.checkpoints.m3et.load_checkpoint', lambda base: argparse.Namespace(model_id='k@1')
    )
    monkeypatch.setattr(
        'm3et_ros.data.kitchen.cache.dataset.KitchenSamples',
        lambda folder, **o: opened.append((folder, o.get('length'))) or list(range(1300)),
    )
    monkeypatch.setattr(module, 'cache', lambda root, seeds, fields: (seeds, fields))

    def calibrate(_, asked, shown, *, untaught):
        fits.append((list(shown), 'red bowl' in untaught))
        return wanted

    monkeypatch.setattr('m3et_ros.evaluation.tasks.calibrate.calibrate', calibrate)
    for _ in range(2):
        assert module.calibration(module.KITCHEN2, given, Path('base'), given.out / 'new') == wanted
    assert fits == [(list(range(0, 1300, 2)), True)]
    kitchens = (range(10_000, 10_100), {'frames': 12, 'stride': 25, 'version': 2, 'size': 224})
    assert opened == [(kitchens, module.ASKED), (kitchens, None)]


def test_a_measurement_is_made_once_and_holds_no_path(kitchen, tmp_path):
    module, given, commands = kitchen
    words = module.KITCHEN2.measures['vqa_other']
    out = tmp_path / 'kitchen@1-vqa_other'
    out.mkdir()
    (out / 'metrics.json').write_text(json.dumps({'model': str(given.to), 'run': f'{given.out}/vqa'}))
    document = module.measure('vqa_other', given, tmp_path, 'kitchen@1', words)
    assert document == {'model': 'kitchen2', 'run': 'build/train/vqa'} and commands == []
    with pytest.raises(FileNotFoundError):  # the command that would have written it does nothing here
        module.measure('vqa_other', given, tmp_path, 'kitchen@2', words)
    assert commands[0][:4] == ['evaluate', 'vqa', '--model', str(given.to)]
    assert commands[0][6:] == ['--data', 'test-other', '--samples', '1500']


def test_the_newest_milestone_is_finished_in_a_folder_of_its_own(kitchen, tmp_path, monkeypatch):
    module, _, _ = kitchen
    finished = []
    monkeypatch.setattr(module, 'finish', lambda plan, given, base, out: finished.append((plan.size, base, out)))
    monkeypatch.setattr(sys, 'argv', ['x', '--size', 'kitchen2', '--milestone', '--out', str(tmp_path)])
    with pytest.raises(SystemExit, match='no milestone in'):
        module.main()
    for step in ('00000100', '00000900', '00001000.part'):
        (tmp_path / 'vqa/milestones' / step).mkdir(parents=True)
    module.main()
    newest = tmp_path / 'vqa/milestones/00000900'
    assert finished == [('kitchen2', newest, tmp_path / 'milestone-00000900')]


def test_the_hours_to_the_end_are_those_of_this_step_and_the_later_ones(kitchen, capsys):
    module, _, _ = kitchen
    plan = replace(module.KITCHEN, hours={'caches': 1.0, 'vqa': 2.5, 'heads': 0.5})
    module.announce('vqa', plan)
    assert capsys.readouterr().out.endswith('vqa: 2.5 h of 3.0 h to the end on 2 cores\n')
    assert [list(plan.hours) for plan in module.PLANS.values()] == [
        ['caches', 'pretrain', 'vqa', 'calibration', 'measures', 'heads']
    ] * 2


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
    assert module._figure(row, key, 10, '.1f') == f'5.0{mark}'
    assert module._figure({key: {'value': 0.5}}, key, 1, '.1f') == '0.5' and module._figure({}, key, 1, '') == '-'


@pytest.mark.parametrize(
    ('key', 'of_seeds', 'shown'),
    [
        ('miou', [0.01, 0.03], '+2.0 (+1.0, +3.0) better'),
        ('miou', [-0.01, -0.03], '-2.0 (-1.0, -3.0) worse'),
        ('rmse_in_holes_m', [0.1, 0.2], '+0.150 (+0.100, +0.200) worse'),
        ('miou', [-0.01, 0.03], '+1.0 (-1.0, +3.0)'),
        ('miou', [0.0, 0.03], '+1.5 (+0.0, +3.0)'),
    ],
)
def test_a_sign_is_claimed_only_if_all_seeds_share_it(key, of_seeds, shown):
    figure = {key: {'value': 0.5, 'of_seeds': [0.4, 0.6]}}
    found = {'rows': {'full': figure, 'changed': figure | {'less_full': {key: {'of_seeds': of_seeds}}}}}
    header, _, full, changed = load('run_tables').by_seed(found).splitlines()
    assert header.strip('| ').split(' | ') == ['Model', load('run_tables').FIGURES[key][0]]
    assert changed.strip('| ').split(' | ') == ['changed', shown]
    assert 'better' not in full and 'worse' not in full


def test_the_scripts_of_tables_fill_the_blocks_that_bear_their_names(monkeypatch):
    written = []
    monkeypatch.setattr(Path, 'write_text', lambda path, text, encoding: written.append((path, text)))
    for name in ('readme_tables', 'run_tables'):
        load(name).main()
        for path in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
            blocks = re.findall(rf'<!-- \w+: scripts/{name}\.py -->', path.read_text(encoding='utf-8'))
            texts = [text for page, text in written if page == path]
            assert len(texts) == len(blocks) and all(block in text for block in blocks for text in texts), path
        written.clear()


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


@pytest.mark.parametrize('ros', ['jazzy', 'kilted'])
@pytest.mark.parametrize('tests', [False, True], ids=['demo', 'tests'])
def test_the_lock_has_every_requirement_in_a_version_that_it_allows(ros, tests):
    module = load('lock')
    text = (module.FOLDER / f'{ros}{"-test" if tests else ""}.txt').read_text()
    locked = {}
    for line in re.findall(r'^([^\s#].*?) \\$', text, re.MULTILINE):
        one = Requirement(line)
        locked.setdefault(canonicalize_name(one.name), []).append(one)
    for name in module.lists(ros, tests=tests):
        for line in (ROOT / f'requirements/{name}.txt').read_text().splitlines():
            wanted = Requirement(line) if line and not line.startswith('#') else None
            if wanted and wanted.name != 'torch':
                versions = [next(iter(one.specifier)).version for one in locked[canonicalize_name(wanted.name)]]
                assert any(wanted.specifier.contains(version) for version in versions), f'{line}: run make lock'
    assert not any(module.OF_TORCH.match(line) for line in text.splitlines())


def test_the_shipped_sizes_are_those_that_the_script_counts():
    module = load('model_sizes')
    counted = json.loads(json.dumps(module.describe_sizes()))
    assert json.loads(module.FILE.read_text()) == counted, 'run scripts/model_sizes.py'


def test_the_notice_states_the_licence_of_what_is_installed():
    module = load('notice')
    assert module.licence('nothing-of-this-name') == '' and 'MIT' in module.licence('pytest')
    notice = dict(re.findall(r'^(\S+)  +(\S.*)$', (ROOT / 'NOTICE').read_text(), re.MULTILINE))
    assert notice['torch'].startswith('Apache-2.0') and notice['ros-jazzy-rclpy'] and notice['mcp']
    locked = re.findall(r'^([a-z0-9][a-z0-9._-]*)==', (ROOT / 'requirements/lock/jazzy.txt').read_text(), re.MULTILINE)
    absent = {name for name in locked if module.licence(name)} - notice.keys()
    assert absent == set(), 'run scripts/notice.py'


def test_the_page_of_the_command_line_is_that_of_the_commands():
    script = load('cli_page')
    assert script.PAGE.read_text(encoding='utf-8') == script.page(), 'python scripts/cli_page.py writes it again'
