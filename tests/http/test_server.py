#!/usr/bin/env python3
"""The HTTP server and client on their own (http_probe), with requests that go wrong over real sockets."""
import os
import resource
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time

from streams import SANITIZED, make_certificate, probe
from tiers import ask, raw, run_tests, until

HOST = b'Host: a\r\n'


def status(answer):
    return int(answer.split(b' ', 2)[1]) if answer.startswith(b'HTTP/1.1 ') else None


def connect(port):
    one = socket.create_connection(('127.0.0.1', port), timeout=20)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def read_all(one):
    received = b''
    try:
        while part := one.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


REFUSED = {
    'two Content-Lengths': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde', 400),
    'the same Content-Length twice': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc', 400),
    'a list of lengths': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc', 400),
    'a negative length': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n', 400),
    'a signed length': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc', 400),
    'a length of 30 digits': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: ' + b'9' * 30 + b'\r\n\r\n', 400),
    'chunks with a length': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400),
    'two encodings': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400),
    'an unknown encoding': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n', 501),
    'chunks in HTTP/1.0': (b'POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400),
    'a blank before a colon': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc', 400),
    'a folded header': (b'GET /hello HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n', 400),
    'bare line feeds': (b'GET /hello HTTP/1.1\nHost: a\n\n', 400),
    'a NUL': (b'GET /hello HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n', 400),
    'no Host': (b'GET /hello HTTP/1.1\r\n\r\n', 400),
    'a Host with a blank and a path': (b'GET /hello HTTP/1.1\r\nHost: a b/c\r\n\r\n', 400),
    'a Host with a user': (b'GET /hello HTTP/1.1\r\nHost: a@b\r\n\r\n', 400),
    'a trailer without a colon': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nnonsense\r\n\r\n', 400),
    'a trailer without a name': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n: x\r\n\r\n', 400),
    'a chunk beyond the limit, announced': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n', 413),
    'two Hosts': (b'GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400),
    'another version': (b'GET /hello HTTP/2.0\r\nHost: a\r\n\r\n', 505),
    'no version': (b'GET /hello\r\n\r\n', 400),
    'an unknown expectation': (b'POST /echo HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\nContent-Length: 1\r\n\r\na', 417),
    'a broken escape': (b'GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    'an escaped NUL': (b'GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    'a chunk size that is none': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n', 400),
    'a chunk longer than its size': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n', 400),
    'a chunk size of 20 digits': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n' + b'f' * 20 + b'\r\n', 400),
    'a flood of headers': (b'GET /hello HTTP/1.1\r\nHost: a\r\n' + b'X: y\r\n' * 500 + b'\r\n', 431),
    'a long header': (b'GET /hello HTTP/1.1\r\nHost: a\r\nX: ' + b'y' * 40000 + b'\r\n\r\n', 431),
    'a head without an end': (b'GET /hello HTTP/1.1\r\nX: ' + b'y' * 100000, 431),
    'a body over the limit': (b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n', 413),
    'chunks over the limit': (b'POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n' + b'10000\r\n' + b'a' * 65536 + b'\r\n' + b'10000\r\n' + b'a' * 65536, 413),
    'binary rubbish': (bytes(range(128, 256)) * 8 + b'\n', 400),
}


def test_refused():
    """requests that are malformed are refused with their status, and the connection closes"""
    with probe('body_limit=100000') as server:
        for name, (request, wanted) in REFUSED.items():
            answer = raw(server.port, request)
            assert status(answer) == wanted, (name, answer[:200])
            assert b'Connection: close' in answer and b'{"error":"' in answer, (name, answer)
            assert answer.count(b'HTTP/1.1 ') == 1, name
        assert ask(server.port, 'GET', '/hello').status == 200
        assert server.end() == 0


def test_smuggled():
    """what follows a refused request is never answered"""
    with probe() as server:
        hidden = b'GET /hello HTTP/1.1\r\nHost: a\r\n\r\n'
        for head in (b'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', b'Content-Length: 0\r\nContent-Length: 40\r\n',
                     b'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n'):
            answer = raw(server.port, b'POST /echo HTTP/1.1\r\nHost: a\r\n' + head + b'\r\n0\r\n\r\n' + hidden)
            assert b'Hello' not in answer, answer


def test_pipelining():
    """pipelined requests are answered in order, fast and slow ones mixed, also behind a half-closed connection"""
    with probe() as server, connect(server.port) as one:
        one.sendall(b''.join(b'POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s' % (path, len(body), body)
                             for path, body in ((b'/echo', b'one'), (b'/late?ms=50', b''), (b'/echo', b'two'),
                                                (b'/hello', b''), (b'/echo', b'three'))))
        one.shutdown(socket.SHUT_WR)
        answer = read_all(one)
        places = [answer.find(word) for word in (b'one', b'late', b'two', b'Hello', b'three')]
        assert -1 not in places and places == sorted(places), answer


def test_split():
    """a request in single bytes, chunked, with a trailer"""
    with probe() as server, connect(server.port) as one:
        for byte in b'\r\nPOST /echo HTTP/1.1\r\n' + HOST + b'Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n':
            one.sendall(bytes([byte]))
        until(lambda: b'abcde' in one.recv(65536), 5, 'the echo')


def test_split_head():
    """a head in two pieces, the last of its connection, answered at once"""
    with probe() as server:
        for first in [b'GET /hello HTTP/1.1\r\n', b'\r', b'\r\n\r', b'G']:
            head = b'\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
            head = head if head.startswith(first) else head[4:]
            with connect(server.port) as one:
                one.sendall(first)
                time.sleep(0.1)
                one.sendall(head[len(first):])
                assert b' 200 ' in read_all(one)


def test_continue():
    """Expect: 100-continue is answered before the body, and not at all when the body is too long"""
    with probe('body_limit=100') as server, connect(server.port) as one:
        one.sendall(b'POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n')
        assert one.recv(1000) == b'HTTP/1.1 100 Continue\r\n\r\n'
        one.sendall(b'abc')
        assert one.recv(1000).endswith(b'abc')
        one.sendall(b'POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 300\r\n\r\n')
        assert one.recv(1000).startswith(b'HTTP/1.1 413')


def test_head():
    """HEAD says the length and sends no body; HTTP/1.0 closes unless asked to keep alive"""
    with probe() as server:
        answer = raw(server.port, b'HEAD /hello HTTP/1.0\r\n\r\n')
        assert answer.endswith(b'\r\n\r\n') and b'Content-Length: 9' in answer and b'Connection: close' in answer
        with connect(server.port) as one:
            for _ in range(2):
                one.sendall(b'GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
                assert b'keep-alive' in one.recv(1000)


def test_slow():
    """slow headers and bodies get 408, idle connections are closed silently"""
    with probe('header_ms=300', 'stall_ms=300', 'body_ms=800', 'idle_ms=400') as server:
        assert status(raw(server.port, b'GET /hello HT')) == 408
        assert status(raw(server.port, b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc')) == 408
        assert raw(server.port, b'') == b''
        with connect(server.port) as one:
            one.sendall(b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n')
            start = time.monotonic()
            try:
                while time.monotonic() - start < 5:
                    one.sendall(b'a')
                    time.sleep(0.1)
            except ConnectionError:
                pass
            assert 0.5 < time.monotonic() - start < 4


def test_gone():
    """a client that resets or leaves is noticed; one that half-closes is answered"""
    with probe() as server:
        count = lambda: int(ask(server.port, 'GET', '/gone').body)
        with connect(server.port) as one:
            one.sendall(b'GET /late?ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n')
            time.sleep(0.1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        until(lambda: count() == 1, 5, 'noticing a reset')
        with connect(server.port) as one:
            one.sendall(b'GET /late?ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n')
            time.sleep(0.1)
        until(lambda: count() == 2, 5, 'noticing that the client left')
        with connect(server.port) as one:
            one.sendall(b'GET /late?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n')
            one.shutdown(socket.SHUT_WR)
            assert read_all(one).endswith(b'late')
        assert count() == 2


def test_stop():
    """SIGTERM finishes what began, and closes what is idle"""
    with probe() as server, connect(server.port) as busy, connect(server.port) as idle, connect(server.port) as begun:
        busy.sendall(b'GET /late?ms=700 HTTP/1.1\r\nHost: a\r\n\r\n')
        begun.sendall(b'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab')
        idle.sendall(b'GET /hello HTTP/1.1\r\nHost: a\r\n\r\n')
        assert b'Hello' in idle.recv(1000)
        time.sleep(0.1)
        server.child.terminate()
        assert idle.recv(1000) == b''
        begun.sendall(b'c')
        assert read_all(begun).endswith(b'abc')
        assert read_all(busy).endswith(b'late')
        busy.close()
        begun.close()
        assert server.end() == 0 and 'stopped 1' in server.lines


def test_large():
    """20 MB there and back, through a proxy as well, to a client that reads slowly"""
    body = os.urandom(1 << 20) * 19
    with probe() as far, probe(f'upstream=http://localhost:{far.port}') as near:
        assert ask(far.port, 'POST', '/echo', body).body == body
        assert ask(near.port, 'POST', '/proxy/echo', body).body == body
        with connect(far.port) as one:
            head = b'POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n' % len(body)
            one.sendall(head + body)
            time.sleep(0.5)
            assert read_all(one).endswith(body[-1000:])


ANSWERS = {
    b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok': (200, b'ok'),
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n': (200, b'ok'),
    b'HTTP/1.0 200 OK\r\n\r\nok': (200, b'ok'),
    b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n': (204, b''),
    b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok': (502, None),
    b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok': (502, None),
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no': (502, None),
    b'rubbish\r\n\r\n': (502, None),
    b'': (502, None),
}


def test_client():
    """the client reads every kind of answer, and fails clearly on what is none"""
    for answer, (wanted, body) in ANSWERS.items():
        with socket.create_server(('127.0.0.1', 0)) as listener:
            def serve(listener=listener, answer=answer):
                one, _ = listener.accept()
                with one:
                    while b'\r\n\r\n' not in one.recv(65536):
                        pass
                    one.sendall(answer)
            thread = threading.Thread(target=serve)
            thread.start()
            with probe(f'upstream=http://127.0.0.1:{listener.getsockname()[1]}') as near:
                reply = ask(near.port, 'GET', '/proxy/x')
                assert reply.status == wanted and (body is None or reply.body == body), (answer, reply.status, reply.body)
            thread.join()


def test_client_failures():
    """a closed port is 502, an upstream that hangs is 504"""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
        with probe(f'upstream=http://127.0.0.1:{port}') as near:
            start = time.monotonic()
            assert ask(near.port, 'GET', '/proxy/x').status == 504
            assert 1.5 < time.monotonic() - start < 5
            listener.close()
            assert ask(near.port, 'GET', '/proxy/x').status == 502


def test_tls():
    """https: requests, a proxy over it, pipelining, a certificate that changes while it runs"""
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(folder)
        if not pair:
            return 'no openssl to make a certificate with'
        certificate, key = pair
        with probe(f'cert={certificate}', f'key={key}') as far, \
                probe(f'upstream=https://localhost:{far.port}', f'ca={certificate}') as near:
            body = os.urandom(1 << 20) * 3
            assert ask(near.port, 'POST', '/proxy/echo', body).body == body
            context = ssl.create_default_context(cafile=certificate)
            with context.wrap_socket(connect(far.port), server_hostname='localhost') as one:
                one.sendall(b'GET /hello HTTP/1.1\r\nHost: a\r\n\r\n' * 3)
                one.sendall(b'GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
                assert read_all(one).count(b'"Hello!"') == 4
            assert raw(far.port, b'GET /hello HTTP/1.1\r\nHost: a\r\n\r\n').startswith(b'HTTP/1.1 400')
            before = ssl.get_server_certificate(('127.0.0.1', far.port))
            make_certificate(folder)
            far.kill(1)
            far.wait_line('reload 1')
            assert ssl.get_server_certificate(('127.0.0.1', far.port)) != before
            assert ask(near.port, 'GET', '/proxy/hello').status == 200, 'open connections stay'
    return None


def resident(process):
    with open(f'/proc/{process.child.pid}/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')


def test_idle():
    """10,000 idle connections: little memory for each, and others are served as before"""
    wanted = 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted + 200:
        return f'only {hard} files may be open here'
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with probe('threads=2') as server:
        before = resident(server)
        connections = [connect(server.port) for _ in range(wanted)]
        for one in connections[::10]:
            one.sendall(b'GET /hello HTTP/1.1\r\nHost: a\r\n\r\n')
        for one in connections[::10]:
            assert b'Hello' in one.recv(1000)
        used = (resident(server) - before) / wanted
        start = time.monotonic()
        for _ in range(100):
            assert ask(server.port, 'GET', '/hello').status == 200
        assert time.monotonic() - start < 5
        assert used < 4096 * (4 if SANITIZED else 1), f'{used:.0f} bytes a connection'
        for one in connections:
            one.close()
        assert server.end() == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return None


def test_files():
    """a server without files left goes on once there are some"""
    with probe() as server:
        resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE, (40, 40))
        connections = [connect(server.port) for _ in range(80)]
        time.sleep(0.3)
        for one in connections:
            one.close()
        until(lambda: ask(server.port, 'GET', '/hello').status == 200, 5, 'an answer')


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
