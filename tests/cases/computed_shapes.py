#!/usr/bin/env python3
"""Shapes, branches and loops that follow from what the network computes."""
import sys

import case
import tiny
from graphs_within import body, graph_attribute, number

VALUES = [-2.0, 0.5, 0.0, 3.0]


def model(nodes, constants=()):
    return case.network(nodes, [tiny.value_info('x', [2, 2])], [tiny.field(1, 'y') + tiny.field(2, tiny.field(1, tiny.field(1, 1)))],
                        constants)


def cast(name, result, kind):
    return tiny.node('Cast', [name], [result], case.integer('to', kind))


def chosen(twice=False):
    """Twice the positive numbers; or of those the ones above two."""
    nodes = [tiny.node('Relu', ['x'], ['r']), number('all', -1), tiny.node('Reshape', ['r', 'all'], ['flat']),
             tiny.node('NonZero', ['flat'], ['where']), tiny.node('Transpose', ['where'], ['turned']),
             tiny.node('GatherND', ['flat', 'turned'], ['found']), tiny.node('Add', ['found', 'found'], ['z' if twice else 'y'])]
    if twice:
        nodes += [tiny.node('Greater', ['z', 'two'], ['large']), cast('large', 'numbers', 1), tiny.node('NonZero', ['numbers'], ['again']),
                  tiny.node('Transpose', ['again'], ['back']), tiny.node('GatherND', ['z', 'back'], ['y'])]
    return model(nodes, [tiny.tensor('two', [1], [2])])


def branch():
    """Relu where the sum is positive, else Neg."""
    return model([tiny.node('ReduceSum', ['x'], ['sum'], case.integer('keepdims', 0)), tiny.node('Greater', ['sum', 'zero'], ['positive']),
                  tiny.node('If', ['positive'], ['z'], graph_attribute('then_branch', body([tiny.node('Relu', ['x'], ['t'])], ['t'])),
                            graph_attribute('else_branch', body([tiny.node('Neg', ['x'], ['e'])], ['e']))),
                  tiny.node('Add', ['z', 'z'], ['y'])], [tiny.tensor('zero', [], [0])])


def loop(scanned):
    """As often as the largest number says: v = v + v; the values on the way, or the last."""
    inner = body([tiny.node('Add', ['v', 'v'], ['w']), tiny.node('Identity', ['go'], ['on']), tiny.node('ReduceMax', ['w'], ['most'],
                                                                                                       case.integer('keepdims', 0))],
                 ['on', 'w', 'most'], ['turn', 'go', 'v'])
    return model([tiny.node('ReduceMax', ['x'], ['most_of_x'], case.integer('keepdims', 0)), cast('most_of_x', 'turns', 7),
                  tiny.node('Loop', ['turns', '', 'x'], ['last', 'all'], graph_attribute('body', inner)),
                  tiny.node('Identity', ['all' if scanned else 'last'], ['y'])])


def scan(backward):
    """Running sums of the rows."""
    inner = body([tiny.node('Add', ['s', 'row'], ['t']), tiny.node('Identity', ['t'], ['u'])], ['t', 'u'], ['s', 'row'])
    return model([tiny.node('Scan', ['start', 'x'], ['last', 'y'], graph_attribute('body', inner), case.integer('num_scan_inputs', 1),
                            tiny.ints('scan_input_directions', [backward]))], [tiny.tensor('start', [2], [0, 0])])


def endless():
    inner = body([tiny.node('Add', ['v', 'v'], ['w']), tiny.node('Identity', ['go'], ['on'])], ['on', 'w'], ['turn', 'go', 'v'])
    return model([tiny.node('Loop', ['', '', 'x'], ['y'], graph_attribute('body', inner))])


def growing():
    """Turns whose results differ in shape."""
    inner = body([tiny.node('Concat', ['v', 'v'], ['w'], case.integer('axis', 0)), tiny.node('Identity', ['go'], ['on']),
                  tiny.node('Identity', ['w'], ['part'])], ['on', 'w', 'part'], ['turn', 'go', 'v'])
    return model([number('three', 3), tiny.node('Loop', ['three', '', 'x'], ['last', 'y'], graph_attribute('body', inner))])


def main():
    runs = [('what NonZero finds', chosen(), VALUES, [1, 6]), ('twice in a row', chosen(True), VALUES, [6]),
            ('nothing found', chosen(), [-1.0] * 4, []), ('then', branch(), VALUES, [0, 1, 0, 6]), ('else', branch(), [-1.0, 0, 0, 0], [2, 0, 0, 0]),
            ('what a loop carries', loop(False), VALUES, [-16, 4, 0, 24]), ('what its turns give', loop(True), VALUES, [6, 12, 24]),
            ('no turn', loop(False), [0.0] * 4, [0] * 4), ('sums of rows', scan(0), VALUES, [-2, 0.5, -2, 3.5]),
            ('the last row first', scan(1), VALUES, [0, 3, -2, 3.5])]
    results = []
    for name, network, values, expected in runs:
        actual = case.run(sys.argv[1], network, values, '2x2')
        results.append((name, '' if case.same(actual, expected) else f'not as computed: {str(actual)[:200]}'))
    for name, network, wanted in (('a loop without end', endless(), 'turns more than 100000 times'),
                                  ('turns of different shapes', growing(), 'turns give results of different shapes')):
        said = str(case.run(sys.argv[1], network, VALUES, '2x2'))
        results.append((name, '' if wanted in said else f'said {said[:200]}'))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
