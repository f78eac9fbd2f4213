#!/usr/bin/env python3
"""How exporters write networks, opset by opset: our numbers against ONNX Runtime's. TAP.

    idioms.py PROGRAM ROOT

Shapes that are free and computed with int64 arithmetic, so that one file takes pictures of any size and number;
LayerNormalization, Gelu, external data files; every opset from 11 to 20. Then torchvision's own exports with a free height
and width, and at its first and last opset (every one with PARITY=all). Skipped without onnx or the peer.
"""
import os
import shutil
import subprocess
import sys

from peers import Pair, Tap, judge, shape_text

try:
    import graphs
except ImportError as missing:
    print(f'1..0 # skip {missing} (Debian: python3-onnx)')
    sys.exit(0)

PROGRAM, ROOT = sys.argv[1], sys.argv[2]
SHAPES = [(1, 3, 224, 224), (1, 3, 256, 256), (3, 3, 224, 160)]


def compare(tap, pair, name, path, shapes, bf16=True):
    for shape in shapes:
        noise = pair.noise(shape)
        theirs = pair.theirs(path, noise, shape)
        judge(tap, f'{name}, {shape_text(shape)}', pair.ours(path, noise, shape, 'f32'), theirs)
    if bf16:
        judge(tap, f'{name}, bf16', pair.ours(path, noise, shape, 'bf16'), theirs, least=0.999)


def hand_made(tap, pair):
    for opset in range(11, 21):
        for make in (graphs.convolutional, graphs.transformer):
            name = f'{make.__name__} network, opset {opset}'
            path = pair.path('hand.onnx')
            graphs.save(make(opset), path)
            compare(tap, pair, name, path, SHAPES if opset in (11, 20) else SHAPES[2:], bf16=opset in (11, 20))
    for axis in (-1, -2, 1):
        path = pair.path('hand.onnx')
        graphs.save(graphs.normalised(axis), path)
        compare(tap, pair, f'LayerNormalization over axis {axis} and on, Gelu', path, [(2, 6, 10, 12)])


def external(tap, pair):
    folder = pair.path('external')
    os.makedirs(folder)
    path = os.path.join(folder, 'model.onnx')
    graphs.save(graphs.transformer(17), path, external=True)
    weights = os.path.join(folder, 'weights.bin')
    tap.check('the weights lie in a file of their own', os.path.getsize(weights) > os.path.getsize(path))
    compare(tap, pair, 'external data', path, SHAPES[:1])
    with open(weights, 'r+b') as file:
        file.truncate(100)
    noise = pair.noise(SHAPES[0])
    said = pair.ours(path, noise, SHAPES[0], 'f32')
    tap.check('external data that is cut off is refused', isinstance(said, str) and 'exit status 1' in said
              and 'weights.bin' in said and len(said.splitlines()) == 1, said)
    os.unlink(weights)
    said = pair.ours(path, noise, SHAPES[0], 'f32')
    tap.check('external data that is missing is refused', isinstance(said, str) and 'weights.bin' in said, said)


def exported(tap, pair, name, shapes, *options):
    label = f'{name} {" ".join(options)}'
    folder = pair.path('exported')
    run = subprocess.run([sys.executable, os.path.join(ROOT, 'tests', 'bench', 'export.py'), *options, folder, name],
                         capture_output=True, text=True)
    path = os.path.join(folder, f'{name}.onnx')
    if run.returncode:
        tap.skip(label, (run.stdout + run.stderr).strip().split('\n')[-1])
    else:
        compare(tap, pair, label, path, shapes)
    shutil.rmtree(folder, ignore_errors=True)


def main():
    pair = Pair(PROGRAM, ROOT)
    if pair.problem:
        print(f'1..0 # skip {pair.problem}')
        return 0
    tap, every = Tap(), os.environ.get('PARITY') == 'all'
    hand_made(tap, pair)
    external(tap, pair)
    for name in ('mobilenet_v3_small', *(('resnet50', 'densenet121', 'efficientnet_b0', 'convnext_tiny') if every else ())):
        exported(tap, pair, name, SHAPES, '--free')
    for opset in range(11, 18) if every else (11, 17):
        for name in ('mobilenet_v3_small', *(('swin_t', 'vit_b_32', 'googlenet') if every else ())):
            exported(tap, pair, name, [(1, 3, 224, 224)], '--opset', str(opset))
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
