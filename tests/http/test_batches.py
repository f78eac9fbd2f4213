#!/usr/bin/env python3
"""guichet backend: photos and tensors of several callers in one run of the network, each with the answer that it has alone."""
import json
import os
import struct
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import tiny  # noqa: E402
from tiers import JPEG, Client, ask, backend, run_tests, until

SIDE, SIZE = 64, 3 * 64 * 64
INFER, PREDICT = '/v2/models/animals/infer', '/v1/models/animals:predict'


def colours(*rows):
    """Values of photos of one colour each, [rows, 3, SIDE, SIDE]."""
    return [value for row in rows for value in row for _ in range(SIDE * SIDE)]


def binary(values, rows=1, name='pixel_values', side=SIDE):
    head = json.dumps({'inputs': [{'name': name, 'shape': [rows, 3, side, side], 'datatype': 'FP32',
                                   'parameters': {'binary_data_size': 4 * len(values)}}],
                       'parameters': {'binary_data_output': True}}).encode()
    return head + struct.pack(f'<{len(values)}f', *values), {'Inference_Header_Content_Length': str(len(head))}


def numbers(reply):
    """The output, however it was asked for."""
    assert reply.status == 200, reply.body
    split = reply.header('Inference-Header-Content-Length')
    if split:
        return list(struct.unpack(f'<{(len(reply.body) - int(split)) // 4}f', reply.body[int(split):]))
    answer = reply.json()
    if 'predictions' in answer and 'category' in answer:
        return [one['probability'] for one in sorted(answer['predictions'], key=lambda one: one['index'])]
    return answer['outputs'][0]['data'] if 'outputs' in answer else [value for row in answer['predictions'] for value in row]


def near(a, b, most=0.02):
    return len(a) == len(b) and all(abs(x - y) <= most + 0.01 * abs(y) for x, y in zip(a, b))


def metric(port, name):
    text = ask(port, 'GET', '/metrics').body.decode()
    return float(next(line for line in text.split('\n') if line.startswith(name)).split()[-1])


def at_once(port, forms, times, alone=None):
    """Every form from two connections at once, again and again; the answers that differ from those of one alone."""
    wrong, errors = [], []

    def run(number):
        target, body, headers = forms[number]
        client = Client(port, 120)
        try:
            for _ in range(times):
                got = numbers(client.ask('POST', target, body, **headers))
                if not near(got, alone[number]):
                    wrong.append((number, got[:3], alone[number][:3]))
        except Exception as error:  # pylint: disable=broad-except
            errors.append((number, repr(error)))
        client.close()

    alone = alone or [numbers(ask(port, 'POST', target, body, **headers)) for target, body, headers in forms]
    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(forms)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not errors and not wrong, (errors[:2], wrong[:2])


def test_joined():
    """tensors in binary and JSON, of one row and of several, and photos run together; each has its own answer"""
    with backend('--max-batch', '8', '--max-wait', '20') as service:
        name = ask(service.port, 'GET', '/v2/models/animals').json()['inputs'][0]['name']
        forms = [(INFER, *binary(colours((shade, -shade, 0.5)), name=name)) for shade in (-1.5, -0.5, 0.2, 1.4)]
        forms.append((INFER, *binary(colours((1, 0, 0), (0, 1, 0)), 2, name)))
        forms.append((INFER, *binary(colours((0, 1, 0), (1, 0, 0), (0, 0, 1)), 3, name)))
        forms.append((INFER, json.dumps({'inputs': [{'name': name, 'shape': [1, 3, SIDE, SIDE], 'datatype': 'FP32',
                                                      'data': colours((0.25, 0.5, 1))}]}), {}))
        plane = lambda value: [[value] * SIDE] * SIDE
        forms.append((PREDICT, json.dumps({'instances': [[plane(1), plane(0.5), plane(-1)], [plane(0), plane(0), plane(2)]]}), {}))
        forms.append(('/predict?top=59', JPEG, {'Content_Type': 'image/jpeg'}))
        for _ in range(20):  # on a busy machine they may arrive one by one
            at_once(service.port, forms, 6)
            if metric(service.port, 'nv_inference_exec_count') < 0.8 * metric(service.port, 'nv_inference_count'):
                return
        raise AssertionError('no batches')


def test_tensors_alone():
    """without any photo, tensors are joined all the same"""
    with backend('--max-batch', '4', '--max-wait', '20') as service:
        name = ask(service.port, 'GET', '/v2/models/animals').json()['inputs'][0]['name']
        forms = [(INFER, *binary(colours((shade, 0, -shade)), name=name)) for shade in (-1, -0.5, 0.5, 1)]
        for _ in range(20):
            at_once(service.port, forms, 6)
            if metric(service.port, 'nv_inference_exec_count') < 0.8 * metric(service.port, 'nv_inference_count'):
                return
        raise AssertionError('no batches')


def test_rows_that_meet():
    """where one row of a network depends on another, requests are not joined"""
    nodes = [tiny.node('GlobalAveragePool', ['photo'], ['mean']), tiny.node('Flatten', ['mean'], ['flat']),
             tiny.node('ReduceMean', ['flat'], ['middle'], tiny.ints('axes', [0])),
             tiny.node('Sub', ['flat', 'middle'], ['logits'])]
    graph = b''.join(tiny.field(1, node) for node in nodes) + tiny.field(2, 'meeting') + \
        tiny.field(11, tiny.value_info('photo', ['n', 3, 8, 8])) + tiny.field(12, tiny.value_info('logits', ['n', 3]))
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(f'{folder}/animals/model.onnx', tiny.field(1, 8) + tiny.field(7, graph) +
                   tiny.field(8, tiny.field(1, '') + tiny.field(2, 13)))
        tiny.write(f'{folder}/animals/preprocessor_config.json', json.dumps(tiny.RECIPE))
        with backend('--max-batch', '8', '--max-wait', '20', model=f'{folder}/animals') as service:
            forms = [(INFER, *binary([shade] * 192, name='photo', side=8)) for shade in (1.0, 2.0, 3.0, 4.0)]
            forms.append((INFER, *binary([1.0] * 192 + [2.0] * 192, 2, 'photo', 8)))
            at_once(service.port, forms, 30, [[0, 0, 0]] * 4 + [[-0.5, -0.5, -0.5, 0.5, 0.5, 0.5]])
            assert metric(service.port, 'nv_inference_exec_count') == metric(service.port, 'nv_inference_count')


def test_not_finite():
    """a tensor with NaN is answered by itself; those beside it do not see it"""
    with backend('--max-batch', '8', '--max-wait', '20') as service:
        name = ask(service.port, 'GET', '/v2/models/animals').json()['inputs'][0]['name']
        forms = [(INFER, *binary(colours((shade, 0, -shade)), name=name)) for shade in (-1, 0.5, 1)]
        body, headers = binary([float('nan')] * SIZE, name=name)
        stop, strange = threading.Event(), []

        def disturb():
            while not stop.is_set():
                strange.append(numbers(ask(service.port, 'POST', INFER, body, **headers)))

        thread = threading.Thread(target=disturb)
        thread.start()
        at_once(service.port, forms, 20)
        until(lambda: strange or not thread.is_alive(), 60, 'an answer')
        stop.set()
        thread.join(60)
        assert strange and all(value != value for value in strange[0]), strange[:1]


def test_photo_that_fails():
    """a photo that the network cannot take does not fail those that it shares a run with"""
    nodes = [tiny.node('GlobalAveragePool', ['photo'], ['mean']), tiny.node('Flatten', ['mean'], ['flat']),
             tiny.node('Gemm', ['flat', 'weights', 'bias'], ['index']),
             tiny.node('Cast', ['index'], ['whole'], tiny.field(1, 'to') + tiny.field(20, 2) + tiny.field(3, 7)),
             tiny.node('Squeeze', ['whole', 'axis'], ['flat_index']),
             tiny.node('Gather', ['table', 'flat_index'], ['logits'])]
    graph = b''.join(tiny.field(1, node) for node in nodes) + tiny.field(2, 'table') + \
        tiny.field(5, tiny.tensor('weights', [3, 1], [2.2, 0, 0])) + tiny.field(5, tiny.tensor('bias', [1], [0])) + \
        tiny.field(5, tiny.tensor('table', [2, 3], [5, 0, 0, 0, 5, 0])) + \
        tiny.field(5, tiny.field(1, 1) + tiny.field(2, 7) + tiny.field(8, 'axis') + tiny.field(9, struct.pack('<q', 1))) + \
        tiny.field(11, tiny.value_info('photo', ['n', 3, 8, 8])) + tiny.field(12, tiny.value_info('logits', ['n', 3]))
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(f'{folder}/animals/model.onnx', tiny.field(1, 8) + tiny.field(7, graph) +
                   tiny.field(8, tiny.field(1, '') + tiny.field(2, 13)))
        tiny.write(f'{folder}/animals/preprocessor_config.json', json.dumps(tiny.RECIPE))
        with backend('--max-batch', '8', '--max-wait', '20', model=f'{folder}/animals') as service:
            photos = [tiny.png(0, 0, 0), tiny.png(150, 0, 0), tiny.png(255, 0, 0)]
            statuses, answers = [set(), set(), set()], [set(), set(), set()]

            def run(number):
                client = Client(service.port, 120)
                for _ in range(30):
                    reply = client.ask('POST', '/predict', photos[number], Content_Type='image/png')
                    statuses[number].add(reply.status)
                    answers[number].add(reply.json()['predictions'][0]['index'] if reply.status == 200 else reply.json()['error'])
                client.close()

            threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1, 2) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(300)
            assert statuses[0] == statuses[1] == {200} and statuses[2] & {400, 500, 422} and 200 not in statuses[2], statuses
            assert answers[:2] == [{0}, {1}] and len(answers[2]) == 1, answers


def test_parameters():
    """timeout bounds the wait; priority, sequences and values of a wrong type are refused"""
    with backend() as service:
        client = Client(service.port)
        name = client.ask('GET', '/v2/models/animals').json()['inputs'][0]['name']

        def infer(parameters, output=None):
            request = {'inputs': [{'name': name, 'shape': [1, 3, SIDE, SIDE], 'datatype': 'FP32', 'data': colours((0, 0, 0))}],
                       'parameters': parameters}
            if output is not None:
                request['outputs'] = [{'name': 'logits', 'parameters': output}]
            return client.ask('POST', INFER, json.dumps(request))

        for parameters in ({}, {'timeout': 60000000}, {'timeout': 0, 'priority': 0}, {'timeout': 2**62},
                           {'sequence_id': 0, 'sequence_start': False}, {'sequence_id': ''}, {'content_type': 'np'}):
            assert infer(parameters).status == 200, parameters
        late = infer({'timeout': 1})
        assert late.status == 504 and 'timeout' in late.json()['error'], late.body
        for parameters in ([], 3, {'timeout': -1}, {'timeout': '9'}, {'timeout': 1.5}, {'priority': 1}, {'priority': 'high'},
                           {'priority': -1}, {'sequence_id': 7}, {'sequence_id': 'a'}, {'sequence_start': True},
                           {'sequence_end': 1}, {'binary_data_output': 1}, {'binary_data_output': 'yes'}):
            reply = infer(parameters)
            assert reply.status == 400 and 'parameter' in reply.json()['error'], (parameters, reply.body)
        assert infer({}, {'binary_data': 1}).status == 400 and infer({}, {'binary_data': False}).status == 200
        client.close()


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
