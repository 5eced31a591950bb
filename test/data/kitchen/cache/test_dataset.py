"""Cached kitchens as samples."""

import json
import shutil
import tracemalloc
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples, QuestionTable
from m3et_ros.data.kitchen.labels import corpus
from m3et_ros.data.kitchen.questions.balance import RARE, TEMPERED
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, FIRST_ANSWERS
from m3et_ros.data.kitchen.questions.splits import ANSWERS_OF, HELD_OUT, SEEDS
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES, NOUNS, VERBS, spoken
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import collate
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import build


def same(one, other):
    return (
        one.question == other.question
        and one.key == other.key
        and (one.rgb == other.rgb).all()
        and np.array_equal(one.depth, other.depth, equal_nan=True)
    )


def test_training_and_test_share_no_kitchen(caches):
    train, test = (KitchenSamples(caches[name], questions=False) for name in ('train', 'test'))
    assert (train.split, test.split) == ('train', 'test')
    assert train.seeds() and test.seeds() and not train.seeds() & test.seeds()
    assert train.seeds() <= set(SEEDS['train']) and all(seed in SEEDS['test'] for seed in test.seeds())
    shown = [{test[i].rgb.tobytes() for i in range(len(test))}, {train[i].rgb.tobytes() for i in range(len(train))}]
    assert not shown[0] & shown[1]
    with pytest.raises(ValueError, match='one'):
        KitchenSamples([caches['train'], caches['test']])


def test_training_neither_shows_nor_asks_what_is_held_out(caches):
    samples = KitchenSamples(caches['train'], length=1500)
    pairs = [(colour, spoken(noun)) for colour, noun in HELD_OUT.colour_nouns]
    actions = {(list(VERBS).index(verb), list(NOUNS).index(noun)) for verb, noun in HELD_OUT.verb_nouns}
    for i in range(len(samples)):
        one = samples[i]
        words = set(f'{one.question} {one.answer}'.replace('?', '').lower().split())
        assert one.answer not in ANSWERS_OF and not {one.now, one.next} & actions
        assert not any({colour, noun} <= words for colour, noun in pairs), (one.question, one.answer)


def test_several_questions_of_a_view_are_as_balanced_as_one(caches):
    """Each draw, the first and the further ones, takes a row as often as the odds say."""
    samples = KitchenSamples(caches['train'], each=4, length=3000)
    odds = samples.balance.row_odds(len(samples.table.answer))
    assert odds.sum() == pytest.approx(1)
    rows = np.array([samples.draw_rows(np.random.default_rng(i)) for i in range(len(samples))])
    assert (samples.table.frame[rows] == samples.table.frame[rows[:, :1]]).all()  # about one view
    families = np.array([family for family, _, _ in samples.table.wordings])[samples.table.wording]
    for name in samples.balance.families:
        expected = odds[families == name].sum()
        assert expected == pytest.approx(1 / len(samples.balance.families))
        for drawn in (rows[:, 0], rows[:, 1:].ravel()):
            assert (families[drawn] == name).mean() == pytest.approx(expected, abs=0.03)
    one = samples[0]
    assert len(one.further) == 3 and all(asked.question and asked.answer for asked in one.asked)


def test_the_mirror_turns_all_questions(caches):
    plain, turned = (
        KitchenSamples(caches['train'], families=['relation'], each=3, length=20, noise=Noise(mirror=mirror))
        for mirror in (0, 1)
    )
    for i in range(20):
        for one, other in zip(plain[i].asked, turned[i].asked):
            assert one.question != other.question and one.answers == other.answers
            assert sorted(one.question.replace('left', 'right')) == sorted(other.question.replace('left', 'right'))


def test_test_kitchens_hold_the_held_out_combinations(caches):
    held = KitchenSamples(caches['test'], subset='held_out', length=200)
    for i in range(len(held)):
        one = held[i]
        spoken_of = f'{one.question} {one.answer}'
        assert (
            one.answer in ANSWERS_OF
            or one.family.startswith('action')
            or any(colour in spoken_of and spoken(noun) in spoken_of for colour, noun in HELD_OUT.colour_nouns)
        )


def test_subsets_select_the_test_kitchens(caches):
    kitchens = {}
    for subset in ('all', 'seen', 'held_out', 'textures'):
        samples = KitchenSamples(caches['test'], questions=False, subset=subset)
        kitchens[subset] = {samples[i].seed for i in range(len(samples))}
    # 20003 holds nothing new, 20004 a green bottle, 20005 blue fronts too, 20006 a black kettle and green tiles.
    assert kitchens == {
        'all': {20003, 20004, 20005, 20006},
        'seen': {20003},
        'held_out': {20004, 20005, 20006},
        'textures': {20005, 20006},
    }
    asked = KitchenSamples(caches['test'], subset='seen', length=60)
    assert {asked[i].seed for i in range(60)} == {20_003}


def test_seed_epoch_and_index_determine_a_sample(caches):
    one, other = (KitchenSamples(caches['train'], noise=Noise(), length=50) for _ in '12')
    assert all(same(one[i], other[i]) for i in (0, 7, 49))
    first = [one[i] for i in range(10)]
    one.epoch = 1
    assert not any(same(one[i], first[i]) for i in range(10))
    one.epoch = 0
    assert all(same(one[i], first[i]) for i in range(10))
    assert not same(KitchenSamples(caches['train'], noise=Noise(), length=50, seed=1)[0], first[0])


def test_workers_of_a_loader_see_the_epoch(caches):
    samples = KitchenSamples(caches['train'], length=4)
    loader = DataLoader(samples, batch_size=2, num_workers=1, persistent_workers=True, collate_fn=list)
    for samples.epoch in (0, 3):
        loaded = [one for batch in loader for one in batch]
        assert all(same(one, samples[i]) for i, one in enumerate(loaded))


def test_families_come_evenly_and_guessing_gains_little(caches):
    samples = KitchenSamples(caches['train'], length=2600)
    drawn = [(one.family, one.question, one.answer) for one in map(samples.__getitem__, range(len(samples)))]
    families = Counter(family for family, _, _ in drawn)
    assert len(families) >= 12 and max(families.values()) < 1.5 * min(families.values())
    by_question, right = defaultdict(Counter), 0
    for _, question, answer in drawn:
        by_question[question][answer] += 1
    yes_no = [answers for answers in by_question.values() if set(answers) == {'yes', 'no'} and answers.total() > 20]
    right = sum(max(answers.values()) for answers in yes_no) / sum(answers.total() for answers in yes_no)
    assert len(yes_no) > 5 and right < 0.75  # of two kitchens; with many it nears a half
    assert all(accuracy < 0.75 for accuracy in samples.balance.best_blind().values())


def test_only_the_families_asked_for_are_asked(caches):
    samples = KitchenSamples(caches['train'], families=('count', 'region'), length=100)
    assert {samples[i].family for i in range(100)} == {'count', 'region'} == set(samples.balance.families)


def test_frames_without_questions_come_once_each(caches):
    samples = KitchenSamples(caches['train'], questions=False)
    keys = [samples[i].key for i in range(len(samples))]
    assert len(set(keys)) == len(keys) == len(samples) and not any(samples[i].question for i in range(3))
    one = samples[0]
    assert one.rgb.shape == (32, 32, 3) and one.semseg.shape == (8, 8) and 0.1 < np.nanmin(one.depth) < 12
    with pytest.raises(IndexError):
        samples[len(samples)]


def test_samples_feed_a_model(caches):
    samples = KitchenSamples(caches['train'], noise=Noise(), length=4)
    tokenizer = Tokenizer.train(corpus(), 512)
    model = build(
        'tiny',
        vocabulary=tokenizer.vocabulary,
        classes=len(CLASSES),
        answers=len(ANSWERS),
        depth_norm='fixed',
        depth_mean=1.7,
        depth_std=0.8,
    ).eval()
    batch = collate([samples[i] for i in range(4)], model.config, tokenizer, answers=ANSWERS)
    with torch.no_grad():
        assert model.answer_logits(model.encode(batch.inputs)).shape == batch.scores.shape
    assert (batch.scores.sum(1) == 1).all() and batch.depth.shape == (4, 1, 32, 32)


@pytest.mark.parametrize(
    ('name', 'text', 'reason'),
    [('recipe.json', '{}', 'foreign_cache'), ('recipe.json', None, 'foreign_cache'), (None, None, 'empty_cache')],
)
def test_empty_and_foreign_caches_are_refused(caches, tmp_path, name, text, reason):
    folder = tmp_path / 'cache'
    folder.mkdir()
    shutil.copy(caches['train'] / 'recipe.json', folder)
    if name:
        (folder / name).unlink()
    if text:
        (folder / name).write_text(text)
    with pytest.raises(InputError) as caught:
        KitchenSamples(folder)
    assert caught.value.reason == reason


def test_a_cache_of_another_version_is_refused(caches, tmp_path):
    recipe = json.loads((caches['train'] / 'recipe.json').read_text())
    (tmp_path / 'recipe.json').write_text(json.dumps(recipe | {'version': 0}))
    with pytest.raises(InputError, match='version is 0; give 1 to 2'):
        KitchenSamples(tmp_path)


@pytest.mark.parametrize(
    'arguments', [{'subset': 'none'}, {'families': ('weather',)}, {'length': 0}, {'length': 5, 'questions': False}]
)
def test_arguments_out_of_range_are_refused(caches, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        KitchenSamples(caches['train'], **arguments)


def test_a_sample_knows_its_kitchen_and_tick(caches):
    for samples in (KitchenSamples(caches['train'], questions=False), KitchenSamples(caches['train'], length=20)):
        for i in range(len(samples)):
            one = samples[i]
            assert one.key == f'seed {one.seed} tick {one.tick}' and one.seed in samples.seeds() and one.tick % 25 == 0


def test_a_sample_has_up_to_64_questions(caches):
    assert len(KitchenSamples(caches['train'], each=64, length=1)[0].asked) == 64
    for each in (0, 65):
        with pytest.raises(ValueError, match=f'each is {each}; give 1 to 64'):
            KitchenSamples(caches['train'], each=each)
    with pytest.raises(ValueError, match='only with questions'):
        KitchenSamples(caches['train'], each=2, questions=False)


def test_a_restriction_draws_only_from_its_frames_at_the_same_length(caches):
    samples = KitchenSamples(caches['train'], each=3, length=30)
    samples.restrict_to(samples.frames[2:5])
    assert len(samples) == 30
    frames = {int(samples.table.frame[row]) for i in range(30) for row in samples.draw_rows(np.random.default_rng(i))}
    assert frames <= set(samples.frames[2:5].tolist()) and len(frames) > 1


def test_the_rows_of_a_frame_are_adjacent_and_complete(caches):
    table = KitchenSamples(caches['train']).table
    rows = [row for frame in range(int(table.frame[-1]) + 1) for row in table.rows_of(frame)]
    assert rows == list(range(len(table))) and len(table) == len(table.wording) == len(table.held_out)


def test_finding_the_rows_of_a_frame_does_not_copy_the_table():
    frame = np.repeat(np.arange(100_000, dtype=np.uint32), 10)
    table = QuestionTable([], frame, frame, frame, frame)
    tracemalloc.start()
    try:
        assert table.rows_of(70_000) == range(700_000, 700_010)
        assert tracemalloc.get_traced_memory()[1] < 100_000 < frame.nbytes
    finally:
        tracemalloc.stop()


def test_samples_without_questions_have_no_table(caches):
    samples = KitchenSamples(caches['train'], questions=False)
    with pytest.raises(ValueError, match='no questions; open it with questions=True'):
        samples.draw_rows(np.random.default_rng(0))
    with pytest.raises(ValueError, match='no questions; open it with questions=True'):
        _ = samples.table


def rewritten(source, folder, version=1, **header):
    """Copy a cache and replace its version and fields of the headers of its shards."""
    shutil.copytree(source, folder)
    recipe = json.loads((folder / 'recipe.json').read_text())
    (folder / 'recipe.json').write_text(json.dumps(recipe | {'version': version}))
    for path in folder.glob('*/header.json'):
        path.write_text(json.dumps(json.loads(path.read_text()) | header))
    return folder


def test_answers_of_another_version_are_read_by_their_words(caches, tmp_path):
    answers = json.loads((caches['train'] / '0000000' / 'header.json').read_text())['answers']
    turned = rewritten(caches['train'], tmp_path / 'turned', answers=[*answers[1:], answers[0]])
    one, other = KitchenSamples(caches['train'], length=30), KitchenSamples(turned, length=30)
    assert (other.table.answer == [(answer + 1) % len(answers) for answer in one.table.answer]).all()
    shorter = rewritten(caches['train'], tmp_path / 'shorter', answers=list(FIRST_ANSWERS))
    first = KitchenSamples(shorter, length=30)
    assert (first.table.answer == one.table.answer).all() and all(same(first[i], one[i]) for i in range(30))
    with pytest.raises(InputError, match="the answer 'rain'"):
        KitchenSamples(rewritten(caches['train'], tmp_path / 'foreign', answers=[*answers, 'rain']))


def test_the_version_decides_the_wordings(caches, tmp_path):
    second = rewritten(caches['train'], tmp_path / 'second', version=2)
    one, other = KitchenSamples(caches['train'], length=300), KitchenSamples(second, length=300)
    assert (one.version, other.version, other.table.version) == (1, 2, 2)
    texts = [{samples[i].question for i in range(300)} for samples in (one, other)]
    assert not any('color' in text for text in texts[0]) and any('color' in text for text in texts[1])
    with pytest.raises(ValueError, match='versions 1, 2; give caches of one'):
        KitchenSamples([caches['train'], second])


def test_a_question_knows_its_form(caches):
    samples = KitchenSamples(caches['train'], each=8, length=20)
    for one in (asked for i in range(20) for asked in samples[i].asked):
        assert one.closed == (one.answer in ('yes', 'no'))


def test_training_tempers_the_odds_and_evaluation_does_not(caches):
    even, tempered = (
        KitchenSamples(caches['train'], families=('count', 'colour'), length=5, temper=temper)
        for temper in (None, TEMPERED)
    )
    table = even.table
    kinds = np.array([kind for _, kind, _ in table.wordings])[table.wording]
    odds, other = (samples.balance.row_odds(len(table)) for samples in (even, tempered))
    assert np.allclose(odds[kinds == 'colour'], other[kinds == 'colour'])
    wording = max(set(table.wording[kinds == 'count_colour']), key=lambda one: (table.wording == one).sum())
    rows = table.wording == wording
    answers, counts = np.unique(table.answer[rows], return_counts=True)
    assert len(answers) > 1
    for values, wanted in ((odds, np.minimum(counts, RARE)), (other, np.minimum(counts, RARE) * counts**0.5)):
        shares = np.array([values[rows & (table.answer == answer)].sum() for answer in answers])
        assert shares / shares.sum() == pytest.approx(wanted / wanted.sum())
