#!/usr/bin/env python3
"""V2: photos (BYTES) may stand in nested arrays, as numbers may, and mean the same; a nesting that contradicts the shape is
refused."""
import base64
import json
import sys
import tempfile

import case
import tiny

RED, BLUE = (base64.b64encode(tiny.png(*colour)).decode() for colour in ((220, 10, 10), (10, 10, 220)))


def ask(backend, shape, data):
    """Status, and the logits."""
    tensor = {'name': 'photo', 'datatype': 'BYTES', 'shape': shape, 'data': data}
    status, said = backend.post('/v2/models/m/infer', {'inputs': [tensor]}, Content_Type='application/json')
    return status, json.loads(said)['outputs'][0]['data'] if status == 200 else said[:200]


def main():
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, tiny.network(), {'id2label': {'0': 'red', '1': 'green', '2': 'blue'}})
        with case.Backend(sys.argv[1], folder) as backend:
            flat = ask(backend, [2], [RED, BLUE])
            alike = {'a column, flat': ([2, 1], [RED, BLUE]), 'a column, nested': ([2, 1], [[RED], [BLUE]])}
            results = [('two photos', '' if flat[0] == 200 and flat[1][0] > flat[1][2] and flat[1][5] > flat[1][3] else f'{flat}')]
            for name, (shape, data) in alike.items():
                said = ask(backend, shape, data)
                results.append((name, '' if said == flat else f'{said}, should be {flat}'))
            one = ask(backend, [1, 1], [[RED]])
            results.append(('one, nested', '' if one == (200, flat[1][:3]) else f'{one}'))
            for name, shape, data in (('too few', [2, 1], [[RED]]), ('a number among them', [2, 1], [[RED], [1]]),
                                      ('deeper than it may be', [1], [[[[[[[[[[RED]]]]]]]]]])):
                said = ask(backend, shape, data)
                results.append((name, '' if said[0] == 400 or said[0] == 200 and name.startswith('deeper') else f'{said}'))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
