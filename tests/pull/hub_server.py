"""A server that speaks Hugging Face's protocol over the loopback, with faults on demand. Python's standard library only."""
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, payload):
    """A protobuf field: an integer, or something with a length."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    if isinstance(payload, str):
        payload = payload.encode()
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def network(classes=1000, padding=0, external=None):
    """A small ONNX file: scores = flatten(x) * weights, with `padding` floats that nobody uses to make it long."""
    def info(name, dims):
        shape = b''.join(field(1, field(1, dim)) for dim in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    def tensor(name, dims, count):
        raw = hashlib.shake_128(name.encode()).digest(4 * count)
        return b''.join(field(1, dim) for dim in dims) + field(2, 1) + field(8, name) + field(9, raw)

    weights = tensor('weights', [12, classes], 12 * classes)
    if external:
        place = field(1, 'location') + field(2, external)
        weights = field(1, 12) + field(1, classes) + field(2, 1) + field(8, 'weights') + field(13, place) + field(14, 1)
    graph = field(1, field(1, 'x') + field(2, 'flat') + field(4, 'Flatten'))
    graph += field(1, field(1, 'flat') + field(1, 'weights') + field(2, 'scores') + field(4, 'MatMul'))
    graph += field(2, 'test') + field(5, weights)
    if padding:
        graph += field(5, tensor('padding', [padding], padding))
    graph += field(11, info('x', [1, 3, 2, 2])) + field(12, info('scores', [1, classes]))
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


class Hub:
    """repositories: {'owner/name': {path: bytes}}. Every request is kept in `requests` as (method, path, headers)."""

    def __init__(self):
        self.repositories = {}
        self.requests = []
        self.token = None       # asked of everyone, when set
        self.listing = None     # instead of the true listing
        self.page = 1000        # entries a page
        self.redirect_to = None  # base address of another Hub that has the files
        self.cut_after = []     # bytes after which the next answers break off
        self.slow = 0           # seconds between blocks of 64 KiB
        self.lie = {}           # path -> sha256 for the listing
        self.etags = True
        self.ranges = True
        self.fail_next = 0      # answers with 500
        self.refuse = None      # (status, X-Error-Code) of every answer
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def do_GET(self):
                hub.requests.append(('GET', self.path, dict(self.headers)))
                try:
                    hub.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that is killed breaks connections
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def asked(self, part):
        return [headers for _, path, headers in self.requests if part in path]

    def answer(self, handler):
        path, _, query = handler.path.partition('?')
        if self.fail_next > 0:
            self.fail_next -= 1
            return self.send(handler, 500, b'')
        if self.refuse:
            return self.send(handler, self.refuse[0], b'', {'X-Error-Code': self.refuse[1]})
        if self.token and handler.headers.get('Authorization') != f'Bearer {self.token}':
            return self.send(handler, 401, b'{"error": "no"}')
        listing = re.fullmatch(r'/api/models/([^/]+/[^/]+)/tree/([^/]+)', path)
        file = re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', path)
        if path == '/loop':
            return self.send(handler, 302, b'', {'Location': '/loop'})
        if listing:
            return self.answer_listing(handler, listing[1], query)
        if file:
            return self.answer_file(handler, file[1], urllib.parse.unquote(file[3]))
        return self.send(handler, 404, b'')

    def answer_listing(self, handler, repository, query):
        files = self.repositories.get(repository)
        if files is None:
            return self.send(handler, 404, b'')
        entries = [{'type': 'directory', 'path': 'onnx', 'size': 0, 'oid': '0'}]
        for path, content in files.items():
            entry = {'type': 'file', 'path': path, 'size': len(content), 'oid': '0' * 40}
            if not path.endswith('.json'):
                sha256 = self.lie.get(path, hashlib.sha256(content).hexdigest())
                entry['lfs'] = {'oid': sha256, 'size': len(content), 'pointerSize': 134}
            entries.append(entry)
        if self.listing is not None:
            entries = self.listing
        start = int(urllib.parse.parse_qs(query).get('cursor', ['0'])[0])
        headers = {'Content-Type': 'application/json'}
        page = entries[start:start + self.page] if isinstance(entries, list) else entries
        if start + self.page < len(entries):
            following = f'{self.url}{handler.path.split("?")[0]}?recursive=true&cursor={start + self.page}'
            headers['Link'] = f'<{following}>; rel="next"'
        return self.send(handler, 200, json.dumps(page).encode(), headers)

    def answer_file(self, handler, repository, path):
        content = self.repositories.get(repository, {}).get(path)
        if self.redirect_to:
            return self.send(handler, 302, b'', {'Location': self.redirect_to + handler.path})
        if content is None:
            return self.send(handler, 404, b'')
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        headers, status, start = {}, 200, 0
        if self.etags:
            headers['ETag'] = etag
        asked = re.fullmatch(r'bytes=(\d+)-', handler.headers.get('Range', ''))
        if asked and self.ranges and handler.headers.get('If-Range', etag) == etag:
            start = int(asked[1])
            if start >= len(content):
                return self.send(handler, 416, b'', {'Content-Range': f'bytes */{len(content)}'})
            status = 206
            headers['Content-Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
        return self.send(handler, status, content[start:], headers)

    def send(self, handler, status, body, headers=None):
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header('Content-Length', str(len(body)))
        handler.end_headers()
        cut = self.cut_after.pop(0) if len(body) > 100000 and self.cut_after else len(body)
        for at in range(0, cut, 65536):
            handler.wfile.write(body[at:min(at + 65536, cut)])
            handler.wfile.flush()
            if self.slow:
                time.sleep(self.slow)
        if cut < len(body):
            handler.close_connection = True
            handler.connection.close()
