"""Access to the page: a token in the address or a password, a cookie after that, and checks of Host and Origin.

A page of another site can send requests to this machine, and a name of another site can be made to point at it (DNS
rebinding). Therefore the Host must be one of ours, the Origin of a WebSocket or form must be that Host, and the cookie
is not sent along from other sites (SameSite).
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
from pathlib import Path

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.machine import cache, private_folder

TOKEN_BYTES = 24
KEY_BYTES = 32
KEY_FILE = 'view.key'
HOST_NAMES = ('localhost',)
LOOPBACK_NETWORKS = tuple(map(ipaddress.ip_network, ('127.0.0.0/8', '::1/128')))


def cookie_key() -> tuple[bytes, str]:
    """Return the key of cookies of this user, and a sentence if it will be another one after a restart.

    It lies in the cache folder and outlives the server, so that an open page comes back when the server does.
    """
    try:
        path = private_folder(cache()) / KEY_FILE
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _read_key(path), ''
        with os.fdopen(descriptor, 'wb') as file:
            key = secrets.token_bytes(KEY_BYTES)
            file.write(key)
        return key, ''
    except (InputError, OSError) as error:
        sentence = f'Open pages will need the new address after a restart, because no key can be stored: {error}'
        return secrets.token_bytes(KEY_BYTES), sentence


def _read_key(path: Path) -> bytes:
    if path.is_symlink() or path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077:
        raise InputError('cache_foreign', f'{path} can be read by others; remove it.')
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise InputError('cache_foreign', f'{path} holds no key of {KEY_BYTES} bytes; remove it.')
    return key


def is_loopback(host: str) -> bool:
    """Return True if an address, or the name localhost, is reached from this machine alone."""
    if host in HOST_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in LOOPBACK_NETWORKS)


class Gate:
    """Decides who may use the page.

    Args:
        host: address that the server listens on.
        port: its port.
        key: key of the cookies.
        password: password beyond loopback; '' for the token alone.
    """

    def __init__(self, host: str, port: int, key: bytes, password: str = ''):
        self.host, self.port, self.password = host, port, password
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        secret = f'm3et view {port} {password}'
        self._cookie = hmac.new(key, secret.encode(), hashlib.sha256).hexdigest()

    @property
    def cookie(self) -> tuple[str, str]:
        """Name and value of the cookie; ports share cookies, so the name has the port."""
        return f'm3et_view_{self.port}', self._cookie

    @property
    def address(self) -> str:
        """Address of the page, with the token where no password is asked for."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'http://{host}:{self.port}/' + ('' if self.password else f'?token={self.token}')

    def host_allowed(self, host: str) -> bool:
        """Return True if a Host header names this server by an address of its own, not by a name of another site."""
        name, _, port = host.rpartition(':') if host.rpartition(':')[2].isdigit() else (host, '', '80')
        if port != str(self.port):
            return False
        name = name.strip('[]').lower()
        if is_loopback(name):
            return True
        if is_loopback(self.host):
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            machine = socket.gethostname().lower()
            return name in (machine, f'{machine}.local', self.host.lower())
        return True

    def token_right(self, token: str) -> bool:
        """Compare a token in constant time; none is right where a password is asked for."""
        return not self.password and _same(token, self.token)

    def password_right(self, password: str) -> bool:
        """Compare a password in constant time."""
        return bool(self.password) and _same(password, self.password)

    def cookie_right(self, value: str) -> bool:
        """Compare a cookie in constant time."""
        return _same(value, self._cookie)


def origin_allowed(origin: str | None, host: str) -> bool:
    """Return True if a request comes from our own page, or from a program, which sends no Origin.

    Args:
        origin: the Origin header; None for none.
        host: the Host header, which has been checked.
    """
    return origin is None or origin == f'http://{host}'


def _same(given: str, right: str) -> bool:
    # aiohttp reads bytes that are no text as surrogates.
    return hmac.compare_digest(given.encode(errors='surrogateescape'), right.encode())
