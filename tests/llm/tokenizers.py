#!/usr/bin/env python3
"""Tokenizers against slow ones written here, on random texts; then the vocabularies of ../shared, where they are there."""
import os
import re
import subprocess
import sys
import tempfile
import unicodedata

import gguf
import numpy as np

GUICHET, ROOT = sys.argv[1:3]
SHARED = os.path.join(os.environ.get('GUICHET_SHARED') or os.path.join(ROOT, '..', 'shared'), 'models', 'llm', 'vocab')
SEPARATOR = '=-=-='
results = []


def report(name, problem, skip=''):
    results.append(not problem)
    print(f'{"not ok" if problem else "ok"} {len(results)} - {name}' + (f' # SKIP {skip}' if skip else ''), flush=True)
    if problem:
        print(f'# {problem!r}'[:1500])


def tokenize(path, texts):
    """A list of ids for each text, or the error line."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b''.join(t + f'\n{SEPARATOR}\n'.encode() for t in texts))
        file.flush()
        run = subprocess.run([GUICHET, 'tokenize', path, file.name, '--separator', SEPARATOR], stdin=subprocess.DEVNULL,
                             capture_output=True, timeout=120, check=False)
    if run.returncode:
        return run.stderr.decode(errors='replace').strip()
    return [[int(i) for i in line.split()] for line in run.stdout.split(b'\n')[:-1]]


# --- Words, by Python's regular expressions ---

CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
GPT2 = f'{CONTRACTIONS}| ?L+| ?N+| ?O+|S+(?!X)|S+'
LLAMA3 = f'(?i:{CONTRACTIONS})|F?L+|N{{1,3}}| ?O+[\\r\\n]*|S*[\\r\\n]+|S+(?!X)|S+'
RULES = {'gpt-2': GPT2, 'starcoder': GPT2, 'smollm': GPT2, 'llama-bpe': LLAMA3, 'qwen2': LLAMA3.replace('{1,3}', ''),
         'qwen35': LLAMA3.replace('{1,3}', '')}
# After `plain`, every character is ASCII, or stands for its kind.
SETS = {'L': 'A-Za-z\u00e9', 'N': '0-9\u00b2', 'S': '\\t-\\r \u3000'}


def plain(text, marks):
    """Characters beyond ASCII become the one that stands for their kind."""
    def kind(c):
        if c < '\x80':
            return c
        category = unicodedata.category(c)
        if category[0] == 'L' or (marks and category[0] == 'M'):
            return '\u00e9'
        if category[0] == 'N':
            return '\u00b2'
        return '\u3000' if category[0] == 'Z' or c == '\x85' else '\u00a7'
    return ''.join(map(kind, text))


def words(text, rules):
    pattern = RULES[rules]
    for name, members in (('F', f'[^\\r\\n{SETS["L"]}{SETS["N"]}]'), ('O', f'[^{SETS["S"]}{SETS["L"]}{SETS["N"]}]'),
                          ('X', f'[^{SETS["S"]}]'), *((k, f'[{v}]') for k, v in SETS.items())):
        pattern = re.sub(rf'(?<![A-Za-z\\\[-]){name}(?=[+?*){{|]|$)', lambda _, m=members: m, pattern)
    simple = plain(text, rules == 'qwen35')
    parts = [(0, len(text))]
    if rules in ('starcoder', 'smollm'):
        cuts = [m.span() for m in re.finditer(f'[{SETS["N"]}]', simple)]
        parts, at = [], 0
        for start, end in cuts:
            parts += [(at, start), (start, end)]
            at = end
        parts.append((at, len(text)))
    for start, end in parts:
        yield from (text[start + m.start():start + m.end()] for m in re.finditer(pattern, simple[start:end]))


# --- Merging, the slow way ---

def merged(symbols, cost):
    """Merge the cheapest pair, of equal ones the leftmost, until there is none."""
    symbols = list(symbols)
    while True:
        costs = [cost(a, b) for a, b in zip(symbols, symbols[1:])]
        best = min((c for c in costs if c is not None), default=None)
        if best is None:
            return symbols
        at = costs.index(best)
        symbols[at:at + 2] = [symbols[at] + symbols[at + 1]]


def printable():
    """GPT-2's characters for bytes."""
    same = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [b for b in range(256) if b not in same]
    return {b: chr(b) for b in same} | {b: chr(256 + i) for i, b in enumerate(others)}


class ByteLevel:
    def __init__(self, random, rules):
        self.rules, self.map = rules, printable()
        self.tokens, self.merges = list(self.map.values()), {}
        sample = [self.mapped(w) for text in texts(random, 60) for w in words(text, rules)]
        for _ in range(120):
            pairs = [p for w in sample for m in [merged(w, self.rank)] for p in zip(m, m[1:])]
            if not pairs:
                break
            pair = pairs[random.integers(len(pairs))]
            self.merges.setdefault(pair, len(self.merges))
            if (joined := pair[0] + pair[1]) not in self.tokens:
                self.tokens.append(joined)
        if rules == 'llama-bpe':  # a word that no merges lead to
            self.tokens.append(self.mapped(' whole'))

    def mapped(self, word):
        return ''.join(self.map[b] for b in word.encode())

    def rank(self, a, b):
        return self.merges.get((a, b))

    def encode(self, text):
        out = []
        for word in words(text, self.rules):
            mapped = self.mapped(word)
            whole = self.rules == 'llama-bpe' and mapped in self.tokens
            out += [self.tokens.index(s) for s in ([mapped] if whole else merged(mapped, self.rank))]
        return out

    def write(self, path):
        special = ['<|end|>', '<|e', '<tool>']
        gguf.write(path, {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': self.rules,
                          'tokenizer.ggml.tokens': self.tokens + special,
                          'tokenizer.ggml.token_type': [1] * len(self.tokens) + [3] * 3,
                          'tokenizer.ggml.merges': [f'{a} {b}' for a, b in self.merges]}, {})


class SentencePiece:
    def __init__(self, random):
        self.tokens = ['<unk>', '<s>', '</s>'] + [f'<0x{i:02X}>' for i in range(256)]
        self.scores = [0.0] * len(self.tokens)
        for text in texts(random, 60):
            text = self.marked(text)
            for _ in range(6):
                start = random.integers(len(text))
                piece = text[start:start + random.integers(1, 5)]
                if piece not in self.tokens:
                    self.tokens.append(piece)
                    self.scores.append(float(-random.integers(1, 40)))  # ties are wanted

    @staticmethod
    def marked(text):
        return '\u2581' + text.replace(' ', '\u2581')

    def encode(self, text):
        def cost(a, b):
            return -self.scores[self.tokens.index(a + b)] if a + b in self.tokens else None
        out = []
        for symbol in merged(self.marked(text), cost) if text else []:
            out += [self.tokens.index(symbol)] if symbol in self.tokens else [3 + b for b in symbol.encode()]
        return out

    def write(self, path):
        gguf.write(path, {'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.tokens': self.tokens,
                          'tokenizer.ggml.scores': self.scores, 'tokenizer.ggml.unknown_token_id': 0,
                          'tokenizer.ggml.token_type': [2, 3, 3] + [6] * 256 + [1] * (len(self.tokens) - 259)}, {})


class WordPiece:
    def __init__(self, random):
        self.tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]']
        for text in texts(random, 60):
            for word in self.split(text):
                for _ in range(3):
                    start = random.integers(len(word)) if random.random() < 0.5 else 0
                    piece = ('' if start else '\u2581') + word[start:start + random.integers(1, 4)]
                    if piece not in self.tokens:
                        self.tokens.append(piece)

    @staticmethod
    def split(text):
        text = ''.join(c for c in text if c in '\t\n\r' or unicodedata.category(c)[0] != 'C' or c.isspace())
        text = unicodedata.normalize('NFD', ''.join(c.lower() for c in text))
        text = ''.join(c for c in text if unicodedata.category(c) != 'Mn')
        alone = ''.join(f' {c} ' if unicodedata.category(c)[0] == 'P' or c in '$+<=>^`|~' or 0x4e00 <= ord(c) <= 0x9fff or
                        0x3400 <= ord(c) <= 0x4dbf or 0xf900 <= ord(c) <= 0xfaff else c for c in text)
        return alone.split()

    def encode(self, text):
        out = []
        for word in self.split(text):
            pieces, at, marked = [], 0, '\u2581' + word
            if len(word) > 100:
                pieces, at = [1], len(marked)
            while at < len(marked):
                end = next((e for e in range(len(marked), at, -1) if marked[at:e] in self.tokens), None)
                if end is None:
                    pieces = [1]
                    break
                pieces.append(self.tokens.index(marked[at:end]))
                at = end
            out += pieces
        return out

    def write(self, path):
        gguf.write(path, {'tokenizer.ggml.model': 'bert', 'tokenizer.ggml.tokens': self.tokens,
                          'tokenizer.ggml.token_type': [3, 2, 3, 3] + [1] * (len(self.tokens) - 4),
                          'tokenizer.ggml.unknown_token_id': 1}, {})


POOL = "aabbetT's'lLrRvVdD  \n\r\t 0123459.,;!?-_()$+<>|\u00e9\u00c9\u00fc\u0301\u4e2d\u6587\u3042\u00bd\u0663\u2082\u00a0\u3000\u2003\u0915\u093f" \
       "\u0e01\u0e31\U0001f600\u200d\u2019\u00df\u0130\u01c5\u03a3\u0439\u00ad\u0378"


def texts(random, count):
    pool = [c for c in POOL if unicodedata.category(c) != 'Cn']
    fixed = ['', ' ', '  ', '\n\n', " I'll 'RE  x", 'a  1', '  whole  whole\n', "don't", '<|end|>', 'x<|e</s>', '\u2581', 'ab' * 200]
    return fixed + [''.join(random.choice(pool, random.integers(1, 40))) for _ in range(count)]


def random_texts(folder):
    for seed, make in enumerate([lambda r, n=name: ByteLevel(r, n) for name in RULES] + [SentencePiece, WordPiece]):
        random = np.random.default_rng(seed)
        model = make(random)
        path = os.path.join(folder, f'{seed}.gguf')
        model.write(path)
        some = texts(random, 300)
        got, wanted = tokenize(path, [t.encode() for t in some]), [model.encode(t) for t in some]
        bad = got if isinstance(got, str) else next(((t, g, w) for t, g, w in zip(some, got, wanted) if g != w), '')
        if not bad and len(got) != len(wanted):
            bad = f'{len(got)} texts instead of {len(wanted)}'
        report(f'{type(model).__name__} {getattr(model, "rules", "")}', bad)


def odd_bytes(folder):
    path = os.path.join(folder, '0.gguf')
    random = np.random.default_rng(9)
    got = tokenize(path, [random.integers(0, 256, 300).astype(np.uint8).tobytes() for _ in range(20)])
    report('bytes that are no UTF-8 have tokens', got if isinstance(got, str) else '')
    # A word of a megabyte: merging must not take time by its square.
    got = tokenize(path, [b'ab' * 500000])
    report('a word of a million letters', got if isinstance(got, str) or not got[0] else '')


def shared():
    for name in ('bert-bge', 'gpt-2', 'llama-bpe', 'llama-spm', 'qwen2', 'starcoder'):
        path = os.path.join(SHARED, f'ggml-vocab-{name}.gguf')
        if not os.path.exists(path):
            report(f'vocabulary {name}', '', 'the vocabularies of ../shared are not here')
            continue
        with open(path + '.inp', 'rb') as file:
            some = file.read().split(b'\n__ggml_vocab_test__\n')[:-1]
        with open(path + '.out', 'rb') as file:
            wanted = [[int(i) for i in line.split()] for line in file.read().split(b'\n')[:-1]]
        got = tokenize(path, some)
        report(f'vocabulary {name}', '' if got == wanted else got if isinstance(got, str) else
               next((s, g, w) for s, g, w in zip(some, got, wanted) if g != w))


with tempfile.TemporaryDirectory() as scratch:
    random_texts(scratch)
    odd_bytes(scratch)
shared()
print(f'1..{len(results)}')
sys.exit(not all(results))
