#!/usr/bin/env python3
"""MobileNetV2 on 250 photographs: the answers of Pillow and ONNX Runtime in float32. TAP; skipped where they are missing.

Arguments: the program, and the root of the source tree.
"""
import json
import os
import subprocess
import sys

PROGRAM, ROOT = sys.argv[1], sys.argv[2]
SHARED = os.environ.get('GUICHET_SHARED') or os.path.join(ROOT, '..', 'shared')
MODEL, DATA = os.path.join(SHARED, 'models', 'mobilenet_v2'), os.path.join(SHARED, 'data', 'imagenet250')
if not os.path.exists(f'{MODEL}/model.onnx') or not os.path.exists(f'{DATA}/expected_mobilenet_v2.tsv'):
    print(f'1..0 # skip there are no models/mobilenet_v2 and data/imagenet250 in {SHARED}')
    sys.exit(0)

with open(f'{DATA}/expected_mobilenet_v2.tsv', encoding='utf-8') as lines:
    expected = {name: [pair.split(':') for pair in rest.split()] for name, rest in (line.split('\t') for line in lines)}
run = subprocess.run([PROGRAM, 'classify', '--json', '--precision', 'f32', '--model', MODEL,
                      *(os.path.join(DATA, name) for name in expected)], capture_output=True, text=True)
answers = [json.loads(line) for line in run.stdout.splitlines()]
same, close = 0, 0
for answer, (name, reference) in zip(answers, expected.items()):
    best = answer['predictions'][0]
    same += best['index'] == int(reference[0][0])
    close += abs(best['probability'] - float(reference[0][1])) < 1e-3
# Where an odd number of pixels is cropped away, the reference keeps the right half's extra one (torchvision's rounding)
# and Hugging Face's processors, which we follow, the left half's: those few photos differ by a shift of one pixel.
print(f'# same first answer on {same} of {len(expected)}, its probability within 0.001 on {close}')
failed = 0
for number, (name, good) in enumerate((('all are answered', run.returncode == 0 and len(answers) == len(expected)),
                                       ('at least 248 first answers are the same', same >= 248),
                                       ('so are most of their probabilities, to 0.001', close >= 0.85 * len(expected))), 1):
    print(f'{"" if good else "not "}ok {number} - {name}')
    failed += not good
print('1..3')
sys.exit(failed > 0)
