#!/usr/bin/env python3
"""A part of a tensor goes through an operator, and meets a part of the same tensor again."""
import math
import sys

import case
import tiny

SHAPE = [1, 8, 6, 6]
VALUES = [math.sin(0.7 * i) * 2 for i in range(8 * 36)]
FIRST, SECOND = VALUES[:4 * 36], VALUES[4 * 36:]
OPERATORS = {'Floor': math.floor, 'Erf': math.erf, 'Softplus': lambda x: math.log1p(math.exp(x)),
             'Relu': lambda x: max(x, 0), 'HardSigmoid': lambda x: min(max(0.2 * x + 0.5, 0), 1),
             'Softsign': lambda x: x / (1 + abs(x))}


def network(operator, join, swapped):
    """Split in two along the channels; join(second, operator(second or first))."""
    parts = ['b', 'a'] if swapped else ['b', 'b']
    nodes = [tiny.node('Split', ['x'], ['a', 'b'], case.integer('axis', 1)),
             tiny.node(operator, [parts[1]], ['f']), tiny.node(join, [parts[0], 'f'], ['y'])]
    return case.network(nodes, [tiny.value_info('x', SHAPE)], [tiny.value_info('y', [1, 4, 6, 6])], opset=11)


def main():
    results = []
    for operator, function in OPERATORS.items():
        for join, combine in (('Add', lambda a, b: a + b), ('Mul', lambda a, b: a * b)):
            for swapped in (False, True):
                expected = [combine(b, function(a if swapped else b)) for a, b in zip(FIRST, SECOND)]
                actual = case.run(sys.argv[1], network(operator, join, swapped), VALUES, '1x8x6x6')
                fault = '' if case.same(actual, expected) else f'not as computed: {str(actual)[:100]}'
                results.append((f'{operator} of {"the other" if swapped else "the same"} part, {join}', fault))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
