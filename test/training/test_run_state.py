import json

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from m3et_ros.data.errors import InputError
from m3et_ros.training.optim import build_optimiser, set_rate
from m3et_ros.training.run_state import (
    STATE,
    Interrupted,
    StageSessions,
    TrainingSession,
    load_state,
    read_header,
    save_state,
)


def stepped(model, kind='adamw'):
    optimizer = build_optimiser(model, kind=kind, weight_decay=0.05)
    set_rate(optimizer.param_groups, 1e-3)
    (model.global_embedding.sum() + model.gate.w1.weight.square().sum()).backward()
    optimizer.step()
    return optimizer


def kept(optimizer, parameter):
    return next((part.state[parameter] for part in optimizer.parts if parameter in part.state), None)


@pytest.mark.parametrize('kind', ['adamw', 'muon'])
def test_a_state_is_restored_to_the_bit(tmp_path, tiny, kind):
    model, other = tiny(), tiny(seed=7)
    optimizer = stepped(model, kind)
    save_state(tmp_path, model=model, optimizer=optimizer, average=AveragedModel(model), header={'step': 9})
    average, fresh = AveragedModel(other), build_optimiser(other, kind=kind, weight_decay=0.05)
    assert load_state(tmp_path, model=other, optimizer=fresh, average=average)['step'] == 9
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))
    assert torch.equal(average.module.types, model.types)
    for one, twin in ((model.global_embedding, other.global_embedding), (model.gate.w1.weight, other.gate.w1.weight)):
        wanted, found = kept(optimizer, one), kept(fresh, twin)
        assert wanted.keys() == found.keys() and all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert ('momentum_buffer' in found) == (kind == 'muon')
    assert kept(fresh, other.types) is None  # it never had a gradient
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_a_full_disk_keeps_the_state_before(tmp_path, tiny, monkeypatch):
    model = tiny()
    optimizer = stepped(model)
    save_state(tmp_path, model=model, optimizer=optimizer, average=None, header={'step': 1})

    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('m3et_ros.training.run_state.os.fsync', full)
    with pytest.raises(InputError, match='No space left on device.*--resume') as caught:
        save_state(tmp_path, model=model, optimizer=optimizer, average=None, header={'step': 2})
    assert caught.value.reason == 'disk_full'
    assert read_header(tmp_path)['step'] == 1 and len(list(tmp_path.iterdir())) == 1


def test_other_files_are_refused_as_states(tmp_path, tiny):
    with pytest.raises(InputError, match='omit --resume') as caught:
        read_header(tmp_path)
    assert caught.value.reason == 'resume_missing'
    for metadata, word in (({'state': json.dumps({'format': 99})}, 'format 99'), ({}, 'not the state of a run')):
        save_file({'a': torch.zeros(1)}, tmp_path / STATE, metadata=metadata)
        with pytest.raises(InputError, match=word):
            read_header(tmp_path)
    (tmp_path / STATE).write_bytes(b'rubbish')
    with pytest.raises(InputError, match='not the state of a run'):
        read_header(tmp_path)


def test_the_state_of_another_model_is_refused(tmp_path, tiny):
    model = tiny()
    save_state(tmp_path, model=model, optimizer=stepped(model), average=None, header={})
    other = tiny(answers=3)
    with pytest.raises(InputError, match='another model'):
        load_state(tmp_path, model=other, optimizer=build_optimiser(other, weight_decay=0.0), average=None)


def test_stages_share_the_minutes_of_a_session_from_the_first_stage_on(tmp_path, monkeypatch):
    clock = [500.0]
    monkeypatch.setattr('m3et_ros.training.run_state.time.monotonic', lambda: clock[0])
    stages = StageSessions(TrainingSession(minutes=2, workers=3))
    clock[0] = 1000.0
    assert stages.of_stage(tmp_path).minutes == 2
    clock[0] += 90
    second = stages.of_stage(tmp_path)
    assert second.minutes == 0.5 and second.workers == 3
    clock[0] += 30  # exactly two minutes
    with pytest.raises(Interrupted):
        stages.of_stage(tmp_path)
    unlimited = StageSessions(TrainingSession())
    assert unlimited.of_stage(tmp_path).minutes is None
    clock[0] += 1e6
    assert unlimited.of_stage(tmp_path).minutes is None


@pytest.mark.parametrize('split', [lambda session: session, StageSessions])
def test_a_stage_resumes_only_if_asked_to_and_if_it_has_a_state(tmp_path, split):
    for resume, exists in ((False, False), (True, False), (False, True), (True, True)):
        folder = tmp_path / f'{resume}{exists}'
        folder.mkdir()
        if exists:
            (folder / STATE).touch()
        assert split(TrainingSession(resume=resume)).of_stage(folder).resume == (resume and exists)
