#!/usr/bin/env python3
"""guichet run with tensors in files, and the lengths that bench and inspect guess. TAP; the argument is the program."""
import json
import os
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cases'))
import case
import tiny
from case import npy, numbers

PROGRAM = os.path.abspath(sys.argv[1])
results = []


def check(name, good, why=''):
    results.append((name, '' if good else str(why).replace('\n', ' ') or 'no'))


class Place:
    def __init__(self, folder):
        self.folder = folder

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, content):
        return tiny.write(self.path(name), content)

    def run(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    def fails(self, name, part, *arguments, code=1):
        done = self.run(*arguments)
        check(name, done.returncode == code and part in done.stderr and len(done.stderr.splitlines()) == code, f'{done.returncode} {done.stderr}')


def sum_and_positive():
    """sum/of:all = a + b, and whether a is over zero."""
    return case.network([tiny.node('Add', ['a', 'b'], ['sum/of:all']), tiny.node('Greater', ['a', 'zero'], ['over'])],
                        [tiny.value_info('a', ['n', 2]), tiny.value_info('b', ['n', 2])],
                        [tiny.value_info('sum/of:all', ['n', 2]), tiny.value_info('over', ['n', 2], 9)], [tiny.tensor('zero', [1], [0.0])])


def files_of_tensors(place):
    model = place.write('m.onnx', sum_and_positive())
    a = place.write('a.npy', npy('<f4', (3, 2), (-1, 2, 3, -4, 5, 6)))
    b = place.write('b.raw', struct.pack('<6f', *range(6)))
    pb = place.write('b.pb', tiny.tensor('', [3, 2], [float(i) for i in range(6)]))
    given = ['run', model, '--precision', 'f32', '--input', f'a={a}']
    done = place.run(*given, '--input', f'b={b}', '--shape', 'b=3x2', '--output', place.path('out'))
    check('two inputs, two outputs', done.stdout == 'sum/of:all  float32  3x2\nover  bool  3x2\n', done)
    check('are written by name', sorted(os.listdir(place.path('out'))) == ['over.npy', 'sum_of_all.npy'])
    check('the sum', numbers(place.path('out', 'sum_of_all.npy')) == ('<f4', (3, 2), (-1, 3, 5, -1, 9, 11)))
    check('the truth', numbers(place.path('out', 'over.npy')) == ('|b1', (3, 2), (False, True, True, False, True, True)))
    done = place.run(*given, '--input', f'b={pb}', '--check', place.path('out'))
    check('a TensorProto, and all outputs checked', done.returncode == 0 and done.stdout.count('right') == 2, done)
    wrong = place.write('wrong.npy', npy('<f4', (3, 2), (-1, 3, 5, -1, 9, 11.5)))
    done = place.run(*given, '--input', f'b={pb}', '--check', f'sum/of:all={wrong}')
    check('a difference is told', done.returncode == 1 and 'wrong: off by 0.043' in done.stdout and 'right' not in done.stdout, done)
    done = place.run(*given, '--input', f'b={pb}', '--check', f'sum/of:all={wrong}', '--tolerance', '0.05')
    check('a tolerance', done.returncode == 0 and 'right' in done.stdout, done)
    place.fails('an input is missing', "input 'b' is missing: --input b=FILE", *given)
    place.fails('an output that is none', 'no output is called so', *given, '--input', f'b={pb}', '--check', f'x={wrong}')
    place.fails('a raw input without its shape', '--shape NAME=', *given, '--input', f'b={b}')
    place.fails('a shape that does not fit', "input 'b' is ?x2, and cannot be 6", *given, '--input', f'b={b}', '--shape', 'b=6')
    place.fails('a shape for no input', 'no such input', *given, '--input', f'b={b}', '--shape', 'c=6')
    place.fails('no inputs', '--input NAME=FILE is needed', 'run', model, code=2)


def hostile_arrays(place):
    model = place.write('m.onnx', case.network([tiny.node('Relu', ['a'], ['r'])], [tiny.value_info('a', ['n'])], [tiny.value_info('r', ['n'])]))
    good = npy('<f4', (2,), (1, 2))
    for name, content, part in (
            ('another type', npy('<f8', (2,), (1, 2)), 'holds float64, and float32 is wanted'),
            ('not an array', b'hello, world' * 9, 'is no NPY file'), ('cut in its header', good[:30], 'header is damaged'),
            ('cut in its elements', good[:-1], 'bytes of elements'), ('too long', good + b'x', 'bytes of elements'),
            ('a version to come', good[:6] + b'\4' + good[7:], 'NPY version 4'),
            ('big-endian', npy('>f4', (2,), (1, 2)), "element type '>f4'"),
            ('Fortran order', npy('<f4', (2,), (1, 2), "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }"), 'Fortran order'),
            ('more than can be', npy('<f4', (1 << 40, 1 << 40), ()), 'more elements'),
            ('more than counts', npy('<f4', (10 ** 30,), ()), 'header is damaged'),
            ('nine dimensions', npy('<f4', (1,) * 9, (1,)), 'dimensions'), ('records', npy('<f4', (), (), "{'descr': [('a', '<f4')]}"), 'records'),
            ('no shape', npy('<f4', (), (), "{'descr': '<f4'}"), 'damaged'), ('an open text', npy('<f4', (), (), "{'descr: 1"), 'damaged')):
        path = place.write('x.npy', content)
        place.fails(name, part, 'run', model, '--input', path)
    done = place.run('run', model, '--input', place.write('x.npy', npy('<f4', (2,), (1, -2), version=2)), '--output', place.path('r'))
    check('version 2, and an input without its name', done.returncode == 0 and numbers(place.path('r', 'r.npy'))[2] == (1, 0), done)


def lengths(place):
    """An input of free length that must have room for a kernel of 400; a table that has 65 columns."""
    window = tiny.tensor('w', [1, 1, 400], [1.0] * 400)
    sound = place.write('sound.onnx', case.network([tiny.node('Conv', ['x', 'w'], ['y'])], [tiny.value_info('x', ['n', 1, 't'])],
                                                   [tiny.value_info('y', ['n', 1, 't2'])], [window]))
    table = place.write('table.onnx', case.network([tiny.node('MatMul', ['x', 'w'], ['y'])], [tiny.value_info('x', ['n', 'c'])],
                                                   [tiny.value_info('y', ['n', 2])], [tiny.tensor('w', [65, 2], [1.0] * 130)]))
    for path, length in ((sound, 512), (table, 65)):
        name = os.path.basename(path)
        done = place.run('inspect', path)
        check(f'inspect {name}', done.returncode == 0 and f'free dimensions were taken for {length}, --shape' in done.stdout, done)
        done = place.run('inspect', path, '--json')
        told = json.loads(done.stdout) if done.returncode == 0 else {}
        check(f'inspect --json {name}', told.get('plan', {}).get('guessed') == length and told['inputs'][0]['name'] == 'x', done)
        done = place.run('bench', path, '--iters', '2', '--json')
        check(f'bench {name}', done.returncode == 0 and json.loads(done.stdout).get('guessed') == length, done)
    done = place.run('inspect', sound, '--shape', 'x=2x1x1000', '--json')
    check('a given shape', done.returncode == 0 and json.loads(done.stdout)['plan']['shapes'] == {'x': [2, 1, 1000]}
          and json.loads(done.stdout)['plan']['guessed'] is None, done)
    place.fails('a given shape that does not fit', '400', 'bench', sound, '--shape', 'x=2x1x100')
    place.fails('a given length that does not fit', '400', 'inspect', sound, '--json', '--size', '10')


for test in (files_of_tensors, hostile_arrays, lengths):
    with tempfile.TemporaryDirectory() as folder:
        test(Place(folder))
sys.exit(case.check(results))
