#!/usr/bin/env python3
"""Configurations as Python and Windows write them, names of classes in every form that is met, and files that are taken for ONNX
and are something else."""
import json
import os
import struct
import sys
import tempfile

import case
import heads
import tiny

SCORES = [1.5, -0.25, -3.0]


def try_text(guichet, text, names, file='config.json'):
    """`text` stands in `file`; the classes are called `names` then."""
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, heads.constant_scores(SCORES), {'id2label': dict(enumerate(names))})
        tiny.write(os.path.join(folder, file), text)
        said = heads.probabilities(guichet, folder)
    good = isinstance(said, dict) and [name for name, _ in sorted(said.items(), key=lambda item: -item[1])] == names
    return '' if good else str(said)


def try_foreign(guichet, content, word):
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, content)
        said = case.classify(guichet, folder, tiny.png(10, 200, 90))
    return '' if isinstance(said, str) and word in said and '\n' not in said else str(said)


def main():
    guichet, names = sys.argv[1], ['fur', 'feathers', 'scales']
    labels = json.dumps({'id2label': dict(enumerate(names))})
    recipe = json.dumps(tiny.RECIPE)
    results = [
        ('a byte order mark', try_text(guichet, b'\xef\xbb\xbf' + labels.encode(), names)),
        ('… before the recipe', try_text(guichet, b'\xef\xbb\xbf' + recipe.encode(), names, 'preprocessor_config.json')),
        ('NaN and infinities', try_text(guichet, labels[:-1] + ', "a": NaN, "b": [-Infinity, Infinity], "NaN": "-Infinity, NaN"}', names)),
        ('whole numbers beyond 64 bits', try_text(guichet, labels[:-1] + f', "a": {10 ** 40}, "b": -{10 ** 19}}}', names)),
        ('a key that comes again', try_text(guichet, '{"id2label": {"0": "x"}, "a": 1, "a": 2, ' + labels[1:], names)),
        ('names that are numbers', try_text(guichet, '{"id2label": {"0": 10, "1": 2.5, "2": true}}', ['10', '2.5', 'true'])),
        ('a list of names', try_text(guichet, json.dumps({'labels': names}), names)),
        ('… that are numbers', try_text(guichet, '{"label_names": [7, 8, 9]}', ['7', '8', '9'])),
        ('numbers by name', try_text(guichet, '{"label2id": {"scales": 2, "fur": 0, "feathers": "1"}}', names)),
        ('what is no JSON is told by its line', '' if 'config.json: line 2' in try_text(guichet, '{"a": 1,\n b: 2}', names) else 'no'),
    ]
    pointer = b'version https://git-lfs.github.com/spec/v1\noid sha256:' + b'0' * 64 + b'\nsize 1\n'
    for what, content, word in (('a Git LFS pointer', pointer, 'git lfs pull'), ('a web page', b'<!DOCTYPE html><html>', 'web page'),
                                ('a zip', b'PK\3\4' + bytes(30), 'zip'), ('GGUF', b'GGUF' + bytes(30), '.gguf'),
                                ('TensorFlow Lite', bytes(4) + b'TFL3' + bytes(30), 'TensorFlow Lite'), ('nothing', b'', 'empty'),
                                ('safetensors', struct.pack('<Q', 20) + b'{"a":{"dtype":"F32"}}', 'safetensors')):
        results.append((f'{what} is named', try_foreign(guichet, content, word)))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
