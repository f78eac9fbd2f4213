#!/usr/bin/env python3
"""Write the seeds of the ONNX fuzz targets: small valid models that touch every field the reader reads.

    /usr/bin/python3 tests/fuzz/make_onnx_seeds.py tests/fuzz/corpus/onnx      (needs python3-onnx)
"""
import sys

import numpy
from onnx import TensorProto, helper, numpy_helper


def tensor(name, array):
    return numpy_helper.from_array(numpy.asarray(array), name)


def save(folder, name, nodes, initializers, shape=(1, 2, 4, 4), opset=13, outputs=("y",), value_info=()):
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
        initializers, value_info=value_info)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    with open(f"{folder}/{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())


def main(folder):
    node = helper.make_node
    weight = numpy.linspace(-1, 1, 36, dtype=numpy.float32).reshape(2, 2, 3, 3)
    save(folder, "conv", [
        node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", ["c", "s", "s", "s", "v"], ["n"], epsilon=1e-3),
        node("Relu", ["n"], ["y"])],
        [tensor("w", weight), tensor("b", numpy.zeros(2, "f")), tensor("s", numpy.ones(2, "f")),
         tensor("v", numpy.ones(2, "f"))], shape=("N", 2, 4, 4),
        value_info=[helper.make_tensor_value_info("c", TensorProto.FLOAT, ("N", 2, 4, 4))])
    save(folder, "shapes", [
        node("Shape", ["x"], ["s"]),
        node("Constant", [], ["zero"], value=tensor("", numpy.int64(0))),
        node("Gather", ["s", "zero"], ["batch"], axis=0),
        node("Constant", [], ["axes"], value_ints=[0]),
        node("Unsqueeze", ["batch", "axes"], ["b"]),
        node("Concat", ["b", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"])],
        [tensor("rest", numpy.array([-1], "int64"))], shape=("N", 2, "H", "W"))
    save(folder, "quantised", [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("DequantizeLinear", ["qw", "scales", "zeros"], ["w"], axis=0),
        node("Conv", ["d", "w"], ["y"])],
        [tensor("scale", numpy.float32(0.5)), tensor("zero", numpy.uint8(128)),
         tensor("scales", numpy.ones(2, "f")), tensor("zeros", numpy.zeros(2, "int8")),
         tensor("qw", (weight * 100).astype("int8"))])
    typed = [helper.make_tensor("f", TensorProto.FLOAT, [2], [1, 2]),
             helper.make_tensor("h", TensorProto.FLOAT16, [2], numpy.array([1, 2], "float16")),
             helper.make_tensor("i", TensorProto.INT64, [2], [1, -2]),
             helper.make_tensor("d", TensorProto.DOUBLE, [2], [1, -2]),
             helper.make_tensor("u", TensorProto.UINT64, [2], [1, 2]),
             helper.make_tensor("t", TensorProto.BOOL, [2], [True, False]),
             helper.make_tensor("e", TensorProto.INT32, [0], [])]
    save(folder, "typed", [
        node("Cast", [t.name], [f"c{t.name}"], to=TensorProto.FLOAT) for t in typed] + [
        node("Sum", [f"c{t.name}" for t in typed[:-1]] + ["x"], ["y"])], typed, shape=(2,))
    save(folder, "attributes", [
        node("Resize", ["x", "", "scales"], ["r"], mode="nearest", coordinate_transformation_mode="asymmetric"),
        node("Clip", ["r", "", "top"], ["k"]),
        node("Dropout", ["k"], ["p", "mask"]),
        node("Identity", ["p"], ["y"], strings=["a", "b"], floats=[0.5, 1.5])],
        [tensor("scales", numpy.array([1, 1, 2, 2], "f")), tensor("top", numpy.float32(6))])


if __name__ == "__main__":
    main(sys.argv[1])
