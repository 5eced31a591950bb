"""Shared parts of the verbs of m3et evaluate: checks of options, folders, models, thresholds and intervals."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pytest
import typer

from m3et_ros.cli.evaluate.common import (
    BELOW_THRESHOLD,
    BagTopics,
    JudgeOptions,
    ScoreOptions,
    check_threshold,
    format_interval,
    is_given,
    make_out,
    open_cache,
    open_fitting_model,
    open_model,
    prepare,
    print_troubles,
    recorded_command,
    refuse_idle_options,
    refusing,
    write_results,
)
from m3et_ros.cli.output import Refused
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe
from m3et_ros.evaluation.judge import PROMPT
from m3et_ros.runtime.open_model import open_checkpoint


def given_line(*words):
    """The context of a small verb, run with these words."""
    app, contexts = typer.Typer(add_completion=False), []

    @app.command()
    def measure(
        context: typer.Context,
        bags: Annotated[list[Path] | None, typer.Argument()] = None,
        data: Annotated[str, typer.Option()] = 'test',
        camera: Annotated[str | None, typer.Option()] = None,
        out: Annotated[str, typer.Option()] = 'x',
        ray: Annotated[str | None, typer.Option()] = None,
        workers: Annotated[int, typer.Option()] = 1,
        at_least: Annotated[float | None, typer.Option()] = None,
        as_json: Annotated[bool, typer.Option('--json')] = False,
    ):
        contexts.append(context)

    app(args=list(words), prog_name='m3et evaluate x', standalone_mode=False)
    return contexts[0]


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('bag', '--data', 'test'), '--data is for kitchens of a cache, and recordings were given'),
        (('--camera', '/c'), '--camera is for recordings, and none was given'),
        (('bag', '--camera', '/c'), None),
        (('--data', 'other'), None),
        ((), None),
    ],
)
def test_options_without_effect_are_refused_even_with_their_default(words, sentence):
    context = given_line(*words)
    if sentence is None:
        refuse_idle_options(context, of_data=('data',), of_bags=('camera',))
    else:
        with pytest.raises(Refused, match=sentence):
            refuse_idle_options(context, of_data=('data',), of_bags=('camera',))


def test_the_refusal_names_what_the_option_is_for():
    with pytest.raises(Refused, match='--data is for labels, and'):
        refuse_idle_options(given_line('bag', '--data', 'x'), of_data=('data',), data='labels')


def test_an_option_is_given_when_it_is_on_the_line():
    context = given_line('--data', 'test')
    assert is_given(context, 'data') and not is_given(context, 'camera') and not is_given(context, 'nothing')


def test_the_recorded_command_has_only_what_influences_the_results():
    line = ('bag', '--data', 'd', '--out', 'o', '--ray', 'local', '--workers', '3', '--at-least', '0.5', '--json')
    context = given_line(*line, '--camera', '/c')
    assert recorded_command(context) == "'m3et evaluate x' bag --data d --camera /c".replace("'", '')
    assert recorded_command(context, ['camera']) == 'm3et evaluate x bag --data d'


def test_the_folder_of_results_is_made(tmp_path):
    make_out(tmp_path / 'a' / 'b')
    make_out(tmp_path / 'a' / 'b')
    assert (tmp_path / 'a' / 'b').is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(Refused, match='cannot be written .Permission denied.; give another --out'):
        make_out(tmp_path)


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    with pytest.raises(Refused, match='cannot be written .Permission denied.; give another --out'):
        make_out(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(Refused, match='file cannot be written'):
        make_out(tmp_path / 'file')


@pytest.mark.parametrize(
    ('value', 'at_least', 'message'),
    [
        (0.5, None, None),
        (0.5, 0.5, None),
        (0.4999, 0.5, 'exact match 0.4999 is below 0.5\n'),
        (None, 0.0, 'exact match could not be measured\n'),
        (None, None, None),
    ],
)
def test_results_below_the_threshold_end_with_code_two(capsys, value, at_least, message):
    if message is None:
        check_threshold('exact match', value, at_least)
    else:
        with pytest.raises(typer.Exit) as ended:
            check_threshold('exact match', value, at_least)
        assert ended.value.exit_code == BELOW_THRESHOLD == 2
    assert capsys.readouterr().err == (message or '')


def test_intervals():
    assert format_interval({'low': None, 'high': None}) == '-'
    assert format_interval({'low': 0.12345, 'high': 0.5}) == '0.123 to 0.500'
    assert format_interval({'low': 0.12345, 'high': 0.5}, 2) == '0.12 to 0.50'
    assert format_interval({'low': -0.1, 'high': 0.5}, sign='+') == '-0.100 to +0.500'


def test_sentences_of_value_errors_become_refusals():
    def fail(error):
        raise error

    with pytest.raises(Refused, match=r'^frames is 0; give 1 or more\.$'):
        refusing(fail, ValueError('frames is 0; give 1 or more'))
    with pytest.raises(InputError, match='no cache'):
        refusing(fail, InputError('cache_missing', 'There is no cache.'))
    assert refusing(dict, a=1) == {'a': 1}


def test_troubles_are_printed_bag_by_bag(capsys):
    print_troubles([{'bag': 'a', 'troubles': ['no depth']}, {'bag': 'b', 'failed': 'damaged', 'troubles': []}])
    assert capsys.readouterr().err == 'a: no depth\nb: damaged\n'


@pytest.mark.parametrize(
    'fields',
    [
        {'judge_url': 'http://x/v1'},
        {'judge_model': 'm'},
        {'judge_prompt': Path('p')},
        {'judge_model': 'm', 'judge_prompt': Path('p')},
    ],
)
def test_a_judge_needs_address_and_model(fields):
    with pytest.raises(Refused, match='both --judge-url and --judge-model'):
        JudgeOptions(**fields).judge()


def test_a_judge_has_address_model_and_prompt(tmp_path):
    assert ScoreOptions().judge() is None
    judge = JudgeOptions(judge_url='http://x/v1', judge_model='m').judge()
    assert (judge.url, judge.model, judge.prompt) == ('http://x/v1', 'm', PROMPT)
    (tmp_path / 'p').write_text('{question} {answer} {prediction} {extra_answers}!')
    judge = JudgeOptions(judge_url='http://x/v1', judge_model='m', judge_prompt=tmp_path / 'p').judge()
    assert judge.prompt.endswith('!')


def test_topics_are_renamed():
    assert BagTopics(remaps=['/a:=/b']).renamed() == {'/a': '/b'} and BagTopics().renamed() == {}
    with pytest.raises(Refused, match='-r /a has no value'):
        BagTopics(remaps=['/a']).renamed()


def test_a_model_is_opened_on_its_device(border):
    engine = border('m3et_ros.runtime.engine.Engine', type('Engine', (), {'checkpoint': 'on its device'}))
    fitted = border('m3et_ros.evaluation.standard_caches.check_fit')
    assert open_model('tiny', 'cuda:1') == 'on its device'
    assert (engine[0]['checkpoint'].model_id, engine[0]['device']) == ('tiny-random-0', 'cuda:1')
    assert open_fitting_model('tiny', 'recipe', 'cpu') == 'on its device' and engine[1]['device'] == 'cpu'
    assert fitted[0]['recipe'] == 'recipe' and fitted[0]['checkpoint'].model_id == 'tiny-random-0'


@pytest.fixture
def cache(tmp_path):
    """A folder with the recipe of a cache."""

    def make(**fields):
        recipe = CacheRecipe(**{'first': 20_000, 'last': 20_001, 'frames': 2, 'size': 32} | fields)
        folder = tmp_path / recipe.name
        folder.mkdir()
        (folder / 'recipe.json').write_text(json.dumps(asdict(recipe)))
        return folder, recipe

    return make


def test_a_cache_that_is_there_is_read_and_training_kitchens_are_reported(cache, capsys):
    folder, recipe = cache()
    assert open_cache(str(folder), 1) == (folder, recipe) and capsys.readouterr().err == ''
    folder, recipe = cache(first=0, last=1)
    assert open_cache(str(folder), 1) == (folder, recipe)
    assert 'These are training kitchens' in capsys.readouterr().err


def test_a_missing_standard_cache_is_rendered_with_the_workers_and_the_model_is_checked_first(
    cache, border, capsys, monkeypatch
):
    folder, recipe = cache()
    monkeypatch.setattr('m3et_ros.evaluation.standard_caches.find_cache', lambda name: (folder, recipe))
    made = border('m3et_ros.evaluation.standard_caches.make_cache')
    assert open_cache('test', 3) == (folder, recipe)
    assert made == [{'recipe': recipe, 'workers': 3}]
    assert f'The test cache is rendered into {folder} first' in capsys.readouterr().err
    opened = border('m3et_ros.cli.evaluate.common.open_fitting_model', 'checkpoint')
    assert prepare('tiny', 'test', 'cuda', 2) == ('checkpoint', folder, recipe)
    assert opened == [{'name': 'tiny', 'recipe': recipe, 'device': 'cuda'}] and made[1]['workers'] == 2


def test_results_are_the_document_and_the_rows(cache, tmp_path):
    _, recipe = cache()
    context, checkpoint = given_line('--data', 'd', '--json'), open_checkpoint('tiny')
    document = write_results(tmp_path, context, checkpoint, recipe, {'seed': 3}, {'accuracy': 0.5}, [{'a': 1}])
    made = document['made_by']
    assert document['metrics'] == {'accuracy': 0.5} and made['settings'] == {'seed': 3}
    assert made['command'] == 'm3et evaluate x --data d' and made['cache']['name'] == recipe.name
    assert (tmp_path / 'per_sample.csv').read_text() == 'a\n1\n' and (tmp_path / 'metrics.json').exists()
