"""Building the native libraries: refusals without a compiler, and a damaged one is not used."""

import platform

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.images import native as images
from m3et_ros.ops import dispatch, native
from m3et_ros.runtime import kernels


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path))
    monkeypatch.delenv('M3ET_KERNELS', raising=False)
    monkeypatch.setattr(native, '_library', None)
    monkeypatch.setattr(images, '_library', None)
    yield
    dispatch.forget()


def test_without_a_compiler_one_sentence_says_how_to_get_one(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(InputError, match='no C\\+\\+ compiler; install') as caught:
        kernels.build()
    assert caught.value.reason == 'no_compiler'


def test_a_compiler_that_fails_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', 'false')
    with pytest.raises(InputError, match='could not build the kernels'):
        kernels.build()
    assert not list(tmp_path.rglob('*.so')) and not list(tmp_path.rglob('*.part'))


def test_the_library_is_optional():
    assert kernels.use_built() is False and dispatch.choose('ssd', 'cpu').name == 'chunked'


def test_a_damaged_library_is_logged_and_not_used(caplog):
    for name in kernels.SOURCES:
        kernels.library(name).parent.mkdir(parents=True, exist_ok=True)
        kernels.library(name).write_bytes(b'no library')
    assert kernels.use_built() is False and not images.loaded()
    assert caplog.text.count('cannot be opened') == 2 and dispatch.choose('ssd', 'cpu').name == 'chunked'


def test_the_library_is_stored_in_the_cache_under_its_source_and_machine(tmp_path):
    assert kernels.library().parent == tmp_path / 'kernels'
    assert kernels.library().name.startswith(f'scans-{platform.machine()}-') and kernels.library() == kernels.library()
    assert kernels.library('frames').name.startswith(f'frames-{platform.machine()}-')


def test_kernels_can_be_switched_off(monkeypatch, caplog):
    path = kernels.library()
    path.parent.mkdir(parents=True)
    path.write_bytes(b'no library')
    monkeypatch.setenv('M3ET_KERNELS', 'off')
    assert kernels.use_built() is False and not caplog.text


def test_an_existing_library_is_not_built_again(monkeypatch):
    for name in kernels.SOURCES:
        kernels.library(name).parent.mkdir(parents=True, exist_ok=True)
        kernels.library(name).write_bytes(b'a library')
    monkeypatch.setenv('CXX', 'no-such-compiler')
    assert kernels.build() == kernels.library() and kernels.library('frames').read_bytes() == b'a library'


def test_a_compiler_that_writes_rubbish_leaves_nothing_behind(monkeypatch, tmp_path):
    fake = tmp_path / 'compiler'
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho rubbish > "$2"\n')
    fake.chmod(0o755)
    monkeypatch.setenv('CXX', str(fake))
    with pytest.raises(InputError, match='could not build the kernels'):
        kernels.build()
    assert list(tmp_path.rglob('*.so')) == list(tmp_path.rglob('*.part')) == []


def test_a_library_that_others_could_have_written_is_not_loaded(caplog, monkeypatch):
    path = kernels.library()
    path.parent.mkdir(parents=True)
    path.write_bytes(b'planted')
    path.chmod(0o666)
    monkeypatch.setattr(native, 'load', lambda _: pytest.fail('it was loaded'))
    assert kernels.use_built() is False
    assert 'can be written by other users; the forms in torch serve' in caplog.text
