#!/usr/bin/env python3
"""Who may do what: API keys with roles and models, the control listener, pages from elsewhere, and names that were made to
point here. Real processes; the models are stand-ins."""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading

from tiers import GUICHET, Client, Process, Serve, ask, free_port, frontend, gateway, raw, run_tests, stand_in, until

LOAD, UNLOAD = '/v2/repository/models/cats/load', '/v2/repository/models/cats/unload'
CHAT = '/v1/chat/completions'


def key_of(name):
    return f'the key of {name}'


def line_of(name, *words):
    return ' '.join([name, hashlib.sha256(key_of(name).encode()).hexdigest(), *words])


def shown(name):
    return {'X_Api_Key': key_of(name)} if name else {}


LINES = [line_of('usual'), line_of('predicts', 'roles=predict'), line_of('measures', 'roles=metrics'),
         line_of('manages', 'roles=manage'), line_of('everything', 'roles=predict,metrics,manage'),
         line_of('cats-only', 'models=cats'), line_of('dogs-only', 'roles=predict,metrics,manage', 'models=dogs'),
         line_of('both', 'models=dogs,cats'), line_of('nothing-here', 'models=mice')]


class KeyFile:
    def __init__(self, lines):
        self.folder = tempfile.mkdtemp()
        self.path = os.path.join(self.folder, 'keys')
        self.write(lines)

    def write(self, lines):
        with open(self.path + '.new', 'w', encoding='ascii') as file:
            file.write('# name, hash, and what it may\n\n' + '\n'.join(lines) + '\n')
        os.replace(self.path + '.new', self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def doors(*arguments, keys=None, control=False, environment=None):
    """name -> port of a gateway, a frontend before another one, and serve, over the models cats and dogs; the processes that
    have keys; and the control listeners of gateway and serve."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        cats, dogs = enter(stand_in('cats')), enter(stand_in('dogs'))
        backends = ['--backend', f'cats={cats.url}', '--backend', f'dogs={dogs.url}']
        words = [*arguments, *(['--api-keys', keys.path] if keys else [])]
        controls = {'gateway': free_port(), 'serve': free_port()} if control else {}
        listen = lambda name: ['--control', f'127.0.0.1:{controls[name]}'] if control else []
        alone = enter(gateway(*backends, *words, *listen('gateway')))
        door = enter(gateway(*backends, *words))
        page = enter(frontend(environment={'API_GATEWAY': f'http://127.0.0.1:{door.port}', **(environment or {})}))
        serve = enter(Serve({'cats': '', 'dogs': ''}, *words, *listen('serve')))
        yield {'gateway': alone.port, 'frontend': page.port, 'serve': serve.port}, [alone, door, serve.process], controls
        for process in (page, door, alone, serve.process):
            process.end_well()


def test_roles():
    """a key's line says what it may: predict, metrics, manage; without a word, the first two"""
    may = {None: '', 'wrong': '', 'usual': 'predict metrics', 'predicts': 'predict', 'measures': 'metrics', 'manages': 'manage',
           'everything': 'predict metrics manage'}
    calls = {'predict': [('POST', '/predict'), ('POST', '/model/cats/predict'), ('GET', '/models'), ('GET', '/session'),
                         ('GET', '/v2/models/cats'), ('POST', '/v2/models/cats/infer'), ('POST', '/v1/models/cats:predict'),
                         ('PUT', '/model/cats'), ('POST', CHAT)],
             'metrics': [('GET', '/metrics'), ('GET', '/model/cats/metrics')],
             'manage': [('POST', LOAD), ('POST', UNLOAD)], 'none': [('GET', '/healthz'), ('GET', '/v2/health/live')]}
    with KeyFile(LINES) as keys, doors(keys=keys) as (ports, _, _):
        for tier, port in ports.items():
            for name, roles in may.items():
                for role, asked in calls.items():
                    for method, target in asked:
                        if (tier, target) in [('gateway', '/session'), ('frontend', '/metrics')]:
                            continue  # not there, and the frontend's own
                        reply = ask(port, method, target, b'{"model": "cats"}' if method != 'GET' else None, **shown(name))
                        if role == 'none' or role in roles:
                            wanted = 400 if role == 'manage' and tier != 'serve' else 200  # nobody's to start there
                        else:
                            wanted = 401 if name in (None, 'wrong') else 403
                        assert reply.status == wanted, (tier, name, method, target, reply.status, reply.body)
                        if wanted == 401:
                            assert reply.header('WWW-Authenticate') == 'Bearer'
                        if wanted == 403 and name != 'wrong':
                            assert role in json.dumps(reply.json()) and name in json.dumps(reply.json()), reply.body


def test_ways_to_show_a_key():
    """as Bearer or as X-Api-Key, which wins; it stays here"""
    with KeyFile(LINES) as keys, doors(keys=keys) as (ports, _, _):
        for port in ports.values():
            for headers, wanted in [({'Authorization': 'Bearer ' + key_of('usual')}, 200), ({'Authorization': 'bearer  ' + key_of('usual')}, 200),
                                    ({'X_Api_Key': key_of('usual')}, 200), ({'Authorization': 'Bearer wrong', **shown('usual')}, 200),
                                    ({'Authorization': 'Bearer ' + key_of('usual'), 'X_Api_Key': 'wrong'}, 401),
                                    ({'Authorization': key_of('usual')}, 401), ({'Authorization': 'Basic ' + key_of('usual')}, 401),
                                    ({'Authorization': 'Bearer'}, 401), ({'Authorization': 'Bearer '}, 401), ({'X_Api_Key': ''}, 401),
                                    ({'X_Api_Key': key_of('usual') + ' '}, 200), ({'X_Api_Key': key_of('usual')[:-1]}, 401),
                                    ({'X_Api_Key': hashlib.sha256(key_of('usual').encode()).hexdigest()}, 401)]:
                reply = ask(port, 'POST', '/model/cats/predict', b'{}', **headers)
                assert reply.status == wanted, (headers, reply.status, reply.body)
                assert wanted == 401 or key_of('usual').encode() not in reply.body, 'a key goes to no backend'


def test_models_of_a_key():
    """a key with models may use those alone, wherever the name stands, and sees no others"""
    with KeyFile(LINES) as keys, doors(keys=keys) as (ports, _, _):
        for tier, port in ports.items():
            def ask_for(name, method, target, body=None, **headers):
                return ask(port, method, target, body, **shown(name), **headers)
            for name, models in [('cats-only', ['cats']), ('dogs-only', ['dogs']), ('both', ['cats', 'dogs']), ('nothing-here', [])]:
                assert ask_for(name, 'GET', '/models').json() == models, (tier, name)
                assert [entry['name'] for entry in ask_for(name, 'GET', '/models?details=1').json()] == models
                assert ask_for(name, 'GET', '/v2/models').json() == {'models': models}
                assert [entry['name'] for entry in ask_for(name, 'POST', '/v2/repository/index', b'{}').json()] == models
                for model in ('cats', 'dogs'):
                    wanted = 200 if model in models else 403
                    for method, target, body in [
                            ('POST', f'/model/{model}/predict', b'{}'), ('POST', f'/predict?model={model}', b'{}'),
                            ('GET', f'/v2/models/{model}', None), ('GET', f'/v2/models/{model}/ready', None),
                            ('POST', f'/v2/models/{model}/infer', b'{}'), ('GET', f'/v1/models/{model}', None),
                            ('POST', f'/v1/models/{model}:predict', b'{}'), ('GET', f'/model/{model}/metrics', None),
                            ('PUT', f'/model/{model}', b''), ('POST', CHAT, json.dumps({'model': model}).encode())]:
                        reply = ask_for(name, method, target, body)
                        assert reply.status == wanted or (tier, reply.status, target[-6:]) == ('serve', 503, '/ready'), \
                            (tier, name, method, target, reply.status, reply.body)
                        if wanted == 403:
                            error = reply.json()['error']
                            text = error['message'] if target == CHAT else error
                            assert model in text and name in text, error
                            assert target != CHAT or error['type'] == 'permission_error', error
                reply = ask_for(name, 'POST', '/predict', b'{}')
                assert reply.status == (200 if models else 404) and (not models or reply.json()['model'] == models[0]), (tier, name, reply.body)
            # A session keeps a choice; its cookie lends nobody a right.
            if tier == 'gateway':
                continue
            cookie = ask_for('dogs-only', 'PUT', '/model/dogs').header('Set-Cookie').split(';')[0]
            assert ask_for('both', 'POST', '/predict', b'{}', Cookie=cookie).json()['model'] == 'dogs'
            reply = ask_for('cats-only', 'POST', '/predict', b'{}', Cookie=cookie)
            assert reply.status == 403 or reply.json()['model'] == 'cats', (tier, reply.status, reply.body)
            assert ask_for('cats-only', 'GET', '/session', Cookie=cookie).json()['model'] == 'cats'
        port = ports['serve']
        assert ask(port, 'POST', UNLOAD, b'', **shown('dogs-only')).status == 403, 'managing, too'
        assert ask(port, 'POST', UNLOAD.replace('cats', 'dogs'), b'', **shown('dogs-only')).status == 200


def test_without_keys():
    """without a key file everybody may predict and measure; nobody may manage, except at the control listener"""
    with doors(control=True) as (ports, _, controls):
        for tier, port in ports.items():
            assert ask(port, 'POST', '/model/cats/predict', b'{}').status == 200
            assert ask(port, 'GET', '/metrics').status == 200
            for target in (LOAD, UNLOAD):
                for headers in ({}, shown('everything'), {'Authorization': 'Bearer ' + key_of('everything')}):
                    reply = ask(port, 'POST', target, b'{}', **headers)
                    assert reply.status == 403 and '--control' in reply.json()['error'], (tier, target, reply.status, reply.body)
        control, door = controls['serve'], ports['serve']
        state = lambda: next(entry['state'] for entry in ask(door, 'GET', '/models?details=1').json() if entry['name'] == 'cats')
        assert state() == 'ready'
        assert ask(control, 'POST', UNLOAD, b'').status == 200
        until(lambda: state() == 'stopped', what='the end of it')
        assert ask(control, 'POST', LOAD, b'').status == 200 and state() == 'ready'
        assert ask(control, 'POST', LOAD.replace('cats', 'mice'), b'').status == 404
        assert ask(control, 'GET', LOAD).status == 405
        for port in controls.values():  # it answers every call
            assert ask(port, 'POST', '/model/cats/predict', b'{}').json()['model'] == 'cats'
            assert ask(port, 'GET', '/models').json() == ['cats', 'dogs'] and ask(port, 'GET', '/metrics').status == 200
            assert ask(port, 'GET', '/docs').status == 200
        reply = ask(controls['gateway'], 'POST', LOAD, b'')
        assert reply.status == 400 and 'start' in reply.json()['error'], 'its backends are not its to start'


def test_the_control_listener_needs_no_key():
    """with a key file and a rate, the control listener answers without either; the others do not"""
    with KeyFile(LINES) as keys, doors('--rate', '0.001:3', keys=keys, control=True) as (ports, _, controls):
        for port in controls.values():
            assert [ask(port, 'GET', '/models').status for _ in range(8)] == [200] * 8
            assert ask(port, 'GET', '/metrics').status == 200
        assert ask(controls['serve'], 'POST', LOAD, b'').status == 200
        for port in ports.values():
            assert ask(port, 'GET', '/models').status == 401
    for address in ['127.0.0.1', ':9', '127.0.0.1:', '127.0.0.1:x', '127.0.0.1:70000', '[::1', 'localhost:9:9']:
        with Process(GUICHET, 'gateway', '--address', '127.0.0.1', '--port', '0', '--backend', 'a=http://127.0.0.1:1',
                     '--control', address) as door:
            assert door.child.wait(10) in (1, 2), address
            door.reader.join(5)
            assert any('--control ' + address in line for line in door.lines), (address, door.lines)


def test_a_frontend_does_not_lend_its_key():
    """a frontend shows its own key for callers without one, but not for managing"""
    environment = {'GUICHET_API_KEY': key_of('everything')}
    with KeyFile(LINES) as keys, doors(keys=keys, environment=environment) as (ports, _, _):
        port = ports['frontend']
        assert ask(port, 'POST', '/predict', b'{}').json()['model'] == 'cats'
        assert ask(port, 'GET', '/models').json() == ['cats', 'dogs']
        assert ask(port, 'GET', '/model/cats/metrics').status == 200
        for target in (LOAD, UNLOAD):
            assert ask(port, 'POST', target, b'').status == 401
            assert ask(port, 'POST', target, b'', Cookie='a=b').status == 401
            assert ask(port, 'POST', target, b'', **shown('predicts')).status == 403
            assert ask(port, 'POST', target, b'', **shown('manages')).status == 400, 'their own key may; nothing is to be started there'
        assert ask(port, 'GET', '/models', **shown('wrong')).status == 401, 'a wrong key is not made good'
        assert ask(port, 'GET', '/models', **shown('cats-only')).json() == ['cats'], 'nor one that may less'
        assert ask(port, 'GET', '/models', Authorization='Basic eA==').status == 401
    with KeyFile(LINES) as keys, doors(keys=keys, environment={'GUICHET_API_KEY': ''}) as (ports, _, _):
        assert ask(ports['frontend'], 'GET', '/models').status == 401


def test_reload():
    """SIGHUP reads the key file again: new keys, other roles, keys that are gone; a bad file changes nothing"""
    with KeyFile(LINES[:2]) as keys, doors(keys=keys) as (ports, processes, _):
        def reload(said):
            for process in processes:
                before = len([line for line in process.lines if said in line])
                process.kill(signal.SIGHUP)
                until(lambda: len([line for line in process.lines if said in line]) > before, what=said)
        ask_all = lambda method, target, name: {ask(port, method, target, b'{}' if method == 'POST' else None, **shown(name)).status
                                                for port in ports.values()}
        assert ask_all('GET', '/models', 'usual') == {200} and ask_all('GET', '/models', 'new') == {401}
        keys.write([line_of('new', 'models=cats'), line_of('predicts', 'roles=metrics')])
        reload('reloaded the files')
        assert ask_all('GET', '/models', 'usual') == {401}, 'it is gone'
        assert ask_all('GET', '/models', 'new') == {200} and ask_all('POST', '/model/dogs/predict', 'new') == {403}
        assert ask_all('GET', '/models', 'predicts') == {403} and ask_all('GET', '/model/cats/metrics', 'predicts') == {200}
        for bad in ['one word', line_of('a', 'roles='), line_of('a', 'roles=predict,'), line_of('a', 'roles=admin'),
                    line_of('a', 'models='), line_of('a', 'more'), 'a ' + 'f' * 63, line_of('x' * 64)]:
            keys.write([line_of('new'), bad])
            reload('not reloaded')
            assert any(f'{keys.path}:4' in line for line in processes[0].lines[-2:]), (bad, processes[0].lines[-2:])
            assert ask_all('POST', '/model/dogs/predict', 'new') == {403}, bad
        os.unlink(keys.path)
        reload('not reloaded')
        assert ask_all('GET', '/models', 'new') == {200} and ask_all('GET', '/models', None) == {401}, 'it does not open'
        keys.write([])
        reload('reloaded the files')
        assert ask_all('GET', '/models', 'new') == {401} and ask_all('GET', '/models', None) == {401}, 'no key is no open door'


def test_reload_under_load():
    """while the key file is read again and again, no request with a good key is refused"""
    with KeyFile(LINES) as keys, stand_in('cats') as cats, \
            gateway('--backend', f'cats={cats.url}', '--api-keys', keys.path) as door:
        statuses, stop = [], threading.Event()

        def ask_on():
            client = Client(door.port)
            while not stop.is_set():
                statuses.append(client.ask('POST', '/model/cats/predict', b'{}', **shown('usual')).status)
            client.close()
        threads = [threading.Thread(target=ask_on) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(12):
            keys.write(LINES if turn % 2 else [line_of(f'another-{number}') for number in range(50)] + LINES)
            before = len([line for line in door.lines if 'reloaded the files' in line])
            door.kill(signal.SIGHUP)
            until(lambda: len([line for line in door.lines if 'reloaded the files' in line]) > before)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200} and len(statuses) > 12, set(statuses)


def test_files_that_are_wrong():
    """a key file that cannot be read, or says what it may not, is one line, and nothing starts"""
    for lines in (['one word'], [line_of('a', 'roles=admin')], [line_of('a', 'models=')]):
        with KeyFile(lines) as keys:
            for words in (['gateway', '--backend', 'a=http://127.0.0.1:1'], ['serve', '--models', keys.folder]):
                with Process(GUICHET, *words, '--port', '0', '--api-keys', keys.path,
                             environment={'XDG_STATE_HOME': keys.folder}) as door:
                    assert door.child.wait(10) == 1, (words, lines)
                    door.reader.join(5)
                    assert len(door.lines) == 1 and f'{keys.path}:3' in door.lines[0], door.lines


CHANGES = [('PUT', '/model/cats'), ('POST', LOAD), ('POST', UNLOAD)]


def test_pages_from_elsewhere():
    """what changes the service is refused to pages of other origins, and answered to our own and to programs"""
    with doors(control=True) as (ports, _, controls):
        for port in [*ports.values(), *controls.values()]:
            here = f'127.0.0.1:{port}'
            elsewhere = [{'Origin': 'https://evil.example'}, {'Origin': 'null'}, {'Origin': ''}, {'Sec_Fetch_Site': 'cross-site'},
                         {'Sec_Fetch_Site': 'same-site'}, {'Sec_Fetch_Site': 'nonsense'}, {'Origin': f'http://127.0.0.1:{port + 1}'},
                         {'Origin': 'http://127.0.0.1'}, {'Origin': f'http://{here}.evil.example'}, {'Origin': f'http://evil.example/{here}'},
                         {'Origin': here}, {'Origin': 'https://evil.example', 'Sec_Fetch_Site': 'same-origin'}]
            own = [{'Origin': 'http://' + here}, {'Origin': 'https://' + here}, {'Sec_Fetch_Site': 'same-origin'}, {'Sec_Fetch_Site': 'none'},
                   {}, {'Origin': 'http://' + here, 'Sec_Fetch_Site': 'same-origin'},
                   {'Origin': 'https://page.example', 'X_Forwarded_Host': 'page.example'}]
            for method, target in CHANGES:
                for headers in elsewhere:
                    for body in (b'', b'{}'):
                        reply = ask(port, method, target, body, Content_Type='text/plain', **headers)
                        assert reply.status == 403 and 'origin' in reply.json()['error'], (port, method, target, headers, reply.status, reply.body)
                if target != UNLOAD and (port in controls.values() or method == 'PUT'):
                    for headers in own:
                        reply = ask(port, method, target, b'', **headers)
                        assert reply.status == (400 if port == controls['gateway'] and method == 'POST' else 200), (method, target, headers, reply.status)
            # Asking is no change: a page may send it, and without CORS does not see the answer.
            reply = ask(port, 'POST', '/model/cats/predict', b'{}', Origin='https://evil.example', Sec_Fetch_Site='cross-site')
            assert reply.status == 200 and not reply.header('Access-Control-Allow-Origin')
            assert ask(port, 'GET', '/models', Origin='https://evil.example').status == 200
        states = {entry['name']: entry['state'] for entry in ask(ports['serve'], 'GET', '/models?details=1').json()}
        assert states['cats'] == 'ready', 'nobody unloaded it'


def test_allowed_origins():
    """pages of origins that --cors names may change what their key may"""
    with KeyFile(LINES) as keys, doors('--cors', 'https://a.example', keys=keys) as (ports, _, _):
        for port in (ports['gateway'], ports['serve']):
            for method, target in CHANGES[:2]:
                reply = ask(port, method, target, b'', Origin='https://a.example', **shown('everything'))
                assert reply.status in (200, 400) and reply.header('Access-Control-Allow-Origin') == 'https://a.example'
                assert ask(port, method, target, b'', Origin='https://a.example').status == 401
                assert ask(port, method, target, b'', Origin='https://b.example', **shown('everything')).status == 403


def ask_host(port, host, target='/models', method='GET', more=''):
    line = '' if host is None else f'Host: {host}\r\n'
    reply = raw(port, f'{method} {target} HTTP/1.1\r\n{line}{more}Content-Length: 0\r\nConnection: close\r\n\r\n'.encode())
    return int(reply.split(b' ', 2)[1]), reply


def test_names_that_point_here():
    """listeners on loopback answer to its names alone (421 else), and to those of --host-name"""
    with doors(control=True) as (ports, _, controls), stand_in('cats') as cats:
        for port in [*ports.values(), *controls.values(), *ports.values()]:
            for host in ['localhost', f'localhost:{port}', 'LOCALHOST', 'localhost.', '127.0.0.1', f'127.0.0.1:{port}', '127.9.9.9', '[::1]',
                         f'[::1]:{port}', 'guichet.localhost', f'a.b.localhost:{port}']:
                assert ask_host(port, host)[0] == 200, host
            for host in ['evil.example', f'evil.example:{port}', 'localhost.evil.example', 'evillocalhost', '127.0.0.1.evil.example',
                         '10.0.0.1', '0.0.0.0', '128.0.0.1', '[::]', '[::2]', f'192.168.1.1:{port}', '2130706433', 'x' * 300, '.localhost.evil', '::1']:
                status, reply = ask_host(port, host)
                assert status == 421 or (status == 400 and b'ost' in reply), (host, reply)
            # Rebinding: to the browser, the page is of our origin.
            for method, target in [('GET', '/models'), ('GET', '/session'), ('POST', '/predict'), *CHANGES, ('GET', '/'), ('GET', '/docs'), ('GET', '/healthz')]:
                status, reply = ask_host(port, f'evil.example:{port}', target, method,
                                         f'Origin: http://evil.example:{port}\r\nSec-Fetch-Site: same-origin\r\n')
                assert status == 421 and b'evil.example' in reply, (target, reply)
            status, reply = ask_host(port, 'evil.example', CHAT, 'POST')
            assert status == 421 and json.loads(reply.split(b'\r\n\r\n', 1)[1])['error']['type'] == 'invalid_request_error', reply
        named = ['--host-name', 'guichet.example', '--host-name', 'Other.Example']
        with gateway('--backend', f'cats={cats.url}', *named) as door, \
                frontend('--host-name', 'guichet.example', environment={'API_GATEWAY': f'http://127.0.0.1:{door.port}'}) as page, \
                Serve({'cats': ''}, *named) as serve:
            for port in (door.port, page.port, serve.port):
                for host in ['guichet.example', f'guichet.example:{port}', 'GUICHET.example', 'localhost', 'guichet.example:443']:
                    assert ask_host(port, host)[0] == 200, host
                for host in ['evil.example', 'a.guichet.example', 'guichet.example.evil']:
                    assert ask_host(port, host)[0] == 421, host
                status, _ = ask_host(port, 'guichet.example', '/model/cats', 'PUT', 'Origin: https://guichet.example\r\n')
                assert status == 200, 'its own page'


def test_other_listeners():
    """a listener that other machines reach answers to any name"""
    with stand_in('cats') as cats:
        with gateway('--address', '0.0.0.0', '--backend', f'cats={cats.url}') as door:
            assert ask_host(door.port, 'anything.example')[0] == 200
            status, reply = ask_host(door.port, 'anything.example', '/model/cats', 'PUT', 'Origin: https://evil.example\r\n')
            assert status == 403, reply


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
