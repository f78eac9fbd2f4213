#!/usr/bin/env python3
"""guichet quantize and guichet compare as a person types them: what is written, what is said, what is refused. TAP.

    verb.py PROGRAM ROOT

On the default model and photos that are drawn here. Skipped without Pillow.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

try:
    from PIL import Image
except ImportError as missing:
    print(f'1..0 # skip {missing} (Debian: python3-pil)')
    sys.exit(0)

PROGRAM, ROOT = os.path.abspath(sys.argv[1]), sys.argv[2]
count = failed = 0


def check(name, good, why=''):
    global count, failed
    count += 1
    failed += not good
    print(f'{"" if good else "not "}ok {count} - {name}', flush=True)
    if not good:
        print('# ' + str(why).strip().replace('\n', '\n# '), flush=True)


def run(*words):
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True)


def refused(name, said, status, *words):
    made = run(*words)
    lines = made.stderr.strip().split('\n')
    check(name, made.returncode == status and said in lines[0] and len(lines) <= 2 and not made.stdout, made.stderr)


def draw(folder, number):
    """In two folders, so that the photos have classes of a sort; every other one is a PNG."""
    for i in range(number):
        os.makedirs(f'{folder}/{i % 2}', exist_ok=True)
        picture = Image.effect_noise((6 + 7 * i, 6 + 7 * i), 120).convert('RGB').resize((96, 80), Image.BICUBIC)
        picture.save(f'{folder}/{i % 2}/{i}.{"png" if i % 4 < 2 else "jpg"}')


def written(folder):
    kept = {'model_int8.onnx', 'config.json', 'preprocessor_config.json', 'labels_fr.json', 'report.json', 'report.html'}
    check('the network, the configuration and the report are written, and nothing else', set(os.listdir(folder)) == kept,
          os.listdir(folder))
    with open(f'{folder}/report.html', encoding='utf-8') as file:
        page = file.read()
    check('the page has charts, and needs no script and nothing from elsewhere',
          '<svg' in page and not any(word in page for word in ('<script', 'src=', 'href=', 'url(')))
    with open(f'{folder}/report.json', encoding='utf-8') as file:
        report = json.load(file)
    made = report['quantisation']
    check('the report has sizes, times, answers and every layer',
          report['size_ratio'] < 1 and report['b']['median_ms'] > 0 and 0 <= report['agreement'] <= 1 and report['kl_worst'] >= 0
          and len(made['layers']) == made['layers_int8'] + made['layers_float'], report)
    check('photos calibrate, choose, or are reported on',
          (made['calibration_photos'], made['choosing_photos'], made['held_out_photos']) == (12, 4, 8), made)
    check('each measure has an interval, and there is a verdict',
          all(m['low'] <= m['value'] <= m['high'] for m in report['measures'].values()) and len(report['measures']) == 6
          and report['verdict'] in ('take', 'maybe', 'leave') and report['advice']['fr'], report)
    check('eight photos make nothing certain', not made['target_met'] and report['measures']['agreement']['low'] < 0.9, report)
    check('the page speaks French, too', 'Ce qu’il gagne' in page and page.endswith('</html>\n'), page[-200:])


def quantises(work, model):
    out = f'{work}/out'
    made = run('quantize', model, '--calibrate', f'{work}/photos', '--output', out)
    check('a model is quantised', made.returncode == 0, made.stderr)
    check('photos that cannot be read are counted and named', '2 of 26 photos' in made.stderr and 'broken.jpg: ' in made.stderr
          and 'text.png: ' in made.stderr, made.stderr)
    check('few photos are warned of, with the number that would do', '24 photos are few' in made.stderr
          and 'about 300 would do' in made.stderr, made.stderr)
    written(out)
    made = run('classify', f'{work}/photos/0/0.png', '--model', f'{out}:int8', '--json')
    check('the quantised model classifies', made.returncode == 0, made.stderr)
    made = run('compare', model, f'{out}:int8', '--data', f'{work}/photos', '--json')
    check('and is compared with the other', made.returncode == 0 and json.loads(made.stdout)['photos'] == 24, made.stderr)
    refused('it is not quantised again', 'already quantised', 1, 'quantize', f'{out}/model_int8.onnx', '--calibrate',
            f'{work}/photos')


def methods(work, model):
    for words in (['--method', 'minmax'], ['--method', 'entropy'], ['--method', 'percentile'], ['--method', 'mse'],
                  ['--per-tensor'], ['--per-channel'], ['--activations', 'int8'], ['--max-loss', '100']):
        made = run('quantize', model, '--calibrate', f'{work}/photos', '--output', f'{work}/other', '--json', *words)
        told = json.loads(made.stdout)['quantisation'] if made.returncode == 0 else {}
        expected = {'--method': ('method', words[-1]), '--per-tensor': ('per_channel', False), '--per-channel': ('per_channel', True),
                    '--activations': ('activations', 'int8'), '--max-loss': ('kept_in_float', 0)}[words[0]]
        check(' '.join(words), told.get(expected[0]) == expected[1], made.stderr or told)


def refuses(work, model):
    os.makedirs(f'{work}/empty')
    os.makedirs(f'{work}/junk')
    shutil.copy(f'{work}/photos/0/broken.jpg', f'{work}/junk/')
    out = ['--output', f'{work}/none']
    refused('a folder without photos', 'contains no photos', 1, 'quantize', model, '--calibrate', f'{work}/empty', *out)
    refused('a folder that is not there', 'No such file', 1, 'quantize', model, '--calibrate', f'{work}/nowhere', *out)
    refused('no photo that can be read', 'no photo in it can be decoded', 1, 'quantize', model, '--calibrate', f'{work}/junk', *out)
    refused('no photos asked for', '--calibrate DIR is needed', 2, 'quantize', model)
    refused('a method that is none', "not 'best'", 2, 'quantize', model, '--calibrate', f'{work}/photos', '--method', 'best')
    refused('both kinds of scales', 'cannot be combined', 2, 'quantize', model, '--calibrate', f'{work}/photos', '--per-channel',
            '--per-tensor')
    check('what is refused leaves no model', not os.path.exists(f'{work}/none/model_int8.onnx'))


def main():
    with tempfile.TemporaryDirectory() as work:
        draw(f'{work}/photos', 24)
        with open(f'{work}/photos/0/2.jpg', 'rb') as file:
            whole = file.read()
        with open(f'{work}/photos/0/broken.jpg', 'wb') as file:
            file.write(whole[:len(whole) // 2])
        with open(f'{work}/photos/1/text.png', 'w', encoding='utf-8') as file:
            file.write('no picture')
        model = os.path.join(ROOT, 'models', 'animals')
        quantises(work, model)
        methods(work, model)
        refuses(work, model)
    print(f'1..{count}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
