#!/usr/bin/env python3
"""Operators of pictures, of blocks of numbers and of chance, against plain sums in float64."""
import itertools
import math
import struct
import sys

import case
import tiny
from transformer_operators import at, compare, draw, floats, run, whole

WHOLE = '<i8'


def columns_to_image(guichet):
    """Col2Im: blocks of 2x3 with strides, padding and dilation."""
    height, width, rows, columns = 5, 6, 3, 2  # of the image; of the blocks
    x = floats(2, 2 * 6, rows * columns)
    image = [0.0] * (2 * 2 * height * width)
    for n, c, i, j, r, s in itertools.product(range(2), range(2), range(2), range(3), range(rows), range(columns)):
        y, z = r * 2 + i - 1, s * 2 + j * 2 - 1
        if 0 <= y < height and 0 <= z < width:
            image[((n * 2 + c) * height + y) * width + z] += at(x, n, (c * 2 + i) * 3 + j, r * columns + s)
    got = run(guichet, 'Col2Im', [('x', x), ('i', whole(height, width, code=WHOLE)), ('b', whole(2, 3, code=WHOLE))], {'y': 4},
              tiny.ints('strides', [2, 2]), tiny.ints('pads', [1, 1, 0, 0]), tiny.ints('dilations', [1, 2]))
    return compare(got, {'y': ((2, 2, height, width), image)})


def affine_grid(guichet):
    fault = ''
    for corners in (0, 1):
        for sizes in ((3, 4), (2, 3, 4)):
            dims = len(sizes)
            theta, expected = floats(2, dims, dims + 1), []
            for n, *place in itertools.product(range(2), *map(range, sizes)):
                point = [2 * p / (s - 1) - 1 if corners else (2 * p + 1) / s - 1 for p, s in zip(place, sizes)][::-1] + [1]
                expected += [sum(at(theta, n, row, i) * point[i] for i in range(dims + 1)) for row in range(dims)]
            got = run(guichet, 'AffineGrid', [('t', theta), ('s', whole(2, 3, *sizes, code=WHOLE))], {'y': dims + 2},
                      case.integer('align_corners', corners))
            fault = fault or compare(got, {'y': ((2, *sizes, dims), expected)})
    return fault


def deformed_convolution(guichet):
    """Two groups of weights, two of offsets, strides, a mask and a bias."""
    x, w, offsets, bias, mask = floats(1, 4, 5, 6), floats(4, 2, 3, 2), floats(1, 24, 2, 3), floats(4), floats(1, 12, 2, 3)

    def pixel(channel, y, z):
        top, left, value = math.floor(y), math.floor(z), 0.0
        for i, j in itertools.product(range(2), range(2)):
            if 0 <= top + i < 5 and 0 <= left + j < 6:
                value += (1 - abs(y - top - i)) * (1 - abs(z - left - j)) * at(x, 0, channel, top + i, left + j)
        return value
    expected = []
    for f, r, s in itertools.product(range(4), range(2), range(3)):
        total = bias[2][f]
        for c, i, j in itertools.product(range(2), range(3), range(2)):
            channel = f // 2 * 2 + c
            tap = channel // 2 * 6 + i * 2 + j
            total += at(w, f, c, i, j) * at(mask, 0, tap, r, s) * pixel(
                channel, r * 2 + i - 1 + at(offsets, 0, tap * 2, r, s), s * 2 + j + at(offsets, 0, tap * 2 + 1, r, s))
        expected.append(total)
    got = run(guichet, 'DeformConv', [('x', x), ('w', w), ('o', offsets), ('b', bias), ('m', mask)], {'y': 4}, case.integer('group', 2),
              case.integer('offset_group', 2), tiny.ints('strides', [2, 2]), tiny.ints('pads', [1, 0, 0, 0]))
    return compare(got, {'y': ((1, 4, 2, 3), expected)})


def image_scaler(guichet):
    x = floats(2, 3, 2, 2)
    bias = tiny.field(1, 'bias') + tiny.field(20, 6) + b''.join(b'\x3d' + struct.pack('<f', value) for value in (1, 2, 3))
    got = run(guichet, 'ImageScaler', [('x', x)], {'y': 4}, case.real('scale', 0.5), bias)
    return compare(got, {'y': ((2, 3, 2, 2), [v / 2 + 1 + i // 4 % 3 for i, v in enumerate(x[2])])})


def blocks_of_integers(guichet):
    """Scales by block along either axis, the last block short; there and back."""
    fault = ''
    for axis, shape in ((0, (3, 4)), (1, (5, 2))):
        x, scales = whole(*(draw.randrange(256) for _ in range(20)), dims=(5, 4), code='|u1'), floats(*shape)
        zeros = whole(*(draw.randrange(256) for _ in range(math.prod(shape))), dims=shape, code='|u1')

        def index(i, j):
            return (i // 2, j) if axis == 0 else (i, j // 2)
        expected = [(at(x, i, j) - at(zeros, *index(i, j))) * at(scales, *index(i, j)) for i in range(5) for j in range(4)]
        options = case.integer('axis', axis), case.integer('block_size', 2)
        got = run(guichet, 'DequantizeLinear', [('x', x), ('s', scales), ('z', zeros)], {'y': 2}, *options)
        fault = fault or compare(got, {'y': ((5, 4), expected)})
    return fault


def weights_of_four_bits(guichet):
    """A product with int4 and uint4 weights in blocks: packed bytes, and typed fields."""
    fault = ''
    a, scales = floats(2, 5), floats(3, 7)
    for kind, least in ((22, -8), (21, 0)):
        numbers = [draw.randrange(least, least + 16) for _ in range(35)]
        halves = [n & 15 for n in numbers] + [0]
        packed = bytes(halves[i] | halves[i + 1] << 4 for i in range(0, 36, 2))
        head = tiny.field(1, 5) + tiny.field(1, 7) + tiny.field(2, kind) + tiny.field(8, 'q')
        for data in (tiny.field(9, packed), b''.join(tiny.field(5, byte) for byte in packed)):
            nodes = [tiny.node('DequantizeLinear', ['q', 's'], ['w'], case.integer('axis', 0), case.integer('block_size', 2)),
                     tiny.node('MatMul', ['a', 'w'], ['y'])]
            model = case.network(nodes, [tiny.value_info('a', [2, 5])], [tiny.value_info('y', [2, 7])],
                                 [head + data, tiny.tensor('s', [3, 7], scales[2])], opset=21)
            expected = [sum(at(a, i, k) * numbers[k * 7 + j] * at(scales, k // 2, j) for k in range(5)) for i in range(2) for j in range(7)]
            fault = fault or compare(case.run_tensors(guichet, model, {'a': a}), {'y': ((2, 7), expected)})
        short = case.network(nodes, [tiny.value_info('a', [2, 5])], [tiny.value_info('y', [2, 7])],
                             [head + tiny.field(9, packed[:-1]), tiny.tensor('s', [3, 7], scales[2])], opset=21)
        said = case.run_tensors(guichet, short, {'a': a})
        fault = fault or ('' if isinstance(said, str) and 'has 17 bytes' in said else f'a short tensor: {said}')
    return fault


def chance(guichet):
    """Numbers of the right mean and spread; with a seed the same twice, without one not."""
    size, zero = 4000, ('<f4', (1,), [0.0])
    third = ('<f4', (size,), [0.3] * size)
    shape = tiny.ints('shape', [size])
    for operator, inputs, mean, spread, attributes in (
            ('RandomNormal', {}, 0, 1, [shape]), ('RandomUniform', {}, 0.5, 12 ** -0.5, [shape]), ('Bernoulli', {'p': third}, 0.3, 0.21 ** 0.5, []),
            ('RandomNormalLike', {'p': third}, 0, 1, []), ('RandomUniformLike', {'p': third}, 0.5, 12 ** -0.5, [])):
        for seed in ([], [case.real('seed', 7.0)]):
            nodes = [tiny.node(operator, list(inputs), ['r'], *attributes, *seed), tiny.node('Add', ['r', 'zero'], ['y'])]
            model = case.network(nodes, [tiny.value_info('zero', [1])] + [tiny.value_info(name, [size]) for name in inputs],
                                 [tiny.value_info('y', ['n'])], opset=17)
            twice = [case.run_tensors(guichet, model, {'zero': zero, **inputs}) for _ in range(2)]
            if isinstance(twice[0], str):
                return twice[0]
            numbers = [run_of['y'][2] for run_of in twice]
            found = sum(numbers[0]) / size
            variance = sum((v - found) ** 2 for v in numbers[0]) / size
            if abs(found - mean) > 0.1 or abs(variance ** 0.5 - spread) > 0.1 or (numbers[0] == numbers[1]) != bool(seed):
                return f'{operator}: mean {found}, deviation {variance ** 0.5}, the same twice: {numbers[0] == numbers[1]}'
    return ''


if __name__ == '__main__':
    sys.exit(case.check([(test.__name__.replace('_', ' '), test(sys.argv[1])) for test in (
        columns_to_image, affine_grid, deformed_convolution, image_scaler, blocks_of_integers, weights_of_four_bits, chance)]))
