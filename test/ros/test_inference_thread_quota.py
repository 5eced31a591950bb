"""The quota: questions take at most a share of the frames' time, clients take turns, nobody waits for ever."""

import itertools
import threading
from concurrent.futures import CancelledError

import pytest

from m3et_ros.ros.inference_thread import MAX_FRAMES, GaveWay, InferenceThread

FRAME_S = 0.125


class Camera:
    """A thread with a clock of its own, and a camera that shows the next frame before the last one is done."""

    def __init__(self, frames, period_s=0.0, **options):
        self.now, self.processed, self.last, self.period_s = 0.0, [], frames, period_s
        self.done, self.log = threading.Event(), []
        self.thread = InferenceThread(self.process, clock=lambda: self.now, **options)
        self.prepared = threading.Event()
        self.thread.submit_urgent(self.prepared.wait)
        self.wait = self.thread._changed.wait
        self.thread._changed.wait = lambda seconds: self.spend(max(seconds, 1e-6)) if seconds else self.wait(1)

    def spend(self, seconds):
        """Let time pass; the camera shows a frame every period, or, without one, at each step."""
        before, self.now = self.now, self.now + seconds
        if self.done.is_set():
            return
        if self.period_s:
            for _ in range(int(self.now / self.period_s) - int(before / self.period_s)):
                self.thread.offer(len(self.processed))
        else:
            self.thread.offer(len(self.processed))

    def process(self, frame):
        self.processed.append(self.now)
        self.log.append('frame')
        if len(self.processed) >= self.last:
            self.done.set()
        self.spend(FRAME_S)

    def ask_again_and_again(self, client, seconds):
        """Ask the next question as soon as one is answered; the log gets the client's name each time."""

        def job():
            self.log.append(client)
            self.spend(seconds)

        def again(_):
            if not self.done.is_set():
                self.thread.submit(job, client=client).add_done_callback(again)

        again(None)

    def run(self):
        self.thread.offer(0)
        self.prepared.set()
        assert self.done.wait(60)
        self.thread.close()
        return self


@pytest.mark.parametrize('seconds', [0.02, 0.1, 0.4])
@pytest.mark.parametrize('share', [0.1, 0.2])
def test_twenty_clients_cost_frames_their_share_of_the_time_and_no_more(seconds, share):
    camera = Camera(400, share=share)
    for client in range(20):
        camera.ask_again_and_again(client, seconds)
    camera.run()
    rate = (len(camera.processed) - 1) / camera.processed[-1] * FRAME_S
    # At most one question a frame: short ones do not use up their share.
    assert 1 - share - 0.01 <= rate <= max(1 - share, FRAME_S / (FRAME_S + seconds)) + 0.04


@pytest.mark.parametrize('token_s', [0.02, 0.1, 0.4])
def test_a_written_answer_costs_frames_its_share_and_never_more_than_a_token_at_once(token_s):
    camera = Camera(200, share=0.2)

    def written():
        while not camera.done.is_set():
            camera.log.append('token')
            camera.spend(token_s)
            yield

    camera.thread.submit_steps(written())
    camera.run()
    rate = (len(camera.processed) - 1) / camera.processed[-1] * FRAME_S
    assert 0.8 - 0.01 <= rate <= max(0.8, FRAME_S / (FRAME_S + token_s)) + 0.04
    gaps = [b - a for a, b in itertools.pairwise(camera.processed)]
    assert max(gaps) <= FRAME_S + token_s + 0.001 and camera.log.count('token') > 5


def test_tokens_that_fit_between_two_frames_are_not_held_back_after_one_that_did_not():
    camera = Camera(100, period_s=0.5)

    def written():
        while not camera.done.is_set():
            camera.log.append('token')
            # The 30th is slow: what frames waited for it is paid for in 12 s, at the share of 0.12.
            camera.spend(2.0 if camera.log.count('token') == 30 else 0.1)
            yield

    camera.thread.submit_steps(written())
    camera.run()
    slow = [n for n, word in enumerate(camera.log) if word == 'token'][29]
    # Three of 0.1 s fit behind a frame.
    after = [len(list(group)) for kind, group in itertools.groupby(camera.log[slow + 1 :]) if kind == 'token']
    assert len(after) > 40 and all(count >= 3 for count in after[4:-1])


def test_answers_of_two_clients_are_written_in_turns_and_those_of_one_client_one_after_the_other():
    gate, order = threading.Event(), []
    thread = InferenceThread(print)
    thread.submit(gate.wait)

    def written(name):
        for n in range(3):
            order.append(f'{name}{n}')
            yield
        return name

    first = thread.submit_steps(written('a'), client='one')
    second = thread.submit_steps(written('b'), client='one')
    other = thread.submit_steps(written('c'), client='two')
    short = thread.submit(lambda: order.append('short'), client='three')
    gate.set()
    assert [one.result(60) for one in (first, second, other, short)] == ['a', 'b', 'c', None]
    thread.close()
    assert [word for word in order if word[0] in 'ab'] == ['a0', 'a1', 'a2', 'b0', 'b1', 'b2']
    # Short questions wait for a token of each of the others, not for their answers.
    assert order.index('short') == 2 and order.index('c2') < order.index('b0')
    assert thread.waiting == 0


def test_closing_ends_a_half_written_answer_and_one_whose_token_is_being_computed():
    half, begun, gate = threading.Event(), threading.Event(), threading.Event()
    thread = InferenceThread(print)

    def waits():
        yield half.set()
        raise AssertionError('a step after the end')

    def computes():
        begun.set()
        gate.wait(60)
        yield

    first = thread.submit_steps(waits(), client='one')
    second = thread.submit_steps(computes(), client='two')
    assert half.wait(60) and begun.wait(60)
    closing = threading.Thread(target=thread.close)
    closing.start()
    with pytest.raises(CancelledError):
        first.result(60)
    gate.set()
    closing.join(10)
    with pytest.raises(CancelledError):
        second.result(60)


def test_an_answer_that_fails_half_way_gives_its_exception_and_leaves_no_trace():
    def fails():
        yield
        raise KeyError('on purpose')

    thread = InferenceThread(print)
    assert isinstance(thread.submit_steps(fails()).exception(10), KeyError)
    assert thread.waiting == 0 and thread.submit(lambda: 3).result(60) == 3
    thread.close()


def test_without_the_quota_a_frame_comes_after_every_question():
    camera = Camera(50, share=1.0)
    for client in range(20):
        camera.ask_again_and_again(client, 0.5)
    camera.run()
    assert 'frame frame' not in ' '.join('frame' if one == 'frame' else 'question' for one in camera.log[1:])


def test_a_question_waits_for_a_bounded_number_of_frames_however_long_answers_take():
    camera = Camera(100)
    camera.ask_again_and_again('slow', 1000.0)
    camera.run()
    frames = [len(list(group)) for kind, group in itertools.groupby(camera.log) if kind == 'frame']
    assert set(frames[1:-1]) == {MAX_FRAMES}


def test_a_question_that_fits_between_two_frames_is_never_held_back():
    camera = Camera(300, period_s=0.5)
    camera.ask_again_and_again('quick', 0.125)
    camera.run()
    assert camera.log.count('quick') >= 300
    assert (len(camera.processed) - 1) / (camera.processed[-1] - camera.processed[0]) > 0.95 / 0.5


def test_clients_take_turns_and_one_with_many_questions_delays_the_others_by_one_each():
    gate, order = threading.Event(), []
    thread = InferenceThread(print)
    thread.submit(gate.wait)
    for n in range(5):
        thread.submit(lambda n=n: order.append(f'many {n}'), client='many')
    last = thread.submit(lambda: order.append('few'), client='few')
    gate.set()
    last.result(60)
    thread.submit(lambda: None, client='many').result(60)
    thread.close()
    assert order == ['many 0', 'few', 'many 1', 'many 2', 'many 3', 'many 4']


def test_the_client_that_fills_the_queue_makes_room_for_the_others():
    gate = threading.Event()
    thread = InferenceThread(print, max_questions=4)
    started = thread.submit(gate.wait, client='many')
    while not started.running():
        pass
    many = [thread.submit(lambda: 'answered', client='many') for _ in range(4)]
    assert many[3] is None
    few = thread.submit(lambda: 'answered', client='few')
    assert isinstance(many[2].exception(10), GaveWay) and thread.waiting == 4
    # The longest queue has one more than this client would have: nobody makes room any more.
    assert thread.submit(lambda: None, client='few') is None
    gate.set()
    assert [one.result(60) for one in (many[0], many[1], few)] == ['answered'] * 3
    thread.close()
    assert thread.waiting == 0


def test_an_urgent_job_comes_before_the_next_frame_and_all_questions():
    gate, order = threading.Event(), []
    thread = InferenceThread(order.append)
    thread.submit(gate.wait)
    thread.submit(lambda: order.append('question'))
    thread.offer('frame')
    urgent = thread.submit_urgent(lambda: order.append('urgent'))
    gate.set()
    urgent.result(60)
    thread.submit(lambda: None).result(60)
    thread.close()
    assert order[0] == 'urgent'
    assert thread.submit_urgent(print) is None


def test_the_time_of_the_present_job_is_known():
    gate, now = threading.Event(), [5.0]
    thread = InferenceThread(print, clock=lambda: now[0])
    job = thread.submit(gate.wait)
    while not job.running():
        pass
    now[0] = 8.5
    assert thread.busy_s == 3.5
    gate.set()
    job.result(60)
    thread.close()
    assert thread.busy_s == 0


def test_the_exception_of_a_job_is_its_result():
    thread = InferenceThread(print)

    def fail():
        raise KeyError('on purpose')

    assert isinstance(thread.submit(fail).exception(10), KeyError)
    assert thread.submit(lambda: 3).result(60) == 3 and thread.waiting == 0
    thread.close()
