#!/usr/bin/env python3
"""One house: every path, method and error of the table of endpoints, asked of every tier. Status, body, headers and the
label in /metrics are equal wherever a tier offers the path; what may differ is named in `without_differences`.

The paths come from the table itself (ENDPOINT_TABLE prints it): a new row is asked here without a line more."""
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from tiers import (GUICHET, JPEG, MODEL, Client, Process, Serve, ask, backend, frontend, gateway, raw, run_tests,
                   stand_in)

TABLE = os.environ.get('ENDPOINT_TABLE', os.path.join(os.path.dirname(GUICHET), 'tests', 'http', 'endpoint_table'))
ROWS = json.loads(subprocess.run([TABLE], check=True, capture_output=True, text=True).stdout)
PATTERNS = list(dict.fromkeys(row['pattern'] for row in ROWS))
METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']
# Which columns of the table each tier has. A frontend before a remote gateway passes on what it has not.
COLUMNS = {'backend': ['backend', 'service'], 'gateway': ['gateway', 'service'],
           'frontend': ['frontend', 'gateway', 'service'], 'serve': ['frontend', 'gateway', 'service']}
COUNTERS = {'backend': 'guichet_requests_total', 'gateway': 'guichet_gateway_requests_total',
            'frontend': 'guichet_frontend_requests_total', 'serve': 'guichet_gateway_requests_total'}
OWN = re.compile(r'^(model="",)?route="metrics",status="200"$')  # what looking at /metrics adds
SESSION_PATTERNS = [row['pattern'] for row in ROWS if row['columns']['frontend']]
JSON = {'Content_Type': 'application/json'}
ROLES = {'all': 'predict,metrics,manage', 'predict': 'predict', 'metrics': 'metrics', 'manage': 'manage'}


class Answer:
    def __init__(self, reply, label):
        self.status, self.headers, self.body, self.label = reply.status, reply.headers, reply.body, label


class Tier:
    """One tier, and what it counts."""

    def __init__(self, name, port, key=None):
        self.name, self.port, self.key = name, port, {'X_Api_Key': key} if key else {}
        self.client = Client(port, 60)
        self.seen = self.counts()

    def offers(self, pattern):
        return any(row['columns'][column] for row in ROWS if row['pattern'] == pattern for column in COLUMNS[self.name])

    def counts(self):
        """Label set -> requests. The question is on the connection of the others: they are counted when it is asked."""
        text = self.client.ask('GET', '/metrics', **self.key).body.decode()
        return {labels: int(value) for labels, value in re.findall(rf'^{COUNTERS[self.name]}\{{(.*)\}} (\d+)$', text, re.M)}

    def label(self):
        """The label set of the one request that was answered since the last look."""
        end, looks = time.monotonic() + 10, 0
        while time.monotonic() < end:
            counts, looks = self.counts(), looks + 1
            more = {labels: count - self.seen.get(labels, 0) for labels, count in counts.items()}
            own = next((labels for labels in counts if OWN.match(labels)), '')
            more[own] = more.get(own, 0) - looks
            more = {labels: count for labels, count in more.items() if count}
            if more:
                self.seen = counts
                assert list(more.values()) == [1], (self.name, more)
                return next(iter(more))
        raise AssertionError(f'{self.name} has not counted a request')

    def ask(self, method, target, body=None, **headers):
        headers.setdefault('X_Request_Id', 'the-same')
        return Answer(self.client.ask(method, target, body, **headers), self.label())


class Tiers:
    """The four of them over the model `animals`: a backend; a gateway; a frontend before another gateway; serve. Each has
    backends of its own, so that nobody else's requests are in its counts."""

    def __init__(self, keyed=False, arguments=()):
        self.stack, self.keys = contextlib.ExitStack(), {}
        self.folder = tempfile.mkdtemp()
        self.stack.callback(shutil.rmtree, self.folder)
        door = [*self.make_keys(), *arguments] if keyed else [*arguments]
        key = self.keys.get('all')
        quiet = ['--check', '3600', *door]

        self.list, self.processes = [], []
        enter = self.enter
        if not keyed and not arguments:
            self.list.append(Tier('backend', enter(self.backend()).port))
        one = enter(gateway('--backend', f'animals={self.url(enter(self.backend()))}', *quiet))
        two = enter(gateway('--backend', f'animals={self.url(enter(self.backend()))}', *quiet))
        self.list.append(Tier('gateway', one.port, key))
        page = enter(frontend(environment={'API_GATEWAY': self.url(two)}))
        self.list.append(Tier('frontend', page.port))
        port = self.serve(enter, door, key)
        self.list.append(Tier('serve', port, key))

    def enter(self, process):
        self.processes.insert(0, process)
        return self.stack.enter_context(process)

    def make_keys(self):
        """A key for each of ROLES, and one for another model."""
        path = os.path.join(self.folder, 'keys')
        with open(path, 'w', encoding='ascii') as file:
            for name, roles in ROLES.items():
                self.keys[name] = f'key of {name}'
                file.write(f'{name} {hashlib.sha256(self.keys[name].encode()).hexdigest()} roles={roles}\n')
            self.keys['elsewhere'] = 'key of elsewhere'
            file.write(f'elsewhere {hashlib.sha256(b"key of elsewhere").hexdigest()} roles={ROLES["all"]} models=mice,rats\n')
        return ['--api-keys', path]

    @staticmethod
    def backend():
        return backend('--access-log', 'off')

    @staticmethod
    def url(process):
        return f'http://127.0.0.1:{process.port}'

    def serve(self, enter, arguments, key):
        """`guichet serve` over the real model, alone in a folder and without its variants."""
        models = os.path.join(self.folder, 'models')
        shutil.copytree(MODEL, os.path.join(models, 'animals'), ignore=shutil.ignore_patterns('model_*.onnx', '*.baked'))
        process = enter(Process(GUICHET, 'serve', '--models', models, '--port', '0', '--preload', *arguments,
                                environment={'XDG_STATE_HOME': os.path.join(self.folder, 'state')}))
        port = int(process.wait_line('guichet is at').rsplit(':', 1)[1])
        client, end = Client(port), time.monotonic() + 120
        while client.ask('GET', '/v2/models/animals/ready', X_Api_Key=key or '').status != 200:
            assert time.monotonic() < end, 'the model does not start'
            time.sleep(0.05)
        client.close()
        return port

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for tier in self.list:
            tier.client.close()
        for process in self.processes if not kind else ():
            process.end_well()
        self.stack.__exit__(kind, value, trace)


def without_differences(tier, pattern, target, answer):
    """What must be equal of an answer. May differ: Date; Connection, which is each connection's own; how long it took; a
    session's number, and its cookie where there are sessions; what a tier counts; what it knows of a model besides its name
    and state."""
    headers = {(name.lower(), value) for name, value in answer.headers if name.lower() not in ('date', 'connection')}
    body, label, resized = answer.body, answer.label, False
    if pattern in SESSION_PATTERNS and answer.status == 200:
        headers = {pair for pair in headers if pair[0] not in ('set-cookie', 'cache-control')}
    if tier.name == 'frontend':  # it does not know which models there are, and callers make no series
        label = re.sub(r'model="[^"]*",', '', label)
    kind = dict(headers).get('content-type', '')
    if kind == 'application/json' and body:
        body = json.loads(body)
        if isinstance(body, dict):
            for name in ('timing_ms', 'session'):
                resized |= body.pop(name, None) is not None
        if target.endswith('?details=1') and answer.status == 200:
            body, resized = [(entry['name'], entry['state']) for entry in body], True
        if 'model_stats' in body:
            body = sorted(body['model_stats'][0])
    elif kind.startswith('text/plain') and answer.status == 200:
        body, resized = sorted(re.findall(rb'^# TYPE (\S+)', body, re.M)) if pattern != '/metrics' else None, True
    if resized or (pattern or '').endswith('/stats'):
        headers = {pair for pair in headers if pair[0] != 'content-length'}
    return {'status': answer.status, 'headers': sorted(headers), 'label': label, 'body': body}


class Comparison:
    """Asks every tier that offers a path, and remembers where they differ."""

    def __init__(self, tiers):
        self.tiers, self.differences, self.asked = tiers, [], 0

    def ask(self, pattern, method, target, body=None, names=None, **headers):
        """Of the tiers that offer `pattern` (None: all); the last one's answer."""
        answers = {}
        for tier in self.tiers.list:
            if (names is None or tier.name in names) and (pattern is None or tier.offers(pattern)):
                answer = tier.ask(method, target, body, **headers)
                answers[tier.name] = without_differences(tier, pattern, target, answer)
        self.compare((method, target, body if body is None else body[:60], headers), answers)
        return answers

    def compare(self, question, answers):
        self.asked += len(answers)
        first, *others = answers
        for other in others:
            for part, expected in answers[first].items():
                found = answers[other].get(part)
                if part == 'label' and 'frontend' in (first, other):
                    expected, found = [re.sub(r'model="[^"]*",', '', label or '') for label in (expected, found)]
                if expected != found:
                    self.differences.append(f'{question}: {part} of {first}: {str(expected)[:500]}\n'
                                            f'    but of {other}: {str(found)[:500]}')

    def check(self):
        print(f'# {self.asked} requests')
        assert not self.differences, f'{len(self.differences)} differences\n' + '\n'.join(self.differences[:40])


def target_of(pattern, model='animals'):
    return pattern.replace('*', model)


def good_body(row, model='animals'):
    """A body that the row takes, and its type."""
    if row['model'] == 'body':
        return json.dumps({'model': model, 'input': 'a cat', 'prompt': 'a cat',
                           'messages': [{'role': 'user', 'content': 'a cat?'}]}).encode(), 'application/json'
    if row['label'] == 'predict':
        return JPEG, 'image/jpeg'
    values = [0.5] * (3 * 64 * 64)
    if row['label'] == 'infer':
        return json.dumps({'inputs': [{'name': INPUT, 'shape': [1, 3, 64, 64], 'datatype': 'FP32',
                                       'data': values}]}).encode(), 'application/json'
    if row['label'] == 'predict_v1':
        return json.dumps({'instances': [[[[0.5] * 64] * 64] * 3]}).encode(), 'application/json'
    return b'{}', 'application/json'


INPUT = 'input'


def body_for(pattern, method, model='animals'):
    if method not in ('POST', 'PUT', 'PATCH', 'DELETE'):
        return {}
    row = next((row for row in ROWS if row['pattern'] == pattern and row['method'] == method), None)
    body, kind = good_body(row, model) if row else (b'{}', 'application/json')
    return {'body': body, 'Content_Type': kind}


def test_every_path_and_method():
    """every path of the table with every method, at every tier that offers it"""
    global INPUT
    with Tiers() as tiers:
        INPUT = json.loads(tiers.list[0].ask('GET', '/v2/models/animals').body)['inputs'][0]['name']
        comparison, good = Comparison(tiers), {}
        for pattern in PATTERNS:
            for method in METHODS:
                answers = comparison.ask(pattern, method, target_of(pattern), **body_for(pattern, method))
                good[method, pattern] = next(iter(answers.values()))
        for target in ['/models?details=1', '/predict?model=animals', '/predict?top=2', '/predict?top=x', '/predict?lang=fr']:
            pattern = target.split('?')[0]
            comparison.ask(pattern, 'POST' if pattern == '/predict' else 'GET', target, **body_for(pattern, 'POST'))
        comparison.check()
        for row in ROWS:
            answer, pattern = good[row['method'], row['pattern']], row['pattern']
            wanted = 403 if row['right'] == 'manage' else 400 if row['errors'] == 'openai' and row['method'] == 'POST' else 200
            assert answer['status'] == wanted, (row['method'], pattern, answer)
            assert f'route="{row["label"]}"' in answer['label'], (row, answer['label'])
            methods = [other['method'] for other in ROWS if other['pattern'] == pattern]
            methods += ['HEAD'] if 'GET' in methods else []
            for method in METHODS:
                answer = good[method, pattern]
                if method not in methods:
                    assert answer['status'] == (204 if method == 'OPTIONS' else 405), (method, pattern, answer)
                    assert sorted(dict(answer['headers'])['allow'].split(', ')) == sorted(methods), (method, pattern, answer)
            if row['method'] == 'GET' and pattern not in ('/metrics', '/session', '/model/*/metrics') and not pattern.endswith('/stats'):
                head, whole = good['HEAD', pattern], good['GET', pattern]
                assert head['status'] == whole['status'] and head['headers'] == whole['headers'] and not head['body'], (head, whole)


def test_paths_that_a_tier_has_not():
    """a path that a tier does not offer is one that does not exist: 404, counted as such"""
    with Tiers() as tiers:
        comparison = Comparison(tiers)
        for method in METHODS:
            for target in ['/nowhere', '/v1', '/v2/models/animals/versions/2', '/v1/models/animals/else', '/model', '/model/',
                           '/v1/models/:predict', '/predict/', '//predict', '/gateway/openapi.json', '/assets/none.js',
                           '/v1/chat', '/a%20b', '/%C3%A9', '/v2/models//infer', 'http://localhost/nowhere']:
                comparison.ask(None, method, target, **body_for(target, method))
        for tier in tiers.list:
            for pattern in PATTERNS:
                if tier.offers(pattern):
                    continue
                for method in METHODS:
                    found = [without_differences(tier, None, '', tier.ask(method, target, **body_for(pattern, method)))
                             for target in (target_of(pattern), '/nowhere')]
                    comparison.compare((tier.name, method, pattern), {'that': found[0], 'nowhere': found[1]})
        comparison.check()


def test_paths_that_climb():
    """"." and ".." segments and backslashes are 400 at every tier"""
    with Tiers() as tiers:
        comparison = Comparison(tiers)
        for target in ['/..', '/.', '/../models', '/model/../models', '/model/./predict', '/v2/models/animals/../../healthz',
                       '/%2e%2e/models', '/model/%2e%2e/predict', '/model/..%2f..%2fmodels', '/model/a%5cb/predict',
                       '/v1/chat/../completions', '/docs/..']:
            for method in ('GET', 'POST', 'OPTIONS'):
                answers = comparison.ask(None, method, target, **body_for(target, method))
                assert answers['gateway']['status'] == 400, (target, answers)
        comparison.check()


def test_the_asterisk():
    """OPTIONS * asks about the server as a whole; no other method takes it"""
    with Tiers() as tiers:
        comparison = Comparison(tiers)
        answers = comparison.ask(None, 'OPTIONS', '*')
        assert answers['gateway']['status'] == 204, answers
        allowed = dict(answers['gateway']['headers'])['allow'].split(', ')
        assert sorted(allowed) == sorted({'HEAD', *[row['method'] for row in ROWS]}), allowed
        assert comparison.ask(None, 'GET', '*')['gateway']['status'] == 400
        comparison.check()


def test_models_that_are_not_here():
    """a name of no model is 404 and says which there are, wherever the name stands"""
    with Tiers() as tiers:
        comparison = Comparison(tiers)
        for pattern in PATTERNS:
            rows = [row for row in ROWS if row['pattern'] == pattern]
            for model in ['none', 'ANIMALS', 'animals:int8', 'a%20b', 'x' * 64, 'x' * 300, '%22', '%3Cb%3E', 'animal', 'animalss',
                          '%C3%A9', '-', 'a:b:c'] if '*' in pattern else []:
                for method in METHODS:
                    answers = comparison.ask(pattern, method, target_of(pattern, model), **body_for(pattern, method))
                    if method in [row['method'] for row in rows] and rows[0]['right'] != 'manage':
                        assert next(iter(answers.values()))['status'] == 404, (method, pattern, model, answers)
            if rows[0]['model'] == 'query':
                for model in ['none', '', 'a%20b', 'x' * 300, '%zz', 'animals&model=none', 'none&model=animals']:
                    comparison.ask(pattern, 'POST', f'{pattern}?model={model}', **body_for(pattern, 'POST'))
            if rows[0]['model'] == 'body':
                for model in ['none', '', 'a b', 'x' * 300, 'animals\0', 3, None, {}]:
                    answers = comparison.ask(pattern, 'POST', pattern, json.dumps({'model': model}).encode(), **JSON)
                    error = next(iter(answers.values()))['body']['error']
                    assert set(error) == {'message', 'type', 'param', 'code'}, error
        comparison.check()


def test_bodies_that_are_wrong():
    """malformed bodies and wrong types get the same words from every tier"""
    bodies = [b'', b'{', b'[]', b'null', b'3', b'"a"', b'{}', b'\xff\xfe\x00', b'{"model": "animals"', b'{"a": 1} {"b": 2}',
              b'{"url": "nonsense"}', b'{"inputs": [{"name": 3}]}', b'[' * 5000, JPEG[:200]]
    types = ['application/json', 'application/json; charset=utf-8', 'text/plain', 'image/jpeg', 'application/octet-stream',
             'multipart/form-data; boundary=XX', 'application/x-www-form-urlencoded', 'nonsense', None]
    with Tiers() as tiers:
        comparison = Comparison(tiers)
        for row in ROWS:
            if row['method'] not in ('POST', 'PUT') or row['right'] == 'manage':
                continue
            for body in bodies:
                for kind in types:
                    comparison.ask(row['pattern'], row['method'], target_of(row['pattern']), body,
                                   **({'Content_Type': kind} if kind else {}))
            comparison.ask(row['pattern'], row['method'], target_of(row['pattern']), b'{}', Inference_Header_Content_Length='99')
        comparison.check()


def ask_raw(tier, request):
    """An answer to bytes as they are, in the form of the others."""
    head, _, body = raw(tier.port, request).partition(b'\r\n\r\n')
    line, *lines = head.decode('latin-1').split('\r\n')
    reply = type('Reply', (), {'status': line, 'headers': [tuple(text.split(': ', 1)) for text in lines], 'body': body})
    return Answer(reply, tier.label())


def test_requests_that_are_wrong():
    """too large, malformed, and meant for another host: the same at every tier"""
    too_much, id_header = 21 << 20, 'Connection: close\r\nX-Request-Id: the-same\r\n'
    with Tiers() as tiers:
        comparison = Comparison(tiers)
        requests = [(None, 'GET /models HTTP/1.1\r\n\r\n'), (None, 'GET /models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'),
                    (None, 'GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n'), (None, 'get nothing\r\n\r\n'),
                    (None, 'GET /models HTTP/3.0\r\nHost: localhost\r\n\r\n'),
                    (None, 'GET /models HTTP/1.1\r\nHost: localhost\r\n' + 'A: b\r\n' * 9000 + '\r\n'),
                    (None, f'GET /models HTTP/1.1\r\nHost: evil.example\r\n{id_header}\r\n'),
                    (None, f'GET /docs HTTP/1.1\r\nHost: evil.example\r\n{id_header}\r\n'),
                    (None, f'POST /v1/completions HTTP/1.1\r\nHost: 10.0.0.1:8080\r\n{id_header}\r\n'),
                    (None, f'GET /models HTTP/1.0\r\n{id_header}\r\n'), (None, f'BREW /models HTTP/1.1\r\nHost: localhost\r\n{id_header}\r\n'),
                    (None, 'POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n')]
        for row in ROWS:
            line = f'{row["method"]} {target_of(row["pattern"])} HTTP/1.1\r\nHost: localhost\r\n{id_header}'
            requests.append((row['pattern'], f'{line}Content-Length: {too_much}\r\n\r\n'))
        for pattern, request in requests:
            managing = 'manage' in [row['right'] for row in ROWS if row['pattern'] == pattern]
            # A frontend sees that a body is too large before its gateway sees that the caller may not manage.
            asked = [tier for tier in tiers.list if pattern is None or tier.offers(pattern) and
                     not (managing and tier.name == 'frontend')]
            answers = {tier.name: without_differences(tier, pattern, '', ask_raw(tier, request.encode())) for tier in asked}
            comparison.compare(request[:100], answers)
            if pattern and not managing:
                assert '413' in next(iter(answers.values()))['status'], (request, answers)
        comparison.check()


def test_refusals_in_the_middle():
    """a body that turns out too long or malformed is refused like one whose head says so"""
    with Tiers() as tiers:
        for row in [row for row in ROWS if row['method'] == 'POST' and row['right'] != 'manage']:
            line = (f'POST {target_of(row["pattern"])} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n'
                    f'X-Request-Id: the-same\r\n')
            for tier in [tier for tier in tiers.list if tier.offers(row['pattern'])]:
                length, chunk, odd = [
                    without_differences(tier, row['pattern'], '', ask_raw(tier, (line + rest).encode()))
                    for rest in (f'Content-Length: {21 << 20}\r\n\r\n', f'Transfer-Encoding: chunked\r\n\r\n{21 << 20:x}\r\n',
                                 'Transfer-Encoding: chunked\r\n\r\nzz\r\n')]
                assert '413' in length['status'] and chunk == length, (tier.name, length, chunk)
                assert '400' in odd['status'] and dict(odd['headers'])['x-request-id'] == 'the-same', odd
                error = odd['body']['error']
                assert set(error) == {'message', 'type', 'param', 'code'} if row['errors'] == 'openai' else error, odd


def test_the_page():
    """the page's files are the same at every tier, and so is how they are asked wrongly"""
    with Tiers() as tiers:
        comparison = Comparison(tiers)
        for method in METHODS:
            for target in ['/docs', '/assets/docs.js', '/assets/style.css', '/assets/mark.svg']:
                answers = comparison.ask(None, method, target, **body_for(target, method))
                assert 'route="page"' in answers['serve']['label']
                if method == 'OPTIONS':
                    assert answers['serve']['status'] == 204, answers
                    assert dict(answers['serve']['headers'])['allow'] == 'GET, HEAD', answers
            comparison.ask(None, method, '/', names=['backend', 'gateway'])  # the others have the page there
            comparison.ask(None, method, '/', names=['frontend', 'serve'])
            comparison.ask(None, method, '/openapi.json', names=['frontend', 'serve'])  # of what each tier answers
        comparison.check()


def test_origins():
    """which pages may call, and what browsers are told"""
    with Tiers(arguments=['--cors', 'https://a.example']) as tiers:
        comparison = Comparison(tiers)
        doors = [tier.name for tier in tiers.list if tier.name != 'frontend']
        for pattern in PATTERNS:
            rows = [row for row in ROWS if row['pattern'] == pattern]
            # A frontend has no list of origins: to what it answers itself, its gateway's list does not apply.
            own = rows[0]['scope'] == 'process' or any(row['columns']['frontend'] or row['changes_state'] for row in rows)
            for origin in ['https://a.example', 'https://b.example', 'null']:
                comparison.ask(pattern, 'OPTIONS', target_of(pattern), Origin=origin, Access_Control_Request_Method='POST',
                               names=doors if own else None)
                for method in ('GET', 'POST', 'PUT'):
                    known = method in [row['method'] for row in rows]
                    answers = comparison.ask(pattern, method, target_of(pattern), Origin=origin, **body_for(pattern, method),
                                             names=doors if own or not known else None)
                    for answer in answers.values():
                        allowed = dict(answer['headers']).get('access-control-allow-origin')
                        assert allowed == (origin if origin == 'https://a.example' else None), (method, pattern, answer)
        comparison.check()


def test_keys():
    """without a key, with a wrong one, and with each role: every path and method, and what names a model"""
    with Tiers(keyed=True) as tiers:
        comparison = Comparison(tiers)
        shown = {'none': {}, 'wrong': {'X_Api_Key': 'wrong'}, 'wrong bearer': {'Authorization': 'Bearer wrong'},
                 'basic': {'Authorization': 'Basic d3Jvbmc='}}
        shown.update({name: {'X_Api_Key': key} for name, key in tiers.keys.items()})
        shown['bearer'] = {'Authorization': 'Bearer ' + tiers.keys['predict']}
        for pattern in PATTERNS:
            rights = {row['method']: row['right'] for row in ROWS if row['pattern'] == pattern}
            for name, headers in shown.items():
                for method in METHODS:
                    # Only `serve` starts and stops models.
                    keeps = [tier.name for tier in tiers.list if 'manage' not in rights.values() or tier.name != 'serve']
                    if name not in ('all', 'manage'):
                        keeps.append('serve')
                    if pattern == '/metrics':  # a frontend has no keys, and its own metrics are open
                        keeps.remove('frontend')
                    answers = comparison.ask(pattern, method, target_of(pattern), names=keeps, **headers, **body_for(pattern, method))
                    right = rights.get(method)
                    if right is None:
                        continue
                    status = next(iter(answers.values()))['status']
                    if right == 'none' or right in ROLES.get('predict' if name == 'bearer' else name, '').split(','):
                        assert status not in (401, 403), (method, pattern, name, answers)
                    elif name in ('none', 'wrong', 'wrong bearer', 'basic'):
                        assert status == 401, (method, pattern, name, answers)
                    elif name != 'elsewhere' or '*' in pattern:
                        assert status == 403, (method, pattern, name, answers)
        for row in ROWS:
            if row['model'] == 'query':
                for name in tiers.keys:
                    comparison.ask(row['pattern'], 'POST', row['pattern'] + '?model=animals', X_Api_Key=tiers.keys[name], **body_for(row['pattern'], 'POST'))
        for target in ['/nowhere', '/docs', '/model/none/predict', '/model/../x']:
            for headers in shown.values():
                comparison.ask(None, 'POST', target, b'', **headers)
        comparison.check()


def test_rates():
    """beyond the rate: 429 in the same words, in the form of the path"""
    rate = ['--rate', '0.001:2']
    with stand_in('animals') as one, gateway('--backend', f'animals={one.url}', *rate) as alone, \
            gateway('--backend', f'animals={one.url}', *rate) as door, \
            frontend(environment={'API_GATEWAY': Tiers.url(door)}) as page, Serve({'animals': ''}, *rate) as serve:
        for tier in (alone, page, serve):
            assert [ask(tier.port, 'GET', '/models').status for _ in range(2)] == [200, 200]
            assert ask(tier.port, 'GET', '/healthz').status == 200
        for method, target in [('GET', '/models'), ('POST', '/v1/chat/completions'), ('POST', '/predict')]:
            answers = []
            for tier in (alone, page, serve):
                reply = ask(tier.port, method, target, b'{}', X_Request_Id='the-same')
                headers = [pair for pair in reply.headers if pair[0] not in ('Date', 'Connection')]
                answers.append((reply.status, sorted(headers), re.sub(r'wait \d+ s', 'wait', reply.body.decode())))
                assert reply.status == 429 and int(reply.header('Retry-After')) > 0, answers
            assert answers[0] == answers[1] == answers[2], answers
            assert 'completions' not in target or '"rate_limit_error"' in answers[0][2], answers


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
