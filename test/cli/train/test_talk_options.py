"""m3et train talk: every option where it arrives, and options of other variants refused."""

import os
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.train.talk import (
    AlignLoss,
    AlignOptions,
    AlignOrder,
    AlignTarget,
    HybridOptions,
    LayerKind,
    ProbKind,
    Reduction,
    SizeOptions,
    Spread,
    StageOptions,
    Variant,
    VariantOptions,
    ViewOptions,
    talk_recipe,
)
from m3et_ros.training.talk import Chat, Connect, Distil, Words, talk_tokenizer


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    """The verb chooses how threads wait; nothing of it may stay behind."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())


SESSION = ('--minutes', 1.5, '--seed', 9, '--bf16', '--resume')


HYBRID = ('--teacher', 'runs/teacher', '--share', 0.5, '--spread', 'last', '--layer-weight', 2, '--prob-weight', 3)
HYBRID += ('--ce-weight', 0, '--layer-kind', 'kl', '--prob-kind', 'js', '--temperature', 4, '--reduction', 'released')
ALIGN = ('--align', 0.125, '--last', '--align-target', 'deep', '--align-order', 'released', '--align-loss', 'sum')
ALIGN += ('--align-warm-up', 0.5)
VIEWS = ('--data', 'one', '--data', 'two', '--from', 'tiny', '--views', 'views', '--every', 2, '--questions', 5)
SIZES = ('--side', 6, '--width', 128, '--layers', 3, '--connector', 'basic', '--scan', 'cross')
SIZES += ('--mixer', 'mamba1', '--drop-path', 0.25, '--system', 'where is it')
STAGES_OF = ('--samples', 640, '--words', 64, '--connect', 96, '--distil', 32)
SHARED = ('--batch', 8, '--lr', 0.002, '--optimiser', 'muon')


HYBRID_OPTIONS = HybridOptions(
    teacher=Path('runs/teacher'),
    share=0.5,
    spread=Spread.last,
    layer_weight=2.0,
    prob_weight=3.0,
    ce_weight=0.0,
    layer_kind=LayerKind.kl,
    prob_kind=ProbKind.js,
    temperature=4.0,
    reduction=Reduction.released,
)
ALIGN_OPTIONS = AlignOptions(
    align=0.125,
    fusion=False,
    align_target=AlignTarget.deep,
    align_order=AlignOrder.released,
    align_loss=AlignLoss.sum,
    align_warm_up=0.5,
)


def test_every_option_of_talk_arrives(border, reach, every_option, monkeypatch):
    teacher = type('Teacher', (), {'tokenizer': 'tokenizer', 'model': 'teacher'})()
    loaded = border('m3et_ros.data.checkpoints.talk.load_talk', teacher)
    config = border('m3et_ros.cli.train.talk.model_config', 'config')
    recipe = border('m3et_ros.cli.train.talk.talk_recipe', 'recipe')
    encoded = border('m3et_ros.cli.train.talk.encode_data', ('tokens', 'dialogues'))
    ran = border('m3et_ros.training.talk.TalkRun', last=True)
    line = ['train', 'talk', '--out', 'runs/x', '--variant', 'matvlm', *HYBRID]
    line += [*VIEWS, *SIZES, *STAGES_OF, *SHARED, *SESSION, '--half']
    reach(*line)
    paper = VariantOptions(variant=Variant.matvlm)
    views = ViewOptions(data=[Path('one'), Path('two')], start='tiny', views=Path('views'), every=2, questions=5)
    stages = StageOptions(samples=640, words=64, connect=96, distil=32, batch=8, lr=0.002, optimiser='muon')
    sizes = SizeOptions(
        side=6, d=128, layers=3, connector='basic', scan='cross', drop_path=0.25, mixer='mamba1', system='where is it'
    )
    assert [*loaded[0].values()] == [Path('runs/teacher')]
    assert (config[0]['paper'], config[0]['sizes'], config[0]['teacher']) == (paper, sizes, teacher)
    chosen = {'hybrid': HYBRID_OPTIONS, 'align': AlignOptions(), 'stages': stages, 'seed': 9}
    assert recipe == [{'config': 'config', **chosen}]
    (call,) = encoded
    assert (call['recipe'], call['views'], call['folder']) == ('recipe', views, Path('views'))
    assert (call['session'].seed, call['session'].bf16, call['session'].half) == (9, True, True)
    (call,) = ran
    assert [call[name] for name in ('recipe', 'data', 'views', 'tokenizer', 'folder')] == [
        'recipe',
        'dialogues',
        'tokens',
        'tokenizer',
        Path('runs/x'),
    ]
    assert call['encoder'][1] == 16 and call['encoder'][0].project.out_features == 32
    session = call['session']
    assert (session.minutes, session.bf16, session.resume, session.stop()) == (1.5, True, True, False)
    reach('train', 'talk', '--out', 'x', '--variant', 'emma', *ALIGN, *VIEWS)
    assert (recipe[1]['hybrid'], recipe[1]['align']) == (HybridOptions(), ALIGN_OPTIONS)
    every_option([*line, *ALIGN], ['--json', '--vision'])


def test_the_image_encoders_are_opened_by_their_names(border, reach):
    opened = border('m3et_ros.runtime.open_model.open_encoders', last=True)
    reach('train', 'talk', '--data', 'x', '--out', 'y', '--variant', 'emma', '--vision', 'one,hf:a/two')
    assert opened == [{'names': 'one,hf:a/two'}]


def test_sizes_arrive_at_the_config(border, reach):
    built = border('m3et_ros.models.vlm.variants.kitchen_config', last=True)
    reach('train', 'talk', '--out', 'x', '--variant', 'emma', *VIEWS, *SIZES)
    sizes = SizeOptions(
        side=6, d=128, layers=3, connector='basic', scan='cross', drop_path=0.25, mixer='mamba1', system='where is it'
    )
    pieces = built[0].pop('system')
    assert built[0]['variant'] == 'emma' and asdict(sizes).items() - {('system', 'where is it')} <= built[0].items()
    assert talk_tokenizer().decode(pieces) == 'where is it'


@pytest.mark.parametrize('variant', ['emma', 'matvlm'])
def test_views_grid_precision_and_questions_arrive(border, reach, variant):
    border('m3et_ros.cli.train.talk.check_training_split')
    tokens = type('Tokens', (), {'frames': 'frames'})()
    encoded = border('m3et_ros.data.features.visual_tokens.encode_views', tokens)
    dialogues = border('m3et_ros.data.kitchen.cache.dialogues.DialogueViews', last=True)
    reach('train', 'talk', '--out', 'x', '--variant', variant, *VIEWS, *SIZES[:2], *SESSION)
    (call,) = encoded
    assert (call['every'], call['grid'], call['bf16']) == (2, (6, 6), True)
    assert Path('views') in call.values() and [Path('one'), Path('two')] in call.values()
    assert [dialogues[0][name] for name in ('each', 'pixels', 'seed')] == [5, variant == 'emma', 9]
    assert 'frames' in dialogues[0].values()


COMMON = {'batch': 8, 'lr': 0.002, 'optimiser': 'muon'}


@pytest.mark.parametrize(
    ('variant', 'share', 'zero', 'words', 'connect', 'distil'),
    [
        ('ml_mamba', 0.5, (), True, True, False),
        ('emma', 0.5, (), True, False, False),
        ('matvlm', 0.5, (), True, True, True),
        ('matvlm', 0.0, (), True, True, False),
        ('matvlm', 0.5, ('words',), False, True, True),
        ('matvlm', 0.5, ('connect',), True, False, True),
    ],
)
def test_each_variant_has_its_stages(variant, share, zero, words, connect, distil):
    views = {'words': 64, 'connect': 96} | dict.fromkeys(zero, 0)
    stages, config = StageOptions(samples=640, distil=32, **views, **COMMON), SimpleNamespace(variant=variant)
    recipe = talk_recipe(config, HybridOptions(share=share), AlignOptions(), stages, 9)
    assert recipe.words == (Words(samples=64, **COMMON) if words else None)
    assert recipe.connect == (Connect(samples=96, **COMMON) if connect else None)
    assert recipe.chat == Chat(samples=640, **COMMON)
    assert recipe.distil == (Distil(samples=32, **COMMON) if distil else None)
    assert (recipe.share, recipe.fusion, recipe.aligned, recipe.seed) == (share, True, True, 9)


def test_options_of_the_papers_reach_the_recipe():
    hybrid = talk_recipe(SimpleNamespace(variant='matvlm'), HYBRID_OPTIONS, AlignOptions(), StageOptions(), 0)
    assert (hybrid.share, hybrid.spread) == (0.5, 'last')
    losses = {'layer': 2.0, 'prob': 3.0, 'ce': 0.0, 'temperature': 4.0}
    kinds = {'layer_kind': 'kl', 'prob_kind': 'js', 'reduction': 'released'}
    assert hybrid.distil == Distil(batch=16, **losses, **kinds)
    emma = talk_recipe(SimpleNamespace(variant='emma'), HybridOptions(), ALIGN_OPTIONS, StageOptions(), 0)
    assert (emma.fusion, emma.aligned, emma.target, emma.released_order) == (False, True, 'deep', True)
    assert emma.chat == Chat(align=0.125, align_warm_up=0.5, align_loss='sum_1e-5')


def test_without_weight_there_is_no_alignment():
    config = SimpleNamespace(variant='emma')
    assert not talk_recipe(config, HybridOptions(), AlignOptions(align=0.0), StageOptions(), 0).aligned


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('--variant', 'emma', '--teacher', 'x'), 'Only matvlm has --teacher; leave it out, or give --variant matvlm.'),
        (('--variant', 'ml_mamba', '--prob-kind', 'js'), 'Only matvlm has --prob-kind'),
        (('--variant', 'matvlm', '--align-loss', 'sum'), 'Only emma has --align-loss'),
        (('--variant', 'ml_mamba', '--last'), 'Only emma has --last'),
        (('--share', 0, '--teacher', 'x'), 'Without replaced layers there is no student to teach'),
    ],
    ids=['teacher', 'kind', 'sum', 'last', 'share'],
)
def test_an_option_of_another_variant_is_refused(capsys, words, sentence):
    assert main(['train', 'talk', '--data', 'x', '--out', 'y', *map(str, words)]) == 1
    assert sentence in capsys.readouterr().err
