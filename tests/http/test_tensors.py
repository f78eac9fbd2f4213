#!/usr/bin/env python3
"""V2 as tensors: what comes back is what went in, of every type and form; several inputs; bodies without JSON; compressed answers;
configuration and statistics."""
import contextlib
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cases'))
import case
import tiny
from tiers import GUICHET, ask, backend, gateway, run_tests

# Datatype: ONNX's number, struct's letter, values that only that type holds.
TYPES = {'FP32': (1, 'f', [1.5, -2, 3e38, 0]), 'UINT8': (2, 'B', [0, 1, 128, 255]), 'INT8': (3, 'b', [-128, -1, 0, 127]),
         'UINT16': (4, 'H', [0, 1, 40000, 65535]), 'INT16': (5, 'h', [-32768, -1, 0, 32767]), 'INT32': (6, 'i', [-2 ** 31, -1, 0, 2 ** 31 - 1]),
         'INT64': (7, 'q', [-2 ** 53, -1, 0, 2 ** 53]), 'BOOL': (9, '?', [True, False, False, True]), 'FP16': (10, 'e', [1.5, -65504, 0, 0.25]),
         'FP64': (11, 'd', [1.5, -1e300, 0, 0.1]), 'UINT32': (12, 'I', [0, 1, 2 ** 31, 2 ** 32 - 1]), 'UINT64': (13, 'Q', [0, 1, 2 ** 40, 2 ** 53])}


@contextlib.contextmanager
def served(network):
    """Its port, under the name m."""
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(f'{folder}/m/model.onnx', network)
        with backend('--precision', 'f32', '--access-log', 'off', model=f'{folder}/m') as service:
            yield service.port


def every_type():
    """One input and one output of each type, of free length."""
    nodes = [tiny.node('Identity', [name], ['same_' + name]) for name in TYPES]
    return case.network(nodes, [tiny.value_info(name, ['n', 4], kind) for name, (kind, _, _) in TYPES.items()],
                        [tiny.value_info('same_' + name, ['n', 4], kind) for name, (kind, _, _) in TYPES.items()])


def infer(port, request, binary=b'', **headers):
    text = json.dumps(request).encode()
    if binary:
        headers['Inference_Header_Content_Length'] = str(len(text))
    return ask(port, 'POST', '/v2/models/m/infer', text + binary, **headers)


def test_identity_in_json():
    """each of twelve types, 24 tensors in one request and its answer"""
    with served(every_type()) as port:
        reply = infer(port, {'id': 'x', 'inputs': [{'name': name, 'datatype': name, 'shape': [2, 4], 'data': [values, values[::-1]]}
                                                   for name, (_, _, values) in TYPES.items()]})
        assert reply.status == 200, reply.body
        for output in reply.json()['outputs']:
            name = output['name'][5:]
            values = TYPES[name][2] + TYPES[name][2][::-1]
            assert output['datatype'] == name and output['shape'] == [2, 4], output
            assert [struct.pack('<' + TYPES[name][1], v) for v in output['data']] == [struct.pack('<' + TYPES[name][1], v) for v in values], output


def test_identity_in_binary():
    """the same as bytes, with and without an order of outputs of one's own"""
    with served(every_type()) as port:
        packed = {name: struct.pack(f'<4{code}', *values) for name, (_, code, values) in TYPES.items()}
        inputs = [{'name': name, 'datatype': name, 'shape': [1, 4], 'parameters': {'binary_data_size': len(data)}} for name, data in packed.items()]
        for more, order in (({'parameters': {'binary_data_output': True}}, list(TYPES)),
                            ({'outputs': [{'name': 'same_' + name, 'parameters': {'binary_data': True}} for name in reversed(TYPES)]},
                             list(TYPES)[::-1])):
            reply = infer(port, {'inputs': inputs, **more}, b''.join(packed.values()))
            split = int(reply.header('Inference-Header-Content-Length'))
            assert [output['name'][5:] for output in json.loads(reply.body[:split])['outputs']] == order
            assert reply.body[split:] == b''.join(packed[name] for name in order)


def add_sub(kind):
    return case.network([tiny.node('Add', ['INPUT0', 'INPUT1'], ['OUTPUT0']), tiny.node('Sub', ['INPUT0', 'INPUT1'], ['OUTPUT1'])],
                        [tiny.value_info(name, ['n', 16], kind) for name in ('INPUT0', 'INPUT1')],
                        [tiny.value_info(name, ['n', 16], kind) for name in ('OUTPUT0', 'OUTPUT1')])


def test_two_inputs():
    """sums and differences of whole numbers and floats; an input twice, one that is missing, one too many"""
    a, b = list(range(16)), [3] * 16
    for datatype in ('INT32', 'INT64', 'FP32'):
        with served(add_sub(TYPES[datatype][0])) as port:
            inputs = [{'name': f'INPUT{i}', 'datatype': datatype, 'shape': [1, 16], 'data': data} for i, data in enumerate((a, b))]
            outputs = {output['name']: output['data'] for output in infer(port, {'inputs': inputs}).json()['outputs']}
            assert outputs == {'OUTPUT0': [x + 3 for x in a], 'OUTPUT1': [x - 3 for x in a]}, outputs
            for wrong in (inputs[:1], inputs + inputs[:1], inputs + [dict(inputs[0], name='INPUT2')]):
                reply = infer(port, {'inputs': wrong})
                assert reply.status == 400 and b'INPUT' in reply.body, reply.body
            reply = ask(port, 'POST', '/v2/models/m/infer', bytes(128), Inference_Header_Content_Length='0')
            assert reply.status == 400 and b'2 inputs' in reply.body, reply.body


def row(dims, kind=1):
    return case.network([tiny.node('Identity', ['x'], ['y'])], [tiny.value_info('x', dims, kind)], [tiny.value_info('y', dims, kind)])


def test_body_without_json():
    """the model gives name, type and shape; one dimension may be free"""
    def send(port, body):
        return ask(port, 'POST', '/v2/models/m/infer', body, Inference_Header_Content_Length='0')
    values = struct.pack('<6f', *range(6))
    for dims, shape in ((['n', 3], [2, 3]), ([2, 3], [2, 3]), ([1, 'n'], [1, 6])):
        with served(row(dims)) as port:
            reply = send(port, values)
            split = int(reply.header('Inference-Header-Content-Length'))
            assert reply.status == 200 and reply.body[split:] == values, reply.body
            assert json.loads(reply.body[:split])['outputs'][0]['shape'] == shape
            for wrong in (b'', values[:-1], values[:-4] if 3 in dims else b'ab'):
                reply = send(port, wrong)
                assert reply.status == 400 and b'bytes, which input' in reply.body, reply.body
    with served(row(['n', 'm'])) as port:
        reply = send(port, values)
        assert reply.status == 400 and b'at most one free dimension' in reply.body, reply.body


def test_compressed_answers():
    """gzip and deflate where they are asked for, through a gateway too; small answers and others as they are"""
    draw = random.Random(1)
    values = [draw.random() for _ in range(4000)]
    inputs = [{'name': 'x', 'datatype': 'FP32', 'shape': [1000, 4], 'data': values}]
    with served(row(['n', 4])) as port, gateway('--backend', f'm=http://127.0.0.1:{port}') as door:
        plain = infer(port, {'inputs': inputs})
        assert not plain.header('Content-Encoding')
        for at in (port, door.port):
            for accepted, encoding, decode in (('gzip', 'gzip', gzip.decompress), ('br, gzip;q=0.5', 'gzip', gzip.decompress),
                                               ('gzip;q=0, deflate', 'deflate', zlib.decompress), ('br', None, bytes),
                                               ('gzip;q=0', None, bytes), ('gzipped', None, bytes), ('', None, bytes)):
                reply = infer(at, {'inputs': inputs}, Accept_Encoding=accepted)
                assert reply.header('Content-Encoding') == encoding and decode(reply.body) == plain.body, (accepted, reply.headers)
                assert not encoding or (len(reply.body) < len(plain.body) and reply.header('Vary') == 'Accept-Encoding')
        small = infer(port, {'inputs': [dict(inputs[0], shape=[1, 4], data=[1, 2, 3, 4])]}, Accept_Encoding='gzip')
        assert not small.header('Content-Encoding')
        request = {'inputs': inputs, 'parameters': {'binary_data_output': True}}
        reply = infer(port, request, Accept_Encoding='gzip')
        split = int(reply.header('Inference-Header-Content-Length'))
        assert gzip.decompress(reply.body)[split:] == struct.pack('<4000f', *values)


def test_what_the_folder_asks_for():
    """guichet.json: title and description in the listing, threads, rows of one run, a length; what is wrong is said"""
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(f'{folder}/m/model.onnx', row(['n', 'length']))
        tiny.write(f'{folder}/m/guichet.json', json.dumps({'title': 'Rows', 'description': 'What goes in comes out.', 'threads': 1, 'batch': 3,
                                                           'length': 77}))
        with backend('--access-log', 'off', model=f'{folder}/m') as service:
            entry = ask(service.port, 'GET', '/models?details=1').json()[0]
            assert entry['title'] == 'Rows' and entry['description'] == 'What goes in comes out.' and entry['kind'] == 'tensor', entry
            values = list(range(14))
            reply = infer(service.port, {'inputs': [{'name': 'x', 'datatype': 'FP32', 'shape': [7, 2], 'data': values}]})
            assert reply.json()['outputs'][0]['data'] == values, reply.body
            told = ask(service.port, 'GET', '/v2/models/m/stats').json()['model_stats'][0]
            assert told['execution_count'] == 1 and told['inference_count'] == 1, told
        run = subprocess.run([GUICHET, 'inspect', '--json', f'{folder}/m'], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                             check=True)
        plan = json.loads(run.stdout)['plan']
        assert plan['shapes'] == {'x': [1, 77]} and plan['guessed'] is None, plan
        tiny.write(f'{folder}/m/guichet.json', '{"batch": 1000}')
        run = subprocess.run([GUICHET, 'inspect', f'{folder}/m'], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 1 and "'batch' is not a number of rows, at most 256" in run.stderr, run.stderr


def test_configuration_and_statistics():
    with served(add_sub(7)) as port:
        for version in ('', '/versions/1'):
            told = ask(port, 'GET', f'/v2/models/m{version}/config').json()
            assert told['name'] == 'm' and told['max_batch_size'] == 0, told
            assert told['input'] == [{'name': f'INPUT{i}', 'data_type': 'TYPE_INT64', 'dims': [-1, 16]} for i in range(2)], told
        inputs = [{'name': f'INPUT{i}', 'datatype': 'INT64', 'shape': [1, 16], 'data': [i] * 16} for i in range(2)]
        for _ in range(3):
            assert infer(port, {'inputs': inputs}).status == 200
        infer(port, {'inputs': inputs[:1]})
        told = ask(port, 'GET', '/v2/models/m/stats').json()['model_stats'][0]
        assert told['inference_count'] == 3 and told['execution_count'] >= 3 and told['version'] == '1', told
        times = told['inference_stats']
        assert times['success']['count'] == 3 and times['fail']['count'] == 1 and times['success']['ns'] > 0, told
        assert 0 < times['compute_infer']['ns'] <= times['success']['ns'], told
        assert ask(port, 'GET', '/v2/models/other/stats').status == 404


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules[__name__]))
