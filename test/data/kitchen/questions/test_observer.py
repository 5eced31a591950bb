"""The knowledge of an observer, at its limits, on pictures with chosen masks."""

from dataclasses import replace

import numpy as np
import pytest

from m3et_ros.data.kitchen.questions.observer import CLEAR_FRAMES, GONE_S, KitchenObserver
from m3et_ros.data.kitchen.sim.episode import Episode


@pytest.fixture(scope='module')
def start():
    """A kitchen, its first state, and the names of the objects of each noun."""
    episode = Episode(4, width=16, height=16)
    state = next(episode.run(1))
    names = {}
    for name, thing in episode.scene.things.items():
        names.setdefault(thing.noun, []).append(name)
    return episode, state, names


def observed(episode, pictures):
    """The knowledge after pictures."""
    observer = KitchenObserver(episode)
    for one in pictures:
        observer.observe(one)
    return observer.report()


@pytest.fixture
def at(start, picture):
    """Make a picture at a time, of (name, pixels), with changes of the state."""
    episode, state, _ = start

    def make(stamp_s, *shown, **changes):
        patches = [(name, slice(10 * i, 10 * i + 1), slice(0, pixels), 2.0) for i, (name, pixels) in enumerate(shown)]
        return picture(episode, replace(state, stamp_s=stamp_s, **changes), *patches)

    return make


@pytest.mark.parametrize(('pixels', 'clear'), [(19, False), (20, True), (21, True)])
def test_twenty_of_ten_thousand_pixels_are_clearly_visible(start, at, pixels, clear):
    episode, _, names = start
    known = observed(episode, [at(0.1 * i, (names['pan'][0], pixels)) for i in range(5)])
    assert [one.name for one in known.clear] == ([names['pan'][0]] if clear else [])
    assert known.counts.get('pan') == (1 if clear else None), 'a barely seen pan is not counted'


@pytest.mark.parametrize(('frames', 'clear'), [(CLEAR_FRAMES - 1, False), (CLEAR_FRAMES, True)])
def test_three_frames_are_enough(start, at, frames, clear):
    episode, _, names = start
    known = observed(episode, [at(0.1 * i, (names['pan'][0], 30)) for i in range(frames)])
    assert bool(known.clear) is clear and ('pan' in known.single) is clear


@pytest.mark.parametrize(('later', 'gone'), [(0.9, False), (GONE_S, True), (5.0, True)])
def test_a_noun_is_out_of_view_a_second_after_its_last_pixel(start, at, later, gone):
    episode, _, names = start
    pan = names['pan'][0]
    known = observed(episode, [*(at(0.0, (pan, 30)) for _ in range(3)), at(later)])
    assert known.gone('pan') is gone and ('pan' in known.lost) is gone


def test_a_single_pixel_keeps_a_noun_in_view(start, at):
    episode, _, names = start
    pan = names['pan'][0]
    known = observed(episode, [*(at(0.0, (pan, 30)) for _ in range(3)), at(2.0, (pan, 1)), at(2.5)])
    assert not known.gone('pan') and known.single['pan'].last_visible_s == 2.0


def test_what_was_never_seen_counts_as_none_and_is_out_of_view(start, at):
    episode, _, names = start
    known = observed(episode, [at(0.1 * i, (names['pan'][0], 30), ('floor', 90)) for i in range(3)])
    assert known.counts['apple'] == 0 and known.gone('apple') and 'apple' not in known.single
    assert 'floor' not in known.counts and 'pan' in known.counts


def test_two_of_a_noun_are_counted_and_neither_is_single(start, at):
    episode, _, names = start
    noun, pair = next((noun, own[:2]) for noun, own in names.items() if len(own) > 1)
    known = observed(episode, [at(0.1 * i, (pair[0], 30), (pair[1], 30)) for i in range(3)])
    assert known.counts[noun] == 2 and noun not in known.single
    half = observed(episode, [*(at(0.1 * i, (pair[0], 30)) for i in range(3)), at(0.3, (pair[1], 3))])
    assert noun not in half.counts and noun not in half.single, 'the second one was barely seen'


def test_the_state_of_the_last_clear_frame_is_remembered(start, at):
    episode, state, names = start
    pan = names['pan'][0]

    def changes(place, openness, fill):
        return {
            'places': state.places | {pan: place},
            'openness': state.openness | {'fridge': openness},
            'fill': state.fill | {pan: fill},
        }

    pictures = [at(0.1 * i, (pan, 30), ('fridge', 30), **changes('on the table', 0.5, 0.0)) for i in range(3)]
    known = observed(episode, pictures)
    fridge = next(one for one in known.clear if one.name == 'fridge')
    assert (known.single['pan'].place, known.single['pan'].was_filled, fridge.was_open) == (
        'on the table',
        False,
        False,
    )
    assert (known.single['pan'].was_open, fridge.was_filled, fridge.place) == (None, None, '')
    pictures.append(at(0.5, (pan, 30), ('fridge', 30), **changes('on the hob', 0.51, 0.1)))
    pictures.append(at(0.6, (pan, 3), ('fridge', 3), **changes('in the bin', 0.0, 0.0)))
    known = observed(episode, pictures)
    fridge = next(one for one in known.clear if one.name == 'fridge')
    assert (known.single['pan'].place, known.single['pan'].was_filled, fridge.was_open) == ('on the hob', True, True)


def test_what_moved_unseen_is_not_lost_but_unknown(start, at):
    episode, state, names = start
    pan = names['pan'][0]
    moved = at(3.0, places=state.places | {pan: 'in the bin'})
    known = observed(episode, [*(at(0.1 * i, (pan, 30)) for i in range(3)), moved])
    assert known.gone('pan') and 'pan' in known.single and 'pan' not in known.lost


def test_positions_and_actions_are_those_of_the_episode(start, at):
    episode, _, names = start
    known = observed(episode, [at(0.1 * i, (names['pan'][0], 30)) for i in range(3)])
    assert np.array_equal(known.position_of('pan'), episode.world.position_of(names['pan'][0]))
    assert known.done == known.state.finished


def test_a_report_needs_a_frame(start):
    with pytest.raises(ValueError, match='no frame has been observed; call observe first'):
        KitchenObserver(start[0]).report()
