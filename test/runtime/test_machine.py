"""The cache folder and the compiler: environment variables first, then the usual places."""

import os
import sys
from pathlib import Path

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.machine import cache, compiler, foreign, private_folder


def test_the_cache_is_where_the_user_wants_it(tmp_path, monkeypatch):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path / 'own'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache() == tmp_path / 'own'
    monkeypatch.setenv('M3ET_CACHE', '')
    assert cache() == tmp_path / 'xdg' / 'm3et'
    monkeypatch.setenv('XDG_CACHE_HOME', '')
    assert cache() == Path.home() / '.cache' / 'm3et'


@pytest.mark.parametrize(('named', 'found'), [(sys.executable, sys.executable), ('no-such-compiler', None)])
def test_a_named_compiler_is_the_only_one_considered(monkeypatch, named, found):
    monkeypatch.setenv('CXX', named)
    assert compiler() == found


def test_without_a_name_the_first_of_the_usual_compilers_is_taken(tmp_path, monkeypatch):
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert compiler() is None
    for name in ('clang++', 'g++'):
        (tmp_path / name).write_text('#!/bin/sh\n')
        (tmp_path / name).chmod(0o755)
        assert compiler() == str(tmp_path / name)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path / 'own'))
    return tmp_path / 'own'


def test_a_folder_of_the_cache_is_private(own):
    folder = private_folder(own / 'kernels' / 'new')
    assert folder.stat().st_mode & 0o777 == 0o700 and foreign(folder) == ''
    folder.chmod(0o755)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize('place', ['.', 'kernels', 'kernels/a.so'])
def test_code_that_others_could_have_put_there_is_foreign(own, monkeypatch, place):
    file = private_folder(own / 'kernels') / 'a.so'
    file.touch(0o644)
    assert foreign(file) == ''
    (own / place).chmod(0o777)
    assert foreign(file) == f'{own / place} can be written by other users'
    (own / place).chmod(0o755)
    assert foreign(file) == ''
    owner = os.getuid()
    monkeypatch.setattr(os, 'getuid', lambda: owner + 1)
    assert foreign(file).endswith('belongs to another user') == (owner != 0)


def test_a_cache_that_others_may_write_is_refused(own):
    private_folder(own)
    own.chmod(0o777)
    with pytest.raises(InputError, match='can be written by other users; remove it') as refused:
        private_folder(own / 'kernels')
    assert refused.value.reason == 'cache_foreign'


def test_a_cache_that_cannot_be_made_is_told(own):
    own.write_text('a file')
    with pytest.raises(InputError, match='cannot be made'):
        private_folder(own / 'kernels')


def test_a_user_without_a_home_is_told_so(monkeypatch):
    def homeless():
        raise RuntimeError('Could not determine home directory.')

    for name in ('XDG_CACHE_HOME', 'M3ET_CACHE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, 'home', homeless)
    with pytest.raises(InputError, match='name a folder in M3ET_CACHE'):
        cache()
