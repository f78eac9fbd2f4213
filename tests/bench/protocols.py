#!/usr/bin/env python3
"""The forms of asking beside each other: one model's service on loopback, the same network behind all of them.

    protocols.py PROGRAM MODEL PHOTO [--seconds S] [--rounds N] [--connections N,N] [--form PART]… [--option=WORD]…

/predict with the photo; V2 with the photo as BYTES, with a ready tensor in binary and in JSON; TensorFlow Serving with the
tensor in JSON. The tensor is random, its answer is not looked at. Prints, for each form and number of connections, requests/s
(the median over the rounds), the median time of an answer, the mean size of a batch, and the mean time in the network. Needs
wrk; nothing else of the machine should run. Linux.
"""
import argparse
import array
import json
import os
import random
import re
import statistics
import subprocess
import tempfile
import urllib.request

import bench
import load


def metrics(url):
    """Sum and count of the batch sizes, and of the seconds in the network."""
    with urllib.request.urlopen(f'{url}/metrics', timeout=10) as answer:
        text = answer.read().decode()
    return {(name, part): float(re.search(rf'^guichet_{name}_{part}\{{.*\}} (\S+)$', text, re.M).group(1))
            for name in ('batch_size', 'infer_seconds') for part in ('sum', 'count')}


def requests(url, name, photo, folder):
    """Form -> path, headers, file with the body."""
    with urllib.request.urlopen(f'{url}/v2/models/{name}', timeout=10) as answer:
        port = json.load(answer)['inputs'][0]
    shape = [1 if dim < 0 else dim for dim in port['shape']]
    count = 1
    for dim in shape:
        count *= dim
    values = array.array('f', (random.uniform(-2, 2) for _ in range(count)))
    numbers = '[' + ', '.join(f'{value:.7g}' for value in values) + ']'
    with open(photo, 'rb') as file:
        jpeg = file.read()

    def v2(datatype, dims, size):
        return json.dumps({'inputs': [{'name': port['name'], 'datatype': datatype, 'shape': dims, 'parameters':
                                       {'binary_data_size': size}}]}).encode()

    def write(form, body):
        path = os.path.join(folder, form)
        with open(path, 'wb') as file:
            file.write(body)
        return path

    head, tensor = v2('BYTES', [1], len(jpeg) + 4), v2('FP32', shape, 4 * count)
    text = json.dumps({'inputs': [{'name': port['name'], 'datatype': 'FP32', 'shape': shape, 'data': []}]})
    infer, json_type = f'/v2/models/{name}/infer', ['Content-Type: application/json']
    return {
        '/predict, photo': ('/predict', ['Content-Type: image/jpeg'], write('photo', jpeg)),
        'V2, photo': (infer, [f'Inference-Header-Content-Length: {len(head)}'],
                      write('v2-photo', head + len(jpeg).to_bytes(4, 'little') + jpeg)),
        'V2, binary': (infer, [f'Inference-Header-Content-Length: {len(tensor)}'],
                       write('v2-binary', tensor + values.tobytes())),
        'V2, JSON': (infer, json_type, write('v2-json', text.replace('[]', numbers).encode())),
        'TensorFlow Serving, JSON': (f'/v1/models/{name}:predict', json_type,
                                     write('tensorflow', f'{{"instances": {reshape(numbers, shape)}}}'.encode())),
    }


def reshape(numbers, shape):
    """Flat JSON numbers nested as the shape says."""
    items = numbers[1:-1].split(', ')
    for dim in reversed(shape):
        items = ['[' + ', '.join(items[at:at + dim]) + ']' for at in range(0, len(items), dim)]
    return items[0]


def flood(url, request, connections, seconds):
    path, headers, body = request
    before = metrics(url)
    out = subprocess.run(['wrk', '-t1', f'-c{connections}', f'-d{seconds}s', '--timeout', '60s', '-s',
                          os.path.join(bench.HERE, 'load.lua'), url + path], capture_output=True, text=True, check=True,
                         env=dict(os.environ, BODY=body, HEADERS='\n'.join(headers))).stdout
    count, took, errors, p50, _ = map(float, next(line for line in out.split('\n') if line.startswith('RESULT')).split()[1:])
    if errors:
        raise RuntimeError(f'{path}: {errors:.0f} of {count:.0f} requests failed')
    after = metrics(url)
    mean = {name: (after[name, 'sum'] - before[name, 'sum']) / max(after[name, 'count'] - before[name, 'count'], 1)
            for name in ('batch_size', 'infer_seconds')}
    return count / took, p50, mean['batch_size'], mean['infer_seconds'] * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('program')
    parser.add_argument('model')
    parser.add_argument('photo')
    parser.add_argument('--seconds', type=int, default=3)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--connections', default='1,8')
    parser.add_argument('--form', action='append', default=[], help='part of the name of a form (all)')
    parser.add_argument('--option', action='append', default=[])
    words = parser.parse_args()
    connections = [int(word) for word in words.connections.split(',')]
    stage = load.Stage(words.program, words.program)
    port = load.free_port()
    url = f'http://127.0.0.1:{port}'

    stage.start('backend', [stage.program, 'backend', '--model', words.model, '--port', str(port), *words.option],
                f'{url}/readyz')
    try:
        with urllib.request.urlopen(f'{url}/models', timeout=10) as answer:
            name = json.load(answer)[0]
        with tempfile.TemporaryDirectory() as folder:
            forms = {form: request for form, request in requests(url, name, words.photo, folder).items()
                     if not words.form or any(part in form for part in words.form)}
            results = {}
            for _ in range(words.rounds):
                for form, request in forms.items():
                    for number in connections:
                        results.setdefault((form, number), []).append(flood(url, request, number, words.seconds))
    finally:
        stage.end('backend')
    print(f'{"form":26} {"connections":>11} {"requests/s":>10} {"p50 ms":>7} {"batch":>5} {"network ms":>10}')
    for (form, number), rounds in results.items():
        per_s, p50, batch, network = (statistics.median(values) for values in zip(*rounds))
        print(f'{form:26} {number:11} {per_s:10.1f} {p50:7.2f} {batch:5.2f} {network:10.2f}')


if __name__ == '__main__':
    main()
