#!/usr/bin/env python3
"""Numbers below the smallest normal one are taken for zero in every thread that computes."""
import sys

import case
import tiny

SHAPE = [1, 16, 32, 32]


def main():
    # Two tiny numbers whose sum is a normal one only where they were not taken for zero.
    nodes = [tiny.node('Add', ['x', 'tiny'], ['s']), tiny.node('Mul', ['s', 'large'], ['y'])]
    constants = [tiny.tensor('tiny', [1], [1e-39]), tiny.tensor('large', [1], [1e38])]
    model = case.network(nodes, [tiny.value_info('x', SHAPE)], [tiny.value_info('y', SHAPE)], constants)
    actual = case.run(sys.argv[1], model, [1e-39] * (16 * 32 * 32), '1x16x32x32')
    wrong = actual if isinstance(actual, str) else [number for number in actual if number != 0]
    return case.check([('all are zero', f'{len(wrong)} are not: {str(wrong[:3])}' if wrong else '')])


if __name__ == '__main__':
    sys.exit(main())
