#!/usr/bin/env python3
"""The logits of random models of every family and of every type of weights, against a float64 decoder; then those of
../shared, where they are there."""
import json
import os
import subprocess
import sys
import tempfile

import decoder
import gguf
import numpy as np

GUICHET, ROOT = sys.argv[1:3]
SHARED = os.path.join(os.environ.get('GUICHET_SHARED') or os.path.join(ROOT, '..', 'shared'), 'models', 'llm')
LARGEST = 1e-5  # of the largest logit: what float32 may lose
ROUNDED = 5e-3  # of the logits' root mean square: what activations of 12 bits may lose
results = []


def report(name, problem, skip=''):
    results.append(not problem)
    print(f'{"not ok" if problem else "ok"} {len(results)} - {name}' + (f' # SKIP {skip}' if skip else ''), flush=True)
    if problem:
        print(f'# {problem}')


def logits(path, tokens, *options):
    """[tokens, vocabulary], or the error line."""
    with tempfile.NamedTemporaryFile() as out:
        run = subprocess.run([GUICHET, 'logits', path, '--tokens', ','.join(map(str, tokens)), '--output', out.name, *options],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        return run.stderr.strip() if run.returncode else np.fromfile(out.name, '<f4').reshape(len(tokens), -1)


def compare(path, tokens, expected):
    """What is wrong with the logits, all at once and one by one; '' if nothing is."""
    for options in ((), ('--step',), ('--threads', '3')):
        got = logits(path, tokens, '--precision', 'f32', *options)
        if isinstance(got, str) or got.shape != expected.shape:
            return f'{options}: {got}'
        distance = np.abs(got - expected).max() / np.abs(expected).max()
        if not distance <= LARGEST:
            return f'{options}: off by {distance:.2g} of the largest logit'
    return ''


def compare_rounded(path, tokens, expected, most):
    """The same with activations rounded, as by default: the distance as a part of the logits' size."""
    for options in ((), ('--step',), ('--threads', '3')):
        got = logits(path, tokens, *options)
        if isinstance(got, str) or got.shape != expected.shape:
            return f'{options}: {got}'
        distance = np.sqrt(((got - expected) ** 2).mean() / (expected ** 2).mean())
        cosine = ((got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)).min()
        if not (distance <= most and cosine >= 0.9995):
            return f'{options}: off by {distance:.2g} of the logits, cosine {cosine:.7f}'
    return ''


def families(folder):
    for seed, (name, family) in enumerate(decoder.FAMILIES.items()):
        model = decoder.Model(family, seed)
        path = os.path.join(folder, f'{name}.gguf')
        model.write(path)
        tokens = np.random.default_rng(seed).integers(0, family.vocabulary, 70)  # three pages of the cache
        expected = model.logits(tokens)
        report(f'family {name}', compare(path, tokens, expected))
        report(f'family {name}, rounded', compare_rounded(path, tokens, expected, ROUNDED))


def block_types(folder):
    family = decoder.Family('llama', halves=False, width=256, inner=256, head_size=64, layers=1, tied=False)
    for seed, kind in enumerate(gguf.TYPES):
        model = decoder.Model(family, seed, (kind,))
        path = os.path.join(folder, f'{kind}.gguf')
        model.write(path)
        tokens = np.random.default_rng(seed).integers(0, family.vocabulary, 20)
        expected = model.logits(tokens)
        report(f'weights {kind}', compare(path, tokens, expected))
        report(f'weights {kind}, rounded', compare_rounded(path, tokens, expected, ROUNDED))


def parts(folder):
    model = decoder.Model(decoder.FAMILIES['llama3'], 1)
    stem = os.path.join(folder, 'parts')
    model.write_parts(stem, 3)
    tokens = np.arange(10)
    report('three files', compare(f'{stem}-00001-of-00003.gguf', tokens, model.logits(tokens)))
    got = logits(f'{stem}-00002-of-00003.gguf', tokens)
    report('the second of them alone', '' if 'name the first' in str(got) or 'lacks the key' in str(got) or
           'architecture' in str(got) else str(got))
    os.unlink(f'{stem}-00003-of-00003.gguf')
    got = logits(f'{stem}-00001-of-00003.gguf', tokens)
    report('one of them missing', '' if '00003-of-00003' in str(got) else str(got))


def refusals(folder):
    model = decoder.Model(decoder.FAMILIES['llama2'], 1)
    path = os.path.join(folder, 'refused.gguf')
    for name, keys, tensors, wanted in (
            ('an unknown architecture', {'general.architecture': 'mamba'}, {}, "'mamba'"),
            ('experts', {'llama.expert_count': 8}, {}, '8 experts'),
            ('a stretched context', {'llama.rope.scaling.type': 'yarn'}, {}, "'yarn'"),
            ('an unknown tokenizer', {'tokenizer.ggml.model': 'rwkv'}, {}, "'rwkv'"),
            ('unknown rules for words', {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'klingon'}, {}, "'klingon'"),
            ('a tensor of another shape', {}, {'blk.0.attn_q.weight': ('F32', (4, 4), bytes(64))}, 'attn_q'),
            ('no heads', {'llama.attention.head_count': 0}, {}, 'head_count')):
        gguf.write(path, model.keys() | keys, model.tensors | tensors)
        got = str(logits(path, [1]))
        report(f'refused: {name}', '' if wanted in got and '\n' not in got else got)
    without = dict(model.tensors)
    del without['blk.1.ffn_down.weight']
    gguf.write(path, model.keys(), without)
    report('refused: a tensor is missing', '' if "'blk.1.ffn_down.weight'" in str(logits(path, [1])) else 'no error')


def bench(folder):
    model = decoder.Model(decoder.FAMILIES['llama3'], 1)
    path = os.path.join(folder, 'bench.gguf')
    model.write(path)
    run = subprocess.run([GUICHET, 'bench', path, '--json', '--profile', '--prompt', '20', '--steps', '5', '--sequences', '3',
                          '--iters', '1'], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    got = json.loads(run.stdout) if run.returncode == 0 else {}
    wanted = {'prompt_per_s', 'steps_per_s', 'together_per_s', 'peak_bytes', 'file_bytes_per_s'}
    report('bench', '' if all(got.get(key, 0) > 0 for key in wanted) and set(got['step_us']) == set(got['prompt_us']) else
           run.stderr or str(got))


def shared():
    names = [('families', name, name) for name in ('llama2', 'llama3', 'mistral', 'qwen2', 'qwen3', 'gemma3', 'phi3')]
    names += [('quantised', f'llama256-{kind}', 'llama256') for kind in (
        'F32', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q2_K', 'Q3_K_M', 'Q4_K_M', 'Q5_K_M', 'Q6_K', 'IQ4_NL', 'IQ4_XS')]
    for folder, name, description in names:
        path = os.path.join(SHARED, folder, name)
        if not os.path.exists(path + '.gguf'):
            report(f'{folder}/{name}', '', 'the models of ../shared are not here')
            continue
        with open(os.path.join(SHARED, folder, description + '.json'), encoding='utf-8') as file:
            facts = json.load(file)
        tokens, most = facts['tokens'], ROUNDED
        if folder == 'quantised' and name != 'llama256-F32':
            most = facts['results'][name.removeprefix('llama256-')]['llama_cpp_rms_rel'] / 2
        expected = np.fromfile(path + '.logits.f32', '<f4').reshape(len(tokens), -1)
        report(f'{folder}/{name}', compare(path + '.gguf', tokens, expected))
        report(f'{folder}/{name}, rounded', compare_rounded(path + '.gguf', tokens, expected, most))


with tempfile.TemporaryDirectory() as scratch:
    families(scratch)
    block_types(scratch)
    parts(scratch)
    refusals(scratch)
    bench(scratch)
shared()
print(f'1..{len(results)}')
sys.exit(not all(results))
