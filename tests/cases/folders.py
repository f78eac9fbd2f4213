#!/usr/bin/env python3
"""Folders laid out as people have them: each is served, or listed with the reason why it is not."""
import json
import os
import subprocess
import sys
import tempfile

import case
import heads
import tiny

NAMES = ['fur', 'feathers', 'scales']


def network(winner):
    return heads.constant_scores([2.0 if i == winner else 0.0 for i in range(3)])


def write_folder(root, name, files):
    """Networks by path and the class that they name, or bytes; with configuration and recipe."""
    folder = os.path.join(root, name)
    for path, content in {'config.json': json.dumps({'id2label': dict(enumerate(NAMES))}),
                          'preprocessor_config.json': json.dumps(tiny.RECIPE), **files}.items():
        path = os.path.join(folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        tiny.write(path, network(content) if isinstance(content, int) else content)


def ask(guichet, root, *verb):
    process = subprocess.run([guichet, *verb], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
                             env={**os.environ, 'GUICHET_MODELS': root})
    return process.stdout if process.returncode == 0 else process.stderr.strip()


def first(guichet, root, name):
    """The class that is named first, or the error line."""
    photo = os.path.join(root, '.photo')
    said = ask(guichet, root, 'classify', '--model', name, '--json', '--precision', 'f32', photo)
    return json.loads(said)['predictions'][0]['label'] if said.startswith('{') else said


def main():
    guichet = sys.argv[1]
    with tempfile.TemporaryDirectory() as root:
        tiny.write(os.path.join(root, '.photo'), tiny.png(10, 200, 90))
        for name, files in {
                'plain': {'model.onnx': 0, 'model_int8.onnx': 1}, 'other-name': {'resnet50.onnx': 1},
                'quantized-only': {'onnx/model_quantized.onnx': 2}, 'browser': {'onnx/model_quantized.onnx': 2, 'onnx/model_fp16.onnx': 1},
                'versions': {'9/model.onnx': 0, '10/model.onnx': 1, 'latest/model.onnx': 2}, 'my cats': {'model.onnx': 2},
                'several': {'a.onnx': 0, 'b.onnx': 1}, 'weights': {'model.safetensors': b'x'}}.items():
            write_folder(root, name, files)
        listed = {row['name']: row for row in json.loads(ask(guichet, root, 'models', '--json'))['models']}
        expected = {'plain': 'fur', 'plain:int8': 'feathers', 'other-name': 'feathers', 'quantized-only': 'scales', 'browser': 'scales',
                    'browser:fp16': 'feathers', 'browser:int8': 'scales', 'versions': 'feathers', 'my-cats': 'scales', 'several:a': 'fur',
                    'several:b': 'feathers', 'several': 'several networks (a.onnx, b.onnx)', 'weights': 'safetensors'}
        results = []
        for name, wanted in expected.items():
            said = first(guichet, root, name)
            results.append((name, '' if wanted in said and '\n' not in said else said))
        missing = [name for name in ('plain', 'other-name', 'quantized-only', 'browser', 'versions', 'my-cats', 'several', 'weights')
                   if name not in listed]
        results.append(('none is left out of the list', str(missing) if missing else ''))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
