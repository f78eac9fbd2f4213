#!/usr/bin/env python3
"""Files of a served model are written over in place, as cp does: no request fails, and the new version comes when it is
whole. With weights in the network's file, in a file beside it, and in a baked file."""
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import case
import tiny

CHANNELS = 128


def tensor(name, dims, values, beside):
    """An initializer: its numbers in the file, or in the list of pieces that make `weights.bin`."""
    if beside is None:
        return tiny.tensor(name, dims, values)
    data = tiny.struct.pack(f'<{len(values)}f', *values)
    entries = {'location': 'weights.bin', 'offset': str(sum(map(len, beside))), 'length': str(len(data))}
    beside.append(data + bytes(-len(data) % 4096))
    return b''.join(tiny.field(1, d) for d in dims) + tiny.field(2, 1) + tiny.field(8, name) + \
        b''.join(tiny.field(13, tiny.field(1, key) + tiny.field(2, value)) for key, value in entries.items()) + tiny.field(14, 1)


def files(winner, beside):
    """A version that answers with class `winner`, of 1.2 MB."""
    chance, pieces = random.Random(winner), [] if beside else None
    noise = [chance.uniform(-0.02, 0.02) for _ in range(9999)]

    def weights(name, *dims):
        count = 1
        for dim in dims:
            count *= dim
        return tensor(name, dims, (noise * (count // len(noise) + 1))[:count], pieces)
    constants = [weights('w0', CHANNELS, 3, 3, 3), weights('w1', CHANNELS, CHANNELS, 3, 3), weights('w2', CHANNELS, CHANNELS, 3, 3),
                 weights('w3', CHANNELS, 3), tensor('bias', [3], [9.0 if i == winner else 0.0 for i in range(3)], pieces)]
    nodes, last = [], 'photo'
    for i in range(3):
        nodes += [tiny.node('Conv', [last, f'w{i}'], [f'c{i}'], tiny.ints('pads', [1, 1, 1, 1])), tiny.node('Relu', [f'c{i}'], [f'r{i}'])]
        last = f'r{i}'
    nodes += [tiny.node('GlobalAveragePool', [last], ['mean']), tiny.node('Flatten', ['mean'], ['flat']),
              tiny.node('Gemm', ['flat', 'w3', 'bias'], ['logits'])]
    content = {'model.onnx': case.network(nodes, [tiny.value_info('photo', ['n', 3, 8, 8])],
                                          [tiny.value_info('logits', ['n', 3])], constants)}
    if beside:
        content['weights.bin'] = b''.join(pieces)
    return content


class Served:
    """`guichet serve` over one folder."""

    def __init__(self, guichet, folder):
        self.process = subprocess.Popen([guichet, 'serve', '--models', folder, '--port', '0'], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        env={**os.environ, 'XDG_STATE_HOME': folder, 'PORT': ''})
        self.port = int(self.process.stdout.readline().rsplit(':', 1)[1])

    def ask(self):
        """The first category, or the failure."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        connection.request('POST', '/model/m/predict', tiny.png(200, 90, 30), {'Content-Type': 'image/png'})
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return json.loads(body)['predictions'][0]['label'] if reply.status == 200 else f'{reply.status} {body[:200]}'

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=30)


def write_over(path, content, after_each, pieces=6):
    """What cp does: cut to nothing, then written anew, slowly."""
    with open(path, 'r+b') as file:
        file.truncate(0)
        for number in range(pieces):
            file.write(content[len(content) * number // pieces:len(content) * (number + 1) // pieces])
            file.flush()
            after_each()


def try_one(guichet, beside, baked):
    """'' where all was well."""
    with tempfile.TemporaryDirectory() as top:
        folder = os.path.join(top, 'm')
        tiny.write(f'{folder}/preprocessor_config.json', json.dumps(tiny.RECIPE))
        tiny.write(f'{folder}/config.json', json.dumps({'id2label': {'0': 'red', '1': 'green', '2': 'blue'}}))
        for name, content in files(1, beside).items():
            tiny.write(f'{folder}/{name}', content)
        if baked:
            subprocess.run([guichet, 'bake', f'{folder}/model.onnx'], check=True, stdout=subprocess.DEVNULL)
        served, answers = Served(guichet, top), []

        def ask():
            for _ in range(4):
                answers.append(served.ask())
            time.sleep(0.25)
        try:
            ask()
            for name in [name for name in os.listdir(folder) if baked and name.endswith('.baked')]:
                size = os.path.getsize(f'{folder}/{name}')
                write_over(f'{folder}/{name}', bytes(size), ask)
            for name, content in files(2, beside).items():
                write_over(f'{folder}/{name}', content, ask)
            end = time.monotonic() + 20
            while answers[-1] != 'blue' and time.monotonic() < end:
                ask()
            with open(f'{folder}/model.onnx', 'r+b') as file:  # a copy that is given up
                file.truncate(1000)
            for _ in range(16):
                ask()
        finally:
            served.end()
        wrong = [answer for answer in answers if answer not in ('green', 'blue')]
        changes = sum(a != b for a, b in zip(answers, answers[1:]))
        if wrong:
            return f'{len(wrong)} of {len(answers)} failed: {wrong[0]}'
        return '' if answers[-1] == 'blue' and changes == 1 else f'answers: {answers}'


def main():
    return case.check([(name, try_one(sys.argv[1], beside, baked)) for name, beside, baked in (
        ('weights in the file', False, False), ('weights beside it', True, False), ('a baked file', False, True))])


if __name__ == '__main__':
    sys.exit(main())
