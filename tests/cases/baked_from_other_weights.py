#!/usr/bin/env python3
"""What was baked of other weights is not used: one number of a large tensor changes in place, in the network's file or in
the file beside it, at any place; the length, and so every offset, stays."""
import os
import struct
import subprocess
import sys
import tempfile

import case
import tiny

PIXELS, CLASSES = 3 * 16 * 16, 12


def write_model(folder, beside):
    """A product of a picture by PIXELS x CLASSES numbers; where these lie: (path, offset of the first)."""
    weights = [0.001 * (i % 97) for i in range(PIXELS * CLASSES)]
    data, dims = struct.pack(f'<{len(weights)}f', *weights), [PIXELS, CLASSES]
    constant = tiny.tensor('w', dims, weights)
    if beside:
        entries = {'location': 'weights.bin', 'offset': '0', 'length': str(len(data))}
        constant = b''.join(tiny.field(1, d) for d in dims) + tiny.field(2, 1) + tiny.field(8, 'w') + b''.join(
            tiny.field(13, tiny.field(1, key) + tiny.field(2, value)) for key, value in entries.items()) + tiny.field(14, 1)
        with open(os.path.join(folder, 'weights.bin'), 'wb') as file:
            file.write(data)
    model = case.network([tiny.node('Flatten', ['x'], ['flat']), tiny.node('MatMul', ['flat', 'w'], ['y'])],
                         [tiny.value_info('x', [1, 3, 16, 16])], [tiny.value_info('y', [1, CLASSES])], [constant])
    with open(os.path.join(folder, 'model.onnx'), 'wb') as file:
        file.write(model)
    path = os.path.join(folder, 'weights.bin' if beside else 'model.onnx')
    with open(path, 'rb') as file:
        return path, file.read().index(data)


def ask(guichet, folder):
    """The product with ones, as the program finds the folder now."""
    paths = [os.path.join(folder, name) for name in ('model.onnx', 'in.f32', 'out.f32')]
    with open(paths[1], 'wb') as file:
        file.write(struct.pack(f'<{PIXELS}f', *[1.0] * PIXELS))
    subprocess.run([guichet, 'run', *paths, '--shape', '1x3x16x16', '--precision', 'f32'], stdin=subprocess.DEVNULL,
                   capture_output=True, timeout=60, check=True)
    with open(paths[2], 'rb') as file:
        return struct.unpack(f'<{CLASSES}f', file.read())


def changed_at(guichet, beside, index):
    """'' where the change shows in the answer."""
    with tempfile.TemporaryDirectory() as folder:
        path, start = write_model(folder, beside)
        before = ask(guichet, folder)
        subprocess.run([guichet, 'bake', folder, '--precision', 'f32'], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                       check=True)
        if not os.path.exists(os.path.join(folder, 'model.onnx.f32.baked')):
            return 'nothing was baked'
        if not case.same(ask(guichet, folder), before):
            return 'baked, it answers something else'
        with open(path, 'r+b') as file:
            file.seek(start + 4 * index)
            file.write(struct.pack('<f', 50.0))
        after, column = ask(guichet, folder), index % CLASSES
        return '' if after[column] > before[column] + 49 and case.same(after[:column], before[:column]) else f'answers {after[column]}'


def main():
    count = PIXELS * CLASSES
    return case.check([(f'number {index} in {"a file beside the network" if beside else "the network"}',
                        changed_at(sys.argv[1], beside, index))
                       for beside in (False, True) for index in (0, count // 3, count // 2 + 7, count - 1)])


if __name__ == '__main__':
    sys.exit(main())
