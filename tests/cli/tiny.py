"""Small things for the tests of the command line, made without any library: a network, photos."""
import json
import os
import struct
import zlib


def varint(value):
    out = b''
    value &= (1 << 64) - 1
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A protobuf field: an int, or bytes/str/message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, dims, values):
    return b''.join(field(1, d) for d in dims) + field(2, 1) + field(8, name) + \
        field(9, struct.pack(f'<{len(values)}f', *values))


def value_info(name, dims, kind=1):
    shape = b''.join(field(1, field(2, d) if isinstance(d, str) else field(1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def node(kind, inputs, outputs, *attributes):
    return b''.join(field(1, i) for i in inputs) + b''.join(field(2, o) for o in outputs) + \
        field(3, f'{kind}_node') + field(4, kind) + b''.join(field(5, a) for a in attributes)


def ints(name, values):
    return field(1, name) + field(20, 7) + b''.join(field(8, v) for v in values)


def network(side=8, gain=10.0, batch='n', kind='float', softmax=False, last=False, classes=3, maps=False):
    """A photo's mean colour, times `gain`: the logits of red, green and blue (and of nothing, for more classes).

    side: a number, or None for free height and width; kind: the input's type; last: the input is [n, h, w, 3];
    maps: a first output [n, c, height, width], of free height and width."""
    first = 'photo'
    nodes = []
    if kind != 'float':
        nodes.append(node('Cast', [first], ['cast'], field(1, 'to') + field(20, 2) + field(3, 1)))
        first = 'cast'
    if last:
        nodes.append(node('Transpose', [first], ['turned'], ints('perm', [0, 3, 1, 2])))
        first = 'turned'
    nodes += [node('GlobalAveragePool', [first], ['mean']), node('Flatten', ['mean'], ['flat']),
              node('Gemm', ['flat', 'weights', 'bias'], ['sums' if softmax else 'scores' if maps else 'logits'])]
    if softmax:
        nodes.append(node('Softmax', ['sums'], ['logits']))
    if maps:
        nodes.append(node('Relu', [first], ['maps']))
    weights = [gain if i == j else 0 for i in range(3) for j in range(classes)]
    sides = [side, side] if side else ['height', 'width']
    graph = b''.join(field(1, n) for n in nodes) + field(2, 'colours') + \
        field(5, tensor('weights', [3, classes], weights)) + field(5, tensor('bias', [classes], [0] * classes)) + \
        field(11, value_info('photo', [batch, *sides, 3] if last else [batch, 3, *sides],
                             {'float': 1, 'uint8': 2, 'float16': 10, 'int64': 7}[kind])) + \
        (field(12, value_info('maps', [batch, 3, 'height', 'width'])) if maps else b'') + \
        field(12, value_info('scores' if maps else 'logits', [batch, classes]))
    return field(1, 8) + field(7, graph) + field(8, field(1, '') + field(2, 13))


def sound():
    """A network of rows of eight numbers, which a product with weights leaves as they are."""
    weights = [float(i == j) for i in range(8) for j in range(8)]
    graph = field(1, node('MatMul', ['wave', 'weights'], ['same'])) + field(2, 'sound') + \
        field(5, tensor('weights', [8, 8], weights)) + field(11, value_info('wave', ['n', 8])) + \
        field(12, value_info('same', ['n', 8]))
    return field(1, 8) + field(7, graph) + field(8, field(1, '') + field(2, 13))


def png(red, green, blue, side=16):
    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    rows = (b'\0' + bytes([red, green, blue]) * side) * side
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)) + \
        chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


RECIPE = {'size': {'height': 8, 'width': 8}, 'resample': 2, 'do_normalize': False}


def model(folder):
    """A whole model folder."""
    write(f'{folder}/model.onnx', network())
    write(f'{folder}/model_int8.onnx', network(gain=5.0))
    write(f'{folder}/config.json', json.dumps({'id2label': {'0': 'red, crimson', '1': 'green', '2': 'blue'},
                                               'id2wnid': {'0': 'n04966941', '2': 'n04968056'}}))
    write(f'{folder}/preprocessor_config.json', json.dumps(RECIPE))
    write(f'{folder}/labels_fr.json', json.dumps(['rouge', 'vert', 'bleu']))
    return folder
