"""Tables of a model card."""

import pytest

from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
from m3et_ros.evaluation.report.markdown import (
    actions_table,
    number,
    reconstruction_table,
    replace_block,
    share,
    table,
    vqa_table,
)
from m3et_ros.evaluation.tasks.reconstruction import measure_frames
from m3et_ros.evaluation.tasks.reconstruction_scores import reconstruction_scores
from m3et_ros.evaluation.tasks.vqa import ask, scores_of


def test_numbers_come_with_their_intervals():
    found = {'value': 0.7125, 'low': 0.698, 'high': 0.7261}
    assert share(found) == '71.2 % (69.8 to 72.6)'
    assert number(found, 'm') == '0.713 m (0.698 to 0.726)' and number(found, 'dB') == '0.7 dB (0.7 to 0.7)'
    assert table(('a', 'b'), [('1', '2')]) == '| a | b |\n| --- | --- |\n| 1 | 2 |'


def test_a_page_needs_each_block_exactly_once():
    block = '<!-- talk: old -->\nx\n<!-- end -->'
    assert replace_block(f'a\n{block}\nb', 'talk', 'x.py', r'\1 new ') == (
        'a\n<!-- talk: x.py -->\n\\1 new\n<!-- end -->\nb'
    )
    for text in ('nothing', f'{block}\n{block}'):
        with pytest.raises(ValueError, match='blocks called talk'):
            replace_block(text, 'talk', 'x.py', 'new')


def test_the_questions_of_a_run(cache, tiny):
    samples = KitchenSamples(cache, length=40)
    scores = scores_of(ask(tiny.model, tiny.tokenizer, samples, write=True), samples.balance)
    lines = vqa_table({'subsets': {'all': scores, 'held_out': scores}}).splitlines()
    names = [line.split(' | ')[0].removeprefix('| ') for line in lines]
    assert names[2:5] == ['all families', 'all families, written by the text decoder', 'answerable from one frame']
    first = names.index('held out: all families')
    families = [name.replace('_', ' ') for name in scores['families']]
    assert names[5:first] == families and 'colour' in families
    held_out = scores['forms'], *(part['forms'] for part in scores['families'].values())
    assert names[first + 1 : -1] == [
        f'held out: {name}, {form}' for name, forms in zip(['all families', *families], held_out) for form in forms
    ]
    line = lines[2 + names[2:].index('held out: all families, open')].split(' | ')
    assert line[1:4] == [share(scores['forms']['open']['accuracy']), '', '']
    assert lines[-1].startswith(f'| calibration error, all families | {share(scores["calibration_error"])} |')
    assert len({line.count('|') for line in lines}) == 1
    assert lines[2].split(' | ')[1] == share(scores['accuracy'])
    assert lines[2].split(' | ')[2] == f'{100 * scores["best_blind"]:.1f} %'


def test_the_frames_of_a_run(cache, tiny):
    scores = reconstruction_scores(measure_frames(tiny.model, KitchenSamples(cache, questions=False)), CLASSES)
    text = reconstruction_table(scores)
    holes = scores['full']['depth_in_holes']
    assert number(scores['hidden']['psnr_hidden_db'], 'dB') in text
    assert all(
        number(holes[name]['rmse_m'], 'm') in text
        for name in ('model', 'auto', 'smooth', 'nearest', 'telea', 'navier_stokes')
    )
    assert share(holes['telea']['model_below']) in text
    ways = {way: {'value': n / 8, 'low': None, 'high': None} for n, way in enumerate(('auto', 'model', 'smooth'))}
    cut = {'rmse_m': {'0.04': ways | {'navier_stokes': {'value': 0.5, 'low': None, 'high': None}}}}
    text = reconstruction_table(scores | {'cut_holes': cut})
    assert 'in holes cut into the depth, 4.0% of the width, smooth | 0.250 m' in text
    assert 'in holes cut into the depth, 4.0% of the width, navier stokes | 0.500 m' in text


def test_the_actions_of_a_run():
    found = {
        figure: {'value': value, 'low': None, 'high': None}
        for figure, value in (('top1', 0.5), ('top5', 0.75), ('mean_top5_recall_unbalanced', 0.25))
    }
    lines = actions_table(
        {
            'recognition': {'left_out': {}, 'two_pass': {'all': {'action': found}}},
            'references': {'repeat_last': {'action': found}},
        }
    ).splitlines()[2:]
    assert lines == [
        '| recognition, asked two pass | 50.0 % | 75.0 % | 25.0 % |',
        '| anticipation, repeat last of true labels | 50.0 % | 75.0 % | 25.0 % |',
    ]


@pytest.mark.parametrize('missing', ['value', 'low', 'high'])
def test_an_interval_is_whole(missing):
    found = {'value': 1.0, 'low': 1.0, 'high': 1.0}
    del found[missing]
    with pytest.raises(KeyError):
        share(found)


def test_a_word_of_a_data_set_stays_in_its_cell():
    assert table(('a',), [('x | y\n<b>&',)]).splitlines()[2] == r'| x \| y\n&lt;b>&amp; |'
