#!/usr/bin/env python3
"""Write the seeds of the targets files and answers: a small valid example of each thing that they read.

    tests/fuzz/make_text_seeds.py tests/fuzz/corpus
"""
import hashlib
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
from tiny import field, node, value_info  # noqa: E402


def external():
    """A network with a weight in another file."""
    place = b''.join(field(13, field(1, name) + field(2, value))
                     for name, value in (('location', 'weights.bin'), ('offset', '4'), ('length', '36')))
    weight = field(1, 3) + field(1, 3) + field(2, 1) + field(8, 'w') + place + field(14, 1)
    graph = field(1, node('GlobalAveragePool', ['x'], ['mean'])) + field(1, node('Flatten', ['mean'], ['flat'])) + \
        field(1, node('MatMul', ['flat', 'w'], ['y'])) + field(2, 'external') + field(5, weight) + \
        field(11, value_info('x', ['n', 3, 4, 4])) + field(12, value_info('y', ['n', 3]))
    return field(1, 8) + field(7, graph) + field(8, field(1, '') + field(2, 13))


def answer(body, *headers, status='200 OK', chunked=False):
    if chunked:
        body = b''.join(b'%x\r\n%s\r\n' % (len(body[at:at + 9]), body[at:at + 9]) for at in range(0, len(body), 9)) + b'0\r\n\r\n'
        headers = (*headers, 'Transfer-Encoding: chunked')
    else:
        headers = (*headers, f'Content-Length: {len(body)}')
    return f'HTTP/1.1 {status}\r\n'.encode() + ''.join(f'{header}\r\n' for header in headers).encode() + b'\r\n' + body


def main(folder):
    def save(target, name, first, content):
        os.makedirs(f'{folder}/{target}', exist_ok=True)
        with open(f'{folder}/{target}/{name}', 'wb') as file:
            file.write(bytes([first]) + (content if isinstance(content, bytes) else json.dumps(content).encode()))

    save('files', 'preprocessor', 0, {'image_processor_type': 'ViTImageProcessor', 'do_resize': True, 'size': {'shortest_edge': 8},
         'do_center_crop': True, 'crop_size': {'height': 8, 'width': 8}, 'resample': 3, 'do_rescale': True,
         'rescale_factor': 0.00392156862745098, 'do_normalize': True, 'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5]})
    save('files', 'preprocessor-nested', 0, {'image_processor': {'feature_extractor_type': 'ConvNextFeatureExtractor',
         'size': 384, 'crop_pct': 0.875, 'resample': 2}})
    save('files', 'config', 1, {'architectures': ['ResNetForImageClassification'], 'problem_type': 'single_label_classification',
         'id2label': {'0': 'tabby, tabby cat', '1': 'dog', '2': 'bird'}, 'id2wnid': {'0': 'n02123045', '2': 'n01503061'}})
    save('files', 'config-timm', 1, {'pretrained_cfg': {'input_size': [3, 8, 8], 'mean': [0.5, 0.5, 0.5], 'std': [0.2, 0.2, 0.2],
         'interpolation': 'bicubic', 'crop_pct': 0.9, 'crop_mode': 'center'}, 'label_names': ['a', 'b', 'c'], 'num_classes': 3})
    save('files', 'labels', 2, ['chat', 'chien', 'oiseau'])
    save('files', 'external', 3, external())
    digest = hashlib.sha256(b'a').hexdigest()
    save('files', 'keys', 4, f'# callers\nann {digest} roles=predict,manage models=animals,cats\n\nbob {digest[::-1]}\n'.encode())
    observation = lambda value, axis: struct.pack('<64q', value, axis, *[0] * 62)
    save('files', 'state', 5, b'gqstate1' + struct.pack('<Qii', 0, 2, 3) + observation(1, 1) + observation(4, 0))
    save('files', 'session-keys', 6, b'0123456789abcdef0123456789abcdef\nfedcba9876543210fedcba9876543210,0123456789abcdef0123456789abcdeg')
    save('files', 'cookie', 6, b'MXw5OTl8MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmZ8YW5pbWFsc')
    listing = json.dumps([{'type': 'file', 'path': 'onnx/model.onnx', 'size': 9, 'oid': 'a',
                           'lfs': {'oid': 'a' * 64, 'size': 12345678}}, {'type': 'directory', 'path': 'onnx', 'oid': 'b'},
                          {'type': 'file', 'path': '../config.json', 'size': 3}]).encode()
    save('answers', 'listing', 1, answer(listing, 'Content-Type: application/json'))
    save('answers', 'listing-next', 1, answer(listing, 'Link: <http://127.0.0.1:1/api?cursor=x>; rel="next"', 'Connection: close'))
    save('answers', 'listing-moved', 1, answer(b'', 'Location: /api/models/other/tree/main', status='307 Temporary Redirect'))
    save('answers', 'metrics', 0, answer(b'# TYPE a counter\na{b="c"} 3\n', 'Content-Type: text/plain', 'Connection: keep-alive'))
    save('answers', 'chunks', 0, answer(b'# TYPE a counter\na{b="c"} 3\n', chunked=True))
    save('answers', 'continue', 0, b'HTTP/1.1 100 Continue\r\n\r\n' + answer(b'{}', 'Retry-After: 1', status='503 Service Unavailable'))
    save('answers', 'until-the-end', 0, b'HTTP/1.0 200 OK\r\n\r\nall of it')


if __name__ == '__main__':
    main(sys.argv[1])
