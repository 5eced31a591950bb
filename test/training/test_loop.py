"""The loop on a real model: learning, resuming to the bit, refusing; two processes over gloo."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from m3et_ros.data.errors import InputError
from m3et_ros.training import loop
from m3et_ros.training.loop import KEPT, LOG, Trainer, ahead
from m3et_ros.training.m3et import Answer, Collate, Pretrain, run
from m3et_ros.training.optim import Muon
from m3et_ros.training.recipe import Order
from m3et_ros.training.run_state import STATE, TrainingSession, read_header

SIX = Pretrain(samples=6 * 8, batch=8, lr=1e-3, average=0.5)
OFTEN = TrainingSession(save_minutes=0.0, log_steps=1)
TWO_PROCESSES = """
import sys
import pytest
from accelerate import PartialState
from pathlib import Path
from safetensors.torch import save_file
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import build
from m3et_ros.training.m3et import Pretrain, run
sys.path.insert(0, sys.argv[1])
from conftest import ANSWERS, QUESTION, sample, toy_checkpoint
import torch
torch.set_num_threads(1)
folder = Path(sys.argv[2])
outcome, model, main = run(
    Pretrain(samples=24 * 8, batch=8, lr=3e-3),
    toy_checkpoint(build('tiny', answers=len(ANSWERS)), Tokenizer.train([QUESTION, *ANSWERS])),
    [sample(i) for i in range(24)], folder)
rank = PartialState().process_index
assert PartialState().num_processes == 2 and main == (rank == 0)
save_file(model.state_dict(), folder / f'rank{rank}.safetensors')
"""
KILLED = """
import os, signal, sys
from m3et_ros.training import run_state
sys.path.insert(0, sys.argv[1])
from conftest import ANSWERS, QUESTION, sample, toy_checkpoint
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import build
from m3et_ros.training.m3et import Pretrain, run
from m3et_ros.training.run_state import TrainingSession
import torch
torch.set_num_threads(1)

when, syncs = sys.argv[3], []

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def report(name, entry):
    if entry.step == 4 and when == 'between states':  # the state on disk is that of step 3
        kill()

def sync(file):
    syncs.append(file)
    if len(syncs) == 4 and when == 'within a state':  # it is written, but has not its name yet
        kill()

run_state.os.fsync = sync

run(Pretrain(samples=48, batch=8, lr=1e-3, average=0.5),
    toy_checkpoint(build('tiny', answers=len(ANSWERS)), Tokenizer.train([QUESTION, *ANSWERS], vocabulary=64)),
    [sample(i) for i in range(24)], sys.argv[2],
    session=TrainingSession(save_minutes=0, log_steps=1, report=report))
"""


@dataclass
class Spoilt:
    """The toys, one of them with depth beyond all bounds; they record the epoch in which they are read."""

    toys: list
    bad: int | None = None
    epoch: int = -1

    def __len__(self):
        return len(self.toys)

    def __getitem__(self, i):
        self.reads = getattr(self, 'reads', []) + [(self.epoch, i)]
        if i != self.bad:
            return self.toys[i]
        depth = self.toys[i].depth.copy()
        depth[4::8, 4::8] = 1e30  # what LayerNorm cannot square
        return replace(self.toys[i], depth=depth)


@pytest.fixture
def train(tiny, toys, checkpoint_of):
    """Run a recipe on the toys; returns outcome and delivered model."""

    def go(recipe, folder, *, data=None, model=None, **options):
        checkpoint = checkpoint_of(tiny() if model is None else model)
        outcome, delivered, _ = run(recipe, checkpoint, toys if data is None else data, folder, **options)
        return outcome, delivered

    return go


def state(folder):
    with safe_open(folder / STATE, framework='pt') as file:
        header = json.loads(file.metadata()['state'])
    return load_file(folder / STATE), header


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(folder):
    return [
        {k: v for k, v in json.loads(line).items() if k in ('step', 'lr', 'losses')}
        for line in (folder / LOG).read_text().splitlines()
    ]


def test_every_epoch_is_shuffled_anew_and_shares_are_disjoint():
    order = Order(count=10, batch=4, seed=1)
    epochs = [order.step(0) + order.step(1), order.step(2) + order.step(3)]
    assert all(len(set(ids)) == 8 for ids in epochs) and epochs[0] != epochs[1]
    assert order.step(3) == Order(count=10, batch=4, seed=1).step(3) != Order(count=10, batch=4, seed=2).step(3)
    shares = [list(order.shares(range(1, 3), rank=rank, world=2, accumulate=2)) for rank in (0, 1)]
    assert [len(share) for share in shares] == [4, 4]
    assert shares[0][0] + shares[1][0] + shares[0][1] + shares[1][1] == order.step(1)


def test_the_next_batch_is_loaded_meanwhile_and_its_error_comes_in_its_turn():
    started, used = threading.Event(), threading.Event()

    def batches():
        yield 0, threading.current_thread()
        started.set()
        assert used.wait(60)
        yield 1, None
        raise InputError('bad_shard', 'the shard is cut off')

    found = ahead(batches())
    number, thread = next(found)
    assert number == 0 and started.wait(60)  # before anybody asks for it
    used.set()
    assert next(found) == (1, None)
    with pytest.raises(InputError, match='cut off'):
        next(found)
    thread.join(60)
    assert thread is not threading.current_thread() and not thread.is_alive()
    assert list(ahead(iter('abc'))) == ['a', 'b', 'c']


def test_a_run_keeps_the_memory_of_its_steps(tmp_path, train, monkeypatch):
    kept = []
    monkeypatch.setattr(loop, 'keep_freed_memory', kept.append)
    train(Pretrain(samples=8, batch=8), tmp_path)
    assert kept == [KEPT]


def test_a_run_in_two_sessions_equals_the_run_in_one_to_the_bit(tmp_path, train):
    done, whole = train(SIX, tmp_path / 'whole', session=OFTEN, seed=5)
    reported = []
    asked = replace(OFTEN, report=lambda *entry: reported.append(entry), stop=lambda: len(reported) == 2)
    first, _ = train(SIX, tmp_path / 'parts', session=asked, seed=5)
    second, parts = train(SIX, tmp_path / 'parts', session=replace(OFTEN, resume=True), seed=5)
    assert (first.step, second.step, done.step, done.samples) == (3, 6, 6, 48)
    assert same(state(tmp_path / 'whole')[0], state(tmp_path / 'parts')[0])
    assert same(whole.state_dict(), parts.state_dict())
    assert losses(tmp_path / 'whole') == losses(tmp_path / 'parts')
    other, _ = train(SIX, tmp_path / 'other', session=OFTEN, seed=6)
    assert other.losses != done.losses


@pytest.mark.parametrize('when', ['between states', 'within a state'])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, train, when):
    train(SIX, tmp_path / 'whole', session=OFTEN)
    killed = subprocess.run(
        [sys.executable, '-c', KILLED, str(Path(__file__).parent), str(tmp_path / 'killed'), when],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert state(tmp_path / 'killed')[1]['step'] == 3 and len(losses(tmp_path / 'killed')) == 4
    assert len(list((tmp_path / 'killed').glob('*.part'))) == (when == 'within a state')
    with (tmp_path / 'killed' / LOG).open('a') as file:
        file.write('{"step": 3, "losses": {"rgb": 1}')  # half a line
    train(SIX, tmp_path / 'killed', session=replace(OFTEN, resume=True))
    assert same(state(tmp_path / 'whole')[0], state(tmp_path / 'killed')[0])
    assert losses(tmp_path / 'whole') == losses(tmp_path / 'killed')
    assert not list((tmp_path / 'killed').glob('*.part'))


def test_a_loss_that_is_not_finite_names_step_and_samples_and_keeps_the_state(tmp_path, train, toys):
    bad = Order(len(toys), 8, seed=0).step(2)[3]  # first used in step 3
    with pytest.raises(InputError, match=rf'Step 3 has no finite gradient .*depth.*toy {bad}\b') as caught:
        train(SIX, tmp_path / 'run', data=Spoilt(toys, bad), session=OFTEN)
    assert caught.value.reason == 'loss_not_finite'
    assert state(tmp_path / 'run')[1]['step'] == 2
    train(SIX, tmp_path / 'run', session=replace(OFTEN, resume=True))
    train(SIX, tmp_path / 'good', session=OFTEN)
    assert same(state(tmp_path / 'run')[0], state(tmp_path / 'good')[0])


def test_data_sets_get_the_epoch(tmp_path, train, toys):
    data = Spoilt(toys)
    train(SIX, tmp_path, data=data, session=OFTEN)
    assert [epoch for epoch, _ in data.reads] == [0] * 24 + [1] * 24
    assert sorted(i for epoch, i in data.reads if epoch == 1) == list(range(24))


def test_micro_batches_add_up_to_the_batch(tmp_path, tiny, train):
    """Masks differ, so it is the questions' loss, which draws nothing, that must agree."""
    quiet = Answer(samples=24, batch=8, lr=1e-3, rehearse=0.0, silent=0.0, drop_depth=0.0)
    whole, one = train(quiet, tmp_path / 'whole')
    parts, four = train(replace(quiet, accumulate=4), tmp_path / 'parts')
    assert whole.losses['answer'] == pytest.approx(parts.losses['answer'], rel=1e-4)
    torch.testing.assert_close(one.global_embedding, four.global_embedding, atol=1e-4, rtol=0)


def test_minutes_end_a_session_with_the_state_saved(tmp_path, train):
    outcome, _ = train(SIX, tmp_path, session=TrainingSession(minutes=0.0))
    assert (outcome.step, outcome.steps) == (1, 6) and state(tmp_path)[1]['step'] == 1


def test_bfloat16_learns_the_same_within_its_precision(tmp_path, train, caplog):
    full, _ = train(SIX, tmp_path / 'f32')
    half, model = train(SIX, tmp_path / 'bf16', session=TrainingSession(bf16=True))
    assert full.losses != half.losses
    assert all(half.losses[name] == pytest.approx(full.losses[name], rel=0.05) for name in ('rgb', 'depth', 'semseg'))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert 'slow reference' not in caplog.text  # the scans keep their fast form inside autocast


def test_loading_processes_change_nothing(tmp_path, train):
    train(SIX, tmp_path / 'none', session=OFTEN)
    train(SIX, tmp_path / 'one', session=replace(OFTEN, workers=1))
    assert same(state(tmp_path / 'none')[0], state(tmp_path / 'one')[0])


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'recipe': replace(SIX, lr=2e-3)}, 'lr 0.001, not 0.002'),
        ({'seed': 3}, 'seed 0, not 3'),
        ({'recipe': Answer(samples=48, batch=8)}, 'recipe'),
    ],
)
def test_resuming_with_other_options_is_refused(tmp_path, train, changes, words):
    train(replace(SIX, average=0.0), tmp_path, session=TrainingSession(minutes=0.0))
    with pytest.raises(InputError, match=words) as caught:
        recipe = replace(changes.get('recipe', SIX), average=0.0)
        train(recipe, tmp_path, seed=changes.get('seed', 0), session=TrainingSession(resume=True))
    assert caught.value.reason == 'resume_state'


def test_a_folder_that_holds_a_run_and_bad_sizes_are_refused(tmp_path, train, toys):
    train(SIX, tmp_path / 'run', session=TrainingSession(minutes=0.0))
    for recipe, folder, data, words in (
        (SIX, 'run', toys, 'already holds a run'),
        (SIX, 'new', toys[:7], '7 samples, fewer than a batch of 8'),
        (replace(SIX, accumulate=3), 'new', toys, 'cannot be cut into 3'),
    ):
        with pytest.raises(InputError, match=words):
            train(recipe, tmp_path / folder, data=data)


def test_two_processes_share_the_work_and_end_with_the_same_weights(tmp_path):
    """Real processes over gloo, as `torchrun` starts them."""
    script = tmp_path / 'two.py'
    script.write_text(TWO_PROCESSES)
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc-per-node=2',
            str(script),
            str(Path(__file__).parent),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    ranks = [load_file(tmp_path / f'rank{rank}.safetensors') for rank in (0, 1)]
    assert same(*ranks)
    log = losses(tmp_path)
    assert [entry['step'] for entry in log] == [20, 24]
    assert sum(log[1]['losses'].values()) < 0.9 * sum(log[0]['losses'].values())
    assert state(tmp_path)[1]['processes'] == 2


@pytest.fixture
def trainer(tiny, toys, tokenizer, answers, tmp_path):
    """Build a trainer of a recipe."""

    def make(recipe):
        model = tiny()
        collate = Collate(model.config, tokenizer, answers)
        return Trainer(recipe, model, toys, collate, tmp_path, seed=0, session=OFTEN)

    return make


def test_the_optimiser_follows_the_recipe(trainer):
    recipe = replace(SIX, optimiser='muon', weight_decay=0.3, layer_decay=0.5, encoder_scale=0.25)
    adamw, muon = trainer(recipe).optimizer.parts
    assert isinstance(adamw, torch.optim.AdamW) and isinstance(muon, Muon)
    groups = [*adamw.param_groups, *muon.param_groups]
    assert {group['weight_decay'] for group in groups} == {0.0, 0.3}
    # Decoders learn at the full rate, the encoder's last layer at a quarter, each layer below at half of the one above.
    assert {group['scale'] for group in groups} == {1.0, *(0.25 * 0.5**n for n in range(7))}


def test_gradients_are_clipped_to_the_norm_of_the_recipe(trainer):
    run = trainer(replace(SIX, samples=8, clip=0.01))
    norms = []

    def record(optimizer, _args, _kwargs):
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    run.optimizer.parts[0].register_step_pre_hook(record)
    run.run()
    assert norms == [pytest.approx(0.01, rel=1e-3)] and run.norm > 0.01


def test_states_are_written_at_the_interval_and_entries_are_reported_at_theirs(tmp_path, train):
    for name, minutes in (('often', 0.0), ('seldom', 10.0)):
        found = []

        def report(run, entry, found=found, name=name):
            state = read_header(tmp_path / name)['step'] if (tmp_path / name / STATE).exists() else None
            found.append((run, entry.step, entry.steps, entry.samples, state))

        train(SIX, tmp_path / name, session=TrainingSession(save_minutes=minutes, log_steps=2, report=report))
        expected = [(name, step, 6, 8 * step) for step in (2, 4, 6)]
        assert [entry[:4] for entry in found] == expected
        assert [entry[4] for entry in found] == ([1, 3, 5] if minutes == 0 else [None] * 3)
        assert json.loads((tmp_path / name / LOG).read_text().splitlines()[-1])['samples'] == 48


def test_samples_are_loaded_in_worker_processes(tmp_path, train, toys):
    data = Spoilt(toys)
    train(replace(SIX, samples=8), tmp_path / 'main', data=data, session=OFTEN)
    assert len(data.reads) == 8
    data.reads = []
    train(replace(SIX, samples=8), tmp_path / 'worker', data=data, session=replace(OFTEN, workers=1))
    assert data.reads == []  # another process has read them


def test_a_data_set_of_one_batch_is_enough(tmp_path, train, toys):
    outcome, _ = train(replace(SIX, samples=16), tmp_path, data=toys[:8])
    assert outcome.step == 2 and outcome.finished


def test_an_interrupted_run_is_not_finished(tmp_path, train):
    outcome, _ = train(SIX, tmp_path, session=TrainingSession(minutes=0.0))
    assert not outcome.finished


def test_milestones_and_the_time_left_count_the_minutes_of_training(tmp_path, train, monkeypatch):
    """A minute a step; a session of two steps, and after a break one of four."""
    clock, reached, entries = [1000.0], [], []
    monkeypatch.setattr('m3et_ros.training.loop.time.monotonic', lambda: clock[0])

    @dataclass(frozen=True)
    class Slow(Pretrain):
        def losses(self, model, batch, generator):
            clock[0] += 60
            return super().losses(model, batch, generator)

    def milestone(outcome, model):
        reached.append((outcome.step, outcome.samples, outcome.seconds))
        assert outcome.steps == 6 and set(outcome.losses) == {'rgb', 'depth', 'semseg'}
        assert torch.equal(model.global_embedding, state(tmp_path)[0]['average.module.global_embedding'])

    session = TrainingSession(
        minutes=2,
        milestone_minutes=1.5,
        milestone=milestone,
        save_minutes=0,
        log_steps=1,
        report=lambda _, entry: entries.append(
            (entry.step, entry.seconds, entry.samples_per_second, entry.seconds_left)
        ),
    )
    train(Slow(**vars(SIX)), tmp_path, session=session)
    assert reached == []  # a session ends with a checkpoint of its own
    clock[0] += 5000
    train(Slow(**vars(SIX)), tmp_path, session=replace(session, resume=True, minutes=None))
    assert reached == [(3, 24, 180.0), (5, 40, 300.0)]
    assert entries == [(step, 60.0 * step, 0.1, 60.0 * (6 - step)) for step in range(1, 7)]


HOLDER = """
import sys
from pathlib import Path
from m3et_ros.training.run_state import only_session
with only_session(Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_trained_by_one_process_at_a_time(tmp_path, train):
    train(SIX, tmp_path, session=TrainingSession(minutes=0.0))
    log = (tmp_path / LOG).read_bytes()
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(InputError, match=f'Process {holder.pid} trains in .*choose another folder') as caught:
            train(SIX, tmp_path, session=TrainingSession(resume=True))
        assert caught.value.reason == 'training' and (tmp_path / LOG).read_bytes() == log
        holder.kill()
        holder.wait()
        outcome, _ = train(SIX, tmp_path, session=TrainingSession(resume=True))
        assert outcome.finished
    finally:
        holder.kill()
        holder.communicate()
