#!/usr/bin/env python3
"""Language models made smaller: the files that quantize writes, what they are worth, and what it refuses."""
import json
import os
import subprocess
import sys
import tempfile

import decoder

PROGRAM, ROOT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
HOME = tempfile.TemporaryDirectory()
ENVIRONMENT = dict(os.environ, HOME=HOME.name, LC_ALL='C.UTF-8', OMP_NUM_THREADS='1')
results = []


def check(name, good, why=''):
    results.append(good)
    print(f'{"ok" if good else "not ok"} {len(results)} - {name}', flush=True)
    if not good:
        print('# ' + str(why).replace('\n', '\n# '), flush=True)


def run(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=300, cwd=HOME.name, env=ENVIRONMENT, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def path(name):
    return os.path.join(HOME.name, name)


def fails(name, code, part, *arguments):
    done = run(*arguments)
    check(name, done[0] == code and part in done[2], done)


def write_model(name, family, kind='F32'):
    model = decoder.Model(decoder.FAMILIES[family], 3, (kind,))
    model.write(path(name))
    return path(name)


def divergence(folder):
    with open(path(f'{folder}/report.json'), encoding='utf-8') as file:
        return json.load(file)['measures']['kl_mean']['value']


def check_report(folder):
    with open(os.path.join(folder, 'report.json'), encoding='utf-8') as file:
        report = json.load(file)
    measures = {**report['measures'], **{f'{i} {name}': value for i, side in enumerate(report['models'])
                                         for name, value in side.items() if name != 'name'}}
    wrong = {name: m for name, m in measures.items() if not m['low'] <= m['value'] <= m['high']}
    check('each measure has an interval', len(measures) == 18 and not wrong, wrong or measures)
    check('and there is a verdict', report['verdict'] in ('take', 'maybe', 'leave') and len(report['advice']['fr']) > 20, report)
    check('the parts of the text are told', report['judged_windows'] >= 2 and report['chosen_by_windows'] >= 2, report)
    check('what became of each tensor', {t['type'] for t in report['tensors'] if 'ffn_up' in t['name']} == {'Q4_0'}, report)
    check('texts are continued', [len(t['a']) > 20 and len(t['b']) > 20 for t in report['continuations']] and
          'beginning' in report['continuations'][0], report)
    with open(os.path.join(folder, 'report.html'), encoding='utf-8') as file:
        page = file.read()
    check('the page is whole, in both languages', page.endswith('</html>\n') and 'perplexité' in page and 'perplexity' in page and
          '<script' not in page and 'http' not in page, page[:200])


def main():
    text = path('text.txt')
    with open(os.path.join(ROOT, 'models', 'tales', 'README.md'), encoding='utf-8') as file:
        words = file.read().split('## How good it is')[1].replace('*', '').split('- ')
    with open(text, 'w', encoding='utf-8') as file:
        file.write(' '.join(words[2:]) * 2)
    tales = os.path.join(ROOT, 'models', 'tales', 'tales-F16.gguf')

    plain = run('quantize', tales, '--to', 'Q4_0', '--plain', '--text', text, '--output', 'plain')
    check('plain rounding writes a file', plain[0] == 0 and os.path.exists(path('plain/tales-Q4_0.gguf')), plain)
    better = run('quantize', tales, '--to', 'q4_0', '--text', text, '--output', 'better')
    check('so does rounding by a text', better[0] == 0 and os.path.exists(path('better/tales-Q4_0.gguf')), better)
    sizes = [os.path.getsize(path(f'{folder}/tales-Q4_0.gguf')) for folder in ('plain', 'better')]
    check('of the same size', sizes[0] == sizes[1], sizes)
    far = [divergence(folder) for folder in ('plain', 'better')]
    check('which is nearer to the original by far', far[1] < 0.7 * far[0], far)
    check_report(path('better'))
    said = run('quantize', write_model('mistral-F32.gguf', 'mistral'), '--to', 'Q8_0', '--plain', '--text', text, '--output', 'eight',
               '--json')
    check('--json prints the report', said[0] == 0 and json.loads(said[1])['type'] == 'Q8_0', said)

    done = run('compare', tales, path('better/tales-Q4_0.gguf'), '--text', text, '--output', 'compared')
    check('compare gives the same report', done[0] == 0 and divergence('compared') > 0, done)
    fails('compare without a text', 2, '--text', 'compare', tales, tales, '--data', 'photos')

    for family in ('llama3', 'qwen2', 'gemma3', 'phi3'):
        model = write_model(f'{family}-F32.gguf', family)
        how = () if family == 'llama3' else ('--text', text)
        done = run('quantize', model, '--to', 'Q8_0', '--output', 'families', *how)
        small = path(f'families/{family}-Q8_0.gguf')
        said = [run('complete', file, 'Once', '--tokens', 8, '--temperature', 0)[0] for file in (model, small)]
        check(f'{family}: {"by a text" if how else "by what it writes itself"}', done[0] == 0 and said == [0, 0], done)

    model, files = path('qwen2-F32.gguf'), []
    for folder in ('first', 'second'):
        run('quantize', model, '--to', 'Q4_0', '--text', text, '--seed', 7, '--output', folder)
        with open(path(f'{folder}/qwen2-Q4_0.gguf'), 'rb') as file:
            files.append(file.read())
    check('the same again gives the same file', files[0] == files[1])

    fails('a type that is none', 2, 'Q4_K_M', 'quantize', tales, '--to', 'Q9')
    fails('no type', 2, '--to TYPE is needed', 'quantize', tales)
    fails('photos for a language model', 2, 'no photos', 'quantize', tales, '--to', 'Q8_0', '--calibrate', '.')
    fails('a model that is quantised', 1, 'quantised already', 'quantize', path('plain/tales-Q4_0.gguf'), '--to', 'Q8_0', '--plain')
    with open(path('short.txt'), 'w', encoding='utf-8') as file:
        file.write('Once upon a time.')
    fails('a text that is too short', 1, 'give more', 'quantize', model, '--to', 'Q8_0', '--text', path('short.txt'))
    fails('a text that is missing', 1, 'none.txt', 'quantize', tales, '--to', 'Q8_0', '--text', 'none.txt')
    broken = decoder.Model(decoder.FAMILIES['llama2'], 3)
    kind, shape, content = broken.tensors['blk.0.ffn_up.weight']
    broken.tensors['blk.0.ffn_up.weight'] = (kind, shape, b'\xff' * len(content))
    broken.write(path('broken-F32.gguf'))
    fails('weights that are not numbers', 1, 'ffn_up', 'quantize', path('broken-F32.gguf'), '--to', 'Q8_0', '--plain', '--text', text)
    fails('nor can such a model write a text', 1, 'not numbers', 'quantize', path('broken-F32.gguf'), '--to', 'Q8_0', '--plain')
    check('nothing is left of it', not [name for name in os.listdir(HOME.name) if 'broken-Q' in name], os.listdir(HOME.name))
    print(f'1..{len(results)}')
    sys.exit(not all(results))


main()
