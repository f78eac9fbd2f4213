#!/usr/bin/env python3
"""Branches that shapes decide, functions of the file's own, newer opsets, products over nothing."""
import os
import struct
import subprocess
import sys
import tempfile

import case
import tiny

VALUES = [-2.0, -0.5, 0.25, 3.0]


def body(nodes, outputs, inputs=()):
    """An attribute's graph."""
    return b''.join(tiny.field(1, node) for node in nodes) + tiny.field(2, 'body') + \
        b''.join(tiny.field(11, tiny.field(1, name)) for name in inputs) + \
        b''.join(tiny.field(12, tiny.field(1, name)) for name in outputs)


def graph_attribute(name, graph):
    return tiny.field(1, name) + tiny.field(20, 5) + tiny.field(6, graph)


def number(name, value):
    """A constant of one int64."""
    tensor = tiny.field(1, 1) + tiny.field(2, 7) + tiny.field(7, value)
    return tiny.node('Constant', [], [name], tiny.field(1, 'value') + tiny.field(20, 4) + tiny.field(5, tensor))


def model(nodes, opset=13, constants=(), functions=(), more_opsets=()):
    network = case.network(nodes, [tiny.value_info('x', ['n', 'm'])], [tiny.value_info('y', ['a', 'b'])], constants, opset)
    return network + b''.join(tiny.field(25, function) for function in functions) + \
        b''.join(tiny.field(8, tiny.field(1, domain) + tiny.field(2, 1)) for domain in more_opsets)


def branch():
    """Relu where there is one row, else Neg of a value from around it."""
    inner = graph_attribute('then_branch', body([tiny.node('Relu', ['x'], ['t'])], ['t']))
    other = graph_attribute('else_branch', body([tiny.node('Neg', ['doubled'], ['e'])], ['e']))
    return model([tiny.node('Add', ['x', 'x'], ['doubled']), tiny.node('Shape', ['x'], ['shape']), number('zero', 0),
                  tiny.node('Gather', ['shape', 'zero'], ['rows']), number('one', 1), tiny.node('Equal', ['rows', 'one'], ['single']),
                  tiny.node('If', ['single'], ['y'], inner, other)])


def function(name, nodes, attributes=(), defaults=()):
    return tiny.field(1, name) + tiny.field(4, 'a') + tiny.field(5, 'b') + b''.join(tiny.field(6, each) for each in attributes) + \
        b''.join(tiny.field(7, node) for node in nodes) + tiny.field(9, tiny.field(1, '') + tiny.field(2, 13)) + \
        tiny.field(9, tiny.field(1, 'own') + tiny.field(2, 1)) + tiny.field(10, 'own') + \
        b''.join(tiny.field(11, each) for each in defaults)


def real(name, value):
    return tiny.field(1, name) + tiny.field(20, 1) + bytes([2 << 3 | 5]) + struct.pack('<f', value)


def call(*attributes):
    """Leaky twice: inside a function, through a function, with the call's slope or the function's own."""
    own = tiny.field(7, 'own')
    leaky = function('Leaky', [tiny.node('LeakyRelu', ['a'], ['b'], tiny.field(1, 'alpha') + tiny.field(20, 1) + tiny.field(21, 'slope'))],
                     ['slope'], [real('slope', 0.5)])
    outer = function('Outer', [tiny.node('Leaky', ['a'], ['c'], tiny.field(1, 'slope') + tiny.field(20, 1) + tiny.field(21, 'slope')) + own,
                               tiny.node('Identity', ['c'], ['b'])], ['slope'])
    return model([tiny.node('Outer', ['x'], ['y'], *attributes) + own], functions=[leaky, outer], more_opsets=['own'])


def endless():
    """A function that calls itself."""
    own = tiny.field(7, 'own')
    return model([tiny.node('Round', ['x'], ['y']) + own],
                 functions=[function('Round', [tiny.node('Round', ['a'], ['b']) + own])], more_opsets=['own'])


def nothing():
    """x W + (x A) B, where A and B have no columns and no rows."""
    return model([tiny.node('MatMul', ['x', 'w'], ['plain']), tiny.node('MatMul', ['x', 'a'], ['down']),
                  tiny.node('MatMul', ['down', 'b'], ['up']), tiny.node('Add', ['plain', 'up'], ['y'])],
                 constants=[tiny.tensor('w', [4, 2], [1, 0, 0, 1, 1, 0, 0, 1]), tiny.tensor('a', [4, 0], []),
                            tiny.tensor('b', [0, 2], [])])


def fused(kind, activation, *attributes):
    """What ONNX Runtime saves: x W + b (FusedConv: + x) with an activation."""
    own = tiny.field(7, 'com.microsoft')
    named = tiny.field(1, 'activation') + tiny.field(20, 3) + tiny.field(4, activation)
    if kind == 'FusedGemm':
        nodes = [tiny.node(kind, ['x', 'w', 'b'], ['y'], named, *attributes) + own]
        return model(nodes, constants=[tiny.tensor('w', [4, 4], [float(i == j) for i in range(4) for j in range(4)]),
                                       tiny.tensor('b', [4], [0, 0, 1, 1])], more_opsets=['com.microsoft'])
    nodes = [number('one', 1), tiny.node('Unsqueeze', ['x', 'one'], ['image']), tiny.node('FusedConv', ['image', 'k', '', 'image'], ['z'],
                                                                                          named, *attributes) + own,
             tiny.node('Squeeze', ['z', 'one'], ['y'])]
    return model(nodes, constants=[tiny.tensor('k', [1, 1, 1], [2])], more_opsets=['com.microsoft'])


def half():
    """x W in float16, from float32 and back."""
    weights = tiny.field(1, 4) + tiny.field(1, 2) + tiny.field(2, 10) + tiny.field(8, 'w') + \
        tiny.field(9, struct.pack('<8e', 1, 0, 0, 1, 1, 0, 0, 1))
    return model([tiny.node('Cast', ['x'], ['h'], case.integer('to', 10)), tiny.node('MatMul', ['h', 'w'], ['p']),
                  tiny.node('Cast', ['p'], ['y'], case.integer('to', 1))], constants=[weights])


def refusal(network):
    with tempfile.TemporaryDirectory() as folder:
        path = tiny.write(os.path.join(folder, 'model.onnx'), network)
        process = subprocess.run([sys.argv[1], 'run', path, path, path + '.out', '--shape', '1x4'], stdin=subprocess.DEVNULL,
                                 capture_output=True, text=True, timeout=60, check=False)
        return process.stderr


def main():
    relu = [tiny.node('Relu', ['x'], ['y'])]
    runs = [('one row takes the first branch', branch(), '1x4', [0, 0, 0.25, 3]),
            ('two rows take the other', branch(), '2x2', [4, 1, -0.5, -6]),
            ('a function with its own slope', call(), '1x4', [-1, -0.25, 0.25, 3]),
            ("a function with the call's slope", call(real('slope', 0.25)), '1x4', [-0.5, -0.125, 0.25, 3]),
            ('FusedGemm, LeakyRelu', fused('FusedGemm', 'LeakyRelu', real('activation_alpha', 0.5)), '1x4', [-1, -0.25, 1.25, 4]),
            ('FusedGemm, Relu', fused('FusedGemm', 'Relu'), '1x4', [0, 0, 1.25, 4]),
            ('FusedConv, Clip', fused('FusedConv', 'Clip', tiny.field(1, 'activation_params') + tiny.field(20, 6) +
                                      b''.join(bytes([7 << 3 | 5]) + struct.pack('<f', bound) for bound in (-2, 5))), '1x4', [-2, -1.5, 0.75, 5]),
            ('a float16 product', half(), '1x4', [-1.75, 2.5]),
            ('a product over nothing', nothing(), '1x4', [-1.75, 2.5]),
            *((f'opset {opset}', model(relu, opset), '1x4', [0, 0, 0.25, 3]) for opset in (23, 24, 25))]
    results = []
    for name, network, shape, expected in runs:
        actual = case.run(sys.argv[1], network, VALUES, shape)
        results.append((name, '' if case.same(actual, expected) else f'not as computed: {str(actual)[:200]}'))
    for name, network, wanted in (('opset 26 is refused as an opset', model(relu, 26), 'opset 26 is not supported: 1 to 25 are'),
                                  ('a function without end is refused', endless(), 'graphs within each other')):
        said = refusal(network)
        results.append((name, '' if wanted in said else f'said {said[:200]}'))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
