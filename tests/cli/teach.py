#!/usr/bin/env python3
"""guichet teach: models taught from coloured photos, and what is refused. TAP.

Argument: the program.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

from tiny import RECIPE, model, network, png, write

PROGRAM = os.path.abspath(sys.argv[1])
ANIMALS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../models/animals')
tests = 0
failed = 0
HOME = tempfile.TemporaryDirectory()
DIR = HOME.name
ENVIRONMENT = dict(os.environ, GUICHET_MODELS=f'{DIR}/models', HOME=DIR, LC_ALL='C.UTF-8', OMP_NUM_THREADS='2')


def check(name, good, why=''):
    global tests, failed
    tests += 1
    failed += not good
    print(f'{"" if good else "not "}ok {tests} - {name}', flush=True)
    if not good:
        print('# ' + str(why).replace('\n', '\n# '), flush=True)


class Done:
    def __init__(self, *arguments):
        run = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=120, env=ENVIRONMENT)
        self.code, self.out, self.err = run.returncode, run.stdout.decode(), run.stderr.decode()

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f'exit {self.code}\n{self.out}{self.err}'


def fails(name, part, *arguments):
    done = Done(*arguments)
    check(name, done.code == 1 and part in done.err and not done.out and done.err.count('\n') == 1, done)


def taught_colours(folder, count=4):
    """Two classes of photos, as teach wants them."""
    for i in range(count):
        write(f'{folder}/dark red/{i}.png', png(130 + 20 * i % 120, i % 40, 2 * i % 40))
        write(f'{folder}/sea/{i}.png', png(3 * i % 40, i % 40, 130 + 20 * i % 120))
    return folder


def test_teach():
    """Photos in folders become a model that any verb takes, whatever form the network has that it is made from."""
    photos, output = taught_colours(f'{DIR}/teach/photos'), f'{DIR}/teach/taught'
    base = model(f'{DIR}/teach/base')
    write(f'{photos}/sea/broken.png', 'no photo')
    done = Done('teach', photos, '--from', base, '--output', output)
    check('teach writes a model', done.code == 0 and '8 photos of 2 classes' in done.out and '100.0 %' in done.out, done)
    check('a photo that is none is left out', '1 of 9 photos cannot be used' in done.err and 'broken.png' in done.err, done)
    check('an ordinary folder', sorted(os.listdir(output)) ==
          ['README.md', 'config.json', 'model.onnx', 'preprocessor_config.json', 'taught.json'], os.listdir(output))
    photo = write(f'{DIR}/teach/new.png', png(10, 30, 190))
    said = Done('classify', '--model', output, '--json', photo)
    check('it classifies', said.code == 0 and '"sea"' in said.out and said.out.index('"sea"') < said.out.index('"dark red"'), said)

    for i in range(2):
        write(f'{DIR}/teach/single/red/{i}.png', png(200, i, 0))
    fails('an existing model stays', '--force', 'teach', photos, '--from', base, '--output', output)
    done = Done('teach', photos, '--from', base, '--output', output, '--force', '--json')
    check('--force replaces it', done.code == 0 and done.json()['left_out']['right'] == 8, done)
    fails('what teach did not make stays', 'taught.json', 'teach', photos, '--from', base, '--output', base, '--force')
    fails('a name that a model has already', 'there is a model called animals', 'teach', f'{DIR}/teach/animals', '--from', base)
    fails('one class is too few', 'one class alone', 'teach', f'{DIR}/teach/single', '--from', base, '--output', f'{DIR}/teach/x')
    fails('a quantised network', 'already quantised', 'teach', photos, '--from',
          f'{ANIMALS}:int8', '--output', f'{DIR}/teach/x')

    for name, form in (('softmax', {'softmax': True}), ('batch', {'batch': 1}), ('half', {'kind': 'float16'}),
                       ('bytes', {'kind': 'uint8'}), ('last', {'last': True}), ('free', {'side': None})):
        folder = model(f'{DIR}/teach/{name}')
        write(f'{folder}/model.onnx', network(**form))
        if name == 'bytes':
            write(f'{folder}/preprocessor_config.json', json.dumps(dict(RECIPE, do_rescale=False)))
        done = Done('teach', photos, '--from', folder, '--output', f'{DIR}/teach/from-{name}', '--json')
        right = done.code == 0 and done.json()['left_out']['right'] == 8
        said = Done('classify', '--model', f'{DIR}/teach/from-{name}', '--json', photo)
        check(f'from a network of the form {name}', right and said.code == 0 and '"sea"' in said.out.split('}')[0], f'{done}\n{said}')


def test_none():
    """A class more, for what was not taught."""
    photos, output = taught_colours(f'{DIR}/none/photos', 8), f'{DIR}/none/taught'
    done = Done('teach', photos, '--from', ANIMALS, '--output', output, '--none', 'neither', '--json')
    check('--none is told', done.code == 0 and done.json()['none'] == 'neither' and len(done.json()['classes']) == 2, done)
    for name, colour, wanted in (('sea', (9, 9, 180), 'sea'), ('grass', (20, 220, 30), 'neither')):
        photo = write(f'{DIR}/none/{name}.png', png(*colour))
        said = Done('classify', '--model', output, '--json', '--top', '1', photo)
        check(f'{name} is {wanted}', said.code == 0 and f'"{wanted}"' in said.out, said)
    fails('a name that is a class', 'class of its own', 'teach', photos, '--from', ANIMALS, '--output', f'{DIR}/none/x', '--none', 'sea')
    done = Done('teach', photos, '--from', ANIMALS, '--none', 'neither', '--tune', '1')
    check('--none with --tune is a usage error', done.code == 2 and '--none' in done.err, done)
    base = model(f'{DIR}/none/base')
    done = Done('teach', photos, '--from', base, '--output', f'{DIR}/none/small', '--none', 'neither')
    check('a network of few features', done.code == 0, done)


def same_file(a, b):
    with open(f'{a}/model.onnx', 'rb') as first, open(f'{b}/model.onnx', 'rb') as second:
        return first.read() == second.read()


def test_tuning():
    """All layers are trained; the same steps give the same file, also when the command was killed in between."""
    photos = taught_colours(f'{DIR}/tune/photos', 10)
    command = ['teach', photos, '--from', ANIMALS, '--threads', '1', '--steps', '6', '--output']
    done = Done(*command, f'{DIR}/tune/one', '--json')
    tuning = done.json()['tuning'] if done.code == 0 else {}
    check('tuning is told', tuning.get('steps') == 6 and tuning['trained'] == 16 and tuning['held_out'] == 4, done)
    check('it is as good as the layer alone', tuning.get('tuned_right') == tuning.get('head_right') == 4, tuning)
    check('what is kept is better', tuning.get('kept') == (tuning.get('tuned_loss', 9) < tuning.get('head_loss', 0)), tuning)
    photo = write(f'{DIR}/tune/new.png', png(10, 30, 190))
    said = Done('classify', '--model', f'{DIR}/tune/one', '--json', photo)
    check('the tuned network classifies', said.code == 0 and '"sea"' in said.out.split('}')[0], said)

    done = Done(*command, f'{DIR}/tune/two')
    check('the same steps give the same file', done.code == 0 and same_file(f'{DIR}/tune/one', f'{DIR}/tune/two'), done)
    check('nothing else is left', sorted(os.listdir(f'{DIR}/tune')) == ['new.png', 'one', 'photos', 'two'], os.listdir(f'{DIR}/tune'))

    folder = model(f'{DIR}/tune/half')
    write(f'{folder}/model.onnx', network(kind='float16'))
    fails('tuning takes float32', 'float32', 'teach', photos, '--from', folder, '--output', f'{DIR}/tune/x', '--steps', '1')


def test_teach_killed():
    """Killed at any moment, teach leaves a whole model or none."""
    photos, base = taught_colours(f'{DIR}/killed/photos', 200), model(f'{DIR}/killed/base')
    whole = True
    for wait in (0, 0.02, 0.05, 0.1, 0.2, 0.4):
        output = f'{DIR}/killed/models/{wait}'
        os.makedirs(os.path.dirname(output), exist_ok=True)
        with subprocess.Popen([PROGRAM, 'teach', photos, '--from', base, '--output', output], stdout=subprocess.DEVNULL,
                              env=ENVIRONMENT) as run:
            time.sleep(wait)
            run.kill()
        if os.path.exists(output):
            whole = whole and len(os.listdir(output)) == 5 and Done('inspect', output).code == 0
    check('teach that is killed leaves no half model', whole)
    done = Done('teach', photos, '--from', base, '--output', f'{DIR}/killed/models/after')
    check('and the next one works', done.code == 0, done)


test_teach()
test_none()
test_tuning()
test_teach_killed()
print(f'1..{tests}')
sys.exit(failed != 0)
