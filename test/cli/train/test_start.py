"""The model that a stage starts from: a size with its seed and changed switches, or a checkpoint as it is."""

import pytest

from m3et_ros.cli.output import Refused
from m3et_ros.cli.train.start import StartOptions, changed, open_start
from m3et_ros.models.m3et.sizes import TINY
from m3et_ros.runtime.open_model import open_checkpoint


def test_the_start_is_a_size_with_its_seed_or_a_checkpoint(border):
    untrained = border('m3et_ros.runtime.open_model.untrained', open_checkpoint('tiny'))
    assert open_start(StartOptions(model='tiny'), 9).heads == {}
    assert [*untrained[0].values()] == ['tiny', 9]
    loaded = border('m3et_ros.runtime.open_model.open_checkpoint', open_checkpoint('tiny'))
    assert open_start(StartOptions(start='folder'), 9).heads == {}
    assert 'folder' in loaded[0].values()


def test_switches_of_the_paper_are_set_in_a_new_model():
    changes = [
        'images_hear=true',
        'decoder_queries=encoded',
        'schedule=TTTM',
        'tasks=["rgb"]',
        'mixer_options={"N": 4}',
    ]
    made = open_start(StartOptions(model='tiny', changes=changes), 3)
    config = made.model.config
    assert (config.images_hear, config.decoder_queries, config.schedule, config.tasks) == (
        True,
        'encoded',
        'TTTM',
        ('rgb',),
    )
    assert config.mixer_options == {'N': 4} and set(made.model.decoders) == {'rgb'}
    assert made.model_id == 'tiny-random-3' and config.vocabulary == made.tokenizer.vocabulary


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ('images_hear', "--set has 'images_hear'; give FIELD=VALUE with one of the fields image_size, patch, d,"),
        ('answers=9', "--set has 'answers=9'; give FIELD=VALUE"),
        ('nothing=1', "--set has 'nothing=1'; give FIELD=VALUE"),
        ('gate=yes', "--set is refused: gate is 'yes'"),
        ('schedule=5', '--set is refused: schedule'),
    ],
    ids=['bare', 'follows', 'unknown', 'switch', 'schedule'],
)
def test_a_change_that_cannot_be_made_is_one_sentence(change, sentence):
    with pytest.raises(Refused) as refused:
        changed(TINY, [change])
    assert str(refused.value).startswith(sentence)


def test_a_checkpoint_keeps_its_switches():
    with pytest.raises(Refused, match='A checkpoint has its own configuration; leave --set out, or --from'):
        open_start(StartOptions(start='tiny', changes=['gate=false']), 0)
