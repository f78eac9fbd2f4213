#!/usr/bin/env python3
"""Heads of requests as strangers write them: too long, ambiguous, forged; through the tiers."""
import json
import sys

from tiers import ask, backend, frontend, gateway, raw, run_tests, stand_in

HEAD = b'POST /model/cats/predict HTTP/1.1\r\nHost: localhost\r\n'


def test_access_log_forgery():
    """a name in the path, decoded, neither ends a log line nor adds a field or a terminal's escape to it"""
    name = '%0a%7b%22client%22:%22me%22%7d%22,%22status%22:200,%1b[31m%c3%a9'
    with stand_in('cats') as cats:
        for form in ('json', 'text'):
            with gateway('--backend', f'cats={cats.url}', log=form) as door:
                assert ask(door.port, 'POST', f'/model/{name}/predict', b'', X_Request_Id='forged').status == 404
                line = door.wait_line('forged')
                assert line.isascii() and line.isprintable(), line
                if form == 'json':
                    fields = json.loads(line)
                    assert fields['status'] == 404 and fields['client'] == '127.0.0.1', fields
                    assert fields['model'].startswith('?{?client?'), fields
                else:
                    assert line.startswith('20') and ' 404 ' in line, line


def test_smuggling():
    """what two servers could read in two ways never reaches a backend"""
    hidden = b'GET /control?ready=0 HTTP/1.1\r\nHost: localhost\r\n\r\n'
    attacks = [
        HEAD + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + hidden,
        HEAD + b'Content-Length: 0\r\nContent-Length: %d\r\n\r\n' % len(hidden) + hidden,
        HEAD + b'Content-Length: +0\r\n\r\n' + hidden,
        HEAD + b'Content-Length : 0\r\n\r\n' + hidden,
        HEAD + b'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n' + hidden,
        HEAD + b'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n' + hidden,
        HEAD + b'X: a\n\rContent-Length: 0\r\n\r\n' + hidden,
        HEAD + b'X: a\r\n Content-Length: 0\r\n\r\n' + hidden,
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n' + hidden,
        HEAD + b'Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n' + hidden,
        b'POST /model/cats/predict HTTP/1.1\r\n\r\n' + hidden,
        b'POST /model/cats/predict\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n' + hidden,
    ]
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}') as door:
        for attack in attacks:
            answer = raw(door.port, attack)
            assert answer.startswith(b'HTTP/1.1 400') or answer.startswith(b'HTTP/1.1 501'), (attack, answer[:80])
            assert answer.count(b'HTTP/1.1 ') == 1, (attack, answer)
        chunked = raw(door.port, HEAD + b'Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n')
        assert b'"bytes": 3' in chunked, chunked
        assert ask(cats.port, 'GET', '/readyz').status == 200


def test_header_flood():
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}') as door:
        assert raw(door.port, HEAD + b'A: b\r\n' * 20000).startswith(b'HTTP/1.1 431')
        assert raw(door.port, b'GET /' + b'a' * 100000 + b' HTTP/1.1\r\n').startswith((b'HTTP/1.1 431', b'HTTP/1.1 414'))
        reply = raw(door.port, HEAD + b'Connection: close\r\n' + b'A: b\r\n' * 200 + b'\r\n')
        assert reply.startswith((b'HTTP/1.1 413', b'HTTP/1.1 431')), reply[:60]
        assert ask(door.port, 'POST', '/model/cats/predict', b'').status == 200


def test_a_full_head():
    """a head of as many lines as are allowed passes both tiers, with what they add"""
    lines = b'Host: localhost\r\nConnection: close\r\n' + b'A: b\r\n' * 126
    with backend() as animals, gateway('--backend', f'animals={animals.url}') as door, \
            frontend('--gateway', f'http://127.0.0.1:{door.port}') as page:
        for port in (page.port, door.port, animals.port):
            answer = raw(port, b'GET /v2/models/animals HTTP/1.1\r\n' + lines + b'\r\n')
            assert answer.startswith(b'HTTP/1.1 200'), (port, answer[:80])


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
