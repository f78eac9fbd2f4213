"""What cases share: writing networks, running and serving them, TAP."""
import http.client
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import tiny  # noqa: E402


def network(nodes, inputs, outputs, constants=(), opset=13, domains=()):
    """The bytes of an ONNX file; each part as tiny makes it. `domains`: of other operators, each in version 1."""
    graph = b''.join(tiny.field(1, node) for node in nodes) + tiny.field(2, 'case') + \
        b''.join(tiny.field(5, constant) for constant in constants) + \
        b''.join(tiny.field(11, value) for value in inputs) + b''.join(tiny.field(12, value) for value in outputs)
    return tiny.field(1, 8) + tiny.field(7, graph) + tiny.field(8, tiny.field(1, '') + tiny.field(2, opset)) + \
        b''.join(tiny.field(8, tiny.field(1, domain) + tiny.field(2, 1)) for domain in domains)


def integer(name, value):
    """An attribute."""
    return tiny.field(1, name) + tiny.field(20, 2) + tiny.field(3, value)


def real(name, value):
    return tiny.field(1, name) + tiny.field(20, 1) + b'\x15' + struct.pack('<f', value)


def run(guichet, model, values, shape, precision='f32'):
    """The first output of the network on these float32 numbers; the error line where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ('model.onnx', 'in.f32', 'out.f32')]
        for path, content in zip(paths, (model, struct.pack(f'<{len(values)}f', *values))):
            with open(path, 'wb') as file:
                file.write(content)
        process = subprocess.run([guichet, 'run', *paths, '--shape', shape, '--precision', precision],
                                 stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        if process.returncode:
            return process.stderr.decode(errors='replace').strip()
        with open(paths[2], 'rb') as file:
            data = file.read()
        return struct.unpack(f'<{len(data) // 4}f', data)


CODES = {'<f4': 'f', '<f8': 'd', '<i8': 'q', '<i4': 'i', '|b1': '?', '|u1': 'B', '|i1': 'b', '<f2': 'e'}


def npy(code, dims, values, header=None, version=1):
    """An array as numpy stores it."""
    header = header or f"{{'descr': '{code}', 'fortran_order': False, 'shape': ({''.join(f'{d},' for d in dims)}), }}"
    length = struct.pack('<H' if version == 1 else '<I', len(header) + 1)
    return b'\x93NUMPY' + bytes([version, 0]) + length + header.encode() + b'\n' + struct.pack(f'<{len(values)}{CODES.get(code, "f")}', *values)


def numbers(path):
    """Type, shape and elements of a file that guichet wrote."""
    with open(path, 'rb') as file:
        data = file.read()
    length = 10 + struct.unpack('<H', data[8:10])[0]
    header = eval(data[10:length], {'__builtins__': {}})
    assert data[:8] == b'\x93NUMPY\x01\0' and length % 64 == 0 and not header['fortran_order'], data[:length]
    rest = data[length:]
    code = CODES[header['descr']]
    return header['descr'], header['shape'], struct.unpack(f'<{len(rest) // struct.calcsize(code)}{code}', rest)


def run_tensors(guichet, model, inputs, precision='f32'):
    """All outputs of the network, {file name: (type, shape, numbers)}; inputs {name: (type, shape, numbers)}. The error line where it
    fails."""
    with tempfile.TemporaryDirectory() as folder:
        words = [guichet, 'run', tiny.write(os.path.join(folder, 'model.onnx'), model), '--precision', precision, '--output', os.path.join(folder, 'out')]
        for name, array in inputs.items():
            words += ['--input', f'{name}={tiny.write(os.path.join(folder, name + ".npy"), npy(*array))}']
        process = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        if process.returncode:
            return process.stderr.decode(errors='replace').strip()
        return {name[:-4]: numbers(os.path.join(folder, 'out', name)) for name in os.listdir(os.path.join(folder, 'out'))}


def folder_write(folder, network_bytes, configuration=None):
    """A model's folder; returns it."""
    tiny.write(os.path.join(folder, 'model.onnx'), network_bytes)
    tiny.write(os.path.join(folder, 'preprocessor_config.json'), json.dumps(tiny.RECIPE))
    if configuration:
        tiny.write(os.path.join(folder, 'config.json'), json.dumps(configuration))
    return folder


def classify(guichet, folder, photo):
    """The predictions of the folder's model for these bytes, best first; the error line where it fails."""
    path = tiny.write(os.path.join(folder, 'photo'), photo)
    process = subprocess.run([guichet, 'classify', '--model', folder, '--json', '--precision', 'f32', path], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=60, check=False)
    return json.loads(process.stdout)['predictions'] if process.returncode == 0 else process.stderr.strip()


class Backend:
    """`guichet backend` of a folder, for a `with` block."""

    def __init__(self, guichet, folder, *arguments):
        self.process = subprocess.Popen([guichet, 'backend', '--model', folder, '--name', 'm', '--address', '127.0.0.1', '--port', '0',
                                         *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = ''
        for line in self.process.stderr:
            said += line
            if found := re.search(r'listening on port (\d+)', line):
                self.port = int(found[1])
                return
        raise RuntimeError(f'the backend did not start: {said}')

    def post(self, path, body, **headers):
        """Status and body; header names are written with underscores."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        body = body if isinstance(body, bytes) else json.dumps(body)
        connection.request('POST', path, body, {name.replace('_', '-'): value for name, value in headers.items()})
        reply = connection.getresponse()
        result = reply.status, reply.read()
        connection.close()
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=30)


def same(actual, expected, tolerance=1e-4):
    """Numbers are alike: NaN as NaN, infinities as themselves."""
    return not isinstance(actual, str) and len(actual) == len(expected) and all(
        (a != a and b != b) or a == b or abs(a - b) <= tolerance * max(1, abs(b)) for a, b in zip(actual, expected))


def check(results):
    """Write TAP for [(name, fault or '')]; the exit status."""
    print(f'1..{len(results)}')
    for number, (name, fault) in enumerate(results, 1):
        print(f'{"not ok" if fault else "ok"} {number} - {name}' + (f'\n# {fault}' if fault else ''))
    return any(fault for _, fault in results)
