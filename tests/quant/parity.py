#!/usr/bin/env python3
"""MobileNetV2 quantised on 100 photographs, judged on the 150 others, and the same file in ONNX Runtime. TAP.

Arguments: the program, the probe, the root of the source tree. Skipped where the photographs are missing; the peer's part where
ONNX Runtime is (tools/setup installs it in .cache/peer).
"""
import array
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'parity'))
from peers import Pair  # noqa: E402 (found through the line above)

PROGRAM, PROBE, ROOT = sys.argv[1], sys.argv[2], sys.argv[3]
SHARED = os.environ.get('GUICHET_SHARED') or os.path.join(ROOT, '..', 'shared')
MODEL, DATA = os.path.join(SHARED, 'models', 'mobilenet_v2'), os.path.join(SHARED, 'data', 'imagenet250')
if not os.path.exists(f'{MODEL}/model.onnx') or not os.path.exists(f'{DATA}/labels.tsv'):
    print(f'1..0 # skip there are no models/mobilenet_v2 and data/imagenet250 in {SHARED}')
    sys.exit(0)

number = failed = 0


def check(good, name, skip=''):
    global number, failed
    number += 1
    failed += not (good or skip)
    print(f'{"" if good or skip else "not "}ok {number} - {name}{" # skip " + skip if skip else ""}', flush=True)


def link(folder, lines):
    os.mkdir(folder)
    with open(f'{folder}/labels.tsv', 'w', encoding='utf-8') as labels:
        for line in lines:
            os.symlink(os.path.abspath(os.path.join(DATA, line.split('\t')[0])), os.path.join(folder, line.split('\t')[0]))
            labels.write(line + '\n')


def best(values, classes):
    rows = [values[i:i + classes] for i in range(0, len(values), classes)]
    return [max(range(classes), key=row.__getitem__) for row in rows]


def read_floats(path):
    values = array.array('f')
    with open(path, 'rb') as file:
        values.frombytes(file.read())
    return values


def peer(pair, model, photos, count, height, width, classes):
    """ONNX Runtime's first answers to the first `count` photos, fifty at a time. Without its optimisations: with them its 8-bit
    products saturate on processors without VNNI."""
    size, answers, part = 3 * height * width * 4, [], 50
    with open(photos, 'rb') as file:
        for start in range(0, count, part):
            rows = min(part, count - start)
            with open(pair.path('piece.f32'), 'wb') as piece:
                piece.write(file.read(rows * size))
            values = pair.theirs(model, pair.path('piece.f32'), (rows, 3, height, width), optimizations='disabled')
            if isinstance(values, str):
                raise RuntimeError(f'ONNX Runtime: {values}')
            answers += best(values, classes)
    return answers


def main():
    with open(f'{DATA}/labels.tsv', encoding='utf-8') as file:
        lines = [line for line in file.read().split('\n') if line]
    with tempfile.TemporaryDirectory() as work:
        link(f'{work}/calibrate', [line for i, line in enumerate(lines) if i % 5 in (0, 3)])
        link(f'{work}/judge', [line for i, line in enumerate(lines) if i % 5 not in (0, 3)])
        link(f'{work}/all', lines)
        made = subprocess.run([PROGRAM, 'quantize', MODEL, '--calibrate', f'{work}/calibrate', '--output', f'{work}/out', '--json'],
                              capture_output=True, text=True)
        check(made.returncode == 0 and os.path.exists(f'{work}/out/model_int8.onnx'), 'quantised on 100 photographs')
        if failed:
            print('# ' + made.stderr.replace('\n', '\n# '))
            return
        compared = subprocess.run([PROGRAM, 'compare', MODEL, f'{work}/out:int8', '--data', f'{work}/judge', '--json'],
                                  capture_output=True, text=True)
        report = json.loads(compared.stdout) if compared.returncode == 0 else {'agreement': 0, 'a': {'top1': 1}, 'b': {'top1': 0}}
        loss = report['a']['top1'] - report['b']['top1']
        print(f'# agreement {report["agreement"]:.4f}, top-1 {report["a"]["top1"]:.4f} to {report["b"]["top1"]:.4f}')
        check(report['agreement'] >= 0.97, 'the same first answer on 97 % of the 150 others')
        check(loss <= 0.01, 'top-1 loses one point at the most')
        pair = Pair(PROGRAM, ROOT)
        same = count = 0
        if not pair.problem:
            told = subprocess.run([PROBE, f'{work}/out/model_int8.onnx', f'{work}/all', f'{work}/photos.f32', f'{work}/ours.f32'],
                                  capture_output=True, text=True, check=True).stdout.split()
            count, height, width, classes = (int(word) for word in told[:4])
            theirs = peer(pair, f'{work}/out/model_int8.onnx', f'{work}/photos.f32', count, height, width, classes)
            same = sum(a == b for a, b in zip(best(read_floats(f'{work}/ours.f32'), classes), theirs))
            print(f'# the same first answer as ONNX Runtime on {same} of {count}, ours in {told[4]}')
        check(same >= 0.99 * count and count, 'the same file in ONNX Runtime: the same first answer on 99 %', pair.problem)


main()
print(f'1..{number}')
sys.exit(failed > 0)
