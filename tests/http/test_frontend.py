#!/usr/bin/env python3
"""The frontend before a gateway and stand-in backends: the page, and two people with two choices."""
import http.server
import os
import subprocess
import sys
import tempfile
import threading

from tiers import GUICHET, Process, ask, frontend, gateway, run_tests, stand_in, until


class Person:
    """A browser, as far as cookies go."""

    def __init__(self, *ports):
        self.ports, self.cookie, self.turn = ports, None, 0

    def ask(self, method, target, body=None, **headers):
        self.turn += 1
        if self.cookie:
            headers['Cookie'] = f'other=1; {self.cookie}; another=2'
        reply = ask(self.ports[self.turn % len(self.ports)], method, target, body, **headers)
        if reply.header('Set-Cookie'):
            self.cookie = reply.header('Set-Cookie').split(';')[0]
        return reply


class Tiers:
    """Two models, a gateway, and a frontend."""

    def __init__(self, *arguments, environment=None):
        self.cats, self.dogs = stand_in('cats'), stand_in('dogs')
        self.gateway = gateway('--backend', f'cats={self.cats.url}', '--backend', f'dogs={self.dogs.url}')
        self.environment = {'API_GATEWAY': f'http://127.0.0.1:{self.gateway.port}', **(environment or {})}
        self.frontend = frontend(*arguments, environment=self.environment)
        self.port = self.frontend.port

    def __enter__(self):
        return self

    def __exit__(self, *what):
        for one in (self.frontend, self.gateway, self.cats, self.dogs):
            one.__exit__(*what)


def test_two_people_two_choices():
    """two sessions with two choices do not disturb each other"""
    with Tiers() as tiers:
        ann, bob, nobody = Person(tiers.port), Person(tiers.port), Person(tiers.port)
        assert ann.ask('GET', '/session').json()['model'] == 'cats'
        assert ann.ask('PUT', '/model/dogs').json() == {'model': 'dogs'}
        assert bob.ask('PUT', '/model/cats').json() == {'model': 'cats'}
        for _ in range(5):
            assert ann.ask('POST', '/predict?top=2', b'{}').json()['target'] == '/model/dogs/predict?top=2'
            assert bob.ask('POST', '/predict', b'{}').json()['category'] == 'cats'
            assert nobody.ask('POST', '/predict', b'{}').json()['category'] == 'cats'
        assert ann.ask('POST', '/predict?model=cats', b'{}').json()['category'] == 'cats', 'one question only'
        assert ann.ask('GET', '/session').json()['model'] == 'dogs'
        assert nobody.cookie is None, 'a program that only asks gets no cookie'


def test_unknown_model_lists_the_valid_ones():
    with Tiers() as tiers:
        for name in ['mice', '..', 'a%20b', 'x' * 300]:
            reply = ask(tiers.port, 'PUT', '/model/' + name)
            assert reply.status in (404, 400), (name, reply.status)
        reply = ask(tiers.port, 'PUT', '/model/mice')
        assert 'mice' in reply.json()['error'] and 'cats, dogs' in reply.json()['error'] and not reply.header('Set-Cookie')


def test_bad_cookies_are_new_sessions():
    """a forged, stale or foreign cookie is a new session, never an error"""
    with Tiers() as tiers, Tiers() as others:
        foreign = Person(others.port)
        foreign.ask('PUT', '/model/dogs')
        good = foreign.cookie.split('=', 1)[1]
        for value in ['', 'x', 'a' * 4000, '"', good, good[:-4] + 'AAAA', '%00', '=', ';']:
            for target, method in [('/session', 'GET'), ('/predict', 'POST'), ('/', 'GET')]:
                reply = ask(tiers.port, method, target, b'{}' if method == 'POST' else None,
                            Cookie=f'guichet_session={value}')
                assert reply.status == 200, (value, target, reply.status)
        reply = ask(tiers.port, 'GET', '/session', Cookie='guichet_session=' + good)
        assert reply.json()['model'] == 'cats' and reply.header('Set-Cookie')


def test_questions_of_its_own():
    """what the caller says of encodings, ranges and copies is not said when the frontend asks for itself"""
    seen = []

    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.extend(name.lower() for name in self.headers)
            body = b'{"models": ["cats"], "default": "cats"}'
            self.send_response(200)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with frontend(environment={'API_GATEWAY': f'http://127.0.0.1:{server.server_port}'}) as page:
            for _ in range(2):
                ask(page.port, 'GET', '/session', Accept_Encoding='gzip', If_None_Match='"a"', Range='bytes=0-1',
                    If_Modified_Since='Sat, 28 Nov 2026 00:00:00 GMT')
        server.shutdown()
    assert seen and not {'accept-encoding', 'if-none-match', 'range', 'if-modified-since'} & set(seen), seen


def test_cookie_attributes():
    with Tiers() as tiers:
        cookie = ask(tiers.port, 'PUT', '/model/dogs').header('Set-Cookie')
        assert 'HttpOnly' in cookie and 'SameSite=Lax' in cookie and 'Path=/' in cookie and 'Secure' not in cookie
        cookie = ask(tiers.port, 'PUT', '/model/dogs', X_Forwarded_Proto='https').header('Set-Cookie')
        assert 'Secure' in cookie
        seen = ask(tiers.port, 'POST', '/predict', b'{}', Cookie='guichet_session=x; a=b').json()['headers']
        assert 'cookie' not in [name.lower() for name, _ in seen], 'a backend has no use for cookies'


def test_two_replicas_share_sessions():
    """any replica of the frontend serves anyone, and keys rotate"""
    old, new = 'o' * 40, 'n' * 40
    with Tiers(environment={'GUICHET_SESSION_KEY': old}) as tiers, frontend(environment=tiers.environment) as twin, \
            frontend(environment={**tiers.environment, 'GUICHET_SESSION_KEY': f'{new},{old}'}) as later:
        person = Person(tiers.port, twin.port)
        person.ask('PUT', '/model/dogs')
        for _ in range(4):
            assert person.ask('POST', '/predict', b'{}').json()['category'] == 'dogs'
        person.ports = (later.port,)
        assert person.ask('GET', '/session').json()['model'] == 'dogs', 'the old key still opens'
        person.ask('PUT', '/model/dogs')
        assert ask(tiers.port, 'GET', '/session', Cookie=person.cookie).json()['model'] == 'cats', 'the new one signs'


def test_key_files():
    with tempfile.TemporaryDirectory() as folder, Tiers() as tiers:
        path = os.path.join(folder, 'key')
        with open(path, 'w', encoding='ascii') as file:
            file.write('k' * 40 + '\n')
        os.chmod(path, 0o600)
        with frontend('--session-key', path, environment=tiers.environment) as one:
            assert ask(one.port, 'GET', '/session').status == 200
        for mode, word in [(0o644, path), (0o604, path), (0o640, path)]:
            os.chmod(path, mode)
            with Process(GUICHET, 'frontend', '--session-key', path, environment=tiers.environment) as one:
                assert one.child.wait(30) == 1
                one.reader.join(5)
                assert len(one.lines) == 1 and word in one.lines[0], one.lines
        with Process(GUICHET, 'frontend', '--session-key', path + '.none', environment=tiers.environment) as one:
            assert one.child.wait(30) == 1
            one.reader.join(5)
            assert len(one.lines) == 1 and path in one.lines[0], one.lines


def test_a_choice_that_is_gone():
    """a session whose model is gone gets the default one"""
    with tempfile.TemporaryDirectory() as folder, stand_in('cats') as cats, stand_in('dogs') as dogs:
        path = os.path.join(folder, 'backends')
        with open(path, 'w', encoding='ascii') as file:
            file.write(f'cats={cats.url} dogs={dogs.url}')
        with gateway('--backends', path) as door, \
                frontend(environment={'SERVING_URL': f'http://127.0.0.1:{door.port}'}) as front:
            person = Person(front.port)
            person.ask('PUT', '/model/dogs')
            with open(path, 'w', encoding='ascii') as file:
                file.write(f'cats={cats.url}')
            door.kill(1)
            until(lambda: ask(door.port, 'GET', '/models').json() == ['cats'])
            assert person.ask('POST', '/predict', b'{}').json()['category'] == 'cats'
            assert person.ask('GET', '/session').json() == {**person.ask('GET', '/session').json(), 'model': 'cats',
                                                            'chosen': False}


def test_the_page():
    with Tiers() as tiers:
        page = ask(tiers.port, 'GET', '/')
        assert page.status == 200 and b'<!doctype html>' in page.body.lower()
        assert "default-src 'self'" in page.header('Content-Security-Policy')
        again = ask(tiers.port, 'GET', '/', If_None_Match=page.header('ETag'))
        assert again.status == 304 and again.body == b''
        assert ask(tiers.port, 'HEAD', '/').body == b''


def test_everything_else_is_passed_on():
    with Tiers() as tiers:
        assert ask(tiers.port, 'GET', '/models').json() == ['cats', 'dogs']
        assert ask(tiers.port, 'POST', '/model/dogs/predict', b'{}', X_Request_Id='one').header('X-Request-Id') == 'one'
        assert ask(tiers.port, 'POST', '/v2/models/cats/infer', b'{}').json()['model'] == 'cats'
        assert ask(tiers.port, 'GET', '/hello').json() == 'Hello!'
        assert ask(tiers.port, 'GET', '/none').status == 404
        for method, target, allow in [('POST', '/', 'GET, HEAD'), ('PUT', '/session', 'GET, HEAD'), ('GET', '/predict', 'POST'),
                                      ('DELETE', '/model/cats', 'PUT')]:
            reply = ask(tiers.port, method, target)
            assert reply.status == 405 and reply.header('Allow') == allow, (method, target, reply.status)
        metrics = ask(tiers.port, 'GET', '/metrics').body.decode()
        assert 'guichet_frontend_requests_total' in metrics and 'guichet_gateway' not in metrics, 'each tier for itself'


def test_without_a_gateway():
    """the page is there while the gateway is not, and goes on when it comes back"""
    with Tiers() as tiers:
        tiers.gateway.kill()
        tiers.gateway.child.wait()
        assert ask(tiers.port, 'GET', '/').status == 200
        reply = ask(tiers.port, 'POST', '/predict', b'{}')
        assert reply.status == 502 and 'gateway' in reply.json()['error']
        with gateway('--backend', f'cats={tiers.cats.url}', '--port', str(tiers.gateway.port)):
            assert ask(tiers.port, 'POST', '/predict', b'{}').status == 200


def test_tls():
    with tempfile.TemporaryDirectory() as folder, Tiers() as tiers:
        certificate, key = os.path.join(folder, 'c.pem'), os.path.join(folder, 'k.pem')
        made = subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out',
                               certificate, '-days', '2', '-subj', '/CN=localhost', '-addext',
                               'subjectAltName=DNS:localhost'], capture_output=True, check=False)
        if made.returncode:
            return 'no openssl to make a certificate with'
        with frontend('--tls-cert', certificate, '--tls-key', key, environment=tiers.environment) as front:
            answer = subprocess.run(['curl', '-s', '-i', '--cacert', certificate, '-X', 'PUT',
                                     f'https://localhost:{front.port}/model/dogs'], capture_output=True, check=False)
            assert b'Secure' in answer.stdout and b'{"model":"dogs"}' in answer.stdout, answer
            with gateway('--backend', f'far=https://localhost:{front.port}', '--ca', certificate) as door:
                until(lambda: ask(door.port, 'GET', '/model/far/x').status == 404, what='an https backend')
    return None


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
