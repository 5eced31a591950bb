"""The check of runtimes: a fault in any output, of any task, with or without text, of any modality set, is found."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.m3et.sizes import TINY, build
from m3et_ros.runtime.backends import check

SETS = (('rgb', 'depth'), ('rgb',))


@pytest.fixture(scope='module')
def model():
    return build(replace(TINY, name='both', schedule='MT', stages=1, text_length=4)).eval()


class Faulty:
    """A model of which one kind of output is off."""

    def __init__(self, model, fault, with_text=None, modalities=None):
        self._model, self._fault, self._with_text, self._modalities = model, fault, with_text, modalities

    def _applies(self, fault, tokens):
        if fault != self._fault or (self._with_text is not None and ('text' in tokens) != self._with_text):
            return False
        return self._modalities is None or tuple(m for m in tokens if m != 'text') == self._modalities

    def encode_images(self, images):
        encoding = self._model.encode_images(images)
        if self._applies('stages', encoding.tokens):
            return replace(encoding, stages=[1.01 * t for t in encoding.stages])
        if self._applies('states', encoding.tokens):
            attention = encoding.states[1]
            return replace(encoding, states=[encoding.states[0], attention._replace(v=1.01 * attention.v)])
        if self._applies('scan states', encoding.tokens):
            return replace(encoding, states=[1.01 * encoding.states[0], encoding.states[1]])
        if self._applies('tokens', encoding.tokens):
            return replace(encoding, tokens={m: 1.01 * t for m, t in encoding.tokens.items()})
        if self._applies('visible', encoding.tokens):  # holes in the depth pass for measured
            return replace(encoding, visible={m: torch.ones_like(v) for m, v in encoding.visible.items()})
        return encoding

    def add_text(self, image_encoding, text=None, text_mask=None):
        encoded = self._model.add_text(image_encoding, text, text_mask)
        if self._applies('context', encoded.tokens):
            return replace(encoded, stages=[1.01 * t for t in encoded.stages])
        if self._applies('source', encoded.tokens):  # text passes for image tokens: answers alone depend on it
            return replace(encoded, source=torch.zeros_like(encoded.source))
        return encoded

    def decode(self, encoded, task):
        found = self._model.decode(encoded, task)
        return 1.01 * found if self._applies(task, encoded.tokens) else found


def test_the_model_agrees_with_itself(model):
    assert check.largest_difference(model, model, SETS) == 0
    assert check.largest_difference(Faulty(model, 'none'), model, SETS) == 0


@pytest.mark.parametrize('fault', ['stages', 'states', 'scan states', 'tokens'])
@pytest.mark.parametrize('modalities', SETS)
def test_a_fault_in_the_image_encoding_is_found(model, fault, modalities):
    faulty = Faulty(model, fault, modalities=modalities)
    assert check.largest_difference(faulty, model, SETS) > check.TOLERANCES['float32']


@pytest.mark.parametrize('fault', ['context', 'depth', 'semseg'])
@pytest.mark.parametrize('with_text', [False, True])
@pytest.mark.parametrize('modalities', SETS)
def test_a_fault_in_a_prediction_is_found(model, fault, with_text, modalities):
    faulty = Faulty(model, fault, with_text, modalities)
    assert check.largest_difference(faulty, model, SETS) > check.TOLERANCES['float32']


def test_a_fault_that_only_answers_show_is_found(model):
    assert check.largest_difference(Faulty(model, 'source', True), model, SETS) > check.TOLERANCES['float32']


def test_a_hole_in_the_depth_that_passes_for_measured_is_found():
    validity = build(replace(TINY, schedule='MT', stages=1, text_length=4, depth_validity=True)).eval()
    assert check.largest_difference(validity, validity, SETS) == 0
    assert check.largest_difference(Faulty(validity, 'visible'), validity, SETS) > check.TOLERANCES['float32']


def test_every_output_is_compared(model):
    with torch.inference_mode():
        outputs = check.all_outputs(model, model, SETS[0])
    # One stage, the states of a scan and of an attention (keys, values), two modalities; then without and with text
    # a context, two dense predictions and the answers.
    assert len(outputs) == 1 + 3 + 2 + 2 * (1 + 2 + 1)
    without_text = build(
        replace(TINY, name='mute', schedule='MT', stages=1, modalities=('rgb', 'depth'), tasks=('depth',))
    )
    with torch.inference_mode():
        assert len(check.all_outputs(without_text.eval(), without_text, SETS[0])) >= 1 + 3 + 2 + 2


@pytest.mark.parametrize(
    ('found', 'wanted', 'share'),
    [
        ([2.0, 1.0], [2.0, 1.0], 0.0),
        ([2.0, 1.5], [2.0, 1.0], 0.25),
        ([float('nan'), 1.0], [2.0, 1.0], float('inf')),
        ([float('inf'), 1.0], [2.0, 1.0], float('inf')),
        ([2.0, 1.0], [float('nan'), 1.0], float('inf')),
        ([1.0], [1.0, 1.0], float('inf')),
    ],
)
def test_differences_are_shares_of_the_largest_wanted_value(found, wanted, share):
    assert check.difference(torch.tensor(found), torch.tensor(wanted)) == pytest.approx(share)
