#!/usr/bin/env python3
"""Encoders of the BERT family: the vectors of random models, against a float64 one."""
import json
import math
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np

GUICHET = sys.argv[1] if len(sys.argv) > 1 else ''
LARGEST = 1e-5  # of the largest number: what float32 may lose
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '▁a', '▁b', '▁c', '▁river', '▁flows', 's', '▁.', '▁é']
WIDTH, INNER, HEADS, LAYERS, CONTEXT, EPSILON = 64, 96, 4, 2, 40, 1e-12
results = []


def report(name, problem):
    results.append(not problem)
    print(f'{"not ok" if problem else "ok"} {len(results)} - {name}', flush=True)
    if problem:
        print(f'# {problem}')


class Encoder:
    def __init__(self, seed, kind='F32', pooling=2, types=True):
        self.random, self.kind, self.tensors, self.worth = np.random.default_rng(seed), kind, {}, {}
        self.keys = {'general.architecture': 'bert', 'bert.block_count': LAYERS, 'bert.context_length': CONTEXT,
                     'bert.embedding_length': WIDTH, 'bert.feed_forward_length': INNER, 'bert.attention.head_count': HEADS,
                     'bert.attention.layer_norm_epsilon': EPSILON, 'bert.attention.causal': False, 'bert.pooling_type': pooling,
                     'tokenizer.ggml.model': 'bert', 'tokenizer.ggml.tokens': WORDS, 'tokenizer.ggml.token_type': [3, 2, 3, 3] + [1] * (len(WORDS) - 4),
                     'tokenizer.ggml.scores': [0.0] * len(WORDS), 'tokenizer.ggml.cls_token_id': 2, 'tokenizer.ggml.seperator_token_id': 3,
                     'tokenizer.ggml.unknown_token_id': 1}
        self.matrix('token_embd', len(WORDS), WIDTH)
        self.matrix('position_embd', CONTEXT, WIDTH)
        if types:
            self.matrix('token_types', 2, WIDTH)
        self.norm('token_embd_norm')
        for i in range(LAYERS):
            p = f'blk.{i}.'
            for name in ('attn_q', 'attn_k', 'attn_v', 'attn_output'):
                self.linear(p + name, WIDTH, WIDTH)
            self.linear(p + 'ffn_up', INNER, WIDTH)
            self.linear(p + 'ffn_down', WIDTH, INNER)
            self.norm(p + 'attn_output_norm')
            self.norm(p + 'layer_output_norm')

    def matrix(self, name, rows, columns):
        content, self.worth[name + '.weight'] = gguf.matrix(self.kind, self.random, rows, columns, 1.5 / math.sqrt(columns))
        self.tensors[name + '.weight'] = (self.kind, (rows, columns), content)

    def vector(self, name, count, low, high):
        numbers = self.random.uniform(low, high, count).astype('<f4')
        self.tensors[name], self.worth[name] = ('F32', (count,), numbers.tobytes()), numbers.astype(float)

    def linear(self, name, rows, columns):
        self.matrix(name, rows, columns)
        self.vector(name + '.bias', rows, -0.5, 0.5)

    def norm(self, name):
        self.vector(name + '.weight', WIDTH, 0.5, 1.5)
        self.vector(name + '.bias', WIDTH, -0.5, 0.5)

    def write(self, path, **keys):
        gguf.write(path, self.keys | keys, self.tensors)

    def normalised(self, name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON) * self.worth[name + '.weight'] + self.worth[name + '.bias']

    def times(self, name, x):
        return x @ self.worth[name + '.weight'].T + self.worth[name + '.bias']

    def embed(self, tokens):
        w, n = self.worth, len(tokens)
        x = w['token_embd.weight'][tokens] + w['position_embd.weight'][:n]
        if 'token_types.weight' in w:
            x = x + w['token_types.weight'][0]
        x = self.normalised('token_embd_norm', x)
        for i in range(LAYERS):
            p = f'blk.{i}.'
            q, k, v = (self.times(p + name, x).reshape(n, HEADS, -1) for name in ('attn_q', 'attn_k', 'attn_v'))
            scores = np.einsum('qhd,khd->hqk', q, k) / math.sqrt(WIDTH // HEADS)
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            attended = np.einsum('hqk,khd->qhd', scores / scores.sum(axis=-1, keepdims=True), v).reshape(n, -1)
            x = self.normalised(p + 'attn_output_norm', x + self.times(p + 'attn_output', attended))
            inner = self.times(p + 'ffn_up', x)
            inner = inner / 2 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
            x = self.normalised(p + 'layer_output_norm', x + self.times(p + 'ffn_down', inner))
        x = x.mean(axis=0) if self.keys['bert.pooling_type'] == 1 else x[0]
        return x / np.linalg.norm(x)


def embed(path, text, *options):
    run = subprocess.run([GUICHET, 'embed', path, text, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    return run.stderr.strip() if run.returncode else run.stdout


def compare(path, model, text, tokens):
    expected = model.embed(tokens)
    for options in ((), ('--threads', '1'), ('--threads', '3'), ('--json',)):
        got = embed(path, text, *options)
        try:
            answer = json.loads(got) if '--json' in options else {'tokens': len(tokens), 'embedding': [float(x) for x in got.split()]}
        except ValueError:
            return f'{options}: {got}'
        if answer['tokens'] != len(tokens) or len(answer['embedding']) != WIDTH:
            return f'{options}: {answer}'
        distance = np.abs(np.array(answer['embedding']) - expected).max() / np.abs(expected).max()
        if not distance <= LARGEST:
            return f'{options}: off by {distance:.2g} of the largest number'
    return ''


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'encoder.gguf')
        for seed, (kind, pooling, types) in enumerate((('F32', 2, True), ('F32', 1, True), ('F16', 2, False), ('Q8_0', 1, True), ('Q4_0', 2, True))):
            model = Encoder(seed, kind, pooling, types)
            model.write(path)
            for text, tokens in (('A river flows.', [2, 4, 7, 8, 10, 3]), ('', [2, 3]), ('b zzz as', [2, 5, 1, 4, 9, 3]), ('a ' * 38, [2] + [4] * 38 + [3])):
                report(f'{kind}, pooling {pooling}: {text[:20]!r}', compare(path, model, text, tokens))

        model = Encoder(1)
        model.write(path)
        got = embed(path, 'a ' * 39)
        report('a text that is too long', '' if '41 tokens' in got and 'context of 40' in got else got)
        for name, keys, word in (('a pooling', {'bert.pooling_type': 3}, 'pooling_type 3'), ('causal attention', {'bert.attention.causal': True}, 'causal'),
                                 ('no heads', {'bert.attention.head_count': 0}, 'head_count')):
            model.write(path, **keys)
            got = embed(path, 'a')
            report(f'refused: {name}', '' if word in got and '\n' not in got else got)
        del model.tensors['blk.1.ffn_down.bias'], model.tensors['blk.1.ffn_down.weight']
        model.write(path)
        got = embed(path, 'a')
        report('refused: a tensor is missing', '' if "'blk.1.ffn_down.weight'" in got else got)
        model.write(path, **{'general.architecture': 'llama'})
        got = embed(path, 'a')
        report('refused: no encoder', '' if 'no encoder' in got else got)
    print(f'1..{len(results)}')
    sys.exit(not all(results))


if __name__ == '__main__':
    main()
