#!/usr/bin/env python3
"""Rows and columns change places, something happens, they change back, and the original is added."""
import sys

import case
import tiny

ROWS, COLUMNS = 5, 7
VALUES = [((i * 37) % 23 - 11) / 5 for i in range(2 * ROWS * COLUMNS)]


def grouped():
    """Each of eight channels, turned to rows before, is doubled or trebled by a convolution in two groups, and added."""
    factors, channels, length = [2.0, 3.0] * 4, 8, 2
    weights = [factors[o] if i == o % 4 and k == 1 else 0.0 for o in range(channels) for i in range(4) for k in range(3)]
    group = tiny.field(1, 'group') + tiny.field(20, 2) + tiny.field(3, 2)
    nodes = [tiny.node('Transpose', ['x'], ['t'], tiny.ints('perm', [0, 2, 1])),
             tiny.node('Conv', ['t', 'w'], ['c'], tiny.ints('pads', [1, 1]), group),
             tiny.node('Add', ['c', 't'], ['y'])]
    model = case.network(nodes, [tiny.value_info('x', [3, length, channels])],
                         [tiny.value_info('y', [3, channels, length])], [tiny.tensor('w', [channels, 4, 3], weights)])
    values = [float(i % 11) - 5 for i in range(3 * length * channels)]
    expected = [values[(n * length + at) * channels + c] * (1 + factors[c])
                for n in range(3) for c in range(channels) for at in range(length)]
    actual = case.run(sys.argv[1], model, values, f'3x{length}x{channels}', 'f32')
    return 'turned, in groups, and added', '' if case.same(actual, expected) else str(actual)[:200]


def main():
    turn = [tiny.ints('perm', [0, 2, 1])]
    chains = {
        'once': [tiny.node('Transpose', ['x'], ['t'], *turn), tiny.node('Relu', ['t'], ['r']),
                 tiny.node('Transpose', ['r'], ['b'], *turn), tiny.node('Add', ['x', 'b'], ['y'])],
        'twice': [tiny.node('Transpose', ['x'], ['t'], *turn), tiny.node('Relu', ['t'], ['r']),
                  tiny.node('Transpose', ['r'], ['b'], *turn), tiny.node('Add', ['x', 'b'], ['s']),
                  tiny.node('Transpose', ['s'], ['u'], *turn), tiny.node('Relu', ['u'], ['v']),
                  tiny.node('Transpose', ['v'], ['w'], *turn), tiny.node('Add', ['w', 's'], ['y'])],
    }
    results = [grouped()]
    for name, nodes in chains.items():
        model = case.network(nodes, [tiny.value_info('x', [2, ROWS, COLUMNS])],
                             [tiny.value_info('y', [2, ROWS, COLUMNS])])
        expected = VALUES
        for _ in range(1 if name == 'once' else 2):
            expected = [x + max(x, 0) for x in expected]
        actual = case.run(sys.argv[1], model, VALUES, f'2x{ROWS}x{COLUMNS}')
        results.append((f'turned {name}', '' if case.same(actual, expected) else str(actual)[:200]))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
