#!/usr/bin/env python3
"""The command line: the real program, its answers, its exit codes, what it says when something is wrong. TAP.

Argument: the program.
"""
import csv
import http.server
import io
import json
import math
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import threading

from tiny import RECIPE, model, network, png, sound, write

PROGRAM = os.path.abspath(sys.argv[1])
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
    def __init__(self, *arguments, stdin=b'', **environment):
        run = subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=120,
                             env=dict(ENVIRONMENT, **environment))
        self.code, self.out, self.err = run.returncode, run.stdout.decode(), run.stderr.decode()

    def json(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __str__(self):
        return f'exit {self.code}\n{self.out}{self.err}'


def fails(name, code, part, *arguments, **options):
    """One line (two for a usage error) on standard error that says what is wrong."""
    done = Done(*arguments, **options)
    lines = done.err.splitlines()
    check(name, done.code == code and part in done.err and len(lines) == code and done.out == '', done)


def test_help():
    done = Done('--version')
    check('--version', done.code == 0 and done.out.startswith('guichet ') and len(done.out.split()) == 2, done)
    done = Done('--help')
    check('--help lists the verbs', done.code == 0 and 'classify' in done.out and 'evaluate' in done.out, done)
    check('no verb is a usage error', (done := Done()).code == 2 and 'Usage' in done.err and not done.out, done)
    verbs = [line.split()[0] for line in Done('--help').out.split('\n\n')[2].splitlines()]
    check('there are verbs', len(verbs) >= 5, verbs)
    for verb in verbs:
        done = Done(verb, '--help')
        check(f'{verb} --help', done.code == 0 and f'\nUsage: guichet {verb}' in done.out and not done.err, done)
        check(f'help {verb} says the same', Done('help', verb).out == done.out)
    fails('an unknown verb', 2, "unknown verb 'clasify'", 'clasify')
    fails('a photo without a verb', 2, f'Try: guichet classify {__file__}', __file__)
    fails('no photo at all', 2, '] IMAGE', 'classify')
    fails('photos that are not there', 1, '/nonexistent', 'classify', '/nonexistent')
    fails('an unknown option', 2, 'unknown option --tap', 'classify', '--tap', '3', 'x.png')
    fails('an option without its value', 2, '--top needs a value', 'classify', '--top')
    fails('a number out of bounds', 2, '--top takes', 'classify', '--top', '0', 'x.png')
    fails('not a number', 2, '--top takes', 'classify', '--top=many', 'x.png')
    fails('an unknown precision', 2, '--precision', 'classify', '--precision', 'f31', 'x.png')
    fails('one word too many', 2, "unexpected argument 'b'", 'bench', 'a', 'b')


def test_template():
    text = write(f'{DIR}/t.jinja', '{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{{ mood }}{{ strftime_now("%d %b") }}')
    talk = write(f'{DIR}/talk.json', json.dumps({'messages': [{'role': 'user', 'content': 'Hi é'}], 'bos_token': '<s>',
                                                 'chat_template_kwargs': {'mood': 'calm', 'bos_token': 'no'}}))
    done = Done('template', text, talk, '--today', '2024-02-29')
    check('template', done.code == 0 and done.out == '<s>[user]Hi é\ncalm29 Feb' and not done.err, done)
    done = Done('template', text, talk, '--today=2024-02-29', '--json')
    check('template --json', done.code == 0 and [part['from'] for part in done.json()[0]['segments']] ==
          ['template', 'conversation', 'template', 'conversation', 'template', 'conversation', 'template'], done)
    fails('template: no such day', 2, '--today takes a date', 'template', text, talk, '--today', '2024-02-30')
    fails('template without a conversation', 2, 'CONVERSATION.json', 'template', text)
    fails('template: no such file', 1, '/nonexistent', 'template', '/nonexistent', talk)
    fails('template: a list', 1, 'a JSON object', 'template', text, write(f'{DIR}/list.json', '[1]'))
    fails('template: broken JSON', 1, 'line 1', 'template', text, write(f'{DIR}/broken.json', '{"a"'))
    fails('template: an error of its own', 1, 't2.jinja: line 2: no', 'template', write(f'{DIR}/t2.jinja', 'x\n{{ raise_exception("no") }}'), talk)
    fails('template: its syntax', 1, 't3.jinja: line 1: ', 'template', write(f'{DIR}/t3.jinja', '{% if %}'), talk)


def test_classify():
    red, green = write(f'{DIR}/red.png', png(255, 0, 0)), write(f'{DIR}/green.png', png(10, 250, 10))
    done = Done('classify', '--model', 'colours', '--json', red, green)
    answers = done.json() if done.code == 0 else []
    check('classify two photos', [a['category'] for a in answers] == ['red', 'green'], done)
    answer = answers[0] if answers else {}
    check('the fields of --json, in order', list(answer) == ['image', 'model', 'category', 'predictions', 'timing_ms']
          and list(answer['timing_ms']) == ['fetch', 'decode', 'preprocess', 'infer'], done)
    predictions = answer.get('predictions', [])
    expected = math.exp(10) / (math.exp(10) + 2)
    check('probabilities are the softmax', [p['index'] for p in predictions] == [0, 1, 2]
          and abs(predictions[0]['probability'] - expected) < 1e-3 and predictions[0]['label'] == 'red'
          and list(predictions[0]) == ['index', 'label', 'probability'], done)
    check('image and model are named', answer.get('image') == red and answer.get('model') == 'colours', done)
    done = Done('classify', '--model', f'{DIR}/models/colours', '--top', 1, red)
    check('for a person', done.code == 0 and 'a red' in done.out and '█' in done.out and '\033' not in done.out
          and 'green' not in done.out, done)
    done = Done('classify', '--model', f'{DIR}/models/colours/model.onnx', '--json', '-', stdin=png(0, 0, 255))
    check('from standard input', done.code == 0 and done.json()[0]['category'] == 'blue', done)
    odd = os.fsencode(DIR) + b'/\xe9t\xe9.png'
    write(odd, png(255, 0, 0))
    run = subprocess.run([PROGRAM, 'classify', '--model', 'colours', '--json', odd, odd + b'.missing'], capture_output=True,
                         env=ENVIRONMENT)
    lines = [json.loads(line) for line in run.stdout.decode().splitlines()]
    check('a name that is not UTF-8', run.returncode == 1 and lines[0]['category'] == 'red'
          and lines[0]['image'].endswith('/\ufffdt\ufffd.png') and 'error' in lines[1], run)
    done = Done('classify', '--model', 'colours', '--language', 'fr', '--json', red)
    check('in French', done.code == 0 and done.json()[0]['category'] == 'rouge', done)
    done = Done('classify', '--model', 'colours:int8', '--json', red)
    check('another variant', done.code == 0 and done.json()[0]['model'] == 'colours:int8'
          and done.json()[0]['predictions'][0]['probability'] < 0.995, done)
    done = Done('classify', '--model', 'colours', '--json', red, f'{DIR}/nowhere.png', green)
    check('one photo of three fails', done.code == 1 and [('error' in a) for a in done.json()] == [False, True, False],
          done)
    done = Done('classify', '--model', 'colours', '--json', red, LC_ALL='C')
    check('another locale', done.code == 0 and done.json()[0]['predictions'][0]['probability'] > 0.9, done)


def test_addresses():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == '/red.png' else 404)
            self.end_headers()
            self.wfile.write(png(255, 0, 0) if self.path == '/red.png' else b'no')

        def log_message(self, *arguments):
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f'http://127.0.0.1:{server.server_port}'
    done = Done('classify', '--model', 'colours', '--json', f'{base}/red.png')
    check('from an address', done.code == 0 and done.json()[0]['category'] == 'red'
          and done.json()[0]['timing_ms']['fetch'] > 0, done)
    fails('an address that is not there', 1, '404', 'classify', '--model', 'colours', f'{base}/blue.png')
    server.shutdown()


def on_terminal(*arguments, **environment):
    """What the program writes when both its outputs are a terminal."""
    import pty
    ours, theirs = pty.openpty()
    process = subprocess.Popen([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                               env=dict(ENVIRONMENT, TERM='xterm', **environment))
    os.close(theirs)
    text = b''
    try:
        while block := os.read(ours, 65536):
            text += block
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.wait(), text.decode()


def test_terminal():
    red = f'{DIR}/red.png'
    code, text = on_terminal('classify', '--model', 'colours', red)
    check('colours on a terminal', code == 0 and '\033[' in text, text)
    code, text = on_terminal('classify', '--model', 'colours', red, NO_COLOR='1')
    check('none with NO_COLOR', code == 0 and '\033[' not in text, text)
    code, text = on_terminal('evaluate', '--model', 'colours', '--data', f'{DIR}/data', NO_COLOR='1')
    check('a progress bar on a terminal, wiped at the end', code == 0 and 'evaluating |' in text
          and text.rindex('\r\033[K') < text.index('top-1'), repr(text))


def test_bad_input():
    red = f'{DIR}/red.png'
    whole = png(1, 2, 3)
    text, cut = write(f'{DIR}/text.jpg', 'hello'), write(f'{DIR}/cut.png', whole[:-9])
    huge = write(f'{DIR}/huge.png', whole[:16] + struct.pack('>II', 100000, 100000) + whole[24:])
    for name, path, part in (('not an image', text, 'not an image'), ('a truncated one', cut, 'truncated'),
                             ('a huge one', huge, '100000x100000'), ('a missing one', f'{DIR}/no.png', 'No such file')):
        fails(name, 1, part, 'classify', '--model', 'colours', path)
        check(f'{name} is named', path in Done('classify', '--model', 'colours', path).err)
    fails('a model that is not there', 1, "'lynx'", 'classify', '--model', 'lynx', red)
    bad = model(f'{DIR}/bad')
    write(f'{bad}/model.onnx', network()[:150])
    fails('a damaged network', 1, 'model.onnx', 'classify', '--model', bad, red)
    bad = model(f'{DIR}/bad')
    write(f'{bad}/config.json', '{\n"id2label": oops}')
    fails('a damaged config.json', 1, 'config.json: line 2', 'classify', '--model', bad, red)
    bad = model(f'{DIR}/bad')
    write(f'{bad}/preprocessor_config.json', json.dumps(dict(RECIPE, resample='best')))
    fails('a damaged recipe', 1, "'resample'", 'classify', '--model', bad, red)
    write(f'{bad}/preprocessor_config.json', json.dumps(dict(RECIPE, size={'height': 9, 'width': 9})))
    fails('a recipe that does not fit', 1, '9x9', 'classify', '--model', bad, red)
    fails('an empty network', 1, 'model.onnx', 'inspect', write(f'{DIR}/empty/model.onnx', ''))
    fails('text for a network', 1, 'text.onnx', 'bench', write(f'{DIR}/text.onnx', 'hello, world' * 20))


def test_networks():
    """The shapes and types that a photo's network may have."""
    red = f'{DIR}/red.png'
    folder = model(f'{DIR}/shapes')
    share = math.exp(10) / (math.exp(10) + 2)
    for name, options, expected in (
            ('channels last', {'last': True}, share), ('a softmax at the end', {'softmax': True}, share),
            ('batches of one', {'batch': 1}, share), ('batches of four', {'batch': 4}, share),
            ('free height and width', {'side': None}, share), ('float16', {'kind': 'float16'}, share),
            ('more classes than labels', {'classes': 7}, math.exp(10) / (math.exp(10) + 6))):
        write(f'{folder}/model.onnx', network(**options))
        done = Done('classify', '--model', folder, '--precision', 'f32', '--json', red)
        predictions = done.json()[0].get('predictions', []) if done.out else []
        check(name, done.code == 0 and predictions[0]['label'] == 'red'
              and abs(predictions[0]['probability'] - expected) < 1e-4, done)
    check('a class without a label', predictions and predictions[-1]['label'] == 'class 4', predictions)
    write(f'{folder}/model.onnx', network(kind='uint8', gain=0.04))
    write(f'{folder}/preprocessor_config.json', json.dumps(dict(RECIPE, do_rescale=False)))
    done = Done('classify', '--model', folder, '--json', red)
    check('uint8', done.code == 0 and done.json()[0]['predictions'][0]['probability'] > 0.99, done)
    write(f'{folder}/preprocessor_config.json', json.dumps(RECIPE))
    fails('fractions for a network that takes bytes', 1, "'do_rescale' makes fractions", 'classify', '--model', folder, red)
    os.unlink(f'{folder}/preprocessor_config.json')
    done = Done('classify', '--model', folder, '--json', red)
    check('uint8 without a recipe', done.code == 0 and done.json()[0]['predictions'][0]['probability'] > 0.99, done)
    write(f'{folder}/model.onnx', network(maps=True))
    done = Done('classify', '--model', folder, '--json', red)
    check('two outputs', done.code == 0 and done.json()[0]['category'] == 'red', done)
    write(f'{folder}/model.onnx', network(gain=float('inf')))
    fails('an answer that is not finite', 1, 'not finite', 'classify', '--model', folder, red)
    write(f'{folder}/model.onnx', network(kind='int64'))
    fails('a type that no photo has', 1, 'int64', 'classify', '--model', folder, red)
    with open(os.path.join(os.path.dirname(__file__), '../../models/animals/model.onnx'), 'rb') as file:
        alone = write(f'{DIR}/alone/model.onnx', file.read())  # its shapes are computed; nothing says its classes
    done = Done('classify', '--model', alone, '--top', 99, '--json', red)
    check('a network alone', done.code == 0 and len(done.json()[0]['predictions']) == 59
          and done.json()[0]['category'].startswith('class '), done)
    check('a number has no article', '.png: class ' in Done('classify', '--model', alone, red).out.replace(
        'hard to say, perhaps ', ''), done)


def test_rejection():
    """what a model does not know, by the rule of its folder"""
    folder = model(f'{DIR}/judging')
    rule = {'method': 'linear', 'bias': 0, 'odds': 0, 'weights': [1, 0, 0], 'unknown_below': 4, 'sure_from': 8}
    write(f'{folder}/rejection.json', json.dumps(rule))
    for known, colour, sentence in (('yes', png(255, 0, 0), ': a red ('), ('perhaps', png(128, 0, 0), ': hard to say, perhaps a red ('),
                                    ('no', png(0, 0, 255), ": I don't know this; nearest: blue (")):
        photo = write(f'{DIR}/judged.png', colour)
        done = Done('classify', '--model', folder, '--json', photo)
        check(f'known: {known}', done.code == 0 and done.json()[0]['known'] == known, done)
        done = Done('classify', '--model', folder, photo)
        check(f'the sentence: {known}', sentence in done.out, done)
        check(f'never 100 % for less: {known}', ' 100' not in done.out, done)
    check('in French', 'je ne connais pas cela ; le plus proche : ' in Done(
        'classify', '--model', folder, '--language', 'fr', photo).out, photo)
    for member, value in (('weights', [1, 2]), ('weights', [1, 2, 'x']), ('odds', None), ('method', 'magic'), ('sure_from', 3)):
        write(f'{folder}/rejection.json', json.dumps(dict(rule, **{member: value})))
        fails(f'a rule whose {member} is wrong', 1, f"rejection.json: '{member}'", 'classify', '--model', folder, photo)


def test_table():
    """a folder of photos, as a table"""
    folder = f'{DIR}/album'
    for name, colour in (('a.png', png(255, 0, 0)), ('inner/b, "c".png', png(0, 0, 255)), ('=d.png', png(0, 255, 0)), ('e.jpg', 'x')):
        write(f'{folder}/{name}', colour)
    done = Done('classify', '--csv', '--model', 'colours', folder)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    check('a row a photo', done.code == 1 and len(rows) == 4 and list(rows[0]) == ['image', 'model', 'known', 'label', 'probability', 'error'], done)
    found = {os.path.basename(row['image']): row for row in rows}
    check('their labels', found['a.png']['label'] == 'red' and found['b, "c".png']['label'].startswith('blue')
          and float(found['a.png']['probability']) > 0.99 and found['a.png']['model'] == 'colours', done)
    check('what is no photo says why', 'e.jpg' in found['e.jpg']['image'] and found['e.jpg']['error'] and not found['e.jpg']['label'], done)
    os.chdir(folder)
    check('a name is no formula', "'=d.png" in Done('classify', '--csv', '--model', f'{DIR}/models/colours', '=d.png').out)
    os.chdir('/')
    fails('two forms at once', 2, '--json and --csv', 'classify', '--json', '--csv', folder)
    os.makedirs(f'{DIR}/nothing', exist_ok=True)
    fails('a folder without photos', 1, 'nothing', 'classify', f'{DIR}/nothing')


def test_evaluate():
    data = f'{DIR}/data'
    for index in range(5):
        write(f'{data}/Red/{index}.png', png(200, index, 0))
        write(f'{data}/green/{index}.png', png(0, 90, 200 if index == 0 else 5))
        write(f'{data}/n04968056/{index}.png', png(0, 0, 255))
    write(f'{data}/green/broken.png', 'x')
    write(f'{data}/unknown/1.png', png(0, 0, 0))
    done = Done('evaluate', '--model', 'colours', '--data', data, '--json')
    result = done.json()[0] if done.code == 0 else {}
    check('folders by label and by WordNet id', result.get('images') == 15 and abs(result['top1'] - 14 / 15) < 1e-5
          and result['top5'] == 1 and list(result) == ['images', 'top1', 'top5', 'images_per_s'], done)
    check('what is left out is named', 'broken.png' in done.err and 'unknown' in done.err
          and len(done.err.splitlines()) == 2, done)
    done = Done('evaluate', '--model', 'colours', '--data', data, '--batch', 4)
    check('for a person', done.code == 0 and '93.33 %' in done.out and '\033' not in done.out + done.err, done)
    fixed = model(f'{DIR}/fixed')
    write(f'{fixed}/model.onnx', network(batch=4))
    done = Done('evaluate', '--model', fixed, '--data', data, '--json')
    check('a network of fixed batches', done.code == 0 and abs(done.json()[0]['top1'] - 14 / 15) < 1e-5, done)
    photos = f'{DIR}/photos'
    for name, colour in (('a', (9, 0, 0)), ('b', (0, 9, 0)), ('c', (0, 0, 9))):
        write(f'{photos}/{name}.png', png(*colour))
    write(f'{photos}/labels.tsv', 'a.png\t0\nb.png\t1\nc.png\t1\n')
    done = Done('evaluate', '--model', 'colours', '--data', photos, '--json')
    check('labels.tsv', done.code == 0 and abs(done.json()[0]['top1'] - 2 / 3) < 1e-5, done)
    other = write(f'{DIR}/other.tsv', 'a.png\t-1\nb.png\t0\nc.png\t1\n')
    done = Done('evaluate', '--model', 'colours', '--data', photos, '--labels', other, '--label-offset', 1, '--json')
    check('--labels and --label-offset', done.code == 0 and done.json()[0]['top1'] == 1, done)
    behind = model(f'{DIR}/behind')
    write(f'{behind}/config.json', json.dumps({'id2label': {'0': 'background', '1': 'green', '2': 'blue'}}))
    numbers = write(f'{DIR}/numbers.tsv', 'b.png\t0\nc.png\t1\n')
    done = Done('evaluate', '--model', behind, '--data', photos, '--labels', numbers, '--json')
    check('class numbers of a model with a background first', done.code == 0 and done.json()[0]['top1'] == 1, done)
    done = Done('evaluate', '--model', behind, '--data', photos, '--labels', numbers, '--label-offset', 0, '--json')
    check('and as they are', done.code == 0 and done.json()[0]['top1'] == 0, done)
    write(f'{behind}/config.json', json.dumps({'id2label': {'0': '__Background__', '1': 'green', '2': 'blue'}}))
    done = Done('evaluate', '--model', behind, '--data', photos, '--labels', numbers, '--json')
    check('a background of another name', done.code == 0 and done.json()[0]['top1'] == 1, done)
    for index in range(4):
        write(f'{DIR}/shifted/{index}.png', png(0, 90 if index % 2 else 0, 0 if index % 2 else 90))
    write(f'{DIR}/shifted/labels.tsv', ''.join(f'{index}.png\t{0 if index % 2 else 1}\n' for index in range(4)))
    done = Done('evaluate', '--model', 'colours', '--data', f'{DIR}/shifted')
    check('numbers that begin at another class are noticed', done.code == 0 and '4 of 4 answers' in done.err
          and '--label-offset 1' in done.err, done)
    done = Done('evaluate', '--model', 'colours', '--data', f'{DIR}/shifted', '--label-offset', 1)
    check('and no more once they are told', done.code == 0 and '100.00 %' in done.out and not done.err, done)
    fails('a class that is none', 1, 'line 1', 'evaluate', '--model', 'colours', '--data', photos, '--labels',
          write(f'{DIR}/wrong.tsv', 'a.png\t17\n'))
    fails('no --data', 2, '--data', 'evaluate', '--model', 'colours')
    fails('no such folder', 1, f'{DIR}/nowhere: No such file or directory', 'evaluate', '--model', 'colours', '--data', f'{DIR}/nowhere')
    fails('a folder without photos', 1, 'no photos', 'evaluate', '--model', 'colours', '--data', f'{DIR}/empty/')


def test_run():
    values = [channel for channel in (0.5, -1.0, 2.0) for _ in range(64)] * 2
    source, target = write(f'{DIR}/in.f32', struct.pack('<384f', *values)), f'{DIR}/out.f32'
    network_path = f'{DIR}/models/colours/model.onnx'
    done = Done('run', network_path, source, target, '--shape', '2x3x8x8', '--precision', 'f32')
    answer = struct.unpack('<6f', open(target, 'rb').read()) if done.code == 0 else ()
    check('run', done.out == '2x3\n' and all(abs(a - b) < 1e-5 for a, b in zip(answer, [5, -10, 20] * 2)), (done, answer))
    fails('a wrong size', 1, '768', 'run', network_path, source, target, '--shape', '1x3x8x8')
    fails('a wrong shape', 2, '1x3x', 'run', network_path, source, target, '--shape', '1x3xx8')
    fails('no shape', 2, '--shape', 'run', network_path, source, target)
    fails('a shape the network refuses', 1, 'photo', 'run', network_path, source, target, '--shape', '2x3x4x16')


def test_bench():
    done = Done('bench', 'colours', '--batch', 2, '--threads', 1, '--precision', 'f32', '--iters', 5, '--json')
    result = done.json()[0] if done.code == 0 else {}
    check('bench --json', list(result) == ['model', 'batch', 'threads', 'precision', 'load_ms', 'min_ms', 'median_ms',
                                           'p99_ms', 'images_per_s'], done)
    check('its numbers fit', bool(result) and result['model'] == 'colours' and result['batch'] == 2
          and result['threads'] == 1 and result['precision'] == 'f32'
          and 0 < result['min_ms'] <= result['median_ms'] <= result['p99_ms']
          and abs(result['images_per_s'] * result['median_ms'] / 2000 - 1) < 0.05, done)
    done = Done('bench', 'colours', '--iters', 3)
    check('bench for a person', done.code == 0 and 'median' in done.out, done)
    done = Done('bench', 'colours', '--iters', 4, '--threads', 1, '--profile', '--json')
    profile = done.json()[0]['profile'] if done.code == 0 else {'steps': [], 'actions': [], 'run_ms': 0}
    total, products = (sum(step['ms'] for step in profile['steps'] if step['gflop'] >= least) for least in (0, 1e-9))
    check('a profile sums up', 0 < total <= profile['run_ms'] and abs(products - profile['products_ms']) < 1e-3
          and abs(sum(row['ms'] for row in profile['actions']) - total) < 1e-3, done)
    check('a profile names operators and kernels', any('Gemm' in row['action'] and row['kernels'] and row['steps'] == 1
                                                       for row in profile['actions']), done)
    done = Done('bench', 'colours', '--iters', 2, '--profile')
    check('a profile for a person', done.code == 0 and 'slowest steps' in done.out and 'products alone' in done.out, done)
    done = Done('inspect', 'colours')
    check('inspect', done.code == 0 and all(part in done.out for part in ('photo', '?x3x8x8', 'Gemm 1', 'logits')), done)
    check('inspect shows the plan', all(part in done.out for part in ('plan ', 'by oneDNN', 'packed weights')), done)
    done = Done('inspect', 'colours', '--precision', 'f32', '--steps')
    check('inspect shows every step', done.code == 0 and 'f32' in done.out and ' -> ' in done.out, done)


def precisions(folder, source, shape):
    """In which precision each verb says that it runs the model, when nobody asks for one; and run's answer."""
    target, photo = f'{DIR}/precision.f32', f'{DIR}/red.png'
    said = {'bench': Done('bench', folder, '--iters', 1, '--json').json()[0]['precision'],
            'bake': Done('bake', folder, '--output', f'{DIR}/precision.baked', '--json').json()[0]['precision'],
            'inspect': Done('inspect', folder).out.split('\n  precision   ')[1].split()[0]}
    if (done := Done('classify', '--model', folder, photo)).code == 0:
        said['classify'] = done.out.rsplit(', ', 1)[1].split(')')[0]
    done = Done('run', folder, source, target, '--shape', shape)
    return said, open(target, 'rb').read() if done.code == 0 else done


def answer(folder, source, shape, precision):
    target = f'{DIR}/precision.f32'
    done = Done('run', folder, source, target, '--shape', shape, '--precision', precision)
    return open(target, 'rb').read() if done.code == 0 else done


def test_precision():
    """Every verb runs a model in the same precision: what its folder says, else bfloat16 for classifiers alone."""
    animals = os.path.join(os.path.dirname(__file__), '../../models/animals')
    folder = f'{DIR}/quantized'
    for name, kept in (('model_int8.onnx', 'model.onnx'), ('config.json', 'config.json'),
                       ('preprocessor_config.json', 'preprocessor_config.json')):
        with open(f'{animals}/{name}', 'rb') as file:
            write(f'{folder}/{kept}', file.read())
    source = write(f'{DIR}/photo.f32', struct.pack('<12288f', *(i * 7919 % 4096 / 1024 - 2 for i in range(12288))))
    answers = {}
    for precision in ('int8', 'f32'):
        used = Done('bench', folder, '--precision', precision, '--iters', 1, '--json').json()[0]['precision']
        write(f'{folder}/guichet.json', json.dumps({'precision': precision}))
        said, answers[precision] = precisions(folder, source, '1x3x64x64')
        check(f'every verb reads {precision} from guichet.json', len(said) == 4 and set(said.values()) == {used}, said)
        check(f'run answers in {precision}', answers[precision] == answer(folder, source, '1x3x64x64', precision))

    colours = model(f'{DIR}/regression')
    source = write(f'{DIR}/photo.f32', struct.pack('<192f', *(i / 300 for i in range(192))))
    strict = answer(colours, source, '1x3x8x8', 'f32')
    said, _ = precisions(colours, source, '1x3x8x8')
    check('every verb runs a classifier alike', len(said) == 4 and len(set(said.values())) == 1, said)
    write(f'{colours}/config.json', json.dumps({'problem_type': 'regression'}))
    said, numbers = precisions(colours, source, '1x3x8x8')
    check('every verb runs a regression in f32', len(said) == 3 and set(said.values()) == {'f32'}, said)
    check('its numbers are those of f32', numbers == strict)
    write(f'{colours}/guichet.json', '{"precision": "fast"}')
    fails('run reads guichet.json', 1, "'precision'", 'run', colours, source, f'{DIR}/x.f32', '--shape', '1x3x8x8')


def test_spin():
    """OpenMP is told how long to spin before it starts; who sets it chooses; the environment is as it was."""
    def told(**variables):
        run = subprocess.run([PROGRAM, '--version'], capture_output=True, text=True, check=False,
                             env=dict(variables, OMP_DISPLAY_ENV='verbose'))
        found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", run.stderr)
        return int(found.group(1)) if found and run.returncode == 0 else run.stderr

    if platform.machine() != 'x86_64':
        return
    for variables in ({'HOME': '/'}, {'_': 'x', 'PATH': '/bin'}):
        count = told(**variables)
        check(f'a spin of 35 µs, with {len(variables)} variables', isinstance(count, int) and 50 <= count <= 35000, count)
    check('a spin that somebody chose', told(GOMP_SPINCOUNT='77') == 77)
    check('a policy that somebody chose', told(OMP_WAIT_POLICY='passive') == 0)
    done = subprocess.run([PROGRAM, 'models'], capture_output=True, text=True, check=False, env={'GUICHET_MODELS': f'{DIR}/models'})
    check('a variable that made room is there again', 'colours' in done.stdout, done)


def test_sound():
    """A network that takes no photo: every verb that runs networks does."""
    alone = write(f'{DIR}/sound/model.onnx', sound())
    source = write(f'{DIR}/sound.f32', struct.pack('<16f', *range(16)))
    said, numbers = precisions(alone, source, '2x8')
    check('a network without photos runs in f32', len(said) == 3 and set(said.values()) == {'f32'}, said)
    check('its answer', numbers == struct.pack('<16f', *range(16)), numbers)
    done = Done('bake', alone)
    check('it is baked', done.code == 0 and os.path.exists(f'{alone}.f32.baked'), done)
    check('and answers from the baked file as before', answer(alone, source, '2x8', 'auto') == numbers)
    done = Done('inspect', alone)
    check('inspect says that it takes no photo', done.code == 0 and 'photos      none: ' in done.out, done)


model(f'{DIR}/models/colours')
test_help()
test_template()
test_classify()
test_addresses()
test_bad_input()
test_networks()
test_rejection()
test_table()
test_evaluate()
test_run()
test_bench()
test_precision()
test_sound()
test_spin()
test_terminal()
print(f'1..{tests}')
sys.exit(failed > 0)
