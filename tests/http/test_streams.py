#!/usr/bin/env python3
"""Replies and requests in pieces (http_probe), over real sockets: directly and through a relay, plain and over TLS."""
import concurrent.futures
import contextlib
import select
import socket
import sys
import time

from streams import (PIECE, SANITIZED, Reply, Way, now, note, pattern, peak_memory, probe, read_head, relay_to, reset_peak, state,
                     ways, within)
from tiers import run_tests, until

GIB = 1 << 30
MOST_GROWN = 3 << 19  # a buffer of twice the high-water mark, and while it doubles the half of it


def all_at_once(function, *groups):
    """Run the function for every combination's tuple on a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:
        return [future.result() for future in [pool.submit(function, *group) for group in groups]]


def worst_delay(way, version):
    """Ten events, 200 ms apart: the longest time from being sent to being here, in seconds."""
    with way.ask('/events?count=10&ms=200', version=version) as reply:
        delays, text = [], b''
        for piece in reply.pieces():
            arrived = now()
            text += piece
            delays += [(arrived - int(line[6:])) / 1e9 for line in piece.decode().split('\n') if line]
        assert len(delays) == 10 and text.count(b'\n\n') == 10, text
        chunked = reply.headers.get('transfer-encoding') == 'chunked'
        assert chunked == (version == '1.1') and 'content-length' not in reply.headers, reply.headers
        assert chunked or reply.ends()
        return max(delays)


def test_events():
    """ten events, 200 ms apart, are each here within 50 ms: chunked, and until the connection closes"""
    with ways() as found:
        groups = [(way, version) for way in found for version in ('1.1', '1.0')]
        within(0.05, lambda: max(all_at_once(worst_delay, *groups)))


def read_flood(way, size, announce):
    """Read a large reply, check every byte; returns the seconds it took."""
    started = time.monotonic()
    with way.ask(f'/flood?bytes={size}' + '&length=1' * announce).start() as reply:
        assert reply.status == 200
        assert reply.headers.get('content-length') == (str(size) if announce else None)
        blocks = [bytes([ord('a') + i]) * PIECE for i in range(26)]
        at, rest = 0, b''
        for piece in reply.pieces():
            rest += piece
            while len(rest) >= PIECE:
                assert rest[:PIECE] == blocks[at // PIECE % 26], at
                at, rest = at + PIECE, rest[PIECE:]
        assert rest == blocks[at // PIECE % 26][:len(rest)] and at + len(rest) == size, (at, len(rest))
    return time.monotonic() - started


def test_large():
    """a reply of 1 GiB (TLS: 128 MiB) grows neither side by more than the water marks"""
    with ways() as found:
        for way in found:
            read_flood(way, 1 << 20, 0)
            before = [reset_peak(one) for one in way.processes()]
            for announce in (0, 1):
                took = read_flood(way, GIB >> 3 if SANITIZED or way.context else GIB, announce)
            grown = [peak_memory(one) - was for one, was in zip(way.processes(), before)]
            pending = [state(one, way.context)['peak_pending'] for one in way.processes()]
            note(f'{way.name}: {took:.1f} s, grown by {[size >> 10 for size in grown]} KiB, pending at most {pending}')
            assert SANITIZED or max(grown) < MOST_GROWN, grown
            assert max(pending) < (256 << 10) + 2 * PIECE, pending


def test_slow_reader():
    """a client that stops reading stops what is sent to it, and gets the rest when it goes on"""
    size = 100 << 20
    with ways() as found:
        for way in found:
            read_flood(way, 1 << 20, 0)  # what a first request takes once does not count
            before = [reset_peak(one) for one in way.processes()]
            already = state(way.far, way.context)['produced']
            with way.ask(f'/flood?bytes={size}') as reply:
                pieces = reply.pieces()
                read = len(next(pieces))
                produced = lambda: state(way.far, way.context)['produced'] - already
                history = [produced()]
                until(lambda: time.sleep(0.3) or history.append(produced()) or history[-1] == history[-2], 20, 'a stop')
                assert history[-1] < size // 2, (history[-1], size)
                read += sum(map(len, pieces))
                assert read == size
            grown = [peak_memory(one) - was for one, was in zip(way.processes(), before)]
            note(f'{way.name}: stopped at {history[-1] >> 10} KiB, grown by {[one >> 10 for one in grown]} KiB')
            assert SANITIZED or max(grown) < MOST_GROWN, grown


def test_bodies():
    """bodies of every size in pieces, with a length and chunked, read at once, late, and with pauses"""
    with ways() as found:
        for way in found:
            for size in (16 * PIECE, 0, 1, PIECE, 3 * PIECE + 7):  # the first while the upstream's connection is made
                body = pattern(size)
                for path in ('/count', '/count?pause=5', '/later?ms=30'):
                    for more in ({'body': body}, {'chunks': [body[at:at + 9999] for at in range(0, size, 9999)]}):
                        with way.ask(path, **more) as reply:
                            got = reply.read()
                            assert reply.status == 200 and got == b'%d' % size, (way.name, path, size, got)
            with way.ask('/count', chunks=[b'a'] * 200) as reply:
                assert reply.read() == b'200'


def kernel_buffers(hops):
    """The most bytes that the kernel may hold for so many connections in a row; it decides by itself how many it does."""
    sizes = []
    for name in ('tcp_rmem', 'tcp_wmem'):
        with open(f'/proc/sys/net/ipv4/{name}', encoding='ascii') as file:
            sizes.append(int(file.read().split()[2]))
    return hops * sum(sizes)


def fill_body(way):
    """Send a body that is read late; returns the bytes taken before, and by how much the probes grew."""
    most = kernel_buffers(len(way.processes())) + (4 << 20)
    size = most + (8 << 20)
    with way.ask('/count', 'POST', body=b'aaa') as reply:  # what a first request takes once does not count
        assert reply.read() == b'3'
    before = [reset_peak(one) for one in way.processes()]
    with way.ask('/later?ms=4000', 'POST', headers=[f'Content-Length: {size}']) as reply:
        body, sent = memoryview(pattern(size)), 0
        reply.socket.settimeout(0.4)
        with contextlib.suppress(TimeoutError):
            while sent < size:
                sent += reply.socket.send(body[sent:sent + PIECE])
        assert sent < most, (way.name, sent)
        reply.socket.settimeout(120)
        reply.socket.sendall(body[sent:])
        assert reply.read() == b'%d' % size
    return sent, [peak_memory(one) - was for one, was in zip(way.processes(), before)]


def test_back_pressure_of_bodies():
    """a body that is not read stops its client, and costs no memory"""
    with ways() as found:
        for way, (sent, grown) in zip(found, all_at_once(fill_body, *[(way,) for way in found])):
            note(f'{way.name}: stopped at {sent >> 10} KiB, grown by {[one >> 10 for one in grown]} KiB')
            assert SANITIZED or max(grown) < MOST_GROWN, grown


def test_continue():
    """Expect: 100-continue is answered when the handler begins to read, and not before"""
    with ways(relay=False) as found:
        for way in found:
            started = time.monotonic()
            with way.ask('/later?ms=300', 'POST', headers=['Content-Length: 3', 'Expect: 100-continue']) as reply:
                assert reply.start().status == 100 and time.monotonic() - started > 0.25
                reply.socket.sendall(b'aaa')
                reply.next()
                assert reply.read() == b'3'
            with way.ask('/early', 'POST', headers=['Content-Length: 3', 'Expect: 100-continue']) as reply:
                assert reply.start().status == 413 and reply.read() == b'early' and reply.ends()


def test_bad_bodies():
    """a body in pieces that ends early, stalls or is malformed is told to its handler, which still replies"""
    with ways('stall_ms=300') as found:
        for way in found:
            count = lambda: state(way.far, way.context)['incomplete']
            head = {'method': 'POST', 'headers': ['Content-Length: 10']}
            chunked = {'method': 'POST', 'headers': ['Transfer-Encoding: chunked']}
            before, wanted = count(), 0
            with way.ask('/count', **head) as reply:  # stalls
                reply.socket.sendall(b'aaa')
                assert reply.start().status == 400 and reply.read() in (b'3', relayed(way)) and reply.ends()
            with way.ask('/count', **chunked) as reply:  # malformed
                reply.socket.sendall(b'3\r\naaa\r\n')
                time.sleep(0.1)
                reply.socket.sendall(b'xyz\r\n')
                assert reply.start().status == 400 and reply.read() in (b'3', relayed(way)) and reply.ends()
            wanted += 2
            if not way.context:
                with way.ask('/count', **head) as reply:  # half-closed
                    reply.socket.sendall(b'aaa')
                    time.sleep(0.1)
                    reply.socket.shutdown(socket.SHUT_WR)
                    assert reply.start().status == 400 and reply.read() in (b'3', relayed(way)) and reply.ends()
                wanted += 1
            with way.ask('/count', **head) as reply:  # gone
                reply.socket.sendall(b'aaa')
                time.sleep(0.1)
                reply.reset()
            until(lambda: count() == before + wanted + 1, 5, f'{wanted + 1} incomplete bodies')
            if way.near:  # which does not pause, so the client stalls
                continue
            with way.ask('/count?pause=1000', **head) as reply:  # no stall while the handler pauses
                reply.socket.sendall(b'aaa')
                time.sleep(0.8)
                reply.socket.sendall(b'aaaaaaa')
                got = reply.read()
                assert got == b'10', (way.name, reply.status, got)


def relayed(way):
    return b'{"error":"the body is not complete"}' if way.near else None


def test_early():
    """a reply before the body has been read: the rest is not read, and the connection closes"""
    with ways() as found:
        for way in found:
            for path, status, text in (('/early', 413, b'early'), ('/early?status=200', 200, b'early'), ('/begin', 200, b'a')):
                with way.ask(path, 'POST', headers=['Transfer-Encoding: chunked']) as reply:
                    reply.socket.sendall(b'1\r\na\r\n')
                    got = reply.read()
                    assert reply.status == status and got == text, (way.name, path, reply.status, got)
                    assert reply.headers['connection'] == 'close' and reply.ends()
            with way.ask('/early', 'POST', headers=['Content-Length: 100000000']) as reply:
                with contextlib.suppress(ConnectionError, TimeoutError):
                    reply.socket.settimeout(5)
                    reply.socket.sendall(pattern(4 << 20))
                assert reply.start().status == 413 and reply.read() == b'early'


def test_aborted():
    """a reply that its handler gives up is visibly broken, and what was written before is there"""
    size = 300000
    with ways('log=1') as found:
        for way in found:
            for path, version in ((f'/abort?bytes={size}', '1.1'), (f'/abort?bytes={size}', '1.0'),
                                  (f'/abort?bytes={size}&length={size + 1}', '1.1'), ('/short?bytes=10&length=20', '1.1'),
                                  ('/short?bytes=30&length=20', '1.1')):
                with way.ask(path, version=version) as reply:
                    got = reply.read_broken()
                    assert reply.status == 200, reply.status
                    wanted = size if 'abort' in path else 0 if '30' in path else 10
                    assert len(got) == wanted or (version == '1.0' and len(got) < wanted), (way.name, path, version, len(got))
                until(lambda: f'done {way.prefix}{path} 200 {wanted} cut' in way.processes()[-1].lines, 5, f'done {path}')
            with way.ask('/nothing') as reply:
                if way.near:
                    assert reply.start().status == 502
                else:
                    assert reply.read_broken() == b'' and not reply.status


def test_gone():
    """a client that leaves is noticed within 100 ms, while it waits and in mid-reply; the upstream hears of it, too"""
    with ways() as found:
        for way in found:
            for path, first in (('/hang?bytes=5', 5), ('/wait', 0)):
                for leave in ('close', 'reset'):
                    def measure(path=path, first=first, leave=leave, way=way):
                        seen = [state(one, way.context)['gone'] for one in way.processes()]
                        reply = way.ask(path)
                        if first:
                            assert next(reply.pieces()) == b'a' * first
                        else:
                            time.sleep(0.1)
                        assert [state(one, way.context)['gone'] for one in way.processes()] == seen
                        left = now()
                        getattr(reply, leave)()
                        until(lambda: [state(one, way.context)['gone'] for one in way.processes()] == [n + 1 for n in seen],
                              5, f'{way.name} {path} {leave}')
                        return max(state(one, way.context)['gone_ns'] - left for one in way.processes()) / 1e9
                    within(0.1, measure)
            until(lambda: all(state(one, way.context)['open'] == 0 for one in way.processes()), 5, 'nothing open')


def test_half_closed():
    """a client that only shuts down its sending side gets its reply in pieces"""
    with ways(tls=False) as found:
        for way in found:
            for version in ('1.1', '1.0'):
                with way.ask('/events?count=4&ms=250', version=version) as reply:
                    reply.socket.shutdown(socket.SHUT_WR)
                    while reply.start().status == 100:
                        reply.next()
                    assert reply.read().count(b'data: ') == 4
            assert state(way.far)['gone'] == 0


def test_kept_open():
    """a connection serves on after replies and bodies in pieces, one after the other and pipelined"""
    with ways() as found:
        for way in found:
            one = way.connect()
            body = pattern(5 * PIECE)
            for _ in range(3):
                for path, more, wanted in (('/events?count=2&ms=1', {}, 2), ('/count', {'body': body}, b'%d' % len(body)),
                                           ('/count', {'chunks': [body[:70000]]}, b'70000'), ('/flood?bytes=100000', {}, 100000),
                                           ('/flood?bytes=100000&length=1', {}, 100000), ('/state', {'method': 'HEAD'}, b''),
                                           ('/bare?status=204', {}, b''), ('/bare?status=304', {}, b''),
                                           ('/bare', {'method': 'HEAD'}, b''), ('/bare', {}, b'12345'),
                                           ('/flood?bytes=1000', {'method': 'HEAD'}, b'')):
                    got = Reply(way, path, one=one, **more)
                    text = got.read()
                    length = text.count(b'data') if 'events' in path else len(text)
                    assert wanted in (text, length), (way.name, path, text[:100])
                    assert 'connection' not in got.headers, (path, got.headers)
            one.close()


def test_pipelining():
    """pipelined requests with bodies and replies in pieces are answered in order"""
    with ways() as found:
        for way in found:
            one = way.connect()
            requests = [('GET', '/events?count=3&ms=20', b''), ('POST', '/count', b'aaa'), ('GET', '/flood?bytes=300000', b''),
                        ('POST', '/later?ms=20', b'aaaaa'), ('GET', '/bare', b''), ('POST', '/count?pause=1', pattern(9000))]
            one.sendall(b''.join(f'{method} {way.prefix}{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n'.encode()
                                 + body for method, path, body in requests))
            reply, got = Reply(way, None, one=one), []
            for _ in requests:
                got.append(reply.read())
                reply.next()
            assert got[0].count(b'data') == 3 and [len(got[2]), got[4]] == [300000, b'12345'], got
            assert [got[1], got[3], got[5]] == [b'3', b'5', b'9000'], got
            reply.close()


def send_then(text, after):
    """A server that reads a head, sends the text and then does something."""
    def serve(one):
        read_head(one)
        one.sendall(text)
        after(one)
    return serve


def close_hard(one):
    time.sleep(0.05)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')


def wait(one):
    time.sleep(3)


HEAD = b'HTTP/1.1 200 OK\r\n'
CHUNKED = HEAD + b'Transfer-Encoding: chunked\r\n\r\n'
BROKEN = {
    'chunks without an end': (CHUNKED + b'3\r\nabc\r\n', None),
    'a chunk cut off': (CHUNKED + b'3\r\nabc\r\n5\r\nd', None),
    'a reset between chunks': (CHUNKED + b'3\r\nabc\r\n', close_hard),
    'less than the length': (HEAD + b'Content-Length: 10\r\n\r\nabc', None),
    'a reset before the length': (HEAD + b'Content-Length: 10\r\n\r\nabc', close_hard),
    'a reset of a reply without length': (HEAD + b'\r\nabc', close_hard),
    'a malformed chunk': (CHUNKED + b'3\r\nabc\r\nxyz\r\n', None),
}
WHOLE = {
    'interim responses first': (b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n' + CHUNKED +
                                b'3\r\nabc\r\n0\r\n\r\n', b'abc'),
    'a trailer': (CHUNKED + b'3\r\nabc\r\n0\r\nA: b\r\n\r\n', b'abc'),
    'no length': (HEAD + b'\r\nabc', b'abc'),
    'HTTP/1.0': (b'HTTP/1.0 200 OK\r\n\r\nabc', b'abc'),
    'a length of nothing': (HEAD + b'Content-Length: 0\r\n\r\n', b''),
    'no body': (b'HTTP/1.1 204 No Content\r\n\r\n', b''),
}


def test_upstream_dies():
    """an upstream that dies in mid-response breaks the reply; one before its head is 502; whole ones of every kind pass"""
    for name, (text, after) in BROKEN.items():
        with relay_to(send_then(text, after or (lambda one: None))) as way, way.ask('/x') as reply:
            got = reply.read_broken()
            assert reply.status == 200 and got.startswith(b'abc'), (name, got)
            until(lambda: state(way.near)['upstream_failures'] == 1, 5, name)
    for text in (b'', b'HTTP/1.1 200 OK\r\nA', b'HTTP/1.1 100 Continue\r\n\r\n', b'rubbish\r\n\r\n'):
        with relay_to(send_then(text, lambda one: None)) as way, way.ask('/x') as reply:
            assert reply.start().status == 502, text
    for name, (text, body) in WHOLE.items():
        with relay_to(send_then(text, lambda one: None)) as way, way.ask('/x') as reply:
            assert reply.read() == body and reply.status in (200, 204), name
            assert state(way.near)['upstream_failures'] == 0, name


def test_upstream_dies_while_paused():
    """an upstream that dies while its client does not read: all that came is delivered, then the reply breaks"""
    size = 20 << 20
    def serve(one):
        read_head(one)
        one.sendall(HEAD + b'Content-Length: %d\r\n\r\n' % (size * 2) + pattern(size))
    with relay_to(serve, 'write_ms=20000') as way, way.ask('/x') as reply:
        reply.start()
        time.sleep(0.7)
        assert reply.read_broken() == pattern(size) and state(way.near)['upstream_failures'] == 1


def test_upstream_connections():
    """the client keeps an upstream's connection after pieces, and resets it when the caller gives up"""
    resets = []
    def serve(one):
        while b'hang' not in read_head(one):
            one.sendall(CHUNKED + b'3\r\nabc\r\n0\r\n\r\n')
        one.sendall(CHUNKED + b'3\r\nabc\r\n')
        select.select([one], [], [], 10)
        resets.append(now())
        assert one.recv(10) == b'', 'a close'
    with relay_to(serve) as way:
        for _ in range(3):
            with way.ask('/x') as reply:
                assert reply.read() == b'abc'
        assert way.upstream.accepted == 1
        def measure():
            resets.clear()
            reply = way.ask('/hang')
            assert next(reply.pieces()) == b'abc'
            left = now()
            reply.close()
            until(lambda: resets, 5, 'the upstream noticing')
            return (resets[0] - left) / 1e9
        within(0.1, measure)


def test_timeouts():
    """timeouts to the first byte, for silence and for the whole; none for silence while the client does not read"""
    def timed(way, path):
        started = time.monotonic()
        with way.ask(path) as reply:
            status = reply.start().status
            broken = False
            if status == 200:
                try:
                    reply.read()
                except Exception:  # however it shows
                    broken = True
            return status, broken, time.monotonic() - started
    with relay_to(send_then(b'', wait)) as way:
        status, _, took = timed(way, '/x?first_ms=300')
        assert status == 504 and 0.25 < took < 1.5, (status, took)
        status, _, took = timed(way, '/x?whole_ms=300')
        assert status == 504 and 0.25 < took < 1.5, (status, took)
    with relay_to(send_then(CHUNKED + b'3\r\nabc\r\n', wait)) as way:
        for path in ('/x?silence_ms=300&first_ms=1000', '/x?whole_ms=300'):
            status, broken, took = timed(way, path)
            assert status == 200 and broken and 0.25 < took < 1.5, (path, status, took)
    with ways() as found:
        for way in found:
            if way.near:
                with way.ask('/events?count=4&ms=200&silence_ms=900&first_ms=900') as reply:
                    assert reply.read().count(b'data') == 4
                with way.ask(f'/flood?bytes={40 << 20}&silence_ms=300') as reply:
                    reply.start()
                    time.sleep(0.8)
                    assert len(reply.read()) == 40 << 20
                with way.ask('/count?first_ms=300', 'POST', headers=['Content-Length: 6']) as reply:
                    for _ in range(6):
                        time.sleep(0.15)
                        reply.socket.sendall(b'a')
                    assert reply.read() == b'6'


def test_write_timeout():
    """a client that takes no byte for write_timeout_ms is dropped; one to whom nothing is to be sent is not"""
    with ways('write_ms=400', 'log=1', relay=False) as found:
        for way in found:
            with way.ask(f'/flood?bytes={GIB}') as reply:
                reply.start()
                until(lambda: any(f'done /flood?bytes={GIB} 200 ' in line and line.endswith(' cut gone')
                                  for line in way.far.lines), 5, 'the drop')
                assert 0 < len(reply.read_broken()) < GIB
            with way.ask('/events?count=2&ms=1200') as reply:
                assert reply.read().count(b'data') == 2
            with way.ask(f'/flood?bytes={30 << 20}') as reply:  # slow, but never that slow
                read = 0
                for number, piece in enumerate(reply.pieces()):
                    read += len(piece)
                    time.sleep(0.25 if number % 120 == 0 else 0)
                assert read == 30 << 20


def test_least_rate():
    """a client that takes a little now and then is dropped, too: it would keep its reply in memory for ever"""
    with probe('write_ms=20000', 'log=1') as server, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # the kernel keeps less for the server, and takes more often
        slow.settimeout(30)
        slow.connect(('127.0.0.1', server.port))
        slow.sendall(b'GET /flood?bytes=10000000 HTTP/1.1\r\nHost: localhost\r\n\r\n')
        end = time.monotonic() + 120
        while not any(line.startswith('done /flood') for line in server.lines):
            assert time.monotonic() < end, 'it is still there'
            try:
                assert slow.recv(800)  # 2,000 bytes a second, and the server writes again every few seconds
            except OSError:
                pass
            time.sleep(0.4)
        assert any(line.endswith(' cut gone') for line in server.lines), server.lines


def test_stop():
    """stopping finishes replies in pieces within the grace, and drops them after it"""
    with probe('log=1') as server, Way('plain', server).ask('/events?count=5&ms=200') as reply:
        pieces = reply.pieces()
        next(pieces)
        server.child.terminate()
        assert sum(1 for _ in pieces) == 4 and reply.ends()
        assert server.end() == 0 and 'stopped 1' in server.lines
    with probe('log=1', 'grace_ms=300') as server, Way('plain', server).ask('/hang?bytes=5') as reply:
        assert next(reply.pieces()) == b'aaaaa'
        started = time.monotonic()
        server.child.terminate()
        assert reply.read_broken() == b'' and time.monotonic() - started < 3
        assert server.end() == 0 and 'stopped 0' in server.lines
        assert 'done /hang?bytes=5 200 5 cut gone' in server.lines, server.lines


def test_counted():
    """`done` is told the bytes that were sent"""
    with probe('log=1') as server:
        way = Way('plain', server)
        for path, method, wanted in (('/flood?bytes=123456', 'GET', 123456), ('/flood?bytes=123456', 'HEAD', 0),
                                     ('/bare?status=204', 'GET', 0), ('/hello', 'GET', 9), ('/hello', 'HEAD', 0)):
            server.lines.clear()
            with way.ask(path, method) as reply:
                reply.read()
            until(lambda: f'done {path} {reply.status} {wanted}' in server.lines, 5, f'{path} {method} {server.lines}')
        size = 64 << 20
        with way.ask(f'/flood?bytes={size}&length=1') as reply:
            read = len(next(reply.pieces()))
            reply.reset()
        until(lambda: any(line.endswith('cut gone') for line in server.lines), 5, 'the end')
        counted = int(server.lines[-1].split()[3])
        assert read <= counted < size, (read, counted)


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
