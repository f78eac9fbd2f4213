#!/usr/bin/env python3
"""Write torchvision's classifiers as ONNX files: what speed and parity are measured on.

    export.py [--initial] [--opset N] [--free] FOLDER NAME...

Trained weights are not needed for either, so none are fetched. But weights as torchvision initialises them leave parts of
some networks without effect (ConvNeXt scales its blocks by a millionth, a ViT's head is zero, batch norms do nothing),
and a comparison would not see them. So those are drawn anew, and batch norms take the statistics of noise that went
through the network once; `--initial` leaves all but a zero head as it was. Input `input` [batch, 3, 224, 224] (299 for Inception) with a free batch,
and with a free height and width, too, by `--free`; output `logits` [batch, 1000]. One line for each network: its name and
its file, or `NAME: skipped, REASON` where torchvision does not know it or its exporter cannot write it.

Needs Debian's python3-torch, python3-torchvision and python3-onnx.
"""
import argparse
import inspect
import os
import sys
import warnings

import torch
import torchvision

SIDE = {'inception_v3': 299}


def build(name):
    make = getattr(torchvision.models, name, None)
    if make is None or not callable(make):
        raise ValueError('torchvision has no such network')
    options = {'weights': None} if 'weights' in inspect.signature(make).parameters else {}
    if name in ('googlenet', 'inception_v3'):
        options['init_weights'] = True
    return make(**options)


def revive_head(network):
    """A last layer of zeros answers zero to everything."""
    for module in network.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.detach().any():
            torch.nn.init.normal_(module.weight, std=module.in_features ** -0.5)


def enliven(network, side):
    """Every weight has an effect, and activations stay near one from the first layer to the last."""
    for name, parameter in network.named_parameters():
        if name.endswith('layer_scale'):
            parameter.data.uniform_(0.1, 0.5)
        elif parameter.dim() == 1:
            parameter.data += torch.randn_like(parameter) * 0.1
    norms = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        # Most activations pass their ReLU, as in trained networks: else a deep network without residuals is chaotic, and
        # rounding its input alone to bfloat16 turns its answer.
        norm.bias.data += 1
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of what is seen
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, side, side))


def write(name, folder, arguments):
    torch.manual_seed(1)
    side = SIDE.get(name, 224)
    network = build(name)
    revive_head(network)
    if not arguments.initial:
        enliven(network, side)
    network.eval()
    free = {0: 'batch', 2: 'height', 3: 'width'} if arguments.free else {0: 'batch'}
    path = os.path.join(folder, f'{name}.onnx')
    options = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(network, torch.randn(1, 3, side, side), path, opset_version=arguments.opset, input_names=['input'],
                      output_names=['logits'], dynamic_axes={'input': free, 'logits': {0: 'batch'}}, **options)
    return path


def main():
    parser = argparse.ArgumentParser(description='Write torchvision networks as ONNX files.')
    parser.add_argument('--initial', action='store_true')
    parser.add_argument('--free', action='store_true')
    parser.add_argument('--opset', type=int, default=13)
    parser.add_argument('folder')
    parser.add_argument('names', nargs='+')
    arguments = parser.parse_args()
    warnings.simplefilter('ignore')
    os.makedirs(arguments.folder, exist_ok=True)
    failed = False
    for name in arguments.names:
        try:
            print(name, write(name, arguments.folder, arguments), flush=True)
        except Exception as error:  # whatever the exporter trips over
            failed = True
            print(f'{name}: skipped, {(str(error).splitlines() or [repr(error)])[0]}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
