#!/usr/bin/env python3
"""Replies and bodies in pieces, through a gateway, a frontend before a gateway, and `guichet serve`: real sockets, before
stand-ins that stream, stall and break off (stand_in_streams.py).

Bounds of time are those of the design. Where load on the machine could break one, the same is measured without a tier
between at the same time, or the best of a few tries counts: a tier that holds pieces back fails every try."""
import contextlib
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse
import zlib

from tiers import Client, Serve, ask, frontend, gateway, run_tests, stand_in, until

TRIES = 6
MIB = 1 << 20
SANITIZED = os.environ.get('SANITIZER', 'none') != 'none'
MODEL = '/model/cats/predict'


class Chain:
    """A way to a stand-in, and the tiers on it."""

    def __init__(self, name, port, tiers, upstream):
        self.name, self.port, self.tiers, self.upstream = name, port, tiers, upstream

    def seen(self, name):
        return ask(self.upstream, 'GET', '/seen?id=' + name).json()

    def control(self, words):
        ask(self.upstream, 'GET', '/control?' + words)


@contextlib.contextmanager
def chains(*arguments, timeout=None):
    """Each of the three, with the same options. `timeout` is a gateway's alone."""
    late = ['--timeout', str(timeout)] if timeout else []
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        one, two = enter(stand_in('cats')), enter(stand_in('cats'))
        alone = enter(gateway('--backend', f'cats={one.url}', *arguments, *late))
        door = enter(gateway('--backend', f'cats={two.url}', *arguments, *late))
        page = enter(frontend(*[word for word in arguments], environment={'API_GATEWAY': f'http://127.0.0.1:{door.port}'}))
        found = [Chain('gateway', alone.port, [alone], one.port), Chain('frontend', page.port, [page, door], two.port)]
        if not timeout:
            serve = enter(Serve({'cats': ''}, '--idle', '0', *arguments))
            upstream = serve.predict('cats').json()['port']
            found.append(Chain('serve', serve.port, [serve.process], upstream))
        for chain in found:
            assert ask(chain.port, 'POST', MODEL, b'{}').status == 200
        yield found
        for chain in found:
            for process in chain.tiers:
                process.end_well()


class Stream:
    """A request whose reply is read as it comes."""

    def __init__(self, port, target, body=b'', version='1.1', headers=(), method='POST', receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect(('127.0.0.1', port))
        lines = [f'{method} {target} HTTP/{version}', 'Host: localhost', f'Content-Length: {len(body)}', *headers]
        self.socket.sendall('\r\n'.join(lines).encode() + b'\r\n\r\n' + body)
        self.raw, self.end = b'', None

    def read(self):
        """More bytes; empty at the end, which is `closed`, `reset` or `late`."""
        try:
            data = self.socket.recv(1 << 16)
            self.end = None if data else 'closed'
        except ConnectionError:
            data, self.end = b'', 'reset'
        except socket.timeout:
            data, self.end = b'', 'late'
        self.raw += data
        return data

    def head(self):
        while b'\r\n\r\n' not in self.raw:
            assert self.read(), (self.end, self.raw)
        head, _, self.raw = self.raw.partition(b'\r\n\r\n')
        line, *lines = head.decode().split('\r\n')
        self.headers = {name.lower(): value for name, value in (line.split(': ', 1) for line in lines)}
        return int(line.split(' ')[1])

    def rest(self, seconds=30):
        """What comes until the connection ends, without its framing, and whether it came whole."""
        self.socket.settimeout(seconds)
        while self.read():
            pass
        return self.body()

    def body(self):
        if self.headers.get('transfer-encoding') == 'chunked':
            return dechunk(self.raw)
        if 'content-length' in self.headers:
            return self.raw, len(self.raw) == int(self.headers['content-length'])
        return self.raw, self.end == 'closed'

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def dechunk(raw):
    """The bytes within chunks, and whether the last chunk is there."""
    body = b''
    while True:
        line, found, rest = raw.partition(b'\r\n')
        if not found:
            return body, False
        size = int(line, 16)
        if size == 0:
            return body, rest.startswith(b'\r\n')
        body, raw = body + rest[:size], rest[size + 2:]


def times_of_events(port, target, count):
    """How late each event is read, in seconds."""
    late, text = [], b''
    with Stream(port, target) as stream:
        assert stream.head() == 200
        while len(late) < count:
            if late or b'\n\n' not in stream.raw:  # the first event may have come with the head
                assert stream.read(), stream.end
            now = time.monotonic()
            sent = [float(value) for value in re.findall(rb'"sent": ([0-9.]+)\}\n\n', stream.raw)]
            late += [now - moment for moment in sent[len(late):]]
    return late


names = iter(range(10**9))


def name_stream():
    return f's{next(names)}'


def target_of(path=MODEL, **query):
    return path + '?' + urllib.parse.urlencode(query)


def test_events_arrive_when_they_are_sent():
    """ten events sent every 200 ms each arrive within 50 ms of being sent (best of six tries)"""
    with chains() as found:
        for chain in found:
            tries = []
            while len(tries) < TRIES and min(tries, default=1) >= 0.05:
                late = times_of_events(chain.port, target_of(stream=name_stream(), events=10, every=0.2), 10)
                tries.append(max(late))
            print(f'# {chain.name}: at most {min(tries) * 1e3:.1f} ms late, try {len(tries)}')
            assert min(tries) < 0.05, (chain.name, tries)


def peak(process):
    with open(f'/proc/{process.child.pid}/status', encoding='ascii') as file:
        return int(re.search(r'VmHWM:\s*(\d+) kB', file.read()).group(1)) << 10


def forget_peak(process):
    with open(f'/proc/{process.child.pid}/clear_refs', 'w', encoding='ascii') as file:
        file.write('5')


@contextlib.contextmanager
def bounded_memory(chain, what):
    """No tier of the chain grows by more than 4 MB. A sanitizer keeps what was freed, up to 256 MB."""
    before = {}
    for process in chain.tiers:
        forget_peak(process)
        before[process] = peak(process)
    yield
    grown = [peak(process) - before[process] for process in chain.tiers]
    print(f'# {chain.name}: {what}: grown by {", ".join(f"{size / 1e6:.2f} MB" for size in grown)}')
    assert max(grown) <= (400e6 if SANITIZED else 4e6), (chain.name, grown)


def swallow(port, target):
    """The number of a reply's bytes, and whether it came whole."""
    client, count = Client(port, 120), 0
    client.connection.request('POST', target, b'')
    reply = client.connection.getresponse()
    buffer = memoryview(bytearray(MIB))
    while size := reply.readinto(buffer):
        count += size
    client.close()
    return count


def test_huge_replies():
    """a reply of 1 GiB grows no tier's memory by more than 4 MB, chunked or with a length"""
    with chains() as found:
        for chain in found:
            for framing, size in [('chunked', 1024 * MIB), ('length', 200 * MIB), ('close', 100 * MIB)]:
                with bounded_memory(chain, f'{size // MIB} MiB {framing}'):
                    started = time.monotonic()
                    count = swallow(chain.port, target_of(stream=name_stream(), bytes=size, framing=framing))
                    print(f'# {chain.name}: {count / (time.monotonic() - started) / 1e6:.0f} MB/s')
                assert count == size, (chain.name, framing, count)


def settled(chain, name, quiet=1.0):
    """What the stand-in has sent, once that has stood still for a while."""
    last, since, end = -1, time.monotonic(), time.monotonic() + 40
    while time.monotonic() - since < quiet:
        assert time.monotonic() < end, 'it goes on sending'
        sent = chain.seen(name)['sent']
        if sent != last:
            last, since = sent, time.monotonic()
        time.sleep(0.05)
    return last


def test_readers_that_stop():
    """a reader that stops reading stops the upstream, and gets the rest when it goes on"""
    size = 256 * MIB
    with chains() as found:
        for chain in found:
            name = name_stream()
            with bounded_memory(chain, 'a reader that stops'), \
                    Stream(chain.port, target_of(stream=name, bytes=size, framing='length'), receive_buffer=65536) as stream:
                assert stream.head() == 200
                sent = settled(chain, name)
                print(f'# {chain.name}: the upstream stopped after {sent / 1e6:.1f} MB')
                # The kernel's buffers of up to three connections, usually some MB each; it may let them grow to 36.
                assert sent < size // 2, (chain.name, sent)
                count, crc = len(stream.raw), zlib.crc32(stream.raw)
                stream.raw = b''
                while count < size:
                    data = stream.socket.recv(MIB)
                    assert data, (chain.name, count)
                    count, crc = count + len(data), zlib.crc32(data, crc)
            expected = 0
            for _ in range(size // MIB):
                expected = zlib.crc32(bytes(range(256)) * 4096, expected)
            assert (count, crc) == (size, expected), chain.name
            assert chain.seen(name)['whole'] is True


def leave(chain, reset, query):
    """How long it takes from a client's leaving until the upstream sees its connection closed, in seconds."""
    name = name_stream()
    stream = Stream(chain.port, target_of(stream=name, **query))
    if 'wait' not in query:
        assert stream.head() == 200
    until(lambda: chain.seen(name), what='the request upstream')
    time.sleep(0.3)
    if reset:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    left = time.monotonic()
    stream.close()
    until(lambda: chain.seen(name)['closed'], 20, f'{chain.name}: the upstream seeing {query} closed')
    return chain.seen(name)['closed'] - left


def test_leaving():
    """a client that leaves closes the upstream connection within 100 ms: between events, amid many bytes, and before the head
    (best of six tries)"""
    ways = [{'events': 100, 'every': 30}, {'events': 1000, 'every': 0.02}, {'bytes': 1024 * MIB}, {'wait': 30, 'bytes': 10}]
    with chains() as found:
        for chain in found:
            for query in ways:
                for reset in (False, True):
                    tries = []
                    while len(tries) < TRIES and min(tries, default=1) >= 0.1:
                        tries.append(leave(chain, reset, query))
                    print(f'# {chain.name}: {query}: {min(tries) * 1e3:.1f} ms, try {len(tries)}')
                    assert min(tries) < 0.1, (chain.name, query, reset, tries)


def test_upstreams_that_break_off():
    """an upstream that dies in mid-stream ends the reply visibly broken"""
    for end in ['close', 'reset', 'exit']:
        with chains() as found:
            for chain in found:
                for framing in ['chunked', 'length'] + (['close'] if end == 'reset' else []):
                    if end == 'exit' and framing != 'chunked':
                        continue
                    name = name_stream()
                    with Stream(chain.port, target_of(stream=name, bytes=400000, after=200000, end=end, framing=framing)) as stream:
                        assert stream.head() == 200, (chain.name, framing, end)
                        body, whole = stream.rest()
                        assert not whole and stream.end != 'late', (chain.name, framing, end, len(body), stream.end)
                        # A reset takes with it what was not read yet.
                        assert len(body) == 200000 or (end == 'reset' and len(body) < 200000), (chain.name, framing, end, len(body))
                        assert framing != 'length' or stream.headers['content-length'] == '400000'
                    if end != 'exit':
                        assert chain.seen(name)['requests'] == 1, 'it was not asked again'


def test_event_streams_that_break_off():
    """an event stream that breaks off gets one error event, in the form of its path, and no last chunk"""
    for end in ['close', 'half', 'error', 'exit']:
        with chains() as found:
            for chain in found:
                for path in [MODEL, '/v1/chat/completions']:
                    if end == 'exit' and path != MODEL:
                        continue
                    name = name_stream()
                    with Stream(chain.port, target_of(path, stream=name, events=10, every=0.01, after=3, end=end),
                                b'{"model": "cats"}') as stream:
                        assert stream.head() == 200
                        body, whole = stream.rest()
                    assert not whole, (chain.name, end)
                    events = [dict(line.split(': ', 1) for line in text.split('\n')) for text in body.decode().split('\n\n') if text]
                    assert [json.loads(one['data'])['n'] for one in events[:3]] == [0, 1, 2], (chain.name, end, events)
                    last, more = events[-1], events[3:-1]
                    assert len(more) == (1 if end == 'half' else 0), (chain.name, end, events)
                    error = json.loads(last['data'])['error']
                    if end == 'error':
                        assert error == 'of its own', (chain.name, events)
                    elif path == MODEL:
                        assert last['event'] == 'error' and 'cats' in error, (chain.name, end, events)
                    else:
                        assert 'event' not in last and 'cats' in error['message'] and error['type'] == 'server_error', (chain.name, events)


def test_http_1_0():
    """clients of HTTP/1.0 get replies that end with the connection, whole or reset"""
    with chains() as found:
        for chain in found:
            with Stream(chain.port, target_of(stream=name_stream(), events=5, every=0.05), version='1.0') as stream:
                assert stream.head() == 200
                assert 'transfer-encoding' not in stream.headers and stream.headers['connection'] == 'close', stream.headers
                body, whole = stream.rest()
                assert whole and body.count(b'"sent"') == 5 and not body.startswith(b'0'), (chain.name, body)
            with Stream(chain.port, target_of(stream=name_stream(), bytes=900000, framing='length'), version='1.0') as stream:
                assert stream.head() == 200 and stream.headers['content-length'] == '900000'
                assert stream.rest()[1], chain.name
            with Stream(chain.port, target_of(stream=name_stream(), bytes=900000, after=500000, end='close'), version='1.0') as stream:
                assert stream.head() == 200
                assert not stream.rest()[1] and stream.end == 'reset', (chain.name, stream.end)


def test_retries_end_with_the_first_byte():
    """a replica that dies before the head is asked in vain, and another one answers; one that dies after it is not replaced"""
    with stand_in('cats') as one, stand_in('cats') as two, gateway('--backend', f'cats={one.url} {two.url}') as door, \
            frontend(environment={'API_GATEWAY': f'http://127.0.0.1:{door.port}'}) as page:
        def requests(name):
            counts = [ask(replica.port, 'GET', '/seen?id=' + name).json() for replica in (one, two)]
            return [count['requests'] if count else 0 for count in counts]
        for tier in (door, page):
            for bad, good in ((one, two), (two, one)):
                ask(bad.port, 'GET', '/control?after=head&end=close')
                tried = []
                for _ in range(4):
                    name = name_stream()
                    with Stream(tier.port, target_of(stream=name, events=5, every=0.01)) as stream:
                        assert stream.head() == 200
                        until(lambda: stream.body()[1] or not stream.read(), what='the whole of it')
                        assert stream.body()[0].count(b'"sent"') == 5
                    tried.append(sum(requests(name)))
                # A kept connection (the last check's) that closes is taken for a stale one first, and the replica asked once more.
                assert 2 <= max(tried) <= 3 and min(tried) >= 1, tried
                ask(bad.port, 'GET', '/control?after=3&end=close')
                until(lambda: ask(door.port, 'GET', '/metrics').body.count(b'} 1\n') and
                      f'replica="127.0.0.1:{bad.port}"}} 1' in ask(door.port, 'GET', '/metrics').body.decode())
                broken = 0
                for _ in range(12):
                    name = name_stream()
                    with Stream(tier.port, target_of(stream=name, events=5, every=0.01)) as stream:
                        assert stream.head() == 200
                        until(lambda: stream.body()[1] or not stream.read(), what='its end')
                        body, whole = stream.body()
                    assert sum(requests(name)) == 1, requests(name)
                    broken += not whole
                    assert body.count(b'"sent"') == (5 if whole else 3), body
                assert broken > 0, 'the bad one was never asked'
                ask(bad.port, 'GET', '/control?after=&end=')
        # Short replies of a known length go on whole: nothing was sent yet, and another replica answers.
        ask(one.port, 'GET', '/control?after=1000&end=close')
        for _ in range(6):
            with Stream(door.port, target_of(stream=name_stream(), bytes=2000, framing='length')) as stream:
                assert stream.head() == 200
                until(lambda: stream.body()[1], what='the whole of it') if len(stream.raw) == 2000 or stream.read() else None
                assert len(stream.body()[0]) == 2000


def test_timeouts():
    """a time limit for the first byte, and for silence after it; a stream that goes on may last longer than both"""
    with chains(timeout=1) as found:
        for chain in found:
            started = time.monotonic()
            reply = ask(chain.port, 'POST', target_of(stream=name_stream(), wait=30, bytes=10), b'')
            assert reply.status == 504 and 0.9 < time.monotonic() - started < 10, (chain.name, reply.status)
            for path in [MODEL, '/v1/completions']:
                name, started = name_stream(), time.monotonic()
                with Stream(chain.port, target_of(path, stream=name, events=10, every=0.01, after=3, end='hang'),
                            b'{"model": "cats"}') as stream:
                    assert stream.head() == 200
                    body, whole = stream.rest()
                assert not whole and 0.9 < time.monotonic() - started < 10, (chain.name, time.monotonic() - started)
                assert body.count(b'"sent"') == 3 and body.count(b'"error"') == 1 and b'stalled' in body, body
                until(lambda: chain.seen(name)['closed'], 5, 'the upstream being left')
            with Stream(chain.port, target_of(stream=name_stream(), events=8, every=0.4)) as stream:
                assert stream.head() == 200
                until(lambda: stream.body()[1] or not stream.read(), what='the whole of it')
                assert stream.body()[1] and stream.body()[0].count(b'"sent"') == 8, (chain.name, stream.body())


def send_body(port, target, size, pace=None, chunked=False):
    """A request with a body of `size` bytes, sent in blocks. `pace` is called with what was sent so far."""
    block = bytes(range(256)) * 1024
    one = socket.create_connection(('127.0.0.1', port), timeout=60)
    framing = 'Transfer-Encoding: chunked' if chunked else f'Content-Length: {size}'
    one.sendall(f'POST {target} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n'.encode())
    sent, crc = 0, 0
    while sent < size:
        piece = block[:size - sent]
        one.sendall(b'%x\r\n%s\r\n' % (len(piece), piece) if chunked else piece)
        sent, crc = sent + len(piece), zlib.crc32(piece, crc)
        if pace:
            pace(sent)
    if chunked:
        one.sendall(b'0\r\n\r\n')
    return one, crc


def receive(one):
    """A whole reply of a known length: its status and body."""
    raw = b''
    while b'\r\n\r\n' not in raw:
        data = one.recv(65536)
        assert data, raw
        raw += data
    head, _, body = raw.partition(b'\r\n\r\n')
    length = int(re.search(rb'Content-Length: (\d+)', head).group(1))
    while len(body) < length:
        body += one.recv(65536)
    return int(head.split(b' ')[1]), body


def test_large_bodies():
    """a body of more than 16 MiB goes to the upstream as it comes, within bounded memory"""
    size = 256 * MIB
    with chains('--body-limit', '300M') as found:
        for chain in found:
            name, early = name_stream(), []

            def pace(sent):
                if sent == 32 * MIB:
                    until(lambda: (chain.seen(name) or {'received': 0})['received'] > 16 * MIB, what='the first half upstream')
                    early.append(sent)
            with bounded_memory(chain, f'a body of {size // MIB} MiB'):
                one, crc = send_body(chain.port, target_of(upload=name), size, pace)
                with one:
                    status, body = receive(one)
                    record = json.loads(body)
                    assert (status, record['received'], record['crc']) == (200, size, crc), (chain.name, status, body)
                    one.sendall(b'GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n')
                    assert receive(one)[0] == 200, 'the connection goes on'
            assert early and record['requests'] == 1


def test_upstreams_that_stop_reading():
    """an upstream that stops reading stops the client, and a client that leaves meanwhile is noticed"""
    size = 256 * MIB
    with chains('--body-limit', '300M') as found:
        for chain in found:
            name, sent = name_stream(), [0]
            with bounded_memory(chain, 'an upstream that stops reading'):
                one = socket.create_connection(('127.0.0.1', chain.port), timeout=60)
                one.sendall(f'POST {target_of(upload=name, hold=MIB)} HTTP/1.1\r\nHost: localhost\r\n'
                            f'Content-Length: {size}\r\n\r\n'.encode())
                one.setblocking(False)
                block, since = bytes(MIB), time.monotonic()
                while time.monotonic() - since < 1:
                    try:
                        sent[0] += one.send(block)
                        since = time.monotonic()
                    except BlockingIOError:
                        time.sleep(0.01)
                print(f'# {chain.name}: the client stopped after {sent[0] / 1e6:.1f} MB')
                assert MIB <= sent[0] < size // 2, (chain.name, sent)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                one.close()
            chain.control('go=1')
            until(lambda: chain.seen(name)['closed'] and not chain.seen(name)['whole'], 20, 'the upstream being left')
            chain.control('go=')


def test_bodies_that_end_early():
    """a client that leaves in the middle of a large body takes its request with it; a smaller one never goes upstream"""
    with chains('--body-limit', '300M') as found:
        for chain in found:
            for size, sent in [(64 * MIB, 20 * MIB), (8 * MIB, 4 * MIB)]:
                name = name_stream()
                one = socket.create_connection(('127.0.0.1', chain.port), timeout=60)
                one.sendall(f'POST {target_of(upload=name)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n'.encode() +
                            bytes(sent))
                if size > 16 * MIB:
                    until(lambda: chain.seen(name), what='its beginning upstream')
                else:
                    time.sleep(0.2)
                one.close()
                if size > 16 * MIB:
                    until(lambda: chain.seen(name)['closed'], what='the upstream being left')
                    assert not chain.seen(name)['whole']
                else:
                    assert chain.seen(name) is None, (chain.name, chain.seen(name))


def test_smaller_bodies_are_sent_again():
    """a body of at most 16 MiB is kept, and sent to another replica when the first one dies; a larger one is gone"""
    for size in (1000, 16 * MIB, 17 * MIB):
        # Of three: a request that broke one is not sent to the last.
        with stand_in('cats') as one, stand_in('cats') as two, stand_in('cats') as three, \
                gateway('--backend', f'cats={one.url} {two.url} {three.url}', '--body-limit', '300M') as door:
            ask(one.port, 'GET', '/control?die=1')
            replies = []
            until(lambda: replies.append(ask(door.port, 'POST', MODEL, bytes(size))) or one.child.poll() is not None,
                  what='the death of one')
            good = [reply for reply in replies if reply.status == 200]
            well = (two.child.pid, three.child.pid)
            assert all(reply.json()['pid'] in well and reply.json()['bytes'] == size for reply in good)
            others = [reply.status for reply in replies if reply.status != 200]
            assert others == ([] if size <= 16 * MIB else [502]), (size, others)


def test_connections_go_on():
    """a connection is kept after each kind of reply that came whole"""
    with chains('--body-limit', '300M') as found:
        for chain in found:
            client = Client(chain.port, 60)
            assert client.ask('GET', '/models').status == 200
            opened = client.connection.sock
            stream = lambda **query: target_of(stream=name_stream(), **query)
            for method, target, body, wanted in [
                    ('POST', stream(events=5, every=0.01), b'', 200), ('POST', stream(bytes=10 * MIB), b'', 200),
                    ('POST', stream(bytes=10 * MIB, framing='length'), b'', 200), ('POST', stream(bytes=1000, framing='length'), b'', 200),
                    ('POST', stream(bytes=500000, framing='close'), b'', 200), ('POST', stream(bytes=0), b'', 200),
                    ('POST', stream(bytes=0, framing='length'), b'', 200), ('POST', MODEL + '?status=400', b'{}', 400),
                    ('POST', MODEL + '?status=204', b'{}', 204), ('POST', MODEL + '?status=304', b'{}', 304),
                    ('HEAD', '/v2/models/cats', None, 200), ('HEAD', target_of('/v2/models/cats', stream=name_stream(), bytes=500000), None, 200),
                    ('HEAD', target_of('/v2/models/cats', stream=name_stream(), bytes=500000, framing='length'), None, 200),
                    ('GET', '/nowhere', None, 404), ('GET', '/predict', None, 405), ('OPTIONS', '/predict', None, 204),
                    ('POST', target_of(upload=name_stream()), bytes(17 * MIB), 200), ('POST', target_of(upload=name_stream()), bytes(100), 200),
                    ('POST', '/v1/completions', b'{"model": "cats"}', 200), ('POST', '/v1/completions', b'{"model": 3}', 400),
                    ('POST', target_of('/v1/completions', stream=name_stream(), events=3, every=0.01), b'{"model": "cats"}', 200)]:
                reply = client.ask(method, target, body)
                assert reply.status == wanted, (chain.name, method, target, reply.status, reply.body[:200])
                assert client.connection.sock is opened, (chain.name, method, target, reply.headers)
            client.close()


def test_models_named_in_a_body():
    """OpenAI's paths go to the model that the body names, in pieces; what is wrong is said in OpenAI's form"""
    with stand_in('cats') as cats, stand_in('dogs') as dogs, \
            gateway('--backend', f'cats={cats.url}', '--backend', f'dogs={dogs.url}') as door, \
            frontend(environment={'API_GATEWAY': f'http://127.0.0.1:{door.port}'}) as page, \
            Serve({'cats': '', 'dogs': ''}) as serve:
        for port in (door.port, page.port, serve.port):
            for path in ['/v1/chat/completions', '/v1/completions', '/v1/embeddings']:
                for model in ['cats', 'dogs', 'cats']:
                    body = json.dumps({'messages': [], 'model': model, 'padding': 'x' * 100000}).encode()
                    reply = ask(port, 'POST', path, body)
                    assert reply.status == 200 and reply.json()['model'] == model and reply.json()['bytes'] == len(body)
                    assert reply.json()['target'] == path
                with Stream(port, target_of(path, stream=name_stream(), events=3, every=0.05), b'{"model": "dogs"}') as stream:
                    assert stream.head() == 200
                    until(lambda: stream.body()[1] or not stream.read(), what='the whole of it')
                    assert stream.body()[1]
                for body, status, kind in [(b'{"model": "mice"}', 404, 'invalid_request_error'), (b'{}', 400, 'invalid_request_error'),
                                           (b'{"model": 3}', 400, 'invalid_request_error'), (b'{"model"', 400, 'invalid_request_error'),
                                           (b'', 400, 'invalid_request_error'), (b'[]', 400, 'invalid_request_error')]:
                    reply = ask(port, 'POST', path, body)
                    error = reply.json()['error']
                    assert reply.status == status and set(error) == {'message', 'type', 'param', 'code'}, (body, reply.status, error)
                    assert error['type'] == kind and len(error['message']) > 10, error
                assert 'cats, dogs' in ask(port, 'POST', path, b'{"model": "mice"}').json()['error']['message']
                assert ask(port, 'POST', path, b'{"model": "mice"}').json()['error']['code'] == 'model_not_found'
                reply = ask(port, 'GET', path)
                assert reply.status == 405 and reply.json()['error']['message'], reply.body
        cats.kill()
        cats.child.wait()
        for port in (door.port, page.port):
            error = ask(port, 'POST', '/v1/completions', b'{"model": "cats"}').json()['error']
            assert error['type'] == 'server_error' and 'cats' in error['message'], error
            assert ask(port, 'POST', '/v1/completions', b'{"model": "dogs"}').status == 200


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
