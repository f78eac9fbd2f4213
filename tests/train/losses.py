#!/usr/bin/env python3
"""The first losses of a training beside PyTorch's, from the same weights and photos. TAP; skipped where there is no PyTorch.

Argument: the probe (probe.c).
"""
import os
import subprocess
import sys
import tempfile

PROBE = os.path.abspath(sys.argv[1])
STEPS, ROWS, CLASSES, SIDE = 20, 8, 5, 16
TOLERANCE = 1e-3

try:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F
    import onnx  # the exporter needs it
    assert onnx
except ImportError as missing:
    print(f'1..0 # SKIP {missing}')
    sys.exit(0)


class Residual(nn.Module):
    """As ResNets have it: batch norm whose statistics stay, a pool, a stride, an addition."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.third = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 1, stride=2)
        self.dense = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.first(x))), 3, 2, 1)
        x = F.relu(x + self.second(x))
        return self.dense(F.adaptive_avg_pool2d(self.third(x), 1).flatten(1))


class Mobile(nn.Module):
    """As MobileNet v3: depthwise, HardSwish, squeeze and excite, and Clip; a concatenation of halves, as ShuffleNet."""

    def __init__(self):
        super().__init__()
        self.expand, self.depth = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.project, self.dense = nn.Conv2d(12, 8, 1), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = F.hardswish(self.depth(F.relu6(self.expand(x))))
        x = x * F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        left, right = torch.chunk(self.project(x), 2, 1)
        return self.dense(F.avg_pool2d(torch.cat([right, left * left.sigmoid()], 1), 8).flatten(1))


class Attention(nn.Module):
    """As ViT: patches, layer norms, attention of two heads, GELU."""

    def __init__(self):
        super().__init__()
        self.patch, self.place = nn.Conv2d(3, 16, 4, stride=4), nn.Parameter(torch.randn(1, 16, 16) * 0.1)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.out, self.wide, self.narrow = nn.Linear(16, 16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.dense = nn.Linear(16, CLASSES)

    def heads(self, x):
        return x.reshape(ROWS, 16, 2, 8).transpose(1, 2)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        y = self.first(x)
        q, k, v = self.heads(self.query(y)), self.heads(self.key(y)), self.heads(self.value(y))
        y = torch.softmax(q @ k.transpose(2, 3) / 8 ** 0.5, -1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(ROWS, 16, 16))
        x = x + self.narrow(F.gelu(self.wide(self.second(x))))
        return self.dense(x.mean(1))


def torch_losses(network, inputs, targets, method, rate):
    wide = [p for p in network.parameters() if p.dim() > 1]
    narrow = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{'params': wide, 'weight_decay': 0.01}, {'params': narrow, 'weight_decay': 0}]
    optimizer = torch.optim.SGD(groups, rate, momentum=0.9) if method == 'sgd' else torch.optim.AdamW(groups, rate)
    losses = []
    for x, t in zip(inputs, targets):
        optimizer.zero_grad()
        loss = -(t * F.log_softmax(network(x), -1)).sum() / ROWS
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compare(number, kind, method, rate, folder):
    torch.manual_seed(3)
    network = kind().eval()  # the statistics of batch norm stay
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.LayerNorm):  # the exporter makes one of weights that are alike
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    inputs = torch.randn(STEPS, ROWS, 3, SIDE, SIDE)
    targets = torch.softmax(torch.randn(STEPS, ROWS, CLASSES) * 3, -1)
    files = [os.path.join(folder, f'{number}.{ending}') for ending in ('onnx', 'inputs', 'targets')]
    normal = kind is Residual  # PyTorch is to leave its batch norm as it is
    torch.onnx.export(network, inputs[0], files[0], opset_version=13, do_constant_folding=not normal,
                      training=torch.onnx.TrainingMode.PRESERVE if normal else torch.onnx.TrainingMode.EVAL,
                      input_names=['photo'], output_names=['logits'])
    inputs.numpy().tofile(files[1])
    targets.numpy().tofile(files[2])

    wanted = torch_losses(network, inputs, targets, method, rate)
    run = subprocess.run([PROBE, *files, str(ROWS), str(CLASSES), str(STEPS), method, str(rate)], capture_output=True,
                         text=True, timeout=120, check=False)
    got = [float(line) for line in run.stdout.split()]
    far = max(abs(a - b) for a, b in zip(wanted, got)) if len(got) == STEPS else None
    good = far is not None and far <= TOLERANCE and abs(wanted[0] - wanted[-1]) > 10 * TOLERANCE
    print(f'{"" if good else "not "}ok {number} - {kind.__name__}, {method}: {STEPS} losses, at most {far} from PyTorch\'s')
    if not good:
        print(f'# {run.stderr}# {wanted}\n# {got}')
    return good


def main():
    torch.set_num_threads(1)
    cases = [(kind, method, rate) for kind in (Residual, Mobile, Attention) for method, rate in (('sgd', 0.05), ('adamw', 0.01))]
    with tempfile.TemporaryDirectory() as folder:
        good = [compare(i + 1, *case, folder) for i, case in enumerate(cases)]
    print(f'1..{len(cases)}')
    return 0 if all(good) else 1


sys.exit(main())
