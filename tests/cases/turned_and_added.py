#!/usr/bin/env python3
"""Rows and columns change places, something happens, they change back, and the original is added."""
import sys

import case
import tiny

ROWS, COLUMNS = 5, 7
VALUES = [((i * 37) % 23 - 11) / 5 for i in range(2 * ROWS * COLUMNS)]


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
    results = []
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
