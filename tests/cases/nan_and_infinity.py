#!/usr/bin/env python3
"""NaN and infinities go through a network as ONNX wants it: no activation makes a number of NaN, alone or behind a
convolution that it is fused to, and whether they are in the input or made on the way."""
import math
import sys

import case
import tiny

NAN, INF = math.nan, math.inf
VALUES = [1.0, NAN, -2.0, INF, -INF, 0.5, -0.25, 3.0, 7.0]


def keep(function):
    """NaN stays NaN."""
    return lambda x: x if x != x else function(x)


def clip(x):
    return min(max(x, 0.0), 6.0)


OPERATORS = {
    'Relu': (keep(lambda x: max(x, 0.0)), b''),
    'Clip': (keep(clip), b''),
    'LeakyRelu': (keep(lambda x: x if x >= 0 else 0.01 * x), b''),
    'HardSigmoid': (keep(lambda x: min(max(0.2 * x + 0.5, 0.0), 1.0)), b''),
    'Sigmoid': (keep(lambda x: 0.0 if x == -INF else 1 / (1 + math.exp(-x))), b''),
    'Tanh': (keep(math.tanh), b''),
    'Elu': (keep(lambda x: x if x >= 0 else math.exp(x) - 1), b''),
    'MaxPool': (keep(lambda x: x), tiny.ints('kernel_shape', [1, 1])),
}


def network(operator, before):
    """[1, 1, 3, 3]: maybe something before it, then the operator."""
    nodes, last, constants = [], 'x', [tiny.tensor('low', [], [0.0]), tiny.tensor('high', [], [6.0])]
    if before == 'Conv':
        constants.append(tiny.tensor('w', [1, 1, 1, 1], [1.0]))
        nodes, last = [tiny.node('Conv', ['x', 'w'], ['c'])], 'c'
    if before == 'Div':  # by itself twice is 1, of 0 it is NaN
        nodes, last = [tiny.node('Div', ['x', 'x'], ['d'])], 'd'
    inputs = [last, 'low', 'high'] if operator == 'Clip' else [last]
    nodes.append(tiny.node(operator, inputs, ['y'], OPERATORS[operator][1]))
    return case.network(nodes, [tiny.value_info('x', [1, 1, 3, 3])], [tiny.value_info('y', [1, 1, 3, 3])], constants)


def maximum(weight):
    """The largest of one: no number is made of -infinity."""
    nodes = [tiny.node('MatMul', ['x', 'w'], ['m']),
             tiny.node('MaxPool', ['m'], ['y'], tiny.ints('kernel_shape', [1]))]
    return case.network(nodes, [tiny.value_info('x', [3, 1, 1])], [tiny.value_info('y', [3, 1, 5])],
                        [tiny.tensor('w', [1, 5], [weight, 1.0, 2.0, 3.0, 4.0])])


def narrow(channels):
    """Convolutions of fewer channels than a kernel's block has: each gives x in all of its channels."""
    first, second = [1.0] * channels, [1.0] + [0.0] * (channels - 1)
    nodes = [tiny.node('Conv', ['x', 'a'], ['c']), tiny.node('Conv', ['c', 'b', 'zero'], ['y'])]
    constants = [tiny.tensor('a', [channels, 1, 1, 1], first), tiny.tensor('b', [1, channels, 1, 1], second),
                 tiny.tensor('zero', [1], [0.0])]
    return case.network(nodes, [tiny.value_info('x', [1, 1, 5, 5])], [tiny.value_info('y', [1, 1, 5, 5])], constants)


def check_infinities(program):
    """Infinities of weights, which raise no alarm, and beside the padding of narrow convolutions."""
    for weight in (-INF, -3e38):
        actual = case.run(program, maximum(weight), [1.0] * 3, '3x1x1', 'f32')
        good = case.same(actual, [weight, 1.0, 2.0, 3.0, 4.0] * 3)
        yield f'MaxPool of weights of {weight}', '' if good else str(actual)[:150]
    values = [float(i) for i in range(24)] + [INF]
    actual = case.run(program, narrow(1), values, '1x1x5x5', 'f32')
    yield 'infinity through convolutions of one channel', '' if case.same(actual, values, 1e-4) else str(actual)[:150]


def main():
    results = list(check_infinities(sys.argv[1]))
    for operator, (function, _) in OPERATORS.items():
        for before in ('', 'Conv', 'Div'):
            values = [0.0 if i % 4 == 1 else float(i + 1) for i in range(9)] if before == 'Div' else VALUES
            inner = [NAN if v == 0 else 1.0 for v in values] if before == 'Div' else values
            for precision in ('f32', 'auto'):
                actual = case.run(sys.argv[1], network(operator, before), values, '1x1x3x3', precision)
                good = case.same(actual, [function(v) for v in inner], 1e-2 if precision == 'auto' else 1e-4)
                results.append((f'{operator}{" behind " + before if before else ""}, {precision}', '' if good else str(actual)[:150]))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
