"""Tiny talking models with random weights, for tests of whoever loads one."""

import torch

from m3et_ros.data.checkpoints.talk import TalkCheckpoint, save_talk
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import SIZES
from m3et_ros.models.vlm.variants import kitchen_config, vision_width

SIGHT = 'tiny-random-0'
WORDS = [
    'is',
    'the',
    'cup',
    'red?',
    'yes,',
    'the',
    'cup',
    'is',
    'red.',
    'no,',
    'it',
    'is',
    'not.',
    'what',
    'do',
    'you',
    'see?',
    'i',
    'can',
    'see',
    'a',
    'spoon',
    'on',
    'the',
    'table.',
    'where',
    'is',
    'the',
    'cup?',
]


def talker(variant='ml_mamba', *, vision=SIGHT, seed=0, side=3, **sizes) -> TalkCheckpoint:
    """A checkpoint for the M3ET of size tiny."""
    tokenizer = Tokenizer.train(WORDS, vocabulary=128)
    config = kitchen_config(
        variant,
        vocabulary=tokenizer.vocabulary,
        side=side,
        **{'d_vision': vision_width(SIZES['tiny']), 'd': 64, 'layers': 4} | sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = config.build().eval()
    return TalkCheckpoint(model, config, tokenizer, vision, f'{config.variant}-random-{seed}', trained=False)


def talker_folder(folder, variant='ml_mamba', **options):
    """The folder of such a checkpoint."""
    save_talk(folder, talker(variant, **options), card='# A test\n')
    return folder
