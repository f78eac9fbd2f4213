#!/usr/bin/env python3
"""JSON numbers that a tensor's type cannot hold are refused by name, not changed; those that it can hold are taken."""
import json
import sys
import tempfile

import case
import tiny

TYPES = {'UINT8': 'uint8', 'FP32': 'float', 'FP16': 'float16'}
REFUSED = {'UINT8': ['256', '-1', '0.5', '1e12'], 'FP32': ['3.5e38', '-1e60', '1e999'], 'FP16': ['70000', '-1e6']}
TAKEN = {'UINT8': ['255', '0', '12.0', '1e2'], 'FP32': ['3.4e38', '-0.1', '1e-50'], 'FP16': ['65504', '0.1']}


def try_type(guichet, name, results):
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, tiny.network(kind=TYPES[name]), {'id2label': {'0': 'red', '1': 'green', '2': 'blue'}})
        tiny.write(f'{folder}/preprocessor_config.json', json.dumps({**tiny.RECIPE, 'do_rescale': False}))
        with case.Backend(guichet, folder) as backend:
            for text, wanted in [(text, 400) for text in REFUSED[name]] + [(text, 200) for text in TAKEN[name]]:
                data = '1, ' * 191 + text
                body = f'{{"inputs": [{{"name": "photo", "datatype": "{name}", "shape": [1, 3, 8, 8], "data": [{data}]}}]}}'
                status, said = backend.post('/v2/models/m/infer', body.encode(), Content_Type='application/json')
                named = status == 200 or b'photo' in said
                results.append((f'{name} {text}: {wanted}', '' if status == wanted and named else f'{status} {said[:200]}'))


def main():
    results = []
    for name in TYPES:
        try_type(sys.argv[1], name, results)
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
