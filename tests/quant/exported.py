#!/usr/bin/env python3
"""torchvision's networks quantised by guichet: our integers against ONNX Runtime's on the same file. TAP.

    exported.py PROGRAM ROOT [NAME...]

Calibrated on pictures that are drawn here. Without names a few that between them have every kind of layer; PARITY=all in the
environment takes more. Skipped without torch, torchvision, onnx, Pillow or the peer.
"""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'parity'))
from peers import Pair, Tap, judge  # noqa: E402 (found through the line above)

try:
    from PIL import Image
except ImportError as missing:
    print(f'1..0 # skip {missing} (Debian: python3-pil)')
    sys.exit(0)

PROGRAM, ROOT, NAMES = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
SOME = ['resnet18', 'mobilenet_v3_small', 'efficientnet_b0', 'swin_t']
MORE = ['convnext_tiny', 'densenet121', 'googlenet', 'mobilenet_v2', 'regnet_y_400mf', 'resnet50', 'resnet152', 'shufflenet_v2_x1_0',
        'squeezenet1_1', 'swin_b', 'vgg16', 'vit_b_32']
RECIPE = {'do_resize': True, 'size': {'height': 224, 'width': 224}, 'resample': 2, 'do_rescale': True, 'rescale_factor': 1 / 255,
          'do_normalize': True, 'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.25, 0.25, 0.25]}


def draw_photos(folder, count=12):
    """Noise of several sizes of grain: edges, textures, plains."""
    os.mkdir(folder)
    for i in range(count):
        grain = 4 + 9 * i
        picture = Image.effect_noise((grain, grain), 120).convert('RGB').resize((256, 256), Image.BICUBIC)
        picture.rotate(90 * i).save(f'{folder}/{i}.png')


def quantise(tap, pair, name):
    """-> path of the quantised network, or None"""
    folder = pair.path(name)
    run = subprocess.run([sys.executable, os.path.join(ROOT, 'tests', 'bench', 'export.py'), folder, name], capture_output=True, text=True)
    path = os.path.join(folder, f'{name}.onnx')
    if run.returncode or not os.path.exists(path):
        tap.skip(name, (run.stdout + run.stderr).strip().split('\n')[-1])
        return None
    os.rename(path, f'{folder}/model.onnx')
    with open(f'{folder}/preprocessor_config.json', 'w', encoding='utf-8') as file:
        json.dump(RECIPE, file)
    run = subprocess.run([PROGRAM, 'quantize', folder, '--calibrate', pair.path('photos'), '--max-loss', '100', '--json'],
                         capture_output=True, text=True)
    tap.check(f'{name} is quantised', run.returncode == 0, run.stderr)
    return None if run.returncode else f'{folder}/model_int8.onnx'


def main():
    run = subprocess.run([sys.executable, '-c', 'import torch, torchvision, onnx'], capture_output=True, text=True)
    pair = Pair(PROGRAM, ROOT)
    problem = 'python3-torch, python3-torchvision or python3-onnx is not installed' if run.returncode else pair.problem
    if problem:
        print(f'1..0 # skip {problem}')
        return 0
    tap, shape = Tap(), (1, 3, 224, 224)
    draw_photos(pair.path('photos'))
    for name in NAMES or SOME + (MORE if os.environ.get('PARITY') == 'all' else []):
        path = quantise(tap, pair, name)
        if path:
            noise = pair.noise(shape)
            judge(tap, f'{name} int8', pair.ours(path, noise, shape, 'int8'), pair.theirs(path, noise, shape), least=0.99)
        shutil.rmtree(pair.path(name), ignore_errors=True)
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
