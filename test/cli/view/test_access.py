"""Tokens, cookies, hosts and origins."""

import os

import pytest

from m3et_ros.cli.view.access import KEY_FILE, Gate, cookie_key, is_loopback, origin_allowed

KEY = b'k' * 32


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def test_the_key_of_cookies_outlives_the_server_and_is_private(cache):
    key, trouble = cookie_key()
    assert len(key) == 32 and trouble == '' and cookie_key() == (key, '')
    assert (cache / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_not_used(cache):
    key, _ = cookie_key()
    (cache / KEY_FILE).chmod(0o644)
    other, trouble = cookie_key()
    assert other != key and 'can be read by others' in trouble and 'new address after a restart' in trouble


def test_a_key_of_another_length_is_not_used(cache):
    cookie_key()
    (cache / KEY_FILE).write_bytes(b'short')
    assert 'holds no key of 32 bytes' in cookie_key()[1]


def test_a_key_behind_a_link_is_not_used(cache, tmp_path):
    cookie_key()
    os.replace(cache / KEY_FILE, tmp_path / 'elsewhere')
    (cache / KEY_FILE).symlink_to(tmp_path / 'elsewhere')
    assert 'can be read by others' in cookie_key()[1]


def test_the_token_opens_and_another_does_not():
    gate = Gate('127.0.0.1', 8360, KEY)
    assert gate.address == f'http://127.0.0.1:8360/?token={gate.token}' and len(gate.token) >= 32
    assert gate.token_right(gate.token) and not gate.token_right('') and not gate.token_right(gate.token + 'x')
    assert not gate.token_right('\udcff') and Gate('127.0.0.1', 8360, KEY).token != gate.token
    assert not gate.password_right('')


def test_the_cookie_is_that_of_key_port_and_password():
    name, value = Gate('127.0.0.1', 8360, KEY).cookie
    gate = Gate('127.0.0.1', 8360, KEY)
    assert name == 'm3et_view_8360' and gate.cookie_right(value) and not gate.cookie_right('')
    others = [Gate('::1', 8361, KEY), Gate('127.0.0.1', 8360, b'j' * 32), Gate('127.0.0.1', 8360, KEY, 'password')]
    assert not any(other.cookie_right(value) for other in others)


def test_with_a_password_no_token_opens():
    gate = Gate('0.0.0.0', 80, KEY, 'correct horse')
    assert gate.address == 'http://0.0.0.0:80/' and not gate.token_right(gate.token)
    assert gate.password_right('correct horse') and not gate.password_right('correct') and not gate.password_right('')


@pytest.mark.parametrize(
    ('host', 'allowed'),
    [
        ('127.0.0.1:8360', True),
        ('localhost:8360', True),
        ('LOCALHOST:8360', True),
        ('[::1]:8360', True),
        ('127.0.0.1:8361', False),
        ('127.0.0.1', False),
        ('evil.example:8360', False),
        ('192.168.1.7:8360', False),
        ('localhost.evil.example:8360', False),
        ('', False),
    ],
)
def test_a_server_on_loopback_has_the_names_of_loopback(host, allowed):
    assert Gate('127.0.0.1', 8360, KEY).host_allowed(host) is allowed


@pytest.mark.parametrize(
    ('host', 'allowed'),
    [
        ('192.168.1.7:80', True),
        ('192.168.1.7', True),
        ('localhost', True),
        ('[fe80::1]', True),
        ('evil.example', False),
    ],
)
def test_a_server_beyond_loopback_has_addresses_and_no_name_of_others(host, allowed):
    assert Gate('0.0.0.0', 80, KEY, 'password').host_allowed(host) is allowed


def test_a_server_beyond_loopback_has_the_name_of_its_machine(monkeypatch):
    monkeypatch.setattr('m3et_ros.cli.view.access.socket.gethostname', lambda: 'Robot')
    gate = Gate('0.0.0.0', 8360, KEY, 'password')
    assert gate.host_allowed('robot:8360') and gate.host_allowed('robot.local:8360')
    assert not gate.host_allowed('robot.example:8360')


def test_only_our_own_page_and_programs_have_the_right_origin():
    assert origin_allowed(None, '127.0.0.1:8360') and origin_allowed('http://127.0.0.1:8360', '127.0.0.1:8360')
    for other in ('http://evil.example', 'http://127.0.0.1:1', 'null', '', 'https://127.0.0.1:8360'):
        assert not origin_allowed(other, '127.0.0.1:8360')


def test_addresses_of_loopback():
    assert all(map(is_loopback, ('127.0.0.1', '127.3.2.1', '::1', 'localhost')))
    assert not any(map(is_loopback, ('0.0.0.0', '::', '10.0.0.1', 'robot', '')))
