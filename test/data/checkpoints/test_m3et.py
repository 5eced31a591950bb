"""Checkpoint folders: there and back, and every way in which one may be damaged."""

import json
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from m3et_ros.data.answer_parts import answer_parts
from m3et_ros.data.calibration import Calibration
from m3et_ros.data.checkpoints.m3et import load_checkpoint, random_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Labels
from m3et_ros.data.questions.taught import Taught, TaughtField, TaughtKind
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig
from m3et_ros.models.m3et.sizes import SIZES, build

LABELS = Labels(
    classes=('wall', 'table', 'cup'),
    colors=((0, 0, 0), (90, 60, 30), (255, 0, 0)),
    answers=('yes', 'no', 'red', 'two'),
    verbs=('take', 'put'),
    nouns=('cup',),
    verb_ids=(0, 1),
    noun_ids=(13,),
)


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer.train(['is the cup red?', 'yes', 'no', 'two'], vocabulary=64)


@pytest.fixture(scope='module')
def made(tokenizer):
    return random_checkpoint('tiny', tokenizer, LABELS, 7)


@pytest.fixture
def folder(made, tmp_path):
    save_checkpoint(tmp_path / 'tiny', replace(made, trained=True), card='# A card')
    return tmp_path / 'tiny'


def refused(folder, reason):
    with pytest.raises(InputError) as error:
        load_checkpoint(folder)
    assert error.value.reason == reason, str(error.value)
    return str(error.value)


def edit(folder, change, name='config.json'):
    stored = json.loads((folder / name).read_text())
    change(stored)
    (folder / name).write_text(json.dumps(stored))


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_random_checkpoints_fit_their_labels_and_say_that_they_are_random(made):
    assert (made.model_id, made.trained) == ('tiny-random-7', False)
    assert (made.model.config.classes, made.model.config.answers) == (3, 4)
    assert same_weights(made.model, build('tiny', seed=7, classes=3, answers=4))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_the_parts_of_answers_follow_the_labels_and_travel_with_the_weights(tokenizer, tmp_path, dtype):
    size = replace(SIZES['tiny'], answers=2, places=True, answer_parts=9, look_parts=8)
    labels = replace(LABELS, answers=('yes', 'red cup', 'red', 'take cup'), classes=('wall', 'table', 'cup'))
    made = random_checkpoint(size, tokenizer, labels)
    config, found = made.model.config, answer_parts(labels)
    assert (config.answers, config.answer_parts, config.look_parts) == (4, 7, 1)
    assert torch.equal(made.model.answer_head.parts, found.matrix) and found.matrix.sum(1).tolist() == [1, 3, 2, 3]
    save_checkpoint(tmp_path, made, card='', dtype=dtype)
    again = load_checkpoint(tmp_path).model
    assert again.config == config and torch.equal(again.answer_head.parts, found.matrix)
    if dtype == torch.float32:
        assert same_weights(again, made.model)
    assert random_checkpoint(replace(size, look_parts=0), tokenizer, labels).model.config.look_parts == 0


def test_there_and_back(made, folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        'README.md',
        'config.json',
        'labels.json',
        'model.safetensors',
        'tokenizer.json',
    ]
    card = ModelCard.load(folder / 'README.md')
    assert card.text.strip() == '# A card' and card.data.library_name == 'm3et_ros'
    again = load_checkpoint(folder)
    assert again.model.config == made.model.config and again.labels == LABELS and again.trained
    assert same_weights(again.model, made.model) and not again.model.training
    assert torch.equal(again.tokenizer.encode(['is it red?'], 12)[0], made.tokenizer.encode(['is it red?'], 12)[0])


def test_taught_questions_and_calibration_travel_with_the_labels(made, tmp_path):
    taught = Taught({'count': TaughtKind(('How many {plural}?',), {'plural': TaughtField('noun', ('cup',), 'many')})})
    labels = replace(LABELS, taught=taught, calibration=Calibration(1.5, 0.2, {'rgb': (0.25,) * 201}))
    save_checkpoint(tmp_path, replace(made, labels=labels), card='')
    again = load_checkpoint(tmp_path).labels
    assert (again.taught, again.calibration) == (taught, labels.calibration)


def test_labels_of_older_checkpoints_say_nothing_of_them(folder):
    edit(folder, lambda stored: [stored.pop(name) for name in ('taught', 'calibration')], 'labels.json')
    labels = load_checkpoint(folder).labels
    assert labels.taught is None and labels.calibration == Calibration()


def test_the_model_id_names_the_weights(made, tmp_path):
    trained = save_checkpoint(tmp_path / 'a', replace(made, trained=True), card='')
    digest = json.loads((tmp_path / 'a' / 'config.json').read_text())['sha256']['model.safetensors']
    assert trained == load_checkpoint(tmp_path / 'a').model_id == f'tiny@{digest[:8]}'
    assert save_checkpoint(tmp_path / 'b', made, card='') == 'tiny-random-7' == load_checkpoint(tmp_path / 'b').model_id


def test_matrices_in_half_precision(made, tmp_path):
    save_checkpoint(tmp_path / 'full', made, card='')
    save_checkpoint(tmp_path / 'half', made, card='', dtype=torch.float16)
    sizes = [(tmp_path / name / 'model.safetensors').stat().st_size for name in ('full', 'half')]
    assert sizes[1] < 0.6 * sizes[0]
    again = load_checkpoint(tmp_path / 'half').model
    assert all(p.dtype == torch.float32 for p in again.parameters())
    for ours, theirs in zip(made.model.parameters(), again.parameters()):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
        assert ours.dim() > 1 or torch.equal(ours, theirs)


def test_loading_leaves_the_global_generator_alone(folder):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    load_checkpoint(folder)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors', 'tokenizer.json', 'labels.json'])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    assert name in refused(folder, 'model_missing')


def test_a_missing_folder_is_refused(tmp_path):
    assert 'nowhere' in refused(tmp_path / 'nowhere', 'model_missing')
    assert 'xxx' in refused(tmp_path / ('x' * 1001), 'model_missing')  # longer than a file name may be


@pytest.mark.parametrize('keep', [0, 5, 100, 0.5, -1])
def test_truncated_weights_are_refused(folder, keep):
    path = folder / 'model.safetensors'
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert 'cut short' in refused(folder, 'model_truncated')


def test_a_flipped_bit_is_refused(folder):
    path = folder / 'model.safetensors'
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert 'SHA-256' in refused(folder, 'model_checksum')


def test_a_checksum_that_was_taken_out_is_refused(folder):
    edit(folder, lambda stored: stored['sha256'].clear())
    refused(folder, 'model_checksum')


def rewrite(folder, change):
    state = load_file(folder / 'model.safetensors')
    change(state)
    save_file(state, folder / 'model.safetensors')


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda state: state.pop('types'), 'no tensor types'),
        (lambda state: state.update(types=torch.zeros(3, 32)), r'types as F32 [3, 32]'),
        (lambda state: state.update(types=torch.zeros(4, 32, dtype=torch.int64)), 'types as I64'),
        (lambda state: state.update(surplus=torch.zeros(1)), 'the tensor surplus'),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(folder, change, words):
    rewrite(folder, change)
    assert words in refused(folder, 'model_tensor')


def test_a_config_larger_than_its_weights_is_refused_before_memory_is_spent(folder):
    edit(folder, lambda stored: stored['model'].update(d=8192, heads=2, schedule='T' * 126))
    assert 'floats of' in refused(folder, 'model_tensor')


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda stored: stored['model'].update(depht=1), 'depht'),
        (lambda stored: stored['model'].update(image_size=33), 'image_size is 33'),
        (lambda stored: stored['model'].update(classes=4), '3 classes and the model 4'),
        (lambda stored: stored['model'].update(answers=3), '4 answers and the model 3'),
        (lambda stored: stored['model'].update(vocabulary=6), 'pieces'),
        (lambda stored: stored.update(format=2), 'format 2'),
        (lambda stored: stored.update(note='hello'), "'note'"),
        (lambda stored: stored.update(trained='yes'), 'trained'),
        (lambda stored: stored.pop('model'), 'no model'),
        (lambda stored: stored['heads'].update(psychic={}), "'psychic'"),
    ],
)
def test_configs_that_do_not_hold_are_refused(folder, change, words):
    edit(folder, change)
    assert words in refused(folder, 'model_config')


@pytest.mark.parametrize('name', ['config.json', 'labels.json', 'tokenizer.json'])
@pytest.mark.parametrize('text', ['', '[]', '{"a": ', '{"a": 1}', '[' * 100_000])
def test_files_that_are_not_what_they_should_be_are_refused(folder, name, text):
    (folder / name).write_text(text)
    assert name in refused(folder, 'model_config')


def test_labels_that_are_no_words_are_refused(folder):
    edit(folder, lambda labels: labels.update(nouns=[3], noun_ids=[]), 'labels.json')
    assert 'nouns' in refused(folder, 'model_config')


def test_huge_json_is_refused(folder):
    with (folder / 'labels.json').open('ab') as file:
        file.truncate(5 * 2**20)
    assert 'larger' in refused(folder, 'model_config')


def test_parts_that_do_not_fit_are_neither_made_nor_saved(made, tokenizer, tmp_path):
    big = Tokenizer.train([' '.join(chr(c) for c in range(0x4E00, 0x4E00 + 90))], vocabulary=90)
    for make in (
        lambda: random_checkpoint('tiny', big, LABELS),
        lambda: random_checkpoint('huge', tokenizer, LABELS),
        lambda: random_checkpoint('tiny', tokenizer, replace(LABELS, classes=(), colors=())),
        lambda: save_checkpoint(tmp_path, replace(made, labels=replace(LABELS, answers=())), card=''),
    ):
        with pytest.raises(InputError) as error:
            make()
        assert error.value.reason == 'model_config'
    assert not list(tmp_path.iterdir())


HEAD = MambaVLConfig(d_in=12 * 32, d=16, d_word=8, vocabulary=64, verbs=2, nouns=1)


@pytest.fixture
def headed(made, tmp_path):
    head = MambaVL(HEAD)
    save_checkpoint(tmp_path / 'headed', replace(made, heads={'mambavl': head}), card='')
    return tmp_path / 'headed', head


def test_heads_travel_with_the_model(headed):
    folder, head = headed
    again = load_checkpoint(folder).heads['mambavl']
    assert again.config == head.config and same_weights(again, head) and not again.training


def test_heads_are_checked_as_the_model_is(headed):
    folder, _ = headed
    edit(folder, lambda stored: stored['heads']['mambavl'].update(depth=3))
    assert "'depth'" in refused(folder, 'model_config')
    edit(folder, lambda stored: (stored['heads']['mambavl'].pop('depth'), stored['heads']['mambavl'].update(d=9)))
    assert 'mambavl.safetensors has A_log' in refused(folder, 'model_tensor')
    (folder / 'mambavl.safetensors').unlink()
    refused(folder, 'model_missing')


def test_a_head_that_reads_all_patches_fits_their_number_and_width(tokenizer):
    whole = replace(HEAD, d_in=32, patches=SIZES['tiny'].image_tokens, positions=9)
    assert random_checkpoint('tiny', tokenizer, LABELS, heads={'mambavl': MambaVL(whole)}).heads
    for change, words in (({'patches': 5}, 'patches 5'), ({'d_in': 12 * 32}, 'd_in 384')):
        with pytest.raises(InputError, match=f'The head mambavl has {words} where'):
            random_checkpoint('tiny', tokenizer, LABELS, heads={'mambavl': MambaVL(replace(whole, **change))})


@pytest.mark.parametrize('change', [{'d_in': 16}, {'verbs': 3}, {'nouns': 2}, {'vocabulary': 6}])
def test_heads_made_for_something_else_are_refused(tokenizer, change):
    with pytest.raises(InputError, match='The head mambavl') as error:
        random_checkpoint('tiny', tokenizer, LABELS, heads={'mambavl': MambaVL(replace(HEAD, **change))})
    assert error.value.reason == 'model_config'


def test_a_head_of_no_known_kind_is_not_saved(made, tmp_path):
    with pytest.raises(InputError, match="'psychic' is of no known kind"):
        save_checkpoint(tmp_path, replace(made, heads={'psychic': MambaVL(HEAD)}), card='')


def test_named_sizes_can_all_be_saved_by_header(tokenizer):
    """No size may have tensors that share memory, which safetensors refuses."""
    for config in SIZES.values():
        small = replace(config, image_size=32, d=64, heads=4, d_decoder=32, decoder_heads=4, vocabulary=64, classes=3)
        state = build(small).state_dict()
        assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)


def test_a_vocabulary_as_large_as_the_models_fits(tokenizer):
    exact = replace(SIZES['tiny'], vocabulary=tokenizer.vocabulary)
    assert random_checkpoint(exact, tokenizer, LABELS).model.config.vocabulary == tokenizer.vocabulary
    with pytest.raises(InputError, match=f'has {tokenizer.vocabulary} pieces and the model room for'):
        random_checkpoint(replace(exact, vocabulary=tokenizer.vocabulary - 1), tokenizer, LABELS)
    head = replace(HEAD, vocabulary=tokenizer.vocabulary)
    assert random_checkpoint('tiny', tokenizer, LABELS, heads={'mambavl': MambaVL(head)}).heads
    with pytest.raises(InputError, match='The head mambavl has room for'):
        random_checkpoint(
            'tiny', tokenizer, LABELS, heads={'mambavl': MambaVL(replace(head, vocabulary=tokenizer.vocabulary - 1))}
        )


def test_heads_are_stored_in_the_same_precision_as_the_model(made, tmp_path):
    checkpoint = replace(made, heads={'mambavl': MambaVL(HEAD)})
    for name, dtype in (('full', torch.float32), ('half', torch.float16)):
        save_checkpoint(tmp_path / name, checkpoint, card='', dtype=dtype)
        stored = load_file(tmp_path / name / 'mambavl.safetensors')
        assert {tensor.dtype for tensor in stored.values() if tensor.dim() > 1} == {dtype}
        assert {tensor.dtype for tensor in stored.values() if tensor.dim() < 2} == {torch.float32}
