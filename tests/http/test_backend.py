#!/usr/bin/env python3
"""guichet backend as a real process: every answer of the service, and every way to ask it wrongly."""
import base64
import http.server
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import tiny  # noqa: E402
from tiers import GUICHET, JPEG, MODEL, Client, Load, Process, ask, backend, check_docs, raw, run_tests, until


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(width, height, rows=None):
    """A grey picture; without its rows where they are not wanted."""
    rows = b''.join(b'\0' + bytes(x * 3 % 256 for x in range(width)) for _ in range(height)) if rows is None else rows
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)) +
            chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


class Photos:
    """A server of photos on loopback, that misbehaves as it is asked to."""

    def __init__(self):
        photos = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def send(self, status, body=b'', length=None, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                photos.agents.add(self.headers.get('User-Agent'))
                photos.asked += 1
                name = self.path.split('?')[0].strip('/')
                if name == 'photo.jpg':
                    self.send(200, JPEG)
                elif name == 'page':
                    self.send(200, b'<!DOCTYPE html><html><head><meta charset=utf-8><meta content="/photo.jpg?a=1&amp;b=2" property="og:image">',
                              Content_Type='text/html')
                elif name == 'page-to-page':
                    self.send(200, b'<html><meta property=og:image content=page>')
                elif name == 'page-to-file':
                    self.send(200, b'<html><meta property="og:image" content="file:///etc/passwd">')
                elif name == 'text':
                    self.send(200, b'no photo at all')
                elif name == 'empty':
                    self.send(200)
                elif name == 'slow':
                    photos.go.wait(30) if 'held' in self.path else time.sleep(30 if 'long' in self.path else 1)
                    self.send(200, JPEG)
                elif name == 'large':
                    self.send(200, b'', length=30 << 20)
                elif name == 'endless':
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(400):
                        self.wfile.write(bytes(100000))
                elif name == 'lying':
                    self.send(200, JPEG[:100], length=len(JPEG))
                    self.close_connection = True
                elif name.startswith('hop'):
                    left = int(name[3:])
                    self.send(302, Location=f'/hop{left - 1}' if left else '/photo.jpg')
                elif name == 'to-file':
                    self.send(302, Location='file:///etc/passwd')
                else:
                    self.send(404, b'nothing')

        self.agents, self.asked, self.go = set(), 0, threading.Event()
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that stops reading is meant to
        self.url = f'http://127.0.0.1:{self.server.server_address[1]}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def form(**fields):
    parts = b''.join(b'--XX\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n%s\r\n'
                     % (name.encode(), value) for name, value in fields.items())
    return parts + b'--XX--\r\n'


FORM = 'multipart/form-data; boundary=XX'


def check_answer(reply, model='animals'):
    assert reply.status == 200, (reply.status, reply.body)
    answer = reply.json()
    assert answer['category'] == answer['predictions'][0]['label'] and answer['model'] == model
    assert set(answer['timing_ms']) >= {'fetch', 'decode', 'preprocess', 'infer'}
    assert answer.get('known', 'yes') in ('yes', 'perhaps', 'no')
    shares = [prediction['probability'] for prediction in answer['predictions']]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1.001
    return answer


def test_good():
    """v1, v3 and the fields of the answer; a photo as body, as form, as octets"""
    with backend() as service:
        client = Client(service.port)
        assert client.ask('GET', '/hello').body.strip() == b'"Hello!"'
        assert client.ask('GET', '/models').json() == ['animals']
        knows = client.ask('GET', '/model/animals/classes?lang=fr').json()
        assert knows['says_unknown'] and len(knows['classes']) == 59 and knows['card'].startswith('---\nlicense: mit'), knows
        assert knows['classes'][30] == {'index': 30, 'label': 'chat tigré', 'id': 'imagenet:281'}, knows['classes'][30]
        assert client.ask('GET', '/healthz').status == client.ask('GET', '/readyz').status == 200
        first = check_answer(client.ask('POST', '/predict', JPEG, Content_Type='image/jpeg'))
        assert len(first['predictions']) == 5
        for target, body, kind in (('/model/animals/predict', JPEG, 'image/jpeg'), ('/predict', form(file=JPEG), FORM),
                                   ('/predict', JPEG, 'application/octet-stream'), ('/predict', png(80, 60), 'image/png')):
            answer = check_answer(client.ask('POST', target, body, Content_Type=kind))
            assert kind == 'image/png' or answer['predictions'] == first['predictions']
        assert len(client.ask('POST', '/predict?top=3', JPEG, Content_Type='image/jpeg').json()['predictions']) == 3
        french = client.ask('POST', '/predict', JPEG, Content_Type='image/jpeg', Accept_Language='fr-FR,fr;q=0.9,en;q=0.8')
        english = client.ask('POST', '/predict?lang=en', JPEG, Content_Type='image/jpeg', Accept_Language='fr')
        assert english.json()['category'] == first['category']
        labels = lambda reply: [entry['label'] for entry in reply.json()['predictions']]
        assert labels(french) != labels(english)
        assert client.ask('PUT', '/model/animals').json() == {'model': 'animals'}
        client.close()
        assert service.end() == 0


def test_bad():
    """bad input: the status, and an error in words"""
    cases = [
        (400, '/predict', b'', {}), (400, '/predict', b'{}', {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url": 3}', {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url": ""}', {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url"', {'Content_Type': 'application/json'}),
        (400, '/predict', b'[1]', {'Content_Type': 'application/json'}),
        (400, '/predict', b'[' * 5000, {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url": "a\\u0000b"}', {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url": "nonsense"}', {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url": "file:///etc/passwd"}', {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url": "gopher://a/"}', {'Content_Type': 'application/json'}),
        (400, '/predict', b'{"url": "http://user:word@example.com/"}', {'Content_Type': 'application/json'}),
        (400, '/predict', json.dumps({'url': 'http://a/' + 'a' * 9000}).encode(), {'Content_Type': 'application/json'}),
        (400, '/predict', b'no image', {'Content_Type': 'image/jpeg'}), (400, '/predict', b'', {'Content_Type': 'image/png'}),
        (400, '/predict', JPEG[:len(JPEG) // 2], {'Content_Type': 'image/jpeg'}),
        (400, '/predict', png(60, 60)[:60], {'Content_Type': 'image/png'}),
        (400, '/predict', png(0, 0, b''), {'Content_Type': 'image/png'}),
        (400, '/predict', png(100000, 100000, b''), {'Content_Type': 'image/png'}),
        (400, '/predict', b'--XX\r\nrubbish', {'Content_Type': FORM}), (400, '/predict', form(other=b'a'), {'Content_Type': FORM}),
        (400, '/predict', form(file=b''), {'Content_Type': FORM}), (400, '/predict', JPEG, {'Content_Type': 'multipart/form-data'}),
        (400, '/predict?top=0', JPEG, {'Content_Type': 'image/jpeg'}), (400, '/predict?top=x', JPEG, {'Content_Type': 'image/jpeg'}),
        (400, '/predict?top=99999999999999999999', JPEG, {'Content_Type': 'image/jpeg'}),
        (415, '/predict', b'hello', {'Content_Type': 'text/plain'}), (415, '/predict', b'<a/>', {'Content_Type': 'application/xml'}),
        (404, '/model/unknown/predict', JPEG, {'Content_Type': 'image/jpeg'}), (404, '/nowhere', b'', {}),
        (405, '/hello', b'', {}), (405, '/model/animals', b'', {}),
    ]
    with backend() as service:
        client = Client(service.port)
        for wanted, target, body, headers in cases:
            reply = client.ask('POST', target, body, **headers)
            assert reply.status == wanted, (wanted, target, body[:60], headers, reply.status, reply.body)
            assert set(reply.json()) == {'error'} and len(reply.json()['error']) > 10, reply.body
        reply = client.ask('GET', '/predict')
        assert reply.status == 405 and reply.header('Allow') == 'POST'
        assert 'animals' in client.ask('POST', '/model/unknown/predict', JPEG).json()['error']
        assert ask(service.port, 'POST', '/predict', bytes(21 << 20), Content_Type='image/jpeg').status == 413
        check_answer(client.ask('POST', '/predict', JPEG, Content_Type='image/jpeg'))
        client.close()
        assert service.end() == 0


def by_url(service, url, **headers):
    return ask(service.port, 'POST', '/predict', json.dumps({'url': url}), Content_Type='application/json', **headers)


def test_fetch():
    """photos by address: redirects, failures, slow and lying servers"""
    with Photos() as photos, backend('--allow-private-urls') as service:
        answer = check_answer(by_url(service, photos.url + '/photo.jpg'))
        assert answer['timing_ms']['fetch'] > 0 and answer['image'].endswith('photo.jpg')
        assert all(agent.startswith('guichet/') for agent in photos.agents)
        assert check_answer(by_url(service, photos.url + '/page'))['image'] == f'{photos.url}/photo.jpg?a=1&b=2'
        check_answer(ask(service.port, 'POST', '/predict', form(url=(photos.url + '/photo.jpg').encode()), Content_Type=FORM))
        check_answer(by_url(service, photos.url + '/hop3'))
        check_answer(by_url(service, photos.url + '/slow'))
        for name, wanted in (('hop9', 502), ('to-file', 400), ('missing', 502), ('text', 400), ('page-to-page', 400), ('page-to-file', 400), ('empty', 502),
                             ('large', 413), ('endless', 413), ('lying', 502)):
            reply = by_url(service, f'{photos.url}/{name}')
            assert reply.status == wanted and reply.json()['error'], (name, reply.status, reply.body)
        start = time.monotonic()
        assert by_url(service, photos.url + '/slow?long', X_Request_Timeout_Ms='700').status == 504
        assert time.monotonic() - start < 20
        for value in ('', 'x', '0', '-5', '1.5', '700ms'):
            reply = by_url(service, photos.url + '/hop3', X_Request_Timeout_Ms=value)
            assert reply.status == 400 and 'X-Request-Timeout-Ms' in reply.json()['error'], (value, reply.status, reply.body)
        assert by_url(service, 'http://127.0.0.1:1/').status == 502
        assert by_url(service, 'http://no-such-host.invalid/').status == 502
        assert service.end() == 0


PRIVATE = ['http://127.0.0.1:PORT/photo.jpg', 'http://localhost:PORT/photo.jpg', 'http://[::1]:PORT/photo.jpg',
           'http://0.0.0.0:PORT/photo.jpg', 'http://2130706433:PORT/photo.jpg', 'http://0x7f.1:PORT/photo.jpg',
           'http://[::ffff:127.0.0.1]:PORT/photo.jpg', 'http://[64:ff9b::7f00:1]:PORT/photo.jpg', 'http://10.0.0.1/',
           'http://192.168.1.1/', 'http://169.254.169.254/latest/meta-data/', 'http://100.64.0.1/', 'http://[fe80::1]/',
           'http://[fd00::1]/', 'http://224.0.0.1/']


def test_private():
    """addresses within the house are refused, and nothing is asked of them"""
    with Photos() as photos, backend(environment={'http_proxy': photos.url, 'all_proxy': photos.url}) as service:
        for url in PRIVATE:
            reply = by_url(service, url.replace('PORT', photos.url.split(':')[-1]))
            assert reply.status in (400, 502) and reply.json()['error'], (url, reply.status, reply.body)
        reply = by_url(service, photos.url + '/photo.jpg')
        assert reply.status == 400 and 'private' in reply.json()['error']
        port = photos.url.split(':')[-1]
        private, unknown = (by_url(service, f'http://{name}:{port}/photo.jpg') for name in ('localhost', 'no-such-host.invalid'))
        assert private.status == unknown.status == 502 and private.body == unknown.body, 'whether a private name exists is not told'
        assert photos.asked == 0


def tensor_request(count=1, values=None, **more):
    size = count * 3 * 64 * 64
    values = [0.5] * size if values is None else values
    return {'inputs': [{'name': more.pop('name'), 'shape': [count, 3, 64, 64], 'datatype': 'FP32', 'data': values}], **more}


def infer(client, request, binary=b'', **headers):
    text = json.dumps(request).encode()
    if binary:
        headers['Inference_Header_Content_Length'] = str(len(text))
    return client.ask('POST', '/v2/models/animals/infer', text + binary, **headers)


def test_protocol():
    """Open Inference Protocol: metadata, health, JSON and binary tensors, photos, classification"""
    with backend() as service:
        client = Client(service.port)
        assert client.ask('GET', '/v2').json()['name'] == 'guichet'
        assert client.ask('GET', '/v2/health/live').json() == {'live': True}
        assert client.ask('GET', '/v2/health/ready').json() == {'ready': True}
        about = client.ask('GET', '/v2/models/animals').json()
        assert about['platform'] == 'onnx_onnxv1' and about['inputs'][0]['datatype'] == 'FP32'
        assert client.ask('GET', '/v2/models/animals/versions/1/ready').status == 200
        assert client.ask('POST', '/v2/repository/index', b'').json()[0]['state'] == 'READY'
        name, output = about['inputs'][0]['name'], about['outputs'][0]['name']
        flat = infer(client, tensor_request(name=name, id='seven')).json()
        assert flat['id'] == 'seven' and flat['outputs'][0]['shape'][0] == 1, flat
        nested = [[[[0.5] * 64] * 64] * 3]
        assert infer(client, tensor_request(name=name, values=nested)).json()['outputs'] == flat['outputs']
        request = {'inputs': [{'name': name, 'shape': [1, 3, 64, 64], 'datatype': 'FP32',
                               'parameters': {'binary_data_size': 49152}}],
                   'outputs': [{'name': output, 'parameters': {'binary_data': True}}]}
        reply = infer(client, request, struct.pack('<f', 0.5) * 12288)
        assert reply.status == 200, reply.body
        split = int(reply.header('Inference-Header-Content-Length'))
        logits = struct.unpack(f'<{(len(reply.body) - split) // 4}f', reply.body[split:])
        assert all(abs(a - b) < 1e-5 for a, b in zip(logits, flat['outputs'][0]['data'])) and len(logits) > 50
        photo = struct.pack('<I', len(JPEG)) + JPEG
        request = {'inputs': [{'name': name, 'shape': [2], 'datatype': 'BYTES', 'parameters': {'binary_data_size': 2 * len(photo)}}],
                   'outputs': [{'name': output, 'parameters': {'classification': 3}}]}
        best = infer(client, request, photo * 2).json()['outputs'][0]
        category = client.ask('POST', '/predict', JPEG, Content_Type='image/jpeg').json()['category']
        assert best['shape'] == [2, 3] and best['data'][0].endswith(':' + category) and best['data'][0] == best['data'][3]
        request['inputs'] = [{'name': name, 'shape': [1], 'datatype': 'BYTES', 'data': [base64.b64encode(JPEG).decode()]}]
        assert infer(client, request).json()['outputs'][0]['data'] == best['data'][:3]
        body = json.dumps({'instances': [{'b64': base64.b64encode(JPEG).decode()}]})
        scores = client.ask('POST', '/v1/models/animals:predict', body).json()['predictions']
        assert len(scores) == 1 and len(scores[0]) == len(logits)
        body = json.dumps({'instances': nested * 2})
        scores = client.ask('POST', '/v1/models/animals:predict', body).json()['predictions']
        assert len(scores) == 2 and max(abs(a - b) for a, b in zip(scores[0], logits)) < 0.2
        assert client.ask('GET', '/v1/models/animals').json()['model_version_status'][0]['state'] == 'AVAILABLE'
        client.close()


def test_describes_itself():
    with backend() as service:
        about = ask(service.port, 'GET', '/models?details=1').json()[0]
        assert about['head'] == 'softmax' and about['independent'] is False, about
        assert about['sources']['labels'].startswith('config.json: id2label') and set(about['sources']) == \
            {'preprocessing', 'labels', 'head'} and 'preprocessor_config.json' in about['sources']['preprocessing'], about
        check_docs(service.port, absent=['/session', '/v2/repository/models/{model}/load'])


def test_tensorflow():
    """TensorFlow Serving: rows and columns, bare and named, photos and numbers, with their shapes; status and metadata"""
    with backend() as service:
        client = Client(service.port)
        ask_for = lambda request: client.ask('POST', '/v1/models/animals:predict', json.dumps(request))
        metadata = client.ask('GET', '/v1/models/animals/metadata').json()
        assert metadata['model_spec'] == {'name': 'animals', 'signature_name': '', 'version': '1'}
        signature = metadata['metadata']['signature_def']['signature_def']['serving_default']
        (name, given), (_, output), photo = *signature['inputs'].items(), *signature['outputs'].items(), base64.b64encode(JPEG).decode()
        sizes = lambda tensor: [dim['size'] for dim in tensor['tensor_shape']['dim']]
        assert given['dtype'] == 'DT_FLOAT' and sizes(given) == ['-1', '3', '64', '64'], given
        labels = client.ask('GET', '/v2/models/animals').json()['outputs'][0]['shape']
        assert sizes(output) == [str(size) for size in labels] and labels[0] == -1 and labels[1] > 50, labels
        one = [[[0.5] * 64] * 64] * 3
        other = [[[0.25] * 64] * 64] * 3
        bare = ask_for({'instances': [one, other]}).json()['predictions']
        assert len(bare) == 2 and len(bare[0]) == labels[1] and bare[0] != bare[1]
        same = lambda a, b: all(abs(x - y) < 1e-4 for p, q in zip(a, b) for x, y in zip(p, q)) and len(a) == len(b)
        assert same(ask_for({'instances': [{name: one}, {name: other}]}).json()['predictions'], bare)
        assert same(ask_for({'inputs': [one, other]}).json()['outputs'], bare)
        assert same(ask_for({'inputs': {name: [one, other]}, 'signature_name': 'serving_default'}).json()['outputs'], bare)
        row = ask_for({'instances': [{'b64': photo}, {'b64': photo}]}).json()['predictions']
        assert len(row) == 2 and row[0] == row[1]
        for request in ({'instances': [{name: {'b64': photo}}] * 2}, {'instances': [{'image_bytes': {'b64': photo}}] * 2}):
            assert same(ask_for(request).json()['predictions'], row), request
        for request in ({'inputs': [{'b64': photo}] * 2}, {'inputs': {name: [{'b64': photo}] * 2}}):
            assert same(ask_for(request).json()['outputs'], row), request
        assert len(ask_for({'inputs': {'b64': photo}}).json()['outputs']) == 1
        wrong = [[], {}, {'instances': [one], 'inputs': [one]}, {'instances': []}, {'instances': [{'x': one}]},
                 {'instances': [{name: one}, {name: [1, 2]}]}, {'instances': [{name: one}, {}]}, {'instances': [[0], {name: one}]},
                 {'instances': [{name: one, 'x': one}]}, {'instances': [{name: one}, {'b64': photo}]},
                 {'instances': [{'b64': photo}, {name: one}]}, {'instances': [{'b64': '!'}]}, {'instances': [{'b64': 3}]},
                 {'instances': [{name: 'x'}]}, {'instances': [{name: 1}]}, {'instances': [{name: one}], 'signature_name': 'else'},
                 {'instances': [{name: one}], 'signature_name': 3}, {'inputs': {}}, {'inputs': 3}, {'inputs': 'x'},
                 {'inputs': {name: one}}, {'inputs': {'x': [one]}}, {'inputs': {name: [[one]]}}, {'inputs': [{name: one}]},
                 {'instances': {name: one}}, {'instances': [{name: one}] * 300}]
        for request in wrong:
            reply = ask_for(request)
            assert reply.status == 400 and len(reply.json()['error']) > 10, (str(request)[:99], reply.status, reply.body)
        for target in ('/v1/models/animals', '/v1/models/animals/versions/1'):
            status = client.ask('GET', target).json()['model_version_status']
            assert status == [{'version': '1', 'state': 'AVAILABLE', 'status': {'error_code': 'OK', 'error_message': ''}}], status
        assert client.ask('GET', '/v1/models/animals/versions/1/metadata').json() == metadata
        assert client.ask('POST', '/v1/models/animals/versions/1:predict', json.dumps({'inputs': {'b64': photo}})).status == 200
        for target in ('/v1/models/none', '/v1/models/none/metadata', '/v1/models/animals/versions/2', '/v1/models/animals/else'):
            assert client.ask('GET', target).status == 404, target
        assert client.ask('GET', '/v1/models/animals:predict').status == 405
        client.close()


def test_protocol_wrong():
    """Open Inference Protocol: what is wrong is refused in words"""
    with backend() as service:
        client = Client(service.port)
        name = client.ask('GET', '/v2/models/animals').json()['inputs'][0]['name']
        good = tensor_request(name=name)
        changed = lambda **more: {'inputs': [{**good['inputs'][0], **more}]}
        requests = [{}, {'inputs': []}, {'inputs': 3}, {'inputs': [3]}, tensor_request(name='wrong'), changed(shape=[1, 3, 64]),
                    changed(shape=[1, 3, 64, 63]), changed(shape=[-1, 3, 64, 64]), changed(shape=[2**40, 3, 64, 64]),
                    changed(datatype='INT8'), changed(datatype='FUN'), changed(data=[1, 2, 3]), changed(data=[0.5] * 12289),
                    changed(data='x'), changed(data=[[1], [2, 3]]), changed(data=[True, 'a']), changed(data={}),
                    changed(parameters={'binary_data_size': 99}), changed(parameters={'binary_data_size': -1}),
                    {**good, 'outputs': [{'name': 'wrong'}]}, {**good, 'outputs': 3},
                    {**good, 'outputs': [{'name': name, 'parameters': {'classification': 0}}]},
                    {'inputs': good['inputs'] * 2}, changed(datatype='BYTES', shape=[1], data=['!!!']),
                    changed(datatype='BYTES', shape=[1], data=['aGVsbG8='])]
        for request in requests:
            reply = infer(client, request)
            assert reply.status == 400 and reply.json()['error'], (str(request)[:200], reply.status, reply.body)
        for binary, size in ((b'\xff\xff\xff\xffabc', 7), (b'abc', 3), (b'', 8)):
            request = changed(datatype='BYTES', shape=[1], parameters={'binary_data_size': size})
            assert infer(client, request, binary or b'x').status == 400
        reply = client.ask('POST', '/v2/models/animals/infer', b'{}', Inference_Header_Content_Length='99')
        assert reply.status == 400
        for body in (b'', b'{}', b'{"instances": 3}', b'{"instances": [[1]]}', b'{"instances": [{}]}', b'{"instances": ["a"]}',
                     b'{"instances": [1, [2]]}', b'{"instances": [1,,2]}', b'{"instances": [1e]}', b'{"instances": [1'):
            reply = client.ask('POST', '/v1/models/animals:predict', body)
            assert reply.status == 400, (body, reply.status, reply.body)
        assert infer(client, good).status == 200
        client.close()
        assert service.end() == 0


def test_tensorflow_outputs():
    """TensorFlow Serving: of a network with two outputs, each row or column has both by name"""
    with tempfile.TemporaryDirectory() as folder:
        tiny.model(folder)
        tiny.write(f'{folder}/model.onnx', tiny.network(maps=True))
        with backend('--name', 'two', model=folder) as service:
            ask_for = lambda request: ask(service.port, 'POST', '/v1/models/two:predict', json.dumps(request)).json()
            photo = lambda *colour: [[[value] * 8] * 8 for value in colour]
            two = [photo(1, 0, 0), photo(0, 0.5, 0)]
            rows = ask_for({'instances': two})['predictions']
            assert [set(row) for row in rows] == [{'maps', 'scores'}] * 2, rows
            assert rows[0]['maps'] == two[0] and rows[1]['scores'] == [0, 5, 0], rows
            columns = ask_for({'inputs': {'photo': two}})['outputs']
            assert columns['maps'] == two and columns['scores'] == [row['scores'] for row in rows], columns
            metadata = ask(service.port, 'GET', '/v1/models/two/metadata').json()['metadata']['signature_def']['signature_def']
            outputs = metadata['serving_default']['outputs']
            assert [dim['size'] for dim in outputs['scores']['tensor_shape']['dim']] == ['-1', '3'], outputs
            assert [dim['size'] for dim in outputs['maps']['tensor_shape']['dim']] == ['-1', '3', '-1', '-1'], outputs


def test_load():
    """many at once are batched, none is lost, and the answers are those of one alone"""
    with backend('--max-batch', '8') as service:
        alone = check_answer(ask(service.port, 'POST', '/predict', JPEG, Content_Type='image/jpeg'))
        load = Load(service.port, '/predict', 16, JPEG, Content_Type='image/jpeg')
        until(lambda: load.statuses.get(200, 0) > 20, 120, 'a load')
        together = check_answer(ask(service.port, 'POST', '/predict', JPEG, Content_Type='image/jpeg'))
        assert load.end(51) > 50 and not load.errors, load.errors[:3]
        assert together['category'] == alone['category']
        assert abs(together['predictions'][0]['probability'] - alone['predictions'][0]['probability']) < 0.02
        for _ in range(10):  # on a busy machine photos may arrive one by one
            text = ask(service.port, 'GET', '/metrics').body.decode()
            value = lambda name: float(next(line for line in text.split('\n') if line.startswith(name)).split()[-1])
            if value('nv_inference_exec_count') < value('nv_inference_count'):
                break
            assert Load(service.port, '/predict', 16, JPEG, Content_Type='image/jpeg').end(51) > 50
        assert value('nv_inference_request_success') == value('nv_inference_count') > 50
        assert value('nv_inference_exec_count') < value('nv_inference_count'), 'no batches'
        assert value('guichet_decode_seconds_count') > 50 and value('process_resident_memory_bytes') > 1e6
        assert 'guichet_requests_total{model="animals",route="predict",status="200"}' in text


def test_queue():
    """beyond the queue's bound: 503 with Retry-After; past its deadline: 504"""
    with Photos() as photos, backend('--allow-private-urls', '--queue', '2') as service:
        waiting = [threading.Thread(target=by_url, args=(service, photos.url + '/slow?held')) for _ in range(2)]
        for thread in waiting:
            thread.start()
        until(lambda: photos.asked == 2, what='two fetches')
        reply = ask(service.port, 'POST', '/predict', JPEG, Content_Type='image/jpeg')
        assert reply.status == 503 and reply.header('Retry-After') == '1'
        photos.go.set()
        for thread in waiting:
            thread.join()
        check_answer(ask(service.port, 'POST', '/predict', JPEG, Content_Type='image/jpeg'))


def test_leaving():
    """a caller that leaves frees its place"""
    with Photos() as photos, backend('--allow-private-urls', '--queue', '1') as service:
        body = json.dumps({'url': photos.url + '/slow?long'}).encode()
        with socket.create_connection(('127.0.0.1', service.port)) as one:
            one.sendall(b'POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
            until(lambda: photos.asked == 1, what='the fetch')
        until(lambda: ask(service.port, 'POST', '/predict', JPEG, Content_Type='image/jpeg').status == 200, what='a free place')


def test_sigterm():
    """SIGTERM finishes what began"""
    with Photos() as photos, backend('--allow-private-urls') as service:
        replies = []
        thread = threading.Thread(target=lambda: replies.append(by_url(service, photos.url + '/slow')))
        thread.start()
        until(lambda: photos.asked == 1, what='the fetch')
        service.kill(signal.SIGTERM)
        thread.join()
        check_answer(replies[0])
        assert service.end() == 0


def test_environment():
    """MODEL_NAME and PORT name the model and where it listens; a model that is not there is one line and status 1"""
    name = os.path.basename(os.path.normpath(MODEL))
    folder = os.path.dirname(os.path.normpath(MODEL))
    process = Process(GUICHET, 'backend', environment={'MODEL_NAME': name, 'GUICHET_MODELS': folder, 'PORT': '0'})
    with process:
        port = int(process.wait_line('listening on port', 60).split('port ')[1])
        assert ask(port, 'GET', '/models').json() == [name]
    process = Process(GUICHET, 'backend', '--model', '/nowhere', '--port', '0')
    with process:
        assert process.child.wait(20) == 1
        process.reader.join(5)
        assert len(process.lines) == 1 and 'nowhere' in process.lines[0], process.lines


def test_log():
    """one line a request, and nobody can write a second"""
    with backend('--access-log', 'json') as service:
        raw(service.port, b'GET /a%0a%22b HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: me\r\nConnection: close\r\n\r\n')
        line = json.loads(service.wait_line('request_id'))
        assert line['path'] == '/a%0a%22b' and line['status'] == 404 and line['request_id'] == 'me'


def test_memory():
    """memory does not grow over thousands of requests, good and bad (GUICHET_TEST_REQUESTS: how many)"""
    count = int(os.environ.get('GUICHET_TEST_REQUESTS', '4000'))
    # A sanitizer keeps freed memory for a while: let it keep little.
    options = {'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':quarantine_size_mb=1:thread_local_quarantine_size_kb=64'}
    with backend(environment=options) as service:
        def resident():
            with open(f'/proc/{service.child.pid}/statm', encoding='ascii') as file:
                return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')

        def some(number):
            def run():
                client = Client(service.port)
                for i in range(number // 4):
                    if i % 4 == 0:
                        client.ask('POST', '/predict', JPEG, Content_Type='image/jpeg')
                    elif i % 4 == 1:
                        client.ask('POST', '/predict', JPEG[:300], Content_Type='image/jpeg')
                    elif i % 4 == 2:
                        client.ask('POST', '/predict', b'{"url": "http://127.0.0.1/"}', Content_Type='application/json')
                    else:
                        client.ask('POST', '/v2/models/animals/infer', b'{"inputs": [{"name": 3}]}')
                client.close()
            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        some(max(count // 4, 400))
        before = resident()
        some(count)
        grown = resident() - before
        assert grown < (8 << 20) + before // 10, f'{grown} bytes more after {count} requests'


def test_baked_files():
    """a baked file is used; one that is not current is made again, and where it cannot be, the model serves all the same"""
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, 'animals')
        shutil.copytree(MODEL, model)
        subprocess.run([GUICHET, 'bake', model], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        baked = next(entry.path for entry in os.scandir(model) if entry.name.endswith('.baked'))

        def start(expected):
            with backend(model=model) as service:
                assert expected in service.wait_line('listening on port'), service.lines
                check_answer(ask(service.port, 'POST', '/predict', JPEG, Content_Type='image/jpeg'))

        start('from its baked file')
        with open(baked, 'r+b') as file:
            file.seek(9)
            file.write(b'XX')
        start('made again')
        start('from its baked file')
        os.unlink(baked)
        os.mkdir(baked)
        start('loaded in')


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
