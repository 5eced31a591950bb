"""Every training that a signal cuts short ends with its exit code, and one whose minutes are over with 0."""

import signal
from types import SimpleNamespace

import pytest

from m3et_ros.cli.main import main
from m3et_ros.training.run_state import Interrupted


@pytest.fixture
def caught(monkeypatch):
    """The signal, or None for a run whose minutes are over, of the next training, which a stub replaces."""

    def train(number, **outcome):
        def stub(*_, session, **__):
            if number:
                signal.raise_signal(number)
                assert session.stop()
            if outcome:
                return outcome['result']
            raise Interrupted

        return stub

    return train


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (None, 0)])
def test_past_labels(monkeypatch, tmp_path, capsys, caught, number, code):
    labels = SimpleNamespace(notes=(), videos={})
    monkeypatch.setattr('m3et_ros.data.epic.class_lists.read_classes', lambda _: None)
    monkeypatch.setattr('m3et_ros.data.epic.annotations.find_split', lambda *_: None)
    monkeypatch.setattr('m3et_ros.data.epic.annotations.read_segments', lambda *_: labels)
    monkeypatch.setattr('m3et_ros.data.epic.history.ActionHistories', lambda *_, **__: None)
    monkeypatch.setattr('m3et_ros.training.history.split_videos', lambda *_, **__: None)
    monkeypatch.setattr('m3et_ros.training.history.train_history', caught(number))
    line = ['train', 'actions', '--history', '--epic', str(tmp_path), '--out', str(tmp_path / 'run')]
    assert main(line) == code
    assert 'The run is not finished: the same command with --resume continues it.' in capsys.readouterr().out


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (None, 0)])
@pytest.mark.parametrize('finished', [False, True])
def test_a_memory(monkeypatch, tmp_path, capsys, caught, number, code, finished):
    from m3et_ros.cli.train import memory

    part = SimpleNamespace(step=5 if finished else 4, steps=5)
    outcomes = dict.fromkeys(memory.STEPS, part)
    monkeypatch.setattr(memory, 'check_training_split', lambda _: None)
    monkeypatch.setattr(memory, 'replace', lambda checkpoint, **_: checkpoint)
    monkeypatch.setattr(memory, 'model_card', lambda *_: '')
    opened = SimpleNamespace(model_id='x', heads={})
    monkeypatch.setattr('m3et_ros.runtime.open_model.open_checkpoint', lambda _: opened)
    monkeypatch.setattr('m3et_ros.data.checkpoints.m3et.save_checkpoint', lambda *_, **__: 'y')
    monkeypatch.setattr('m3et_ros.training.memory.run.train_memory', caught(number, result=(None, outcomes)))
    # A signal in the last step cuts nothing short.
    assert main(['train', 'memory', '--data', 'd', '--out', str(tmp_path)]) == (0 if finished else code)
    assert ('the same command continues it' in capsys.readouterr().out) != finished
