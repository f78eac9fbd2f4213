#!/usr/bin/env python3
"""A network that takes no photo is served all the same: several inputs and outputs, whole numbers, one channel; photos are refused by
name, and where the recipe is broken that is told."""
import json
import sys
import tempfile

import case
import tiny

FLOAT, INT64 = 1, 7


def add_sub(kind):
    """Two inputs, their sum and their difference."""
    nodes = [tiny.node('Add', ['a', 'b'], ['sum']), tiny.node('Sub', ['a', 'b'], ['difference'])]
    return case.network(nodes, [tiny.value_info(name, ['n', 4], kind) for name in 'ab'],
                        [tiny.value_info(name, ['n', 4], kind) for name in ('sum', 'difference')])


def one_channel():
    return case.network([tiny.node('Relu', ['x'], ['y'])], [tiny.value_info('x', [1, 1, 2, 2])], [tiny.value_info('y', [1, 1, 2, 2])])


def try_one(guichet, network, datatype, inputs, outputs):
    """Over V2 in JSON: values by name."""
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, network)
        with case.Backend(guichet, folder) as backend:
            shapes = {name: [len(rows), *([len(rows[0])] if isinstance(rows[0], list) else [])] for name, rows in inputs.items()}
            body = {'inputs': [{'name': name, 'datatype': datatype, 'shape': shapes[name] if name != 'x' else [1, 1, 2, 2], 'data': rows}
                               for name, rows in inputs.items()]}
            status, said = backend.post('/v2/models/m/infer', body, Content_Type='application/json')
            photo, why = backend.post('/predict', tiny.png(1, 2, 3), Content_Type='image/png')
    if status != 200:
        return f'{status} {said[:200]}'
    answer = {output['name']: output['data'] for output in json.loads(said)['outputs']}
    if answer != outputs:
        return str(answer)
    return '' if photo == 400 and b'not a classifier' in why else f'/predict: {photo} {why}'


def try_broken_recipe(guichet):
    """It classifies, but its recipe cannot be read: it is not taken for a network without one."""
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, tiny.network())
        tiny.write(f'{folder}/preprocessor_config.json', '{"size": "large"}')
        try:
            with case.Backend(guichet, folder):
                return 'it is served'
        except RuntimeError as error:
            return '' if 'preprocessor_config.json' in str(error) else str(error)


def main():
    guichet = sys.argv[1]
    a, b = [[1, 2, 3, 4], [5, 6, 7, 8]], [[4, 3, 2, 1], [1, 1, 1, 1]]
    both = {'sum': [5, 5, 5, 5, 6, 7, 8, 9], 'difference': [-3, -1, 1, 3, 4, 5, 6, 7]}
    return case.check([
        ('two inputs, two outputs', try_one(guichet, add_sub(FLOAT), 'FP32', {'a': a, 'b': b}, both)),
        ('whole numbers', try_one(guichet, add_sub(INT64), 'INT64', {'a': a, 'b': b}, both)),
        ('one channel', try_one(guichet, one_channel(), 'FP32', {'x': [1, -2, 3, -4]}, {'y': [1, 0, 3, 0]})),
        ('a recipe that cannot be read', try_broken_recipe(guichet)),
    ])


if __name__ == '__main__':
    sys.exit(main())
