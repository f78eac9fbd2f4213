#!/usr/bin/env python3
"""Every classifier that torchvision can export: our numbers against ONNX Runtime's on the same noise. TAP.

    torchvision.py PROGRAM ROOT [NAME...]

float32, one picture and two: at most 1e-4 of the largest value apart, the same first answer. bfloat16: cosine at least
0.999. Without names a few that between them have every operator and idiom; all with PARITY=all in the environment.
PARITY_INITIAL=1 keeps the weights that torchvision draws (export.py says why that is the weaker test). Networks are
exported one at a time into .cache/parity and deleted again afterwards. Skipped without torch, torchvision, onnx or the
peer.
"""
import os
import shutil
import subprocess
import sys

from peers import Pair, Tap, judge

PROGRAM, ROOT, NAMES = sys.argv[1], sys.argv[2], sys.argv[3:]
PYTHON = '/usr/bin/python3' if os.path.exists('/usr/bin/python3') else sys.executable  # Debian's, which has Debian's torch
SOME = ['densenet121', 'efficientnet_b0', 'googlenet', 'mobilenet_v3_small', 'regnet_y_400mf', 'resnet18', 'shufflenet_v2_x0_5',
        'squeezenet1_1', 'swin_t', 'convnext_tiny', 'vit_b_32']
# maxvit_t and swin_v2_* came with torchvision 0.14 and 0.15; whatever a release does not have is skipped.
ALL = '''alexnet convnext_tiny convnext_small convnext_base convnext_large densenet121 densenet161 densenet169 densenet201
 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
 efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l googlenet inception_v3 maxvit_t mnasnet0_5
 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_400mf regnet_x_800mf
 regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf
 regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf regnet_y_128gf resnet18 resnet34 resnet50 resnet101 resnet152
 resnext50_32x4d resnext101_32x8d resnext101_64x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b vgg11 vgg11_bn vgg13
 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_l_16 vit_l_32 vit_h_14 wide_resnet50_2
 wide_resnet101_2'''.split()


def export(name, folder):
    """-> path, or None and the reason"""
    command = [PYTHON, os.path.join(ROOT, 'tests', 'bench', 'export.py')]
    if os.environ.get('PARITY_INITIAL'):
        command.append('--initial')
    run = subprocess.run([*command, folder, name], capture_output=True, text=True)
    for line in run.stdout.splitlines():
        if line.startswith(f'{name} '):
            return line.split(' ', 1)[1], ''
        if line.startswith(f'{name}: skipped'):
            return None, line.split(', ', 1)[1]
    return None, f'the exporter ended with status {run.returncode}: {run.stderr.strip()[-200:]}'


def compare(tap, pair, name):
    folder = pair.path(name)
    path, reason = export(name, folder)
    if path is None:
        shutil.rmtree(folder, ignore_errors=True)
        tap.skip(name, reason)
        return
    side = 299 if name == 'inception_v3' else 224
    for batch in (1, 2):
        shape = (batch, 3, side, side)
        noise = pair.noise(shape)
        theirs = pair.theirs(path, noise, shape)
        judge(tap, f'{name} f32, batch {batch}', pair.ours(path, noise, shape, 'f32'), theirs)
    judge(tap, f'{name} bf16, batch {batch}', pair.ours(path, noise, shape, 'bf16'), theirs, least=0.999)
    shutil.rmtree(folder)


def main():
    run = subprocess.run([PYTHON, '-c', 'import torch, torchvision, onnx'], capture_output=True, text=True)
    pair = Pair(PROGRAM, ROOT)
    problem = 'python3-torch, python3-torchvision or python3-onnx is not installed' if run.returncode else pair.problem
    if problem:
        print(f'1..0 # skip {problem}')
        return 0
    tap = Tap()
    for name in NAMES or (ALL if os.environ.get('PARITY') == 'all' else SOME):
        compare(tap, pair, name)
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
