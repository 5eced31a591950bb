"""A small Hub on this machine: the part of its HTTP interface by which `huggingface_hub` fetches and sends models."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = 'hf_test'


class Hub(ThreadingHTTPServer):
    """Models by 'owner/name', each a dictionary of its files; `gated` and `broken` names are refused."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.created: dict[str, dict] = {}
        self.gated: set[str] = set()
        self.broken: set[str] = set()
        self.messages: list[str] = []

    @property
    def address(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        """Print nothing."""

    def reply(self, code: int, body: bytes = b'', **headers: str):
        """Send an answer; a head has the length of the body that it lacks."""
        self.send_response(code)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def refused(self, name: str) -> bool:
        """Answer for a model that cannot be read."""
        if name in self.server.broken:
            self.reply(500)
        elif name in self.server.gated:
            self.reply(403, X_Error_Code='GatedRepo')
        elif name not in self.server.models:
            self.reply(404, X_Error_Code='RepoNotFound')
        else:
            return False
        return True

    def reply_on_kernel(self, parts: list[str]):
        """Answer a question of the package `kernels`; a kernel is a model here, and only one publisher is trusted."""
        if parts[1] == 'organizations':
            facts = {'name': parts[2], 'fullname': parts[2], 'avatarUrl': ''}
            self.reply(200, json.dumps(facts | {'trustedKernelPublisher': parts[2] == 'kernels-community'}).encode())
            return
        files = self.server.models['/'.join(parts[2:4])]
        if parts[6:] == ['build']:
            tree = [{'type': 'directory', 'path': path, 'oid': ''} for path in {f.rpartition('/')[0] for f in files}]
        else:
            tree = [{'type': 'file', 'path': path, 'size': len(data), 'oid': ''} for path, data in files.items()]
        self.reply(200 if parts[5] == sha(files) else 404, json.dumps(tree).encode())

    def do_GET(self):
        parts = self.path.partition('?')[0].strip('/').split('/')
        if parts[:2] in (['api', 'organizations'], ['api', 'kernels']):
            self.reply_on_kernel(parts)
            return
        if parts[0] == 'kernels':
            parts.pop(0)
        if parts[:2] == ['api', 'models']:
            name = '/'.join(parts[2:4])
            if self.refused(name):
                return
            if parts[4:] and parts[5] not in ('main', sha(self.server.models[name])):
                self.reply(404, X_Error_Code='RevisionNotFound')
                return
            files = self.server.models[name]
            siblings = [{'rfilename': file, 'size': len(data)} for file, data in files.items()]
            self.reply(200, json.dumps({'id': name, 'sha': sha(files), 'siblings': siblings}).encode())
            return
        name, file = '/'.join(parts[:2]), '/'.join(parts[4:])
        if not self.refused(name):
            data = self.server.models[name][file]
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            self.reply(200, data, ETag=etag, X_Repo_Commit=sha(self.server.models[name]))

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        parts = self.path.partition('?')[0].strip('/').split('/')
        if self.headers.get('Authorization') != f'Bearer {TOKEN}':
            self.reply(401)
            return
        if parts == ['api', 'validate-yaml']:
            self.reply(200, b'{"errors": [], "warnings": []}')
        elif parts == ['api', 'repos', 'create']:
            asked = json.loads(body)
            name = f'{asked["organization"]}/{asked["name"]}'
            self.server.created[name] = asked
            self.server.models.setdefault(name, {})
            self.reply(200, json.dumps({'url': f'{self.server.address}/{name}', 'id': name}).encode())
        elif parts[4] == 'preupload':
            files = [
                {'path': file['path'], 'uploadMode': 'regular', 'shouldIgnore': False}
                for file in json.loads(body)['files']
            ]
            self.reply(200, json.dumps({'files': files}).encode())
        else:
            name = '/'.join(parts[2:4])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry['key'] == 'header':
                    self.server.messages.append(entry['value']['summary'])
                if entry['key'] == 'file':
                    self.server.models[name][entry['value']['path']] = base64.b64decode(entry['value']['content'])
            commit = {'commitUrl': f'{self.server.address}/{name}/commit/1', 'commitOid': sha(self.server.models[name])}
            self.reply(200, json.dumps(commit | {'hookOutput': '', 'success': True}).encode())


def sha(files: dict[str, bytes]) -> str:
    """Return the commit of files."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@contextmanager
def hub_server(monkeypatch, cache) -> Iterator[Hub]:
    """Serve a Hub, and have `huggingface_hub` use it with a cache and a token of its own."""
    from huggingface_hub import close_session, constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, 'ENDPOINT', server.address)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', server.address + template)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(cache))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(cache / 'token'))
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    close_session()  # the next one reads the environment again
    try:
        yield server
    finally:
        close_session()
        server.shutdown()
        server.server_close()
        thread.join()
