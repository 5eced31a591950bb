"""Builds of mamba-ssm that the package kernels loads: from a folder, from the cache of the Hub, and refusals.

The build is one for every device in the layout of the Hub, with the published signatures over our references; the real
package kernels loads it. No test needs a network or CUDA.
"""

import json
import logging

import pytest
import torch
from hub_server import hub_server, sha
from huggingface_hub import constants

from m3et_ros.data.errors import InputError
from m3et_ros.ops import dispatch, fused
from m3et_ros.runtime import fused_scans

COMMIT = 'a1' * 20
NAME = 'hf:kernels-community/mamba-ssm'
BUILD = """
from m3et_ros.ops.selective_scan import selective_scan_reference
from m3et_ros.ops.ssd import ssd_reference


def selective_scan_fn(u, delta, A, B, C, D=None, z=None, return_last_state=False):
    u, delta, B, C, z = (t.transpose(1, 2) for t in (u, delta, B, C, z))
    y, state = selective_scan_reference(u, delta, A, B, C, D=D, z=z)
    return y.transpose(1, 2), state


def mamba_chunk_scan_combined(x, dt, A, B, C, size, D=None, initial_states=None, return_final_states=False):
    return ssd_reference(x, dt, A, B, C, D=D, state=initial_states)
"""


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    monkeypatch.delenv(fused_scans.VARIABLE, raising=False)
    yield
    fused.use(None)
    dispatch.forget()


def write_build(folder, code=BUILD, **metadata):
    """Write a kernel for any device as the Hub has it; returns the folder."""
    variant = folder / 'build' / 'torch-universal'
    variant.mkdir(parents=True)
    known = {'id': 'mamba_ssm_of_the_test', 'name': 'mamba-ssm', 'version': 5, 'license': 'Apache-2.0'}
    known |= {'python-depends': [], 'backend': {'type': 'cpu'}}
    (variant / 'metadata.json').write_text(json.dumps(known | metadata))
    (variant / '__init__.py').write_text(code)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Have the Hub's cache in a folder, and its address where nobody answers; returns the place of the commit."""
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    return tmp_path / 'kernels--kernels-community--mamba-ssm' / 'snapshots' / COMMIT


@pytest.mark.parametrize('op', ['selective_scan', 'ssd'])
def test_scans_of_a_folder_serve_after_the_check(tmp_path, monkeypatch, op):
    source = str(write_build(tmp_path))
    fused.use(fused_scans.load(source), source)
    fast = dispatch._fast_form(dispatch.OPERATORS[op], torch.device('cuda'))
    assert fast[1:] == ('mamba-ssm', source)
    monkeypatch.setattr(dispatch, '_fast_form', lambda operator, device: fast)
    choice, function = dispatch.decide(dispatch.OPERATORS[op], torch.device('cpu'))
    assert (choice.name, function) == ('mamba-ssm', fast[0])
    assert choice.reason == f'{source}, agrees with the reference to {choice.max_error:.0e}'


def test_scans_of_a_folder_that_disagree_do_not_serve(tmp_path, monkeypatch):
    fused.use(fused_scans.load(str(write_build(tmp_path, BUILD.replace('D=D, state', 'D=2 * D, state')))), 'a folder')
    fast = dispatch._fast_form(dispatch.OPERATORS['ssd'], torch.device('cuda'))
    monkeypatch.setattr(dispatch, '_fast_form', lambda operator, device: fast)
    choice, _ = dispatch.decide(dispatch.OPERATORS['ssd'], torch.device('cpu'))
    assert choice.name == 'chunked' and 'mamba-ssm is off by' in choice.reason


def test_a_commit_in_the_cache_needs_no_network(cache):
    package = fused_scans.load(str(write_build(cache)) and f'{NAME}@{COMMIT}')
    assert package.__file__ == str(cache / 'build' / 'torch-universal' / '__init__.py')


def test_a_build_of_the_hub_is_fetched_once_and_again_after_a_download_that_was_cut_off(tmp_path, monkeypatch):
    with hub_server(monkeypatch, tmp_path) as hub:
        variant = write_build(tmp_path / 'source') / 'build' / 'torch-universal'
        files = {f'build/torch-universal/{path.name}': path.read_bytes() for path in variant.iterdir()}
        hub.models['kernels-community/mamba-ssm'] = hub.models['somebody/mamba-ssm'] = files
        commit = sha(files)
        cut = tmp_path / 'kernels--kernels-community--mamba-ssm' / 'snapshots' / commit / 'build' / 'torch-universal'
        cut.mkdir(parents=True)
        (cut / 'metadata.json').write_bytes(files['build/torch-universal/metadata.json'])
        assert fused_scans.load(f'{NAME}@{commit}').__file__ == str(cut / '__init__.py')
        hub.models.clear()
        assert fused_scans.load(f'{NAME}@{commit}').__file__ == str(cut / '__init__.py')
        hub.models['somebody/mamba-ssm'] = files
        with pytest.raises(InputError, match='is not from a trusted publisher'):
            fused_scans.load(f'hf:somebody/mamba-ssm@{commit}')


def test_another_commit_than_the_one_in_the_cache_is_refused_offline(cache, monkeypatch):
    write_build(cache)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(InputError, match='is not complete in the cache .*, and HF_HUB_OFFLINE is set') as caught:
        fused_scans.load(f'{NAME}@{"b2" * 20}')
    assert caught.value.reason == 'hub_offline'


def test_a_hub_that_does_not_answer_is_a_sentence(cache):
    with pytest.raises(InputError, match='cannot be fetched .*; check the network, the name and the commit') as caught:
        fused_scans.load(f'{NAME}@{COMMIT}')
    assert caught.value.reason == 'fused_scans'


@pytest.mark.parametrize('revision', ['', '@main', '@v5', f'@{COMMIT[:39]}', f'@{COMMIT.upper()}'])
def test_a_name_without_its_whole_commit_is_refused(revision):
    with pytest.raises(InputError, match='names no commit, and a branch of code may change') as caught:
        fused_scans.load(NAME + revision)
    assert caught.value.reason == 'hub_name'


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'code': 'import no_such_module'}, "No module named 'no_such_module'"),
        ({'code': 'selective_scan_fn = None'}, 'it has no mamba_chunk_scan_combined'),
        ({'kernel-depends': [{'repo-id': 'o/other', 'version': 1}]}, 'it needs another kernel, o/other'),
        ({'python-depends': ['einops_of_nobody']}, 'einops_of_nobody'),
        ({'kernels-minver': '99.0.0'}, 'requires kernels>=99.0.0'),
    ],
    ids=['broken', 'lacks a function', 'other kernels', 'other packages', 'newer kernels'],
)
def test_a_build_that_cannot_be_used_is_refused(tmp_path, change, said):
    metadata = {name: value for name, value in change.items() if name != 'code'}
    with pytest.raises(InputError, match='cannot be loaded') as caught:
        fused_scans.load(str(write_build(tmp_path, change.get('code', BUILD), **metadata)))
    assert caught.value.reason == 'fused_scans' and said in str(caught.value)


def test_a_folder_without_a_build_for_this_machine_is_refused(tmp_path):
    with pytest.raises(InputError, match=f'The scans of {tmp_path}/none cannot be loaded .Cannot find a build variant'):
        fused_scans.load(f'{tmp_path}/none')


@pytest.mark.skipif(torch.cuda.is_available(), reason='speaks of machines without CUDA')
def test_without_cuda_nothing_is_loaded_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(fused_scans.VARIABLE, str(write_build(tmp_path, 'raise SystemExit')))
    fused_scans.use_fused()
    assert 'there is no CUDA device; unset M3ET_FUSED_SCANS' in caplog.text and fused.origin() == ''


def test_named_scans_are_used_and_forgotten_choices_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv(fused_scans.VARIABLE, source := str(write_build(tmp_path)))
    before = dispatch.choose('ssd', 'cpu')
    fused_scans.use_fused()
    assert fused.origin() == source and dispatch.choose('ssd', 'cpu') is not before
    fused_scans.use_fused()
    assert fused.origin() == source


def test_named_scans_that_are_refused_leave_what_served(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setenv(fused_scans.VARIABLE, f'{NAME}@main')
    with caplog.at_level(logging.WARNING):
        fused_scans.use_fused()
    assert 'M3ET_FUSED_SCANS does not hold, and other scans serve: hf:kernels' in caplog.text
    assert fused.origin() == ''
