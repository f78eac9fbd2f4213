"""Small networks in the idioms of exporters, made by hand with python3-onnx for any opset from 11 to 20."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes one after the other; weights are drawn from one generator, so that a graph is the same every time."""

    def __init__(self, opset, shape):
        self.opset, self.nodes, self.constants, self.count = opset, [], [], 0
        self.random = np.random.RandomState(7)
        self.input = helper.make_tensor_value_info('input', TensorProto.FLOAT, shape)

    def name(self, kind):
        self.count += 1
        return f'{kind}_{self.count}'

    def constant(self, array):
        name = self.name('constant')
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape, scale=None):
        scale = scale or 1 / np.sqrt(np.prod(shape[1:]) or 1)
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def add(self, kind, *inputs, outputs=1, **attributes):
        names = [self.name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=self.name('node'), **attributes))
        return names[0] if outputs == 1 else names

    def model(self, output):
        made = helper.make_graph(self.nodes, 'idioms', [self.input],
                                 [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants)
        model = helper.make_model(made, producer_name='hand', opset_imports=[helper.make_opsetid('', self.opset)])
        model.ir_version = 6 if self.opset < 13 else 8 if self.opset < 19 else 9
        return model

    # What changed from one opset to another.

    def unsqueeze(self, x, *axes):
        return self.add('Unsqueeze', x, axes=list(axes)) if self.opset < 13 else self.add('Unsqueeze', x, self.ints(*axes))

    def squeeze(self, x, *axes):
        return self.add('Squeeze', x, axes=list(axes)) if self.opset < 13 else self.add('Squeeze', x, self.ints(*axes))

    def mean(self, x, *axes, keepdims=1):
        if self.opset < 18:
            return self.add('ReduceMean', x, axes=list(axes), keepdims=keepdims)
        return self.add('ReduceMean', x, self.ints(*axes), keepdims=keepdims)

    def halves(self, x, axis, size):
        if self.opset < 13:
            return self.add('Split', x, outputs=2, axis=axis, split=[size, size])
        if self.opset < 18:
            return self.add('Split', x, self.ints(size, size), outputs=2, axis=axis)
        return self.add('Split', x, outputs=2, axis=axis, num_outputs=2)

    def dropout(self, x):
        return self.add('Dropout', x, ratio=0.5) if self.opset < 12 else self.add('Dropout', x, self.constant(np.float32(0.5)))

    def hard_swish(self, x):
        if self.opset >= 14:
            return self.add('HardSwish', x)
        return self.add('Mul', x, self.add('HardSigmoid', x, alpha=1 / 6, beta=0.5))

    def layer_norm(self, x, width):
        scale, bias = self.weights(width, scale=1), self.weights(width, scale=0.1)
        if self.opset >= 17:
            return self.add('LayerNormalization', x, scale, bias, axis=-1, epsilon=1e-6)
        centred = self.add('Sub', x, self.mean(x, -1))
        variance = self.mean(self.add('Pow', centred, self.constant(np.float32(2))), -1)
        deviation = self.add('Sqrt', self.add('Add', variance, self.constant(np.float32(1e-6))))
        return self.add('Add', self.add('Mul', self.add('Div', centred, deviation), scale), bias)

    def gelu(self, x, approximate='none'):
        if self.opset >= 20:
            return self.add('Gelu', x, approximate=approximate)
        erf = self.add('Erf', self.add('Div', x, self.constant(np.float32(np.sqrt(2)))))
        half = self.add('Mul', x, self.add('Add', erf, self.constant(np.float32(1))))
        return self.add('Mul', half, self.constant(np.float32(0.5)))

    def dimension(self, x, axis):
        """int64 shape arithmetic, as exporters write it."""
        if self.opset >= 15:
            return self.add('Shape', x, start=axis, end=axis + 1)
        return self.unsqueeze(self.add('Gather', self.add('Shape', x), self.constant(np.int64(axis)), axis=0), 0)

    def linear(self, x, inputs, outputs):
        return self.add('Add', self.add('MatMul', x, self.weights(inputs, outputs, scale=inputs ** -0.5)),
                        self.weights(outputs, scale=0.1))


def convolutional(opset, shape=('batch', 3, 'height', 'width')):
    """Convolution, batch norm, the activations, padding, resizing to a computed size, a gate, a classifier."""
    g = Graph(opset, shape)
    x = g.add('Conv', 'input', g.weights(16, 3, 3, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = g.add('BatchNormalization', x, g.weights(16, scale=1), g.weights(16, scale=0.1), g.weights(16, scale=0.1),
              g.constant(np.linspace(0.5, 1.5, 16, dtype=np.float32)))
    x = g.hard_swish(x)
    y = g.add('Conv', x, g.weights(16, 1, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16)
    y = g.add('Clip', y, g.constant(np.float32(-0.5)), g.constant(np.float32(6)))
    x = g.add('Relu', g.add('Add', x, y))
    x = g.add('Pad', x, g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode='constant')
    x = g.add('MaxPool', x, kernel_shape=[3, 3], strides=[2, 2])
    gate = g.add('GlobalAveragePool', x)
    gate = g.add('Sigmoid', g.add('Conv', gate, g.weights(16, 16, 1, 1), g.weights(16, scale=0.1)))
    x = g.add('Mul', x, gate)
    a, b = g.halves(x, 1, 8)
    x = g.add('Concat', b, a, axis=1)
    double = g.add('Mul', g.add('Concat', g.dimension(x, 2), g.dimension(x, 3), axis=0), g.ints(2, 2))
    size = g.add('Concat', g.add('Concat', g.dimension(x, 0), g.dimension(x, 1), axis=0), double, axis=0)
    nothing = '' if opset >= 13 else g.constant(np.zeros(0, np.float32))
    x = g.add('Resize', x, nothing, nothing, size, mode='nearest', coordinate_transformation_mode='asymmetric', nearest_mode='floor')
    x = g.dropout(g.add('AveragePool', x, kernel_shape=[2, 2], strides=[2, 2]))
    x = g.add('Flatten', g.add('GlobalAveragePool', x), axis=1)
    x = g.add('Gemm', x, g.weights(10, 16), g.weights(10, scale=0.1), transB=1)
    return g.model(g.add('Softmax', x, axis=-1))


def transformer(opset, shape=('batch', 3, 'height', 'width')):
    """Patches, sizes computed from the input's, layer norm, attention, GELU: a small ViT that takes any picture."""
    g, width, heads = Graph(opset, shape), 32, 4
    x = g.add('Conv', 'input', g.weights(width, 3, 16, 16), g.weights(width, scale=0.1), kernel_shape=[16, 16], strides=[16, 16])
    tokens = g.add('Mul', g.dimension(x, 2), g.dimension(x, 3))
    batch = g.dimension(x, 0)
    x = g.add('Reshape', x, g.add('Concat', batch, g.ints(width), tokens, axis=0))
    x = g.add('Transpose', x, perm=[0, 2, 1])
    y = g.layer_norm(x, width)
    split = g.add('Concat', batch, tokens, g.ints(heads, width // heads), axis=0)
    q, k, v = (g.add('Transpose', g.add('Reshape', g.linear(y, width, width), split), perm=perm)
               for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    scores = g.add('Softmax', g.add('Mul', g.add('MatMul', q, k), g.constant(np.float32((width // heads) ** -0.5))), axis=-1)
    y = g.add('Transpose', g.add('MatMul', scores, v), perm=[0, 2, 1, 3])
    y = g.add('Reshape', y, g.add('Concat', batch, tokens, g.ints(width), axis=0))
    x = g.add('Add', x, g.linear(y, width, width))
    y = g.linear(g.gelu(g.linear(g.layer_norm(x, width), width, 4 * width), 'tanh'), 4 * width, width)
    x = g.layer_norm(g.add('Add', x, y), width)
    x = g.mean(x, 1)
    x = g.squeeze(x, 1)
    return g.model(g.linear(x, width, 10))


def normalised(axis):
    """LayerNormalization over more than the last axis, without a bias, and Gelu of both kinds, on four axes."""
    g = Graph(20, ('batch', 6, 10, 12))
    wide = [6, 10, 12][axis - 1:] if axis > 0 else [6, 10, 12][axis:]
    scale = g.constant(g.random.standard_normal(wide).astype(np.float32))
    x = g.add('LayerNormalization', 'input', scale, axis=axis, epsilon=1e-5)
    return g.model(g.add('Add', g.add('Gelu', x), g.add('Gelu', x, approximate='tanh')))


def save(model, path, external=False):
    if external:
        onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location='weights.bin', size_threshold=64)
    else:
        onnx.save(model, path)
