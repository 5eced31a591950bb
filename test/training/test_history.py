"""The recipe of past actions: learning a rule, hiding labels, resuming to the bit; the split of the videos."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from epic_folder import make_folder

from m3et_ros.data.epic.annotations import find_split, read_segments
from m3et_ros.data.epic.class_lists import read_classes
from m3et_ros.data.epic.history import ActionHistories, HistoryWindows, QuestionWords
from m3et_ros.data.errors import InputError
from m3et_ros.models.actions.history import HistoryConfig, HistoryModel
from m3et_ros.training import history
from m3et_ros.training.history import Anticipate, HistoryRecipe, Videos, split_people, split_videos, train_history
from m3et_ros.training.run_state import Interrupted, TrainingSession, read_header

SMALL = HistoryConfig(d=16, e=16, hidden=32, N=4, layers=1)
RECIPE = Anticipate(samples=240, batch=4, lr=5e-3)


@pytest.fixture(scope='module')
def pasts(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp('epic'), videos=14, segments=24)
    classes = read_classes(folder)
    return ActionHistories(read_segments(find_split(folder, 'train'), classes), classes)


def test_each_video_has_one_purpose(pasts):
    videos = split_videos(pasts.videos, held_out=3, inner=2)
    assert (len(videos.learnt), len(videos.inner), len(videos.held_out)) == (9, 2, 3)
    assert split_videos(reversed(pasts.videos), held_out=3, inner=2).held_out == videos.held_out
    assert len(split_videos(pasts.videos, held_out=2).inner) == 3
    with pytest.raises(InputError, match='14 videos with labels, too few to hold out 80'):
        split_videos(pasts.videos)
    with pytest.raises(ValueError, match='none twice'):
        Videos(('a',), ('a',), ())


def test_no_participant_is_in_two_sets():
    people = {f'P{person:02}_{video}': f'P{person:02}' for video in range(3) for person in range(12)}
    videos = split_people(people, 2)
    sets = [{people[video] for video in own} for own in (videos.learnt, videos.inner, videos.held_out)]
    assert [len(own) for own in sets] == [8, 2, 2] and len(set.union(*sets)) == 12
    assert len(videos.held_out) == 6
    assert set(split_people(dict(reversed(people.items())), 2).held_out) == set(videos.held_out)
    assert len(split_people(people, 2, inner=5).inner) == 15
    with pytest.raises(InputError, match='12 participants, too few to hold out 11 and to choose on 1; hold out fewer'):
        split_people(people, 11)


def test_training_learns_the_next_action_and_chooses_corrections(pasts, tmp_path, monkeypatch):
    videos = split_videos(pasts.videos, held_out=3, inner=2)
    reported, choosing = [], []
    choose = history.choose_share
    monkeypatch.setattr(history, 'choose_share', lambda own, data: choosing.append(own.members) or choose(own, data))
    checkpoint = train_history(
        pasts,
        videos,
        tmp_path,
        HistoryRecipe(RECIPE, SMALL, members=2),
        session=TrainingSession(report=lambda name, entry: reported.append((name, entry.losses))),
    )
    assert [what for what, _ in reported] == sorted(what for what, _ in reported)
    assert {what for what, _ in reported} == {'choice_0', 'choice_1', 'member_0', 'member_1'}
    first, last = reported[0][1], [losses for what, losses in reported if what == 'choice_0'][-1]
    assert all(last[name] < first[name] for name in ('noun', 'verb_of_noun', 'verb'))
    # Two of three actions follow from the one before: a third would be right by chance in 1 of 7.
    assert last['verb'] < 0.75 * np.log(7)
    assert len(checkpoint.members) == 2 and checkpoint.config.pairs == len(checkpoint.pairs)
    assert set(checkpoint.learnt) == {*videos.learnt, *videos.inner} and checkpoint.held_out == videos.held_out
    assert sum(checkpoint.pairs.values()) == 24 * 11
    both = (*choosing[0], *checkpoint.members)
    assert len({tuple(one.state_dict()['noun_head.bias'].tolist()) for one in both}) == 4 and len(choosing) == 1


def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(pasts, tmp_path):
    videos, course = (
        split_videos(pasts.videos, held_out=3, inner=2),
        HistoryRecipe(Anticipate(samples=48), SMALL, members=1),
    )
    whole = train_history(pasts, videos, tmp_path / 'whole', course)
    steps = 0

    def stop():
        nonlocal steps
        steps += 1
        return steps == 15

    with pytest.raises(Interrupted):
        train_history(pasts, videos, tmp_path / 'broken', course, session=TrainingSession(stop=stop))
    again = train_history(pasts, videos, tmp_path / 'broken', course, session=TrainingSession(resume=True))
    for name, values in whole.members[0].state_dict().items():
        torch.testing.assert_close(again.members[0].state_dict()[name], values, rtol=0, atol=0)


def test_a_session_without_minutes_is_interrupted(pasts, tmp_path):
    with pytest.raises(Interrupted):
        train_history(
            pasts,
            split_videos(pasts.videos, held_out=3, inner=2),
            tmp_path,
            HistoryRecipe(RECIPE, SMALL),
            session=TrainingSession(minutes=0.0),
        )


def test_hiding_and_unknown_targets(pasts):
    class Model:
        config = HistoryConfig(verbs=7, nouns=6, pairs=3)

    asking = QuestionWords(pasts.classes)
    data = HistoryWindows(pasts, (), asking, pasts.windows())
    batch, _ = data.collate([data[0]])
    hidden = Anticipate(hide=0.5, hide_pair=0.0)._hidden(Model, batch, torch.Generator().manual_seed(0))
    share = (hidden['verbs'] == 7).float().mean()
    assert 0.2 < share < 0.8 and torch.equal(hidden['verbs'][hidden['verbs'] < 7], batch['verbs'][hidden['verbs'] < 7])
    assert not (hidden['nouns'] == 6).equal(hidden['verbs'] == 7)


@pytest.mark.parametrize('field, value', [('hide', 1.0), ('hide_pair', -0.1), ('smooth_noun', 1.0), ('samples', 0)])
def test_recipes_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f'{field} is'):
        Anticipate(**{field: value})


def test_recipes_of_checkpoints_out_of_range_are_refused():
    with pytest.raises(ValueError, match='members is 0'):
        HistoryRecipe(members=0)


def test_each_kind_of_label_is_hidden_by_its_own_share(pasts):
    class Model:
        config = HistoryConfig(verbs=7, nouns=6, pairs=3)

    data = HistoryWindows(pasts, (), QuestionWords(pasts.classes), pasts.windows())
    batch, _ = data.collate([data[0]])
    only_pairs = Anticipate(hide=0.0, hide_pair=0.999)._hidden(Model, batch, torch.Generator().manual_seed(0))
    assert torch.equal(only_pairs['verbs'], batch['verbs']) and torch.equal(only_pairs['nouns'], batch['nouns'])
    assert (only_pairs['pairs'] == 3).float().mean() > 0.9


def test_each_loss_is_smoothed_by_its_own_option(pasts):
    words, classes = QuestionWords(pasts.classes), pasts.classes
    pairs = [1000 * int(pasts.known_verb[0]) + int(pasts.known_noun[0])]
    data = HistoryWindows(pasts, pairs, words, pasts.windows())
    batch, _ = data.collate([data[0]])
    sizes = {'verbs': len(classes.verbs), 'nouns': len(classes.nouns), 'pairs': 1, 'words': len(words.words)}
    model = HistoryModel(replace(SMALL, **sizes)).eval()

    def losses(**smoothing):
        recipe = Anticipate(hide=0.0, hide_pair=0.0, **{'smooth_noun': 0.0, 'smooth_verb': 0.0} | smoothing)
        return recipe.losses(model, batch, torch.Generator().manual_seed(0))

    bare, noun, verb = losses(), losses(smooth_noun=0.5), losses(smooth_verb=0.5)
    assert {name for name in bare if bare[name] != noun[name]} == {'noun'}
    assert {name for name in bare if bare[name] != verb[name]} == {'verb', 'verb_of_noun'}


def test_the_seed_reaches_weights_and_order(pasts, tmp_path):
    videos = split_videos(pasts.videos, held_out=3, inner=2)
    recipe = HistoryRecipe(Anticipate(samples=8), SMALL, members=1)
    one, same, other = (
        train_history(pasts, videos, tmp_path / name, replace(recipe, seed=seed)).members[0].state_dict()
        for name, seed in (('one', 1), ('same', 1), ('other', 2))
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    orders = [read_header(tmp_path / name / 'member_0')['seed'] for name in ('one', 'other')]
    assert orders == [1, 2]
