#!/usr/bin/env python3
"""How quantisers write networks: our integers against ONNX Runtime's on the same file. TAP.

    idioms.py PROGRAM ROOT

QDQ with scales that are scalars or have one element, per tensor and per channel, signed and unsigned, before opset 13 and
after; the QOperator form; dynamic quantisation (ConvInteger, MatMulInteger). Skipped without onnx or the peer.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'parity'))
from peers import Pair, Tap, judge, shape_text  # noqa: E402 (found through the line above)

try:
    import numpy as np
    from onnx import helper

    import graphs
except ImportError as missing:
    print(f'1..0 # skip {missing} (Debian: python3-onnx)')
    sys.exit(0)

PROGRAM, ROOT = sys.argv[1], sys.argv[2]
SHAPES = [(1, 3, 32, 32), (3, 3, 32, 32)]
MICROSOFT = 'com.microsoft'


class Quantised(graphs.Graph):
    """`element` 1: scales and zero points are vectors of one; 0: scalars. `signed`: activations are int8."""

    def __init__(self, opset, element, signed, per_channel):
        super().__init__(opset, ('batch', 3, 32, 32))
        self.element, self.per_channel = element, per_channel
        self.dtype = np.int8 if signed else np.uint8

    def one(self, value, dtype=np.float32):
        array = np.array(value, dtype)
        return self.constant(array.reshape(1) if self.element else array)

    def step(self, low, high):
        """Scale and zero point for a range."""
        least = np.iinfo(self.dtype).min
        scale = (high - low) / 255
        return self.one(scale), self.one(round(least - low / scale), self.dtype)

    def integers(self, *shape, axis=0):
        """Weights in integers, their scale (one, or one a channel) and zero point."""
        values = self.constant(np.clip(self.random.standard_normal(shape) * 40, -127, 127).astype(np.int8))
        size = 1 / (40 * np.sqrt(np.prod(shape) / shape[axis]))
        if not self.per_channel:
            return values, self.one(size), self.one(0, np.int8)
        scales = size * np.linspace(0.5, 1.5, shape[axis])
        return values, self.constant(scales.astype(np.float32)), self.constant(np.zeros(shape[axis], np.int8))

    def microsoft(self, kind, *inputs, **attributes):
        return self.add(kind, *inputs, domain=MICROSOFT, **attributes)

    def model(self, output):
        model = super().model(output)
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return model


def qdq(g, x, low, high):
    scale, zero = g.step(low, high)
    return g.add('DequantizeLinear', g.add('QuantizeLinear', x, scale, zero), scale, zero)


def qdq_conv(g, x, shape, **attributes):
    values, scales, zeros = g.integers(*shape)
    axis = {'axis': 0} if g.per_channel else {}
    weights = g.add('DequantizeLinear', values, scales, zeros, **axis)
    return g.add('Conv', x, weights, g.weights(shape[0], scale=0.1), **attributes)


def qdq_network(g):
    """A residual block, a pool, two branches joined, a classifier."""
    same = {'kernel_shape': [3, 3], 'pads': [1, 1, 1, 1]}
    x = qdq(g, 'input', -3, 3)
    x = qdq(g, g.add('Relu', qdq_conv(g, x, (16, 3, 3, 3), strides=[2, 2], **same)), 0, 3)
    y = qdq(g, g.add('Relu', qdq_conv(g, x, (16, 1, 3, 3), group=16, **same)), 0, 3)
    y = qdq(g, qdq_conv(g, y, (16, 16, 1, 1)), -2, 2)
    x = qdq(g, g.add('Relu', g.add('Add', y, x)), 0, 4)
    x = qdq(g, g.add('MaxPool', x, kernel_shape=[2, 2], strides=[2, 2]), 0, 4)
    a = qdq(g, g.add('Relu', qdq_conv(g, x, (8, 16, 1, 1))), 0, 3)
    b = qdq(g, g.add('Relu', qdq_conv(g, x, (8, 16, 3, 3), **same)), 0, 3)
    x = qdq(g, g.add('Concat', a, b, axis=1), 0, 3)
    x = qdq(g, g.add('GlobalAveragePool', x), 0, 3)
    x = qdq(g, g.add('Flatten', x), 0, 3)
    values, scales, zeros = g.integers(10, 16)
    weights = g.add('DequantizeLinear', values, scales, zeros, **({'axis': 0} if g.per_channel else {}))
    return g.model(g.add('Gemm', x, weights, g.weights(10, scale=0.1), transB=1))


def qoperator_network(g):
    """The same in operators that take and give integers."""
    scale, zero = g.step(-3, 3)
    x = g.add('QuantizeLinear', 'input', scale, zero)

    def conv(x, step, shape, result, **attributes):
        bias = g.constant((g.random.standard_normal(shape[0]) * 50).astype(np.int32))
        return g.add('QLinearConv', x, *step, *g.integers(*shape), *result, bias, **attributes)

    same = {'kernel_shape': [3, 3], 'pads': [1, 1, 1, 1]}
    first, second, third, fourth = g.step(0, 3), g.step(-2, 2), g.step(-3, 4), g.step(0, 2)
    x = conv(x, (scale, zero), (16, 3, 3, 3), first, strides=[2, 2], **same)
    y = conv(x, first, (16, 16, 1, 1), second)
    x = g.microsoft('QLinearAdd', y, *second, x, *first, *third)
    y = g.microsoft('QLinearSigmoid', x, *third, *fourth)
    x = g.microsoft('QLinearMul', x, *third, y, *fourth, *third)
    x = g.microsoft('QLinearConcat', *third, x, *third, y, *fourth, axis=1)
    x = g.microsoft('QLinearGlobalAveragePool', x, *third, *second)
    x = g.add('Reshape', x, g.ints(0, 32))
    x = g.add('QLinearMatMul', x, *second, *g.integers(32, 24, axis=1), *third)
    bias = g.constant((g.random.standard_normal(10) * 50).astype(np.int32))
    x = g.microsoft('QGemm', x, *third, *g.integers(10, 24), bias, *second, transB=1)
    return g.model(g.add('DequantizeLinear', x, *second))


def dynamic_network(g):
    """Scales that are found at run time, as `quantize_dynamic` writes them."""
    def product(kind, x, shape, axis, **attributes):
        values, scales, _ = g.integers(*shape, axis=axis)
        q, scale, zero = g.add('DynamicQuantizeLinear', x, outputs=3)
        sums = g.add('Cast', g.add(kind, q, values, zero, **attributes), to=1)
        return g.add('Mul', sums, g.add('Mul', scale, scales))

    x = product('ConvInteger', 'input', (16, 3, 3, 3), 0, kernel_shape=[3, 3], strides=[2, 2])
    x = g.add('Relu', g.add('Add', x, g.weights(16, 1, 1, scale=0.1)))
    x = g.add('Transpose', g.add('Reshape', x, g.ints(0, 16, -1)), perm=[0, 2, 1])
    x = g.add('Add', product('MatMulInteger', x, (16, 24), 1), g.weights(24, scale=0.1))
    return g.model(g.mean(x, 1, keepdims=0))


def compare(tap, pair, name, model, theirs=None, precision='int8'):
    """`theirs`: the same network as the peer can read it."""
    path, other = pair.path('quantised.onnx'), pair.path('theirs.onnx')
    graphs.save(model, path)
    graphs.save(theirs or model, other)
    for shape in SHAPES:
        noise = pair.noise(shape)
        label = f'{name}, {shape_text(shape)}'
        judge(tap, label, pair.ours(path, noise, shape, precision), pair.theirs(other, noise, shape), least=0.9995)


def compare_kinds(tap, pair, make, opset, per_channel):
    """Scales as scalars, and as vectors of one element; those ONNX Runtime refuses in places."""
    for signed in (False, True):
        plain = make(Quantised(opset, 0, signed, per_channel))
        name = f'{make.__name__}, opset {opset}, {"int8" if signed else "uint8"}, per {"channel" if per_channel else "tensor"}'
        compare(tap, pair, name, plain)
        compare(tap, pair, f'{name}, one-element scales', make(Quantised(opset, 1, signed, per_channel)), plain)


def main():
    pair = Pair(PROGRAM, ROOT)
    if pair.problem:
        print(f'1..0 # skip {pair.problem}')
        return 0
    tap = Tap()
    for opset, per_channel in ((12, False), (13, False), (13, True), (19, True)):
        compare_kinds(tap, pair, qdq_network, opset, per_channel)
    for per_channel in (False, True):
        compare_kinds(tap, pair, qoperator_network, 13, per_channel)
    compare(tap, pair, 'dynamic_network', dynamic_network(Quantised(13, 0, False, False)), precision='f32')
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
