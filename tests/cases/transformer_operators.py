#!/usr/bin/env python3
"""The operators of transformers, ONNX's and ONNX Runtime's, against plain sums in float64."""
import math
import random
import struct
import sys

import case
import tiny

MICROSOFT = 'com.microsoft'
KINDS = {'<f4': 1, '<i8': 7, '<i4': 6, '|b1': 9, '|u1': 2, '|i1': 3}
draw = random.Random(3)


def floats(*dims):
    """Type, shape and numbers that float32 holds exactly."""
    return '<f4', dims, [round(draw.uniform(-2, 2) * 64) / 64 for _ in range(math.prod(dims))]


def whole(*numbers, dims=None, code='<i4'):
    return code, (len(numbers),) if dims is None else dims, list(numbers)


def at(array, *index):
    """An element; a dimension of 1, or one that is missing in front, counts for all."""
    _, dims, values = array
    index = index[len(index) - len(dims):]
    place = 0
    for i, dim in zip(index, dims):
        place = place * dim + (i if dim > 1 else 0)
    return values[place]


def run(guichet, operator, inputs, outputs, *attributes, domain='', opset=24):
    """The outputs of one node, by name; inputs are (name, array), array None where left out."""
    given = {name: array for name, array in inputs if array}
    node = tiny.node(operator, [name if array else '' for name, array in inputs], outputs, *attributes) + tiny.field(7, domain)
    model = case.network([node], [tiny.value_info(name, array[1], KINDS[array[0]]) for name, array in given.items()],
                         [tiny.value_info(name, [f'{name}{d}' for d in range(rank)]) for name, rank in outputs.items() if name], opset=opset,
                         domains=[domain] if domain else [])
    return case.run_tensors(guichet, model, given)


def compare(got, expected):
    """The fault, or ''. `expected`: (shape, numbers) by name."""
    if isinstance(got, str):
        return got
    for name, (shape, numbers) in expected.items():
        if got[name][1] != tuple(shape) or not case.same(got[name][2], numbers, 2e-5):
            return f'{name}: {got[name][1]} {got[name][2][:6]}, not {shape} {list(numbers)[:6]}'
    return ''


def attend(query, key, value, scale, hide=lambda b, h, i, j: 0.0, cap=0.0):
    """[b][h][i][:] of weights times values; query, key and value are functions of (b, h, i, element) with their sizes."""
    (q, batches, heads, rows, size), (k, key_heads, keys), (v, width) = query, key, value
    result = {}
    for b in range(batches):
        for h in range(heads):
            share = h * key_heads // heads
            for i in range(rows):
                scores = [scale * sum(q(b, h, i, e) * k(b, share, j, e) for e in range(size)) for j in range(keys)]
                scores = [(cap * math.tanh(s / cap) if cap else s) + hide(b, h, i, j) for j, s in enumerate(scores)]
                most = max(scores)
                weights = [math.exp(s - most) for s in scores] if most > -math.inf else [0.0] * keys
                total = sum(weights) or 1
                result[b, h, i] = [sum(w * v(b, share, j, e) for j, w in enumerate(weights)) / total for e in range(width)]
    return result


def rows_of_heads(result, batches, heads, rows):
    return [x for b in range(batches) for i in range(rows) for h in range(heads) for x in result[b, h, i]]


def onnx_attention(guichet):
    """Four heads share two of keys; past keys and values, a mask, what is causal, a cap."""
    q, k, v = floats(2, 4, 3, 4), floats(2, 2, 2, 4), floats(2, 2, 2, 5)
    past_k, past_v, mask = floats(2, 2, 3, 4), floats(2, 2, 3, 5), floats(4, 3, 5)

    def joined(past, now):
        return lambda b, h, j, e: at(past, b, h, j, e) if j < 3 else at(now, b, h, j - 3, e)
    result = attend((lambda *i: at(q, *i), 2, 4, 3, 4), (joined(past_k, k), 2, 5), (joined(past_v, v), 5), 0.3,
                    lambda b, h, i, j: at(mask, b, h, i, j) if j <= i + 3 else -math.inf, 2.0)
    got = run(guichet, 'Attention', [('q', q), ('k', k), ('v', v), ('m', mask), ('pk', past_k), ('pv', past_v)], {'y': 4, 'k2': 4, 'v2': 4},
              case.real('scale', 0.3), case.real('softcap', 2.0), case.integer('is_causal', 1))
    present = [joined(past_k, k)(b, h, j, e) for b in range(2) for h in range(2) for j in range(5) for e in range(4)]
    return compare(got, {'y': ((2, 4, 3, 5), [x for b in range(2) for h in range(4) for i in range(3) for x in result[b, h, i]]),
                         'k2': ((2, 2, 5, 4), present)})


def onnx_attention_in_rows(guichet):
    """Rank 3, a mask of truth values that hides all keys of a query, and lengths."""
    q, k, v = floats(1, 2, 8), floats(1, 3, 4), floats(1, 3, 6)
    mask = whole(True, True, False, False, False, False, dims=(2, 3), code='|b1')
    result = attend((lambda b, h, i, e: at(q, b, i, h * 2 + e), 1, 4, 2, 2), (lambda b, h, j, e: at(k, b, j, h * 2 + e), 2, 3),
                    (lambda b, h, j, e: at(v, b, j, h * 3 + e), 3), 1 / math.sqrt(2), lambda b, h, i, j: 0 if at(mask, i, j) else -math.inf)
    got = run(guichet, 'Attention', [('q', q), ('k', k), ('v', v), ('m', mask)], {'y': 3},
              case.integer('q_num_heads', 4), case.integer('kv_num_heads', 2))
    return compare(got, {'y': ((1, 2, 12), rows_of_heads(result, 1, 4, 2))})


def multi_head(guichet):
    """A bias, hidden keys, and something added to each pair."""
    q, k, v, bias = floats(2, 3, 8), floats(2, 4, 8), floats(2, 4, 6), floats(22)
    mask, pairs = whole(1, 1, 0, 1, 0, 1, 1, 1, dims=(2, 4)), floats(1, 2, 3, 4)
    result = attend((lambda b, h, i, e: at(q, b, i, h * 4 + e) + bias[2][h * 4 + e], 2, 2, 3, 4),
                    (lambda b, h, j, e: at(k, b, j, h * 4 + e) + bias[2][8 + h * 4 + e], 2, 4),
                    (lambda b, h, j, e: at(v, b, j, h * 3 + e) + bias[2][16 + h * 3 + e], 3), 0.5,
                    lambda b, h, i, j: at(pairs, b, h, i, j) + (0 if at(mask, b, j) else -10000))
    got = run(guichet, 'MultiHeadAttention', [('q', q), ('k', k), ('v', v), ('bias', bias), ('mask', mask), ('pairs', pairs)], {'y': 3},
              case.integer('num_heads', 2), domain=MICROSOFT)
    return compare(got, {'y': ((2, 3, 6), rows_of_heads(result, 2, 2, 3))})


def one_product(guichet):
    """com.microsoft's Attention: queries, keys and values from one product; lengths; causal."""
    x, weights, bias, lengths = floats(2, 3, 5), floats(5, 12), floats(12), whole(2, 3)
    made = [[sum(at(x, b, i, d) * at(weights, d, c) for d in range(5)) + bias[2][c] for c in range(12)] for b in range(2) for i in range(3)]

    def column(first):
        return lambda b, h, i, e: made[b * 3 + i][first + h * 2 + e]
    result = attend((column(0), 2, 2, 3, 2), (column(4), 2, 3), (column(8), 2), 1 / math.sqrt(2),
                    lambda b, h, i, j: 0 if j <= i and j < lengths[2][b] else -10000)
    got = run(guichet, 'Attention', [('x', x), ('w', weights), ('b', bias), ('m', lengths)], {'y': 3}, case.integer('num_heads', 2),
              case.integer('unidirectional', 1), domain=MICROSOFT)
    return compare(got, {'y': ((2, 3, 4), rows_of_heads(result, 2, 2, 3))})


def turned(array, size, line, cosines, sines, interleaved=False):
    """Element function of a row whose first 2 * half are turned in pairs."""
    half = cosines[1][1]

    def element(b, h, i, e):
        def x(n):
            return at(array, b, i, h * size + n)
        if e >= 2 * half:
            return x(e)
        pair = e // 2 if interleaved else e % half
        first, second = (2 * pair, 2 * pair + 1) if interleaved else (pair, half + pair)
        c, s = at(cosines, line(b, i), pair), at(sines, line(b, i), pair)
        return x(first) * c - x(second) * s if e == first else x(first) * s + x(second) * c
    return element


def grouped(guichet):
    """One step of a decoder: four heads share two, six rows are there, the window has three."""
    q, k, v, past_k, past_v = floats(1, 1, 16), floats(1, 1, 8), floats(1, 1, 8), floats(1, 2, 6, 4), floats(1, 2, 6, 4)
    cosines, sines = floats(8, 2), floats(8, 2)
    new_k = turned(k, 4, lambda b, i: 6, cosines, sines)
    result = attend((turned(q, 4, lambda b, i: 6, cosines, sines), 1, 4, 1, 4),
                    (lambda b, h, j, e: at(past_k, b, h, j, e) if j < 6 else new_k(b, h, 0, e), 2, 7),
                    (lambda b, h, j, e: at(past_v, b, h, j, e) if j < 6 else at(v, b, 0, h * 4 + e), 4), 0.5,
                    lambda b, h, i, j: 0 if j > 3 else -math.inf)
    got = run(guichet, 'GroupQueryAttention', [('q', q), ('k', k), ('v', v), ('pk', past_k), ('pv', past_v), ('n', whole(6)), ('t', whole(7)),
                                               ('c', cosines), ('s', sines)], {'y': 3, 'k2': 4, 'v2': 4}, case.integer('num_heads', 4),
              case.integer('kv_num_heads', 2), case.integer('do_rotary', 1), case.integer('local_window_size', 3), domain=MICROSOFT)
    present = [at(past_k, 0, h, j, e) if j < 6 else new_k(0, h, 0, e) for h in range(2) for j in range(7) for e in range(4)]
    return compare(got, {'y': ((1, 1, 16), rows_of_heads(result, 1, 4, 1)), 'k2': ((1, 2, 7, 4), present)})


def rotary(guichet):
    """Both operators: by halves and by neighbours, a part of the head, positions out of the caches."""
    x, cosines, sines, positions = floats(2, 3, 12), floats(9, 2), floats(9, 2), whole(4, 0, 8, 1, 2, 3, dims=(2, 3), code='<i8')
    fault = ''
    for interleaved in (0, 1):
        element = turned(x, 6, lambda b, i: at(positions, b, i), cosines, sines, interleaved)
        expected = {'y': ((2, 3, 12), [element(b, h, i, e) for b in range(2) for i in range(3) for h in range(2) for e in range(6)])}
        options = case.integer('num_heads', 2), case.integer('rotary_embedding_dim', 4), case.integer('interleaved', interleaved)
        fault = fault or compare(run(guichet, 'RotaryEmbedding', [('x', x), ('c', cosines), ('s', sines), ('p', positions)], {'y': 3}, *options),
                                 expected)
        inputs = [('x', x), ('p', positions), ('c', cosines), ('s', sines)]
        fault = fault or compare(run(guichet, 'RotaryEmbedding', inputs, {'y': 3}, *options, domain=MICROSOFT), expected)
    positions[2][0] = 9
    said = run(guichet, 'RotaryEmbedding', inputs, {'y': 3}, *options, domain=MICROSOFT)
    return fault or ('' if isinstance(said, str) and 'not in the caches' in said else f'a hostile position: {said}')


def root_mean_square(guichet):
    x, skip, scale = floats(2, 3, 4), floats(2, 3, 4), floats(4)

    def normal(values):
        rows = [values[i:i + 4] for i in range(0, 24, 4)]
        return [a / math.sqrt(sum(b * b for b in row) / 4 + 0.01) * scale[2][i] for row in rows for i, a in enumerate(row)]
    both = [a + b for a, b in zip(x[2], skip[2])]
    small = case.real('epsilon', 0.01)
    return (compare(run(guichet, 'RMSNormalization', [('x', x), ('g', scale)], {'y': 3}, small), {'y': ((2, 3, 4), normal(x[2]))})
            or compare(run(guichet, 'SimplifiedLayerNormalization', [('x', x), ('g', scale)], {'y': 3}, small), {'y': ((2, 3, 4), normal(x[2]))})
            or compare(run(guichet, 'SkipSimplifiedLayerNormalization', [('x', x), ('s', skip), ('g', scale)], {'y': 3}, small, domain=MICROSOFT), {'y': ((2, 3, 4), normal(both))})
            or compare(run(guichet, 'Swish', [('x', x)], {'y': 3}, case.real('alpha', 0.5)),
                       {'y': ((2, 3, 4), [a / (1 + math.exp(-a / 2)) for a in x[2]])}))


def products_of_integers(guichet):
    """What the dynamic quantiser writes: numbers quantised by their own range, with a scale for each column; and QAttention."""
    a, bias = floats(2, 6), floats(4)
    b, scales = whole(*(draw.randrange(-60, 61) for _ in range(24)), dims=(6, 4), code='|i1'), floats(4)
    low, high = min(0, *a[2]), max(0, *a[2])
    step = struct.unpack('<f', struct.pack('<f', (high - low) / 255))[0]
    zero = round(-low / step)
    packed = [min(255, max(0, round(v / step) + zero)) for v in a[2]]

    def product(first, scale):
        return [sum((first[i * 6 + k]) * at(b, k, j) for k in range(6)) * scale * scales[2][j] + bias[2][j] for i in range(2) for j in range(4)]
    got = run(guichet, 'DynamicQuantizeMatMul', [('a', a), ('b', b), ('s', scales), ('z', None), ('bias', bias)], {'y': 2}, domain=MICROSOFT)
    fault = compare(got, {'y': ((2, 4), product([p - zero for p in packed], step))})
    whole_a = whole(*packed, dims=(2, 6), code='|u1')
    got = run(guichet, 'MatMulIntegerToFloat', [('a', whole_a), ('b', b), ('sa', ('<f4', (), [0.5])), ('s', scales),
                                                ('za', whole(7, dims=(), code='|u1')), ('zb', None), ('bias', bias)], {'y': 2}, domain=MICROSOFT)
    fault = fault or compare(got, {'y': ((2, 4), product([p - 7 for p in packed], 0.5))})

    x = whole(*(draw.randrange(256) for _ in range(12)), dims=(1, 2, 6), code='|u1')
    w = whole(*(draw.randrange(-60, 61) for _ in range(72)), dims=(6, 12), code='|i1')
    made = [[sum((at(x, 0, i, d) - 100) * at(w, d, c) for d in range(6)) * 2 ** -12 for c in range(12)] for i in range(2)]

    def column(first):
        return lambda b_, h, i, e: made[i][first + h * 2 + e]
    result = attend((column(0), 1, 2, 2, 2), (column(4), 2, 2), (column(8), 2), 1 / math.sqrt(2))
    got = run(guichet, 'QAttention', [('x', x), ('w', w), ('b', ('<f4', (12,), [0.0] * 12)), ('sx', ('<f4', (), [2 ** -6])),
                                      ('sw', ('<f4', (), [2 ** -6])), ('m', None), ('zx', whole(100, dims=(), code='|u1')),
                                      ('zw', whole(0, dims=(), code='|i1'))], {'y': 3}, case.integer('num_heads', 2), domain=MICROSOFT)
    return fault or compare(got, {'y': ((1, 2, 4), rows_of_heads(result, 1, 2, 2))})


def few_bits(guichet):
    """MatMulNBits: two blocks a column, the second half empty."""
    fault = ''
    for bits in (2, 4, 8):
        depth, columns, each = 24, 3, 16 * bits // 8
        a, scales = floats(2, depth), floats(columns, 2)
        packed = '|u1', (columns, 2, each), [draw.randrange(256) for _ in range(columns * 2 * each)]
        zeros = '|u1', (columns, (2 * bits + 7) // 8), [draw.randrange(256) for _ in range(columns * ((2 * bits + 7) // 8))]
        for points in (None, zeros):
            def number(values, start, n):
                return values[start + n * bits // 8] >> (n * bits % 8) & (1 << bits) - 1

            def weight(column, n):
                block = n // 16
                zero = number(points[2], column * points[1][1], block) if points else 1 << bits - 1
                return (number(packed[2], (column * 2 + block) * each, n % 16) - zero) * at(scales, column, block)
            expected = [sum(at(a, row, n) * weight(c, n) for n in range(depth)) for row in range(2) for c in range(columns)]
            got = run(guichet, 'MatMulNBits', [('a', a), ('b', packed), ('s', scales), ('z', points)], {'y': 2}, case.integer('K', depth),
                      case.integer('N', columns), case.integer('bits', bits), case.integer('block_size', 16), domain=MICROSOFT)
            fault = fault or compare(got, {'y': ((2, columns), expected)})
    return fault


if __name__ == '__main__':
    sys.exit(case.check([(test.__name__.replace('_', ' '), test(sys.argv[1])) for test in (
        onnx_attention, onnx_attention_in_rows, multi_head, one_product, grouped, rotary, root_mean_square, products_of_integers, few_bits)]))
