"""The cache folder and the compiler: environment variables first, then the usual places."""

import sys
from pathlib import Path

import pytest

from m3et_ros.runtime.backends.machine import cache, compiler


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
