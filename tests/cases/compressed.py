#!/usr/bin/env python3
"""Compressed bodies, of requests and of the servers that photos are fetched from: inflated where they are gzip or deflate,
refused by name otherwise, and bounded by what comes out."""
import gzip
import http.server
import json
import sys
import tempfile
import threading
import zlib

import case
import tiny

PHOTO = tiny.png(200, 40, 40)
ENCODERS = {'gzip': gzip.compress, 'deflate': zlib.compress}
BOMB = gzip.compress(bytes(300 << 20), 9)


class PhotoServer(http.server.BaseHTTPRequestHandler):
    """/ENCODING sends the photo in it, whether it was asked for or not; /bomb a body that inflates to 300 MB."""

    def do_GET(self):
        name = self.path[1:]
        encoding = 'gzip' if name in ('bomb', 'cut') else name
        data = BOMB if name == 'bomb' else ENCODERS.get(encoding, bytes)(PHOTO)
        data = data[:-12] if name == 'cut' else data
        self.send_response(200)
        self.send_header('Content-Type', 'image/png')
        self.send_header('Content-Encoding', encoding)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def try_origins(backend, results):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), PhotoServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wanted = {'gzip': [200], 'deflate': [200], 'identity': [200], 'bomb': [413], 'cut': [400, 502], 'br': [400, 415, 502]}
    for name, statuses in wanted.items():
        url = f'http://127.0.0.1:{server.server_port}/{name}'
        status, said = backend.post('/predict', {'url': url}, Content_Type='application/json')
        results.append((f'a server of photos sends {name}', '' if status in statuses else f'{status} {said[:200]}'))
    server.shutdown()


def try_requests(backend, results):
    tensor = {'inputs': [{'name': 'photo', 'datatype': 'FP32', 'shape': [1, 3, 8, 8], 'data': [0.5] * 192}]}
    bodies = {'/predict': (PHOTO, 'image/png'), '/v2/models/m/infer': (json.dumps(tensor).encode(), 'application/json')}
    for path, (body, kind) in bodies.items():
        plain = backend.post(path, body, Content_Type=kind)
        for encoding, encode in ENCODERS.items():
            status, said = backend.post(path, encode(body), Content_Type=kind, Content_Encoding=encoding)
            good = status == plain[0] == 200 and len(said) > 10
            results.append((f'{path} in {encoding}', '' if good else f'{status} {said[:200]}'))
        for title, data, encoding, statuses in (('a bomb', BOMB, 'gzip', [413]), ('a cut body', gzip.compress(body)[:-12], 'gzip', [400]),
                                                ('an unknown encoding', body, 'zstd', [415])):
            status, said = backend.post(path, data, Content_Type=kind, Content_Encoding=encoding)
            results.append((f'{path}, {title}', '' if status in statuses else f'{status} {said[:200]}'))
        after = backend.post(path, body, Content_Type=kind)
        results.append((f'{path} goes on', '' if after[0] == 200 else f'{after}'))


def main():
    results = []
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, tiny.network(), {'id2label': {'0': 'red', '1': 'green', '2': 'blue'}})
        with case.Backend(sys.argv[1], folder, '--allow-private-urls') as backend:
            try_origins(backend, results)
            try_requests(backend, results)
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
