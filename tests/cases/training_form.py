#!/usr/bin/env python3
"""BatchNormalization in its training form is refused by name, also where nothing uses its statistics."""
import sys

import case
import tiny


def model(outputs, opset, *attributes):
    vectors = [tiny.tensor(name, [2], [1, 1]) for name in ('scale', 'bias', 'mean', 'variance')]
    nodes = [tiny.node('BatchNormalization', ['x', 'scale', 'bias', 'mean', 'variance'], outputs, *attributes)]
    return case.network(nodes, [tiny.value_info('x', [1, 2, 1, 2])], [tiny.value_info('y', [1, 2, 1, 2])], vectors,
                        opset)


def main():
    values = [1, 2, 3, 4]
    plain = case.run(sys.argv[1], model(['y'], 9), values, '1x2x1x2')
    results = [('one output: computed', '' if case.same(plain, [1, 2, 3, 4], 1e-3) else str(plain))]
    for name, outputs, opset, attributes in (
            ('five outputs of version 9', ['y', 'm', 'v', 'sm', 'sv'], 9, []),
            ('training_mode of version 14', ['y', 'm', 'v'], 14, [case.integer('training_mode', 1)])):
        answer = case.run(sys.argv[1], model(outputs, opset, *attributes), values, '1x2x1x2')
        refused = isinstance(answer, str) and 'BatchNormalization' in answer and 'training' in answer
        results.append((f'{name}: refused', '' if refused else str(answer)))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
