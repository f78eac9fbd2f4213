#!/usr/bin/env python3
"""The gateway before stand-in backends: routing, failures, limits, reloading. KILL_SECONDS=30 makes the kill -9 test long."""
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from name_server import ADDRESS as NAME_SERVER, NameServer
from tiers import GUICHET, JPEG, Client, Load, Process, ask, backend, check_docs, free_port, gateway, outstanding, raw, run_tests, stand_in, until

HEAD = b'POST /model/cats/predict HTTP/1.1\r\nHost: localhost\r\n'


def test_routes_by_name():
    with stand_in('cats') as cats, stand_in('dogs:int8') as dogs, \
            gateway('--backend', f'cats={cats.url}', '--backend', f'dogs:int8={dogs.url}') as door:
        for target, name in [('/model/cats/predict?top=3', 'cats'), ('/v2/models/cats/infer', 'cats'),
                             ('/v1/models/cats:predict', 'cats'), ('/model/dogs%3Aint8/predict', 'dogs:int8'),
                             ('/v1/models/dogs:int8:predict', 'dogs:int8'), ('/v2/models/cats/versions/1/infer', 'cats')]:
            reply = ask(door.port, 'POST', target, b'{}').json()
            assert (reply['model'], reply['target']) == (name, target), reply
        assert ask(door.port, 'POST', '/predict', b'{}').json()['target'] == '/model/cats/predict'
        assert ask(door.port, 'POST', '/predict?model=dogs:int8&top=2', b'{}').json()['model'] == 'dogs:int8'
        assert ask(door.port, 'GET', '/models').json() == ['cats', 'dogs:int8']
        assert ask(door.port, 'GET', '/v2/models').json() == {'models': ['cats', 'dogs:int8']}
        index = ask(door.port, 'POST', '/v2/repository/index', b'{}').json()
        assert [entry['state'] for entry in index] == ['READY', 'READY'], index
        details = ask(door.port, 'GET', '/models?details=1').json()
        assert details[0]['state'] == 'ready' and details[0]['typical_ms'] > 0, details
        reply = ask(door.port, 'POST', '/model/mice/predict', b'{}')
        assert reply.status == 404 and 'cats, dogs:int8' in reply.json()['error']
        assert ask(door.port, 'DELETE', '/models').status == 405
        assert ask(door.port, 'GET', '/model/../models').status == 400
        assert ask(door.port, 'GET', '/model/cats/%2e%2e/%2e%2e/readyz').status == 400
        assert ask(door.port, 'HEAD', '/model/cats/predict').body == b''


def test_headers_travel():
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}') as door:
        parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        reply = ask(door.port, 'POST', '/model/cats/predict', b'12345', X_Request_Id='abc', traceparent=parent,
                    tracestate='a=b', X_Mine='1', Connection='X-Mine, keep-alive', X_Forwarded_For='9.9.9.9')
        seen = {name.lower(): value for name, value in reply.json()['headers']}
        assert reply.header('X-Request-Id') == 'abc' and seen['x-request-id'] == 'abc'
        assert seen['traceparent'] == parent and seen['tracestate'] == 'a=b'
        assert 'x-mine' not in seen and seen['x-forwarded-for'] == '9.9.9.9, 127.0.0.1'
        assert reply.json()['bytes'] == 5 and reply.header('X-Backend') == 'yes'
        made = ask(door.port, 'POST', '/model/cats/predict', b'', traceparent='nonsense', X_Request_Id='a b')
        seen = {name.lower(): value for name, value in made.json()['headers']}
        assert len(seen['traceparent']) == 55 and seen['traceparent'] != parent
        assert len(seen['x-request-id']) == 32


def test_killed_backends_lose_nothing():
    """kill -9 of random backends under load, two replicas: no request fails"""
    seconds = float(os.environ.get('KILL_SECONDS', '4'))
    ports = [free_port(), free_port()]
    replicas = [stand_in('cats', port) for port in ports]
    try:
        with gateway('--backend', ' '.join(f'{"cats=" if i == 0 else ""}http://127.0.0.1:{port}'
                                           for i, port in enumerate(ports))) as door:
            load = Load(door.port, threads=8, target='/model/cats/predict?sleep=0.01')
            end, kills = time.monotonic() + seconds, 0
            while time.monotonic() < end or kills < 3:
                victim = random.randrange(2)
                replicas[victim].kill()
                replicas[victim].child.wait()
                kills += 1
                time.sleep(random.uniform(0.05, 0.3))
                replicas[victim] = stand_in('cats', ports[victim])
                time.sleep(random.uniform(0.05, 0.3))
            good = load.end(51)
            assert not load.errors, (len(load.errors), load.errors[:3])
            assert good > 50 and kills > 2, (good, kills)
            print(f'# {good} answers, {kills} kills')
    finally:
        for replica in replicas:
            replica.kill()
            replica.__exit__(None, None, None)


def test_killed_in_the_middle_of_an_answer():
    """a request that kills whoever takes it ends neither the last replica nor the service"""
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(stand_in('cats')) for _ in range(3)]
        door = stack.enter_context(gateway('--backend', 'cats=' + ' '.join(one.url for one in replicas)))
        reply = ask(door.port, 'POST', '/model/cats/predict?die=1', b'')
        assert reply.status == 502 and 'error' in reply.json(), (reply.status, reply.body)
        until(lambda: sum(one.child.poll() is not None for one in replicas) == 2)
        assert ask(door.port, 'POST', '/model/cats/predict', b'').status == 200, 'the last one lives'
        assert ask(door.port, 'POST', '/model/cats/predict?die=1', b'').status == 502
        reply = ask(door.port, 'POST', '/model/cats/predict', b'')
        assert reply.status == 502, 'alone from the beginning, it is asked, and dies'


def test_killed_one_of_two():
    """what was at a replica that died is answered once two are well, and others at once"""
    ports = [free_port(), free_port()]
    with stand_in('cats', ports[0]) as one, stand_in('cats', ports[1]) as two, \
            gateway('--backend', f'cats={one.url} {two.url}') as door:
        load = Load(door.port, threads=6, target='/model/cats/predict?sleep=0.3')
        time.sleep(0.5)
        one.kill()
        one.child.wait()
        started = time.monotonic()
        assert ask(door.port, 'POST', '/model/cats/predict', b'').status == 200 and time.monotonic() - started < 2
        with stand_in('cats', ports[0]):
            assert load.end(40) and not load.errors, load.errors[:3]


def test_hanging_replica_is_left():
    """SIGSTOP of one of two: what waits for it is asked elsewhere as soon as its check fails"""
    with stand_in('cats') as one, stand_in('cats') as two, \
            gateway('--backend', f'cats={one.url} {two.url}', '--timeout', '30') as door:
        until(lambda: one.child.pid == ask(door.port, 'POST', '/model/cats/predict').json()['pid'])
        one.kill(signal.SIGSTOP)
        started, replies = time.monotonic(), []
        threads = [threading.Thread(target=lambda: replies.append(ask(door.port, 'POST', '/model/cats/predict', b'{}')))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - started
        assert [reply.status for reply in replies] == [200] * 8 and took < 8, (took, [reply.status for reply in replies])
        assert {reply.json()['pid'] for reply in replies} == {two.child.pid}
        assert outstanding(door.port) == 0
        one.kill(signal.SIGCONT)
        until(lambda: one.child.pid in [ask(door.port, 'POST', '/model/cats/predict').json()['pid'] for _ in range(4)],
              what='the other one coming back')


def test_lone_replica_that_is_loading_is_waited_for():
    with stand_in('cats') as one, gateway('--backend', f'cats={one.url}') as door:
        until(lambda: ask(door.port, 'POST', '/model/cats/predict').status == 200)
        ask(one.port, 'GET', '/control?ready=0&status=503')
        until(lambda: ask(door.port, 'GET', '/readyz').status == 503, what='the failed check')
        replies = []
        thread = threading.Thread(target=lambda: replies.append(ask(door.port, 'POST', '/model/cats/predict', b'{}')))
        thread.start()
        time.sleep(0.7)
        assert not replies
        ask(one.port, 'GET', '/control?ready=1&status=')
        thread.join()
        assert replies[0].status == 200, replies[0].body
    with stand_in('cats') as one, gateway('--backend', f'cats={one.url}', '--timeout', '1.5') as door:
        ask(one.port, 'GET', '/control?ready=0&status=503')
        assert ask(door.port, 'POST', '/model/cats/predict').status == 503, 'not for ever'


def test_hanging_backend():
    """a backend that hangs costs its callers their time limit, and the others nothing"""
    with stand_in('cats') as cats, stand_in('dogs') as dogs, \
            gateway('--backend', f'cats={cats.url}', '--backend', f'dogs={dogs.url}', '--timeout', '6') as door:
        started = time.monotonic()
        reply = ask(door.port, 'POST', '/model/cats/predict?hang=1', b'')
        assert reply.status == 504 and 5.9 < time.monotonic() - started < 15, reply.status
        cats.kill(signal.SIGSTOP)  # its kernel still accepts connections, and nobody answers
        started = time.monotonic()
        assert ask(door.port, 'POST', '/model/dogs/predict', b'').status == 200
        assert time.monotonic() - started < 5
        assert ask(door.port, 'POST', '/model/cats/predict', b'').status == 504
        cats.kill(signal.SIGCONT)
        until(lambda: ask(door.port, 'POST', '/model/cats/predict', b'').status == 200, what='recovery')


def test_slow_model_does_not_delay_a_fast_one():
    with stand_in('cats') as slow, stand_in('dogs') as fast, \
            gateway('--backend', f'cats={slow.url}', '--backend', f'dogs={fast.url}', '--bound', '4') as door:
        load = Load(door.port, '/model/cats/predict?sleep=0.5', threads=12)
        until(lambda: outstanding(door.port) == 4, what='the bound')
        # Without the gateway, too: what the machine delays is no delay of its.
        clients, times = {'gateway': Client(door.port), 'direct': Client(fast.port)}, {'gateway': [], 'direct': []}
        for _ in range(40):
            for way, client in clients.items():
                started = time.monotonic()
                assert client.ask('POST', '/model/dogs/predict', b'').status == 200
                times[way].append(time.monotonic() - started)
        load.end()
        through, direct = (sorted(times[way])[20] for way in ('gateway', 'direct'))
        assert through < 0.1 or through < 3 * direct, times
        assert load.statuses.get(503, 0) > 0, 'beyond its bound the slow one says so at once'


def test_no_checks():
    """--check 0: no replica is asked whether it is well, and one that fails is left out and found again all the same"""
    port = free_port()
    with stand_in('cats') as one, stand_in('cats', port) as two, \
            gateway('--check', '0', '--backend', f'cats={one.url}', '--backend', f'cats={two.url}') as front:
        def seen(count=8):
            replies = [ask(front.port, 'POST', '/model/cats/predict', b'{}') for _ in range(count)]
            assert {reply.status for reply in replies} == {200}, replies
            assert {reply.json()['checks'] for reply in replies} == {0}, 'somebody was asked'
            return {reply.json()['port'] for reply in replies}
        assert seen() == {one.port, two.port} and ask(front.port, 'GET', '/readyz').status == 200
        time.sleep(1)  # some checks of the usual length
        two.end()
        assert seen() == {one.port}
        with stand_in('cats', port):
            until(lambda: seen() == {one.port, port}, 30, 'the replica that came back')
    with stand_in('cats') as one, gateway('--backend', f'cats={one.url}') as front:
        until(lambda: ask(front.port, 'POST', '/model/cats/predict', b'{}').json()['checks'] > 1, what='the usual checks')


def test_unready_replicas_are_left_out():
    with stand_in('cats') as one, stand_in('cats') as two, gateway('--backend', f'cats={one.url} {two.url}') as door:
        ask(one.port, 'GET', '/control?ready=0')
        until(lambda: all(ask(door.port, 'POST', '/model/cats/predict').json()['pid'] == two.child.pid for _ in range(8)),
              what='only the ready one being asked')
        ask(one.port, 'GET', '/control?ready=1')
        until(lambda: one.child.pid in [ask(door.port, 'POST', '/model/cats/predict').json()['pid'] for _ in range(4)],
              what='the other one coming back')


def test_a_busy_replica_is_answered_for_by_another():
    with stand_in('cats') as one, gateway('--backend', f'cats={one.url}') as door:
        reply = ask(door.port, 'POST', '/model/cats/predict?status=503', b'')
        assert reply.status == 503 and reply.json()['pid'] == one.child.pid, 'alone, its own answer is passed on'


def test_reload_under_load():
    """SIGHUP rereads the backends without dropping a request"""
    with tempfile.TemporaryDirectory() as folder, stand_in('cats') as one, stand_in('cats') as two, \
            stand_in('dogs') as dogs:
        path = os.path.join(folder, 'backends')

        def write(text):
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
        write(f'cats={one.url}\n')
        with gateway('--backends', path) as door:
            load = Load(door.port, '/model/cats/predict?sleep=0.005', threads=6)
            for turn in range(12):
                write([f'cats={two.url}\ndogs={dogs.url} # new\n', f'cats={one.url}\n',
                       f'cats={one.url} {two.url}\n'][turn % 3])
                before = len([line for line in door.lines if 'reloaded the files' in line])
                door.kill(signal.SIGHUP)
                until(lambda: len([line for line in door.lines if 'reloaded the files' in line]) > before)
            write(f'cats={two.url}\ndogs={dogs.url}\n')
            door.kill(signal.SIGHUP)
            until(lambda: ask(door.port, 'GET', '/models').json() == ['cats', 'dogs'])
            write('cats=nonsense\n')
            door.kill(signal.SIGHUP)
            door.wait_line('not reloaded')
            assert ask(door.port, 'POST', '/model/dogs/predict', b'').status == 200
            assert load.end(51) > 50 and not load.errors, load.errors[:3]


def test_api_keys():
    with tempfile.TemporaryDirectory() as folder, stand_in('cats') as cats:
        path = os.path.join(folder, 'keys')
        with Process(GUICHET, 'gateway', '--make-key', 'ci') as maker:
            line = maker.wait_line('line: ')[6:]
            key = maker.wait_line('key:  ')[6:]
        with open(path, 'w', encoding='utf-8') as file:
            file.write(line + '\n')
        with gateway('--backend', f'cats={cats.url}', '--api-keys', path) as door:
            check_docs(door.port, absent=['/session'])
            assert ask(door.port, 'GET', '/models').status == 401
            assert ask(door.port, 'GET', '/models', X_Api_Key='wrong').status == 401
            assert ask(door.port, 'GET', '/healthz').status == 200
            reply = ask(door.port, 'POST', '/model/cats/predict', b'', Authorization='Bearer ' + key)
            assert reply.status == 200 and key not in json.dumps(reply.json()), 'the key stays here'
            with open(path, 'a', encoding='utf-8') as file:
                file.write('guest ' + hashlib.sha256(b'open sesame').hexdigest() + '\n')
            door.kill(signal.SIGHUP)
            until(lambda: ask(door.port, 'GET', '/models', X_Api_Key='open sesame').status == 200)
        with Process(GUICHET, 'gateway', '--backend', 'a=http://127.0.0.1:1', '--api-keys', '/nonexistent/keys') as door:
            door.wait_line('/nonexistent/keys')
            assert door.child.wait(30) == 1
            door.reader.join(5)
            assert len(door.lines) == 1, door.lines


def test_rate_limit():
    with stand_in('cats') as cats, \
            gateway('--backend', f'cats={cats.url}', '--rate', '0.01:5', '--trust-forwarded') as door:
        statuses = [ask(door.port, 'POST', '/model/cats/predict', b'', X_Forwarded_For='1.2.3.4') for _ in range(8)]
        assert [reply.status for reply in statuses[:5]] == [200] * 5
        assert all(reply.status == 429 and int(reply.header('Retry-After')) >= 1 for reply in statuses[5:])
        assert ask(door.port, 'POST', '/model/cats/predict', b'', X_Forwarded_For='1.2.3.5').status == 200


def test_forwarded_lines():
    """a proxy that adds a line of its own to what a caller forged: its line counts, and the backend hears of both"""
    with stand_in('cats') as cats, \
            gateway('--backend', f'cats={cats.url}', '--rate', '0.01:2', '--trust-forwarded') as door:
        statuses = []
        for forged in range(4):
            answer = raw(door.port, HEAD + b'Connection: close\r\nContent-Length: 0\r\nX-Forwarded-For: 9.9.9.%d\r\n'
                         b'X-Forwarded-For: 1.2.3.4\r\n\r\n' % forged)
            statuses.append(answer.split(b' ')[1])
            if not forged:
                assert b'9.9.9.0, 1.2.3.4, 127.0.0.1' in answer, answer
        assert statuses == [b'200', b'200', b'429', b'429'], statuses


def test_cors():
    with stand_in('cats') as cats, \
            gateway('--backend', f'cats={cats.url}', '--cors', 'https://a.example,https://b.example') as door:
        reply = ask(door.port, 'OPTIONS', '/model/cats/predict', Origin='https://b.example',
                    Access_Control_Request_Method='POST')
        assert reply.status == 204 and reply.header('Access-Control-Allow-Origin') == 'https://b.example'
        assert ask(door.port, 'GET', '/models', Origin='https://a.example').header('Access-Control-Allow-Origin')
        assert not ask(door.port, 'GET', '/models', Origin='https://c.example').header('Access-Control-Allow-Origin')


def test_settings_that_never_match():
    """an origin or a host name that no browser sends, a certificate that is not there: one line, and nothing starts"""
    wrong = [('--cors', 'a.example'), ('--cors', 'https://a.example/'), ('--cors', 'https://a.example, null'), ('--cors', 'https://'),
             ('--host-name', 'a.example:80'), ('--host-name', 'a b'), ('--host-name', ''),
             ('--tls-cert', '/nonexistent/cert', '--tls-key', '/nonexistent/key'), ('--tls-cert', __file__, '--tls-key', __file__)]
    for words in wrong:
        with Process(GUICHET, 'gateway', '--port', '0', '--backend', 'a=http://127.0.0.1:1', *words) as door:
            assert door.child.wait(30) == (1 if words[0] == '--tls-cert' else 2), words
            door.reader.join(5)
            told = words[1] if words[0].startswith('--tls') else ' '.join([words[0], words[1].split(',')[-1].strip()])
            assert len(door.lines) <= 2 and told in door.lines[0], (words, door.lines)
    with gateway('--backend', 'a=http://127.0.0.1:1', '--cors', 'https://a.example, http://b.example:81,moz-extension://c',
                 '--host-name', '::1', '--host-name', 'a_b.example') as door:
        assert ask(door.port, 'GET', '/models', Origin='moz-extension://c').header('Access-Control-Allow-Origin')


def test_access_log():
    """a line says which model and replica answered, how many ran together and how long it waited; callers do not see the latter"""
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}', log='json') as door:
        ask(door.port, 'POST', '/model/cats/predict?a=secret', b'', X_Request_Id='log-me')
        line = json.loads(door.wait_line('log-me'))
        assert line['status'] == 200 and line['model'] == 'cats' and line['path'] == '/model/cats/predict', line
        assert line['upstream'] == f'127.0.0.1:{cats.port}' and line['tries'] == 1 and len(line['trace_id']) == 32
        assert line['batch'] == 0 and line['queue_ms'] == 0, 'a backend that does not say'
    with backend('--access-log', 'json') as one, gateway('--backend', f'animals={one.url}', log='json') as door:
        for port, ask_run in ((door.port, '1'), (one.port, None)):
            headers = {'Content-Type': 'image/jpeg', 'X_Request_Id': f'log-{port}', **({'X_Guichet_Ask_Run': '1'} if ask_run else {})}
            reply = ask(port, 'POST', '/model/animals/predict', JPEG, **headers)
            assert reply.status == 200 and not [name for name, _ in reply.headers if name.lower().startswith('x-guichet')], reply.headers
        line, behind = json.loads(door.wait_line(f'log-{door.port}')), json.loads(one.wait_line(f'log-{door.port}'))
        assert line['model'] == behind['model'] == 'animals' and line['upstream'] == f'127.0.0.1:{one.port}'
        assert line['batch'] == behind['batch'] == 1 and abs(line['queue_ms'] - behind['queue_ms']) < 0.02, (line, behind)
        assert 0 < line['queue_ms'] < line['upstream_ms'] < line['ms'], line
        photo = json.dumps({'inputs': [{'name': 'x', 'datatype': 'BYTES', 'shape': [1], 'data': ['no photo']}]})
        ask(door.port, 'POST', '/v2/models/animals/infer', photo, X_Request_Id='log-bad')
        assert json.loads(door.wait_line('log-bad'))['batch'] == 0


def test_counters_begin_at_zero():
    """what the dashboard shows the rate of is there before the first event, for models alone"""
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}', '--backend', 'dogs=http://127.0.0.1:9') as door:
        def series():
            text = ask(door.port, 'GET', '/metrics').body.decode()
            return dict(line.rsplit(' ', 1) for line in text.split('\n') if line and not line.startswith('#'))
        before = series()
        for model in 'cats', 'dogs':
            for route in 'predict', 'infer', 'predict_v1':
                labels = f'model="{model}",route="{route}"'
                assert before[f'guichet_gateway_retries_total{{{labels}}}'] == '0'
                for status in '200', '503':
                    assert before[f'guichet_gateway_requests_total{{{labels},status="{status}"}}'] == '0'
        ask(door.port, 'POST', '/model/cats/predict', b'')
        assert series()['guichet_gateway_requests_total{model="cats",route="predict",status="200"}'] == '1'


def test_typical_time_is_a_median():
    """one slow answer does not move what a model usually takes"""
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}') as door:
        typical = lambda: ask(door.port, 'GET', '/models?details=1').json()[0].get('typical_ms')
        assert typical() is None
        ask(door.port, 'POST', '/model/cats/predict?sleep=3', b'')
        assert typical() >= 3000
        for _ in range(10):
            ask(door.port, 'POST', '/model/cats/predict?sleep=0.01', b'')
        assert 10 <= typical() < 2000, typical()


def test_a_caller_that_leaves():
    """a caller that leaves frees its place"""
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}', '--bound', '1') as door:
        with socket.create_connection(('127.0.0.1', door.port)) as one:
            one.sendall(b'POST /model/cats/predict?sleep=30 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n')
            until(lambda: outstanding(door.port) == 1, what='its place')
            assert ask(door.port, 'POST', '/model/cats/predict', b'').status == 503
        until(lambda: ask(door.port, 'POST', '/model/cats/predict', b'').status == 200, what='a free place')


def test_idle_connections():
    """10,000 idle connections (or as many as the limit on open files leaves) and the service goes on"""
    wanted = 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(wanted, hard - 1000)
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}') as door:
        open_ones = []
        try:
            for _ in range(count):
                one = socket.socket()
                one.settimeout(10)
                one.connect(('127.0.0.1', door.port))
                open_ones.append(one)
            client, times = Client(door.port), []
            for _ in range(50):
                started = time.monotonic()
                assert client.ask('POST', '/model/cats/predict', b'').status == 200
                times.append(time.monotonic() - started)
            with open(f'/proc/{door.child.pid}/statm', encoding='ascii') as file:
                resident = int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')
            print(f'# {count} connections, {resident / 1e6:.0f} MB resident, {sorted(times)[25] * 1e3:.2f} ms a request')
            assert resident < 300e6
        finally:
            for one in open_ones:
                one.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert ask(door.port, 'POST', '/model/cats/predict', b'').status == 200


def test_health_without_files():
    """where no file is left for a connection, questions for health are answered, and others are told to come again"""
    with stand_in('cats') as cats:
        command = [GUICHET, 'gateway', '--address', '127.0.0.1', '--port', '0', '--access-log', 'off', '--backend', f'cats={cats.url}']
        with Process('bash', '-c', 'ulimit -n 64; exec "$@"', 'sh', *command) as door, contextlib.ExitStack() as idle:
            port = int(door.wait_line('listening on port').split('port ')[1])
            assert ask(port, 'POST', '/model/cats/predict', b'').status == 200
            for _ in range(120):
                idle.enter_context(socket.create_connection(('127.0.0.1', port)))

            def status(target):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    return ask(port, 'GET', target).status
                return None
            until(lambda: status('/models') == 503, 30, 'the end of the files')
            for target in ['/healthz', '/readyz', '/health/live', '/v2/health/ready'] * 3:
                assert status(target) == 200, target
            reply = ask(port, 'POST', '/model/cats/predict', b'')
            assert reply.status == 503 and reply.header('Retry-After') and reply.header('Connection') == 'close'
            idle.close()
            until(lambda: status('/models') == 200, 30, 'room')
            assert ask(port, 'POST', '/model/cats/predict', b'').status == 200
            door.end_well()


def test_memory_does_not_grow():
    """over many requests of all kinds memory stays (GROWTH_REQUESTS=100000 for the long run)"""
    requests = int(os.environ.get('GROWTH_REQUESTS', '6000'))
    # A sanitizer keeps freed memory for a while: let it keep little.
    options = {'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':quarantine_size_mb=1:thread_local_quarantine_size_kb=64'}

    def resident(door):
        with open(f'/proc/{door.child.pid}/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}', '--rate', '1000000', environment=options) as door:
        client = Client(door.port)

        def some(count):
            for number in range(count):
                client.ask('POST', ['/model/cats/predict', '/model/none/predict', '/predict'][number % 3],
                           b'x' * (number % 7000))
        some(requests // 3)
        before = resident(door)
        some(requests - requests // 3)
        grown = resident(door) - before
        print(f'# {requests} requests, grown by {grown / 1e3:.0f} kB')
        assert grown < 8e6, grown


def test_google_identity():
    asked = []

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get('Metadata-Flavor')))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'head.body.signature')

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {'GUICHET_UPSTREAM_AUTH': 'google', 'GCE_METADATA_HOST': f'127.0.0.1:{server.server_port}'}
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}', environment=environment) as door:
        for _ in range(3):
            seen = {name.lower(): value for name, value in ask(door.port, 'POST', '/model/cats/predict').json()['headers']}
            assert seen['authorization'] == 'Bearer head.body.signature', seen
        seen = ask(door.port, 'POST', '/model/cats/predict', b'', Authorization='Basic abc').json()['headers']
        seen = {name.lower(): value for name, value in seen}
        assert seen['authorization'] == 'Basic abc'
        assert seen['x-serverless-authorization'] == 'Bearer head.body.signature'
    server.shutdown()
    assert len(asked) == 1 and asked[0][1] == 'Google' and f'audience={cats.url}' in asked[0][0], asked


def test_misuse_is_one_line():
    for arguments, status in [(['--backend', 'nonsense'], 2), ([], 2), (['--backend', 'a=http://b:0'], 2), (['--backend', 'a b=http://b'], 2),
                              (['--backend', 'a=http://127.0.0.1:1', '--control', '127.0.0.1'], 2),
                              (['--backends', '/nonexistent'], 1), (['--port', 'x', '--backend', 'a=http://b'], 2),
                              (['--backend', 'a=http://127.0.0.1:1', '--tls-cert', '/nonexistent', '--tls-key', '/x'], 1)]:
        with Process(GUICHET, 'gateway', *arguments) as door:
            assert door.child.wait(10) == status, (arguments, door.lines)
            door.reader.join(5)
            assert len(door.lines) <= 2 and 'guichet' in door.lines[0], door.lines


def test_metrics():
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}') as door:
        ask(door.port, 'POST', '/model/cats/predict', b'')
        ask(door.port, 'POST', '/model/none"\\\n/predict'.replace('\n', '%0a'), b'')
        text = ask(door.port, 'GET', '/metrics').body.decode()
        assert 'model="cats",route="predict",status="200"} 1' in text, text
        assert 'none' not in text, 'callers make no series'
        assert f'guichet_gateway_replica_up{{model="cats",replica="127.0.0.1:{cats.port}"}} 1' in text


def test_every_address_of_a_name():
    """a name that stands for several addresses is several replicas"""
    if subprocess.run(['unshare', '-mr', 'true'], stderr=subprocess.DEVNULL).returncode:
        return 'a name of its own needs a mount namespace'
    with tempfile.NamedTemporaryFile('w') as hosts, stand_in('cats', host='127.0.0.2') as one, \
            stand_in('cats', one.port, host='127.0.0.3') as two:
        hosts.write('127.0.0.2 cats.test\n127.0.0.3 cats.test\n')
        hosts.flush()
        script = f'mount --bind {hosts.name} /etc/hosts && exec "$@"'
        with Process('unshare', '-mr', 'sh', '-c', script, 'sh', GUICHET, 'gateway', '--address', '127.0.0.1', '--port', '0',
                     '--access-log', 'off', '--check', '0.3', '--backend', f'cats=http://cats.test:{one.port}') as door:
            port = int(door.wait_line('listening on port').split('port ')[1])
            pids = {ask(port, 'POST', '/model/cats/predict', b'').json()['pid'] for _ in range(8)}
            assert pids == {one.child.pid, two.child.pid}, pids
            two.kill()
            two.child.wait()  # its connections end with it
            for _ in range(20):
                assert ask(port, 'POST', '/model/cats/predict', b'').json()['pid'] == one.child.pid
    return None


def test_plain_http_to_https():
    """who speaks plain HTTP to a port for https is told so"""
    with tempfile.TemporaryDirectory() as folder, stand_in('cats') as cats:
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
                        '-subj', '/CN=localhost', '-keyout', folder + '/key', '-out', folder + '/cert'], check=True,
                       stderr=subprocess.DEVNULL)
        with gateway('--backend', f'cats={cats.url}', '--tls-cert', folder + '/cert', '--tls-key', folder + '/key') as door:
            reply = ask(door.port, 'GET', '/models')
            assert reply.status == 400 and 'https' in reply.json()['error'], (reply.status, reply.body)
            assert ask(door.port, 'POST', '/model/cats/predict', b'a' * 300000).status == 400
            for odd in (b'\x16\x03', b'HELO there\r\n\r\n', b'\0' * 600):
                assert not raw(door.port, odd + b'\n' * 20, 20).startswith(b'HTTP'), odd
            door.end_well()


def assert_refused(door, reason):
    reply = ask(door.port, 'POST', '/model/cats/predict', b'')
    assert reply.status == 502, (reply.status, reply.body)
    assert f'the TLS handshake failed: {reason}' in reply.json()['error'], reply.body


def test_https_backends():
    """a backend behind https is reached at each address of its name, and must be who the name says"""
    with tempfile.TemporaryDirectory() as folder, stand_in('cats') as cats:
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
                        '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', folder + '/key',
                        '-out', folder + '/cert'], check=True, stderr=subprocess.DEVNULL)
        with gateway('--backend', f'cats={cats.url}', '--tls-cert', folder + '/cert', '--tls-key', folder + '/key') as inner:
            with gateway('--backend', f'cats=https://localhost:{inner.port}', '--ca', folder + '/cert') as door:
                for _ in range(4):
                    reply = ask(door.port, 'POST', '/model/cats/predict', b'')
                    assert reply.status == 200 and reply.json()['model'] == 'cats', (reply.status, reply.body)
                until(lambda: 'replica="127.0.0.1:%d"} 1' % inner.port in ask(door.port, 'GET', '/metrics').body.decode())
            with gateway('--backend', f'cats=https://127.0.0.1:{inner.port}', '--ca', folder + '/cert') as door:
                assert_refused(door, 'IP address mismatch')
            with gateway('--backend', f'cats=https://localhost:{inner.port}') as door:
                assert_refused(door, 'self-signed certificate')
            with gateway('--backend', f'cats={cats.url}') as plain, \
                    gateway('--backend', f'cats=https://localhost:{plain.port}', '--ca', folder + '/cert') as door:
                assert_refused(door, 'wrong version number')  # not https at all


def test_slow_names():
    """a name server that is slow, or says nothing, delays no other backend, no reload and no end"""
    if subprocess.run(['unshare', '-m', 'true'], stderr=subprocess.DEVNULL).returncode:
        return 'a name server of its own needs a mount namespace'
    try:
        names = NameServer({'quick.test': ('127.0.0.1', 0), 'late.test': ('127.0.0.1', 8), 'never.test': (None, None)})
    except OSError as error:
        return f'port 53 of {NAME_SERVER} cannot be had: {error}'
    with tempfile.TemporaryDirectory() as folder, stand_in('cats') as cats, stand_in('dogs') as dogs:
        def write(name, text):
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
                file.write(text)
            return os.path.join(folder, name)
        settings = write('resolv.conf', f'nameserver {NAME_SERVER}\noptions timeout:30 attempts:1\n')
        lines = [f'cats=http://quick.test:{cats.port}', f'dogs=http://late.test:{dogs.port}',
                 f'mice=http://never.test:{dogs.port}']
        path = write('backends', '\n'.join(lines))
        script = f'mount --bind {settings} /etc/resolv.conf && exec "$@"'
        command = ['unshare', '-m', 'sh', '-c', script, 'sh', GUICHET]
        started = time.monotonic()
        with Process(*command, 'gateway', '--address', '127.0.0.1', '--port', '0', '--access-log', 'off', '--check', '0.3',
                     '--resolve', '0.5', '--backends', path) as door:
            port = int(door.wait_line('listening on port').split('port ')[1])
            assert time.monotonic() - started < 7, 'it waits for no name for long'
            assert ask(port, 'POST', '/model/cats/predict', b'').json()['model'] == 'cats'
            assert ask(port, 'GET', '/models').json() == ['cats', 'dogs', 'mice']
            assert ask(port, 'POST', '/model/mice/predict', b'').status == 503
            until(lambda: ask(port, 'POST', '/model/dogs/predict', b'').status == 200, 30, 'the late one')
            client, slowest = Client(port), 0
            for _ in range(100):  # look-ups of the others go on meanwhile
                asked = time.monotonic()
                assert client.ask('POST', '/model/cats/predict', b'').status == 200
                slowest = max(slowest, time.monotonic() - asked)
                time.sleep(0.01)
            assert slowest < 5, slowest  # each look-up takes 8 s, or 30
            cats.kill(signal.SIGSTOP)  # health is looked at all the while
            until(lambda: 'replica="127.0.0.1:%d"} 0' % cats.port in ask(port, 'GET', '/metrics').body.decode(), 20, 'its fall')
            cats.kill(signal.SIGCONT)
            write('backends', '\n'.join([f'cats=http://never.test:{cats.port}', lines[1]]))
            door.kill(signal.SIGHUP)
            door.wait_line('reloaded the files', 7)
            assert ask(port, 'GET', '/models').json() == ['cats', 'dogs']
            assert ask(port, 'POST', '/model/cats/predict', b'').status == 200, 'the old one goes on until the new one is known'
            assert names.asked.count('quick.test') > 2 and 'never.test' in names.asked, names.asked
            ended = time.monotonic()
            assert door.end() == 0
            assert time.monotonic() - ended < 7, 'nobody waits for a look-up'
        with Process(*command, 'frontend', '--address', '127.0.0.1', '--port', '0', '--gateway',
                     f'http://late.test:{cats.port}') as front:
            port = int(front.wait_line('listening on port', 7).split('port ')[1].split(',')[0])
            assert ask(port, 'GET', '/').status == 200
            until(lambda: ask(port, 'POST', '/model/cats/predict', b'').status == 200, 30, 'the name')
            front.end(7)
    names.close()
    return None


def test_ends_in_order():
    """SIGTERM finishes what has begun"""
    with stand_in('cats') as cats, gateway('--backend', f'cats={cats.url}') as door:
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(ask(door.port, 'POST', '/model/cats/predict?sleep=0.6', b'').status))
        thread.start()
        until(lambda: outstanding(door.port) == 1, what='its beginning')
        assert door.end() == 0
        thread.join()
        assert answers == [200], answers


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
