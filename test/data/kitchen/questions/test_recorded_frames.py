"""Questions about the frames of an episode: those of the cache, drawn by its odds, none twice."""

from collections import Counter

import numpy as np
import pytest

from m3et_ros.data.kitchen.questions import recorded_frames
from m3et_ros.data.kitchen.questions.frame import FAMILIES, VisibleScene, all_questions
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, PHRASINGS
from m3et_ros.data.kitchen.questions.recorded_frames import (
    FrameNotes,
    draw,
    frame_questions,
    safe_until,
    texts_of,
    worded_at,
)
from m3et_ros.data.kitchen.questions.splits import HeldOut, concerns_held_out
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode


def observe_frames(seed, frames=60, fps=2.0):
    """Notes of an episode, its observations, and the episode."""
    episode = Episode(seed, width=32, height=24, fps=fps, version=1)
    notes, seen = FrameNotes(episode, frames), []
    with Camera(episode, backend='raycast') as camera:
        for state in episode.run(frames):
            seen.append(camera.observe(state))
            notes.observe(seen[-1])
    return notes, seen, episode


@pytest.fixture(scope='module')
def kitchens():
    """Two test kitchens: what can be asked of each frame, what was seen, and the episode, gone on past its end."""
    made = []
    for seed in (20_000, 20_001):
        notes, seen, episode = observe_frames(seed)
        made.append((notes.finish(), seen, episode))
    return made


def test_what_is_asked_of_a_frame_is_true_of_it(kitchens):
    for frames, seen, episode in kitchens:
        assert len(frames) == len(seen)
        for (at, rows), observation in list(zip(frames, seen))[::10]:
            assert at == pytest.approx(observation.stamp_s - seen[0].stamp_s, abs=1e-9)
            true = {(one.family, one.text, one.answer) for one in all_questions(episode, observation)}
            assert (
                rows
                and {
                    (family, PHRASINGS[kind][0].format(**dict(fields)), ANSWERS[answer])
                    for (family, kind, fields), answer, _ in rows
                }
                <= true
            )


def test_what_comes_next_is_known_at_the_last_frame(kitchens):
    assert any(family == 'action_next' for frames, *_ in kitchens for (family, *_), *_ in frames[-1][1])


def test_a_long_episode_is_asked_about_at_frames_evenly_apart(monkeypatch):
    monkeypatch.setattr(recorded_frames, 'MOST_FRAMES', 4)
    notes, seen, _ = observe_frames(20_000, frames=15)
    assert [at for at, _ in notes.finish()] == [round(seen[n].stamp_s, 9) for n in (0, 4, 8, 12)]


def test_no_question_twice_and_the_same_draw_again(kitchens):
    frames = [one[0] for one in kitchens]
    drawn, again = (draw(frames, 60, np.random.default_rng(3)) for _ in range(2))
    assert drawn == again and sum(map(len, drawn)) == 60 and all(drawn)
    for own, (rows, *_) in zip(drawn, kitchens):
        assert len(set(own)) == len(own) and [one.time for one in own] == sorted(one.time for one in own)
        known = {(at, wording, ANSWERS[answer]) for at, found in rows for wording, answer, _ in found}
        assert {(one.time, one.wording, one.answer) for one in own} <= known
    few = draw([frames[0][::20]], 1000, np.random.default_rng(0))
    assert 0 < sum(map(len, few)) < 1000  # there are no more


def test_families_come_evenly_and_no_wording_has_one_answer_alone(kitchens):
    drawn = [one for own in draw([one[0] for one in kitchens], 260, np.random.default_rng(0)) for one in own]
    families = Counter(one.wording[0] for one in drawn)
    assert len(families) > 10 and max(families.values()) < 45  # 260 of 13
    possible = {}
    for frames, *_ in kitchens:
        for _, rows in frames:
            for wording, answer, _ in rows:
                possible.setdefault(wording, set()).add(answer)
    assert all(len(possible[one.wording]) > 1 for one in drawn)


def test_questions_are_worded_in_the_schema_with_their_times(kitchens):
    drawn = draw([one[0] for one in kitchens], 40, np.random.default_rng(0))[1]
    questions = worded_at(drawn, 'kitchens/20001', np.random.default_rng(0))
    assert [question.time for question in questions] == [one.time for one in drawn]
    assert [question.question_id for question in questions[:2]] == ['kitchens/20001-000', 'kitchens/20001-001']
    assert all(question.episode == '20001' and question.category in FAMILIES for question in questions)
    assert not any('{' in question.question for question in questions)


def test_training_has_no_held_out_questions(monkeypatch):
    notes, seen, episode = observe_frames(0, frames=20)
    assert all(at < safe_until(episode) for at, _ in notes.finish())
    scene, rng = VisibleScene(episode, seen[5]), np.random.default_rng
    before = frame_questions(scene, rng(0))
    (_, _, fields), answer, _ = next(row for row in before if row[0][1] == 'colour')
    pair = ANSWERS[answer], dict(fields)['a']
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.splits.HELD_OUT', HeldOut((pair,), (), ()))
    after = frame_questions(scene, rng(0))
    about = [row for row in before if concerns_held_out(dict(row[0][2]), ANSWERS[row[1]])]
    assert about and not set(about) & set(after) and after


def test_frames_without_questions_are_refused():
    for frames in ([], [[]], [[(0.0, [])]]):
        with pytest.raises(ValueError, match='more frames'):
            draw(frames, 5, np.random.default_rng(0))


@pytest.mark.parametrize('fps', [2.0, 10.0])
def test_an_episode_goes_on_for_eight_seconds_whatever_its_frame_rate(fps):
    episode = Episode(20_000, width=32, height=24, fps=fps)
    notes = FrameNotes(episode, 3)
    for _ in episode.run(3):
        pass
    assert notes.finish() == []
    assert episode.world.tick == 2 + 8 * fps


def test_a_frame_has_at_most_three_questions_of_a_kind_and_an_answer(kitchens):
    counts = Counter()
    for number, (frames, *_) in enumerate(kitchens):
        for time, rows in frames:
            counts.update((number, time, family, kind, answer) for (family, kind, _), answer, _ in rows)
    assert max(counts.values()) == 3


def test_times_count_from_the_first_frame():
    episode = Episode(20_000, width=32, height=24, fps=2.0)
    for _ in episode.run(7):
        pass
    notes = FrameNotes(episode, 2)
    with Camera(episode, backend='raycast') as camera:
        for state in episode.run(2):
            notes.observe(camera.observe(state))
    assert [time for time, _ in notes.finish()] == [0.0, 0.5]


def test_an_action_under_way_can_end_what_is_safe(monkeypatch):
    episode = Episode(3, width=32, height=24)
    while episode.world.current is None:
        next(episode.run(1))
    label = episode.world.current
    assert safe_until(episode) == float('inf') or episode.labels
    held_out = HeldOut((), (), ((label.verb, label.noun),))
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.splits.HELD_OUT', held_out)
    assert safe_until(episode) == float('-inf')
    test = Episode(20_000, width=32, height=24)
    assert safe_until(test) == float('inf')


def test_wordings_of_two_families_share_their_text():
    wordings = [('colour', 'colour', (('a', 'cup'),)), ('absent', 'colour', (('a', 'cup'),)), ('hand', 'held', ())]
    assert texts_of(wordings).tolist() == [0, 0, 1]


def test_a_recording_of_version_2_asks_about_absent_things_in_more_wordings():
    """Four kitchens, so that two cups differ in colour; only words that are also asked of things in view are drawn."""
    frames = []
    for seed in range(20_000, 20_004):
        notes, *_, episode = observe_frames(seed, frames=12, fps=1.0)
        episode.version = 2
        frames.append(notes.finish())
    drawn = [one for own in draw(frames, 300, np.random.default_rng(0)) for one in own]
    absent = {one.wording[1:] for one in drawn if one.wording[0] == 'absent'}
    shared = {known[1:] for own in frames for _, rows in own for known, *_ in rows if known[0] != 'absent'}
    assert absent and absent <= shared and all(len(one) == 2 for one in absent)
    assert {one.answer for one in drawn if one.wording[0] == 'absent'} == {'not in view'}
    texts = [one.question for one in worded_at(drawn, 'bag', np.random.default_rng(0), version=2)]
    assert any('color' in text for text in texts) and not any('{' in text for text in texts)
