#!/usr/bin/env python3
"""guichet run --image: networks that make pictures of photos. TAP; the argument is the program."""
import os
import struct
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cases'))
import case
import tiny

PROGRAM = os.path.abspath(sys.argv[1])
WIDTH, HEIGHT = 8, 6
# Left and right, and the first row: whatever is turned or mixed up shows.
PHOTO = [[(255, 0, 51) if y == 0 else (10, 200, 90) if x < 3 else (200, 20, 40) for x in range(WIDTH)] for y in range(HEIGHT)]
SIZES = [1, 3, HEIGHT, WIDTH]


def write_png(rows):
    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    lines = b''.join(b'\0' + bytes(value for pixel in row for value in pixel) for row in rows)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', len(rows[0]), len(rows), 8, 2, 0, 0, 0)) + \
        chunk(b'IDAT', zlib.compress(lines)) + chunk(b'IEND', b'')


def predict(kind, left, up, corner):
    """PNG (ISO 15948), 9.2: what a filter type takes a byte for."""
    base = left + up - corner
    paeth = min((abs(base - left), 0, left), (abs(base - up), 1, up), (abs(base - corner), 2, corner))[2]
    return (0, left, up, (left + up) // 2, paeth)[kind]


def read_png(path):
    with open(path, 'rb') as file:
        data = file.read()
    width, height, depth, color = struct.unpack('>IIBB', data[16:26])
    assert depth == 8 and color in (0, 2), (depth, color)
    at, packed, channels = 8, b'', 3 if color == 2 else 1
    while at < len(data):
        length, name = struct.unpack('>I4s', data[at:at + 8])
        packed += data[at + 8:at + 8 + length] if name == b'IDAT' else b''
        at += 12 + length
    lines, stride, rows = zlib.decompress(packed), width * channels, []
    above = [0] * stride
    for y in range(height):
        line = list(lines[y * (stride + 1):(y + 1) * (stride + 1)])
        kind, row = line[0], line[1:]
        for i in range(stride):
            left, corner = (row[i - channels], above[i - channels]) if i >= channels else (0, 0)
            row[i] = (row[i] + predict(kind, left, above[i], corner)) & 255
        rows.append([tuple(row[x:x + channels]) for x in range(0, stride, channels)])
        above = row
    return rows


def network(nodes, output, constants=(), kind=1, sizes=SIZES, opset=13):
    return case.network(nodes, [tiny.value_info('x', sizes)], [tiny.value_info('y', output, kind)], constants, opset)


def each(change):
    return [[change(*pixel) for pixel in row] for row in PHOTO]


def invert(dims=SIZES):
    return network([tiny.node('Sub', ['one', 'x'], ['y'])], dims, [tiny.tensor('one', [1], [1.0])], sizes=dims)


def scaled(factor, shift):
    return network([tiny.node('Mul', ['x', 'f'], ['m']), tiny.node('Add', ['m', 's'], ['y'])], SIZES,
                   [tiny.tensor('f', [1], [factor]), tiny.tensor('s', [1], [shift])])


def classes(*nodes, output, kind=1):
    """Scores of two classes and a third that never wins: red, green, less than nothing."""
    weights = tiny.tensor('w', [3, 3, 1, 1], [1.0, 0, 0, 0, 1.0, 0, 0, -1.0, -1.0])
    return network([tiny.node('Conv', ['x', 'w'], ['scores' if nodes else 'y']), *nodes], output, [weights], kind)


def good_cases():
    mask = each(lambda r, g, b: (128, 0, 0) if g > r else (0, 0, 0))
    inverted = each(lambda r, g, b: (255 - r, 255 - g, 255 - b))
    last = [tiny.node('Transpose', ['x'], ['t'], tiny.ints('perm', [0, 2, 3, 1])), tiny.node('Mul', ['t', 'f'], ['y'])]
    grey = [tiny.node('ReduceMax', ['x'], ['y'], tiny.ints('axes', [1]), case.integer('keepdims', 0))]
    numbered = tiny.node('ArgMax', ['scores'], ['y'], case.integer('axis', 1), case.integer('keepdims', 0))
    yield 'RGB in 0..1', invert(), inverted, 'RGB, taken for [n, channels, h, w] with values from 0 to 1'
    yield 'a free size', invert(['n', 3, 'h', 'w']), inverted, '(assumed: the whole photo, values 0 to 1)'
    yield 'channels last, in 0..255', network(last, [1, HEIGHT, WIDTH, 3], [tiny.tensor('f', [1], [255.0])]), PHOTO, \
        '[n, h, w, channels] with values from 0 to 255'
    yield 'values in -1..1', scaled(2.0, -1.0), PHOTO, 'values from -1 to 1'
    yield 'a little beyond 0..1 is cut', scaled(1.04, 0.0), each(lambda *p: tuple(min(255, round(v * 1.04)) for v in p)), 'values from 0 to 1'
    yield 'any range', scaled(1000.0, 500.0), PHOTO, 'values from 500 to 1500'
    yield 'grey without channels', network(grey, [1, HEIGHT, WIDTH]), each(lambda *p: (max(p),)), 'grey, taken for [n, h, w]'
    four = tiny.node('Concat', ['scores', 'least'], ['y'], case.integer('axis', 1))
    least = tiny.node('Sub', ['first', 'two'], ['least'])
    first = tiny.node('ReduceMin', ['scores'], ['first'], tiny.ints('axes', [1]), case.integer('keepdims', 1))
    model = network([tiny.node('Conv', ['x', 'w'], ['scores']), first, least, four], [1, 4, HEIGHT, WIDTH],
                    [tiny.tensor('w', [3, 3, 1, 1], [1.0, 0, 0, 0, 1.0, 0, 0, -1.0, -1.0]), tiny.tensor('two', [1], [2.0])])
    yield 'a mask of four classes', model, mask, '\n  class 1  #800000  31'
    yield 'a mask of class numbers', classes(numbered, output=[1, HEIGHT, WIDTH], kind=7), mask, 'of class numbers'


def run(folder, model, *arguments, photo=None):
    tiny.write(os.path.join(folder, 'm.onnx'), model)
    tiny.write(os.path.join(folder, 'photo.png'), photo or write_png(PHOTO))
    return subprocess.run([PROGRAM, 'run', 'm.onnx', '--precision', 'f32', *arguments], cwd=folder, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False)


def near(actual, expected):
    return len(actual) == len(expected) and all(
        len(a) == len(b) and all(len(p) == len(q) and all(abs(v - w) <= 1 for v, w in zip(p, q)) for p, q in zip(a, b))
        for a, b in zip(actual, expected))


def bad_cases():
    zero = tiny.tensor('zero', [1], [0.0])
    give = ['--image', 'photo.png', '--output', 'y.png']
    yield 'values that are infinite', network([tiny.node('Div', ['x', 'zero'], ['y'])], SIZES, [zero]), give, 1, 'NaN or infinite'
    yield 'a table', network([tiny.node('Flatten', ['x'], ['y'])], [1, 144]), give, 1, "output 'y': it is float32 1x144, and no picture"
    boxes = tiny.node('Reshape', ['x', 'to'], ['y'])
    to = tiny.field(1, 3) + tiny.field(2, 7) + tiny.field(8, 'to') + tiny.field(9, struct.pack('<3q', 1, 4, 36))
    yield 'boxes', network([boxes], [1, 4, 36], [to]), give, 1, '1x4x36, and no picture'
    yield 'an input that is no photo', network([tiny.node('Relu', ['x'], ['y'])], [1, 5], sizes=[1, 5]), give, 1, 'a photo needs'
    yield 'no photo there', invert(), ['--image', 'none.png', '--output', 'y.png'], 1, 'none.png'
    yield 'a file that is no photo', invert(), ['--image', 'm.onnx', '--output', 'y.png'], 1, 'm.onnx: '
    yield 'a folder that is not there', invert(), ['--image', 'photo.png', '--output', 'none/y.png'], 1, 'none/y.png'
    yield 'no output', invert(), ['--image', 'photo.png'], 2, '--image needs --output X.png'
    yield 'another format', invert(), ['--image', 'photo.png', '--output', 'y.jpg'], 2, '--image needs --output X.png'
    yield 'tensors as well', invert(), [*give, '--input', 'x=a.npy'], 2, '--image goes with'


def main():
    results = []
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, 'y.png')
        for name, model, expected, part in good_cases():
            done = run(folder, model, '--image', 'photo.png', '--output', 'y.png')
            good = done.returncode == 0 and part in done.stdout and (expected is None or near(read_png(picture), expected))
            results.append((name, '' if good else f'{done} {read_png(picture) if os.path.exists(picture) else ""}'))
            if os.path.exists(picture):
                os.unlink(picture)
        for name, model, arguments, code, part in bad_cases():
            done = run(folder, model, *arguments)
            good = done.returncode == code and part in done.stderr and len(done.stderr.splitlines()) == code and not os.path.exists(picture)
            results.append((name, '' if good else str(done)))
    return case.check(results)


sys.exit(main())
