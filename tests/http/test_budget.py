#!/usr/bin/env python3
"""One memory budget a process: what never fits is 413, what does not fit now is 503, and memory stays where it was said to.

Everything is generated; memory is read from /proc."""
import http.client
import http.server
import json
import os
import random
import re
import socket
import struct
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'image'))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import bombs  # noqa: E402
import tiny  # noqa: E402
from tiers import GUICHET, JPEG, Process, Serve, ask, backend, frontend, gateway, run_tests, stand_in, until

SANITIZED = os.environ.get('SANITIZER', 'none') != 'none'
MB = 1 << 20
WAIT = 300


def status_mb(process, field):
    with open(f'/proc/{process.child.pid}/status', encoding='ascii') as file:
        return int(re.search(rf'^{field}:\s+(\d+) kB', file.read(), re.M).group(1)) / 1024


def charged(port):
    """Bytes by purpose, as /metrics tells."""
    text = ask(port, 'GET', '/metrics').body.decode()
    return {name: int(value) for name, value in re.findall(r'^guichet_memory_charged_bytes\{purpose="(\w+)"\} (\d+)$', text, re.M)}


def metric(port, name):
    return float(re.search(rf'^{re.escape(name)} (\S+)$', ask(port, 'GET', '/metrics').body.decode(), re.M).group(1))


def usual(port, target='/predict'):
    reply = ask(port, 'POST', target, JPEG, Content_Type='image/jpeg')
    assert reply.status == 200, (reply.status, reply.body)


class Origin:
    """A server of one large photo."""

    def __init__(self, photo):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header('Content-Length', str(len(photo)))
                self.end_headers()
                self.wfile.write(photo)

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.request_queue_size = 256
        self.server.handle_error = lambda *_: None  # a client that stops reading is meant to
        self.body = json.dumps({'url': f'http://127.0.0.1:{self.server.server_address[1]}/photo.png'}).encode()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def v2_photos(photo, count):
    """A V2 request of so many photos."""
    length = len(photo).to_bytes(4, 'little')
    size = count * (len(photo) + 4)
    head = json.dumps({'inputs': [{'name': 'pixel_values', 'datatype': 'BYTES', 'shape': [count],
                                   'parameters': {'binary_data_size': size}}]}).encode()
    return head + (length + photo) * count, {'Inference-Header-Content-Length': str(len(head))}


def make_mix(origin):
    """(name, target, body, headers) of everything that once took too much."""
    photo = {'Content-Type': 'image/png'}
    form = {'Content-Type': 'application/json'}
    for name, content, _ in bombs.all_bombs():
        yield name, '/predict', content, photo
    noise = random.Random(1).randbytes(1 << 20) * 19
    yield 'noise', '/predict', bombs.png(64, 64, between=bombs.png_chunk(b'noIs', noise)), photo
    for _ in range(6):
        yield 'fetched', '/predict', origin.body, form
    yield 'arrays', '/predict', b'{"a":[' + b'[],' * (6 * MB) + b'0]}', form
    yield 'arrays of V2', '/v2/models/animals/infer', b'{"inputs":[' + b'{},' * (2 * MB) + b'0]}', form
    numbers = b'{"instances":[' + b'1,' * (8 * MB) + b'0]}'
    yield 'numbers', '/v1/models/animals:predict', numbers, form
    body, headers = v2_photos(bombs.webp_animation(4000, 4000, 1, 1), 40)
    yield 'photos of V2', '/v2/models/animals/infer', body, headers


class Callers:
    """Threads that share a list of requests."""

    def __init__(self, port, requests, threads):
        self.port, self.seen, self.faults, self.lock, self.left = port, {}, [], threading.Lock(), requests
        random.Random(1).shuffle(self.left)
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while True:
            with self.lock:
                if not self.left:
                    return
                request = self.left.pop()
            self.ask(*request)

    def ask(self, name, target, body, headers):
        lines = ''.join(f'{key}: {value}\r\n' for key, value in {**headers, 'Content-Length': len(body)}.items())
        with socket.create_connection(('127.0.0.1', self.port), timeout=WAIT) as one:
            try:
                one.sendall(f'POST {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n'.encode() + body)
            except OSError:
                pass  # refused before all of it was sent: the answer is there
            try:
                answer = http.client.HTTPResponse(one)
                answer.begin()
                status, text, again = answer.status, answer.read(), answer.getheader('Retry-After')
                fault = status not in (200, 400, 413, 503, 504) or (status == 503 and again != '1')
            except (OSError, http.client.HTTPException) as error:
                # A body that is refused while it is sent: the reset may overtake the answer.
                status, text, fault = 0, repr(error), len(body) < MB
        with self.lock:
            self.seen.setdefault(name, {}).setdefault(status, 0)
            self.seen[name][status] += 1
            if fault:
                self.faults.append((name, status, text[:200]))

    def end(self):
        for thread in self.threads:
            thread.join(WAIT)
            assert not thread.is_alive(), f'a caller was not answered in {WAIT} s'


def test_bombs():
    """a backend in 256 MiB lives through everything that once took more, and answers a usual photo"""
    noise = random.Random(1).randbytes(1 << 20) * 19
    with Origin(bombs.png(64, 64, between=bombs.png_chunk(b'noIs', noise))) as origin, \
            backend('--memory-budget', '128M', '--allow-private-urls') as service:
        usual(service.port)
        before = status_mb(service, 'VmRSS')
        mix = list(make_mix(origin))
        callers = Callers(service.port, mix[::4] if SANITIZED else mix, 4)
        # 200 addresses, each of 20 MB.
        fetchers = Callers(service.port, [('fetched', '/predict', origin.body, {'Content-Type': 'application/json'})] * 200, 60)
        callers.end()
        fetchers.end()
        # Pages of programs and libraries, which differ from Debian to Debian, are dropped where memory is short: not counted.
        peak = status_mb(service, 'VmHWM') - status_mb(service, 'RssFile')
        print(f'# {before:.0f} MB before, {peak:.0f} MB at the peak without files')
        for name, statuses in sorted(callers.seen.items()):
            print(f'# {name}: {statuses}')
        print(f'# 200 addresses: {fetchers.seen}')
        assert not callers.faults and not fetchers.faults, (callers.faults[:5], fetchers.faults[:5])
        assert service.child.poll() is None, service.lines[-5:]
        assert SANITIZED or peak < 240, peak
        usual(service.port)
        until(lambda: not any(charged(service.port).values()), 30, 'nothing charged')
        if not SANITIZED:
            try:
                until(lambda: ask(service.port, 'GET', '/healthz') and status_mb(service, 'VmRSS') < before + 40, 30)
            finally:
                print(f'# {status_mb(service, "VmRSS"):.0f} MB afterwards')
        service.end_well()


def test_usual_load():
    """usual photos wait for room, and none is refused"""
    photo = bombs.jpeg(3000, 3000, progressive=True)  # 27 MB each of a budget of 64
    with backend('--memory-budget', '64M', '--decode-threads', '8', '--timeout', '600') as service:
        callers = Callers(service.port, [('photo', '/predict', photo, {'Content-Type': 'image/jpeg'})] * 12, 12)
        callers.end()
        assert set(callers.seen['photo']) == {200}, callers.seen
        assert metric(service.port, 'guichet_memory_refused_total{reason="now"}') == 0
        assert metric(service.port, 'guichet_memory_budget_bytes') == 64 * MB


def announce(port, length, extra=b''):
    """The status line and the error of a request that announces a body of a length, and sends little of it."""
    with socket.create_connection(('127.0.0.1', port), timeout=30) as one:
        one.sendall(b'POST /model/cats/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % length + extra)
        answer = http.client.HTTPResponse(one)
        answer.begin()
        return answer.status, answer.read(), answer.getheader('Retry-After')


def test_bodies():
    """each tier: a body that never fits is 413, one that does not fit now is 503 before it is read, and room comes back"""
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}', '--memory-budget', '16M') as door, \
            frontend('--gateway', f'http://127.0.0.1:{door.port}', '--memory-budget', '16M') as front:
        for tier in (door, front):
            status, text, _ = announce(tier.port, 9 * MB)
            assert status == 413 and b'--memory-budget' in text, (status, text)
            held = socket.create_connection(('127.0.0.1', tier.port), timeout=30)
            held.sendall(b'POST /model/cats/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % (6 * MB) + bytes(5 * MB))
            until(lambda: charged(tier.port)['bodies'] >= 5 * MB, 30, '5 MB charged')
            status, text, again = announce(tier.port, 4 * MB)
            assert status == 503 and again == '1' and b'try again' in text, (status, text, again)
            held.close()
            until(lambda: charged(tier.port)['bodies'] == 0, 30, 'nothing charged')
            assert ask(tier.port, 'POST', '/model/cats/predict', bytes(4 * MB)).status == 200
            assert metric(tier.port, 'guichet_memory_refused_total{reason="never"}') == 1


def wide_network():
    """A photo's mean colours, 256 times over, by way of 16.8 MB for each photo of 128x128."""
    weights = [float(i == o % 3) for o in range(256) for i in range(3)]
    nodes = [tiny.node('Conv', ['photo', 'weights'], ['wide']), tiny.node('GlobalAveragePool', ['wide'], ['mean']),
             tiny.node('Flatten', ['mean'], ['flat'])]
    graph = b''.join(tiny.field(1, node) for node in nodes) + tiny.field(2, 'wide') + \
        tiny.field(5, tiny.tensor('weights', [256, 3, 1, 1], weights)) + \
        tiny.field(11, tiny.value_info('photo', ['n', 3, 128, 128])) + tiny.field(12, tiny.value_info('flat', ['n', 256]))
    return tiny.field(1, 8) + tiny.field(7, graph) + tiny.field(8, tiny.field(1, '') + tiny.field(2, 13))


def test_batches_of_clients():
    """a client's batch is run in pieces of --max-batch: the same answer, without the memory of the whole"""
    rows = 23
    with tempfile.TemporaryDirectory() as folder:
        with open(f'{folder}/model.onnx', 'wb') as file:
            file.write(wide_network())
        with backend('--max-batch', '2', '--threads', '1', '--precision', 'f32', '--name', 'wide', model=folder) as service:
            data = b''.join(struct.pack('<f', row + channel / 4) * (128 * 128) for row in range(rows) for channel in range(3))
            head = json.dumps({'inputs': [{'name': 'photo', 'datatype': 'FP32', 'shape': [rows, 3, 128, 128],
                                           'parameters': {'binary_data_size': len(data)}}]}).encode()
            before = status_mb(service, 'VmHWM')
            reply = ask(service.port, 'POST', '/v2/models/wide/infer', head + data, Inference_Header_Content_Length=str(len(head)))
            assert reply.status == 200, reply.body
            output = reply.json()['outputs'][0]
            wanted = [row + channel % 3 / 4 for row in range(rows) for channel in range(256)]
            assert output['shape'] == [rows, 256], output['shape']
            assert all(abs(a - b) < 1e-3 for a, b in zip(output['data'], wanted)), output['data'][:10]
            taken = status_mb(service, 'VmHWM') - before
            print(f'# {taken:.0f} MB')
            assert SANITIZED or taken < 130, taken  # whole, 400 MB


def test_nobody_waits():
    """what is left of a batch of photos is not decoded once the deadline is over"""
    def decoded():
        return metric(service.port, 'guichet_decode_seconds_sum{model="animals",version="1"}')

    photo = bombs.webp(4000, 4000)  # few bytes, and long to decode
    with backend('--decode-threads', '1') as service:
        body, headers = v2_photos(photo, 1)
        assert ask(service.port, 'POST', '/v2/models/animals/infer', body, **headers).status == 200
        alone = decoded()
        body, headers = v2_photos(photo, 100)
        reply = ask(service.port, 'POST', '/v2/models/animals/infer', body, **headers, X_Request_Timeout_Ms='400')
        assert reply.status == 504, (reply.status, reply.body)
        print(f'# {alone:.3f} s for one, {decoded() - alone:.3f} s for 100')
        assert decoded() - alone < 60 * alone, (decoded(), alone)


def test_options():
    """--memory-budget takes a size of at least 16M, of 64M before models' processes, which get a quarter each"""
    for verb, text in (('backend', '15M'), ('backend', 'much'), ('serve', '63M')):
        with Process(GUICHET, verb, '--memory-budget', text) as process:
            assert process.child.wait(30) == 2, process.lines
            process.wait_line('--memory-budget')
    with Serve({'cats': ''}, '--memory-budget', '100M') as serve:
        assert metric(serve.port, 'guichet_memory_budget_bytes') == 25 * MB
        options = serve.predict('cats').json()['options']
        assert options['--memory-budget'] == str(25 * MB), options


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules[__name__]))
