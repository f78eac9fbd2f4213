"""Stories sampled from stories260K, and the choice of those that are worth learning from.

The teacher has 260,000 weights: it spells and builds sentences well enough, but forgets whom it tells of. So many stories
are sampled, and few kept: whole ones, of common words, that keep their hero's name and come back to the nouns of their
beginning.
"""
import collections
import re
import struct

import numpy as np
import torch
import torch.nn.functional as F

BOS, EOS = 1, 2
OPENERS = [
    '', 'Once upon a time', 'One day', 'Once upon a time, there was a little {kind} named {name}.',
    'Once upon a time, there was a {adjective} {kind} named {name}.', '{name} was a {adjective} {kind}.', '{name} and',
    'One day, a {kind} named {name}', 'There was once a {adjective} {kind}.', 'In the forest, there lived a {kind} named {name}.',
]


class Teacher:
    """llama2.c's format: a head of seven numbers, then float32 weights, matrix after matrix, all layers of a kind together."""

    def __init__(self, weights, vocabulary):
        with open(weights, 'rb') as file:
            self.width, inner, self.layers, self.heads, self.kv_heads, count, self.context = struct.unpack('<7i', file.read(28))
            data = torch.from_numpy(np.fromfile(file, '<f4'))
        size, at = self.width // self.heads, 0
        self.tensors = {}
        for name, shape in (('embedding', (count, self.width)), ('attention_norm', (self.layers, self.width)),
                            ('q', (self.layers, self.width, self.width)), ('k', (self.layers, self.kv_heads * size, self.width)),
                            ('v', (self.layers, self.kv_heads * size, self.width)), ('o', (self.layers, self.width, self.width)),
                            ('mlp_norm', (self.layers, self.width)), ('gate', (self.layers, inner, self.width)),
                            ('down', (self.layers, self.width, inner)), ('up', (self.layers, inner, self.width)),
                            ('norm', (self.width,))):
            length = int(np.prod(shape))
            self.tensors[name] = data[at:at + length].view(shape)
            at += length
        self.pieces, self.scores = [], []
        with open(vocabulary, 'rb') as file:
            file.read(4)
            for _ in range(count):
                score, length = struct.unpack('<fi', file.read(8))
                self.pieces.append(file.read(length).decode())
                self.scores.append(score)
        self.index = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text):
        ids = [self.index[c] for c in ' ' + text] if text else []
        while True:
            merges = [(self.scores[self.index[a + b]], -i) for i, (a, b) in
                      enumerate(zip((self.pieces[i] for i in ids), (self.pieces[i] for i in ids[1:]))) if a + b in self.index]
            if not merges:
                return [BOS] + ids
            at = -max(merges)[1]
            ids[at:at + 2] = [self.index[self.pieces[ids[at]] + self.pieces[ids[at + 1]]]]

    def decode(self, ids):
        text = ''.join(self.pieces[i] for i in ids if i > 2)
        return re.sub(r'<0x(..)>', lambda m: chr(int(m[1], 16)), text).strip()

    def sample(self, prompt, count, temperature, length):
        """`count` stories that begin with the prompt's tokens."""
        t, size = self.tensors, self.width // self.heads
        keys = torch.zeros(self.layers, count, self.kv_heads, length, size)
        values = torch.zeros_like(keys)
        frequencies = 10000.0 ** (-torch.arange(0, size, 2) / size)
        tokens = torch.full((count, length), EOS)
        tokens[:, :len(prompt)] = torch.tensor(prompt)
        ended = torch.zeros(count, dtype=torch.bool)
        group = self.heads // self.kv_heads

        def norm(x, scale):
            return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * scale

        def turn(x, at):
            cos, sin = torch.cos(at * frequencies), torch.sin(at * frequencies)
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

        for at in range(length - 1):
            x = t['embedding'][tokens[:, at]]
            for i in range(self.layers):
                h = norm(x, t['attention_norm'][i])
                q = turn((h @ t['q'][i].T).view(count, self.kv_heads, group, size), at)
                keys[i, :, :, at] = turn((h @ t['k'][i].T).view(count, self.kv_heads, size), at)
                values[i, :, :, at] = (h @ t['v'][i].T).view(count, self.kv_heads, size)
                scores = q @ keys[i, :, :, :at + 1].transpose(-1, -2) * size ** -0.5
                x = x + (scores.softmax(-1) @ values[i, :, :, :at + 1]).reshape(count, self.width) @ t['o'][i].T
                h = norm(x, t['mlp_norm'][i])
                x = x + (F.silu(h @ t['gate'][i].T) * (h @ t['up'][i].T)) @ t['down'][i].T
            if at + 1 < len(prompt):
                continue
            logits = norm(x, t['norm']) @ t['embedding'].T
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]
            chosen[ended] = EOS
            tokens[:, at + 1] = chosen
            ended |= (chosen == EOS) | (chosen == BOS)
            if ended.all():
                break
        return [whole(self.decode(row.tolist())) for row in tokens]


def whole(text):
    """Up to the last sentence that ends."""
    end = re.match(r'.*[.!?]"?(?=\s|$)', text, re.S)
    return end[0] if end else ''


COMMON = set('the a an and to was in of it he she they his her their that with for you is on had said i not so them him but '
             'at be then my we up as when one day very were all there saw out from what this went big little happy like '
             'could can are no do me your have did loved named time once upon wanted liked'.split())


def words_of(text):
    return re.findall(r"[A-Za-z']+", text)


def coherence(text):
    """How well a story keeps to what it began with; below 0: it is broken."""
    sentences = re.findall(r'[^.!?]+[.!?]+"?', text)
    if not 6 <= len(sentences) <= 16 or not re.search(r'[.!?]"?$', text) or text.count('"') % 2:
        return -1
    if len({s.strip() for s in sentences}) < len(sentences):
        return -1
    words = [w.lower() for w in words_of(text)]
    triples = collections.Counter(zip(words, words[1:], words[2:], words[3:]))
    if triples.most_common(1)[0][1] > 2:
        return -1
    names = collections.Counter(w for w in re.findall(r'(?<=[a-z,] )[A-Z][a-z]+', text) if w != 'I')
    if len(names) > 2:
        return -1
    named = re.search(r'named ([A-Z][a-z]+)', text)
    if named and text.count(named[1]) < 4:
        return -1

    seen = {w for w in map(str.lower, words_of(' '.join(sentences[:3]))) if w not in COMMON}
    kept = [w for w in map(str.lower, words_of(' '.join(sentences[3:]))) if w not in COMMON]
    again = sum(w in seen for w in kept) / max(len(kept), 1)
    return again + 0.05 * min(len(names), 1)


def stories(weights, vocabulary, count, words, seed, say=print):
    """The best sixth of `count` stories; `words`: names, kinds and adjectives for their beginnings."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    teacher = Teacher(weights, vocabulary)
    told, batch = [], 512
    with torch.no_grad():
        for start in range(0, count, batch):
            opener = OPENERS[random.integers(len(OPENERS))].format(
                **{key: choices[random.integers(len(choices))] for key, choices in words.items()})
            told += teacher.sample(teacher.encode(opener), batch, 0.75, 300)
            if start // batch % 2 == 1:
                say(f'teacher: {start + batch} of {count} stories', flush=True)

    frequent = collections.Counter(w for story in told for w in set(words_of(story.lower())))
    rare = {w for w, n in frequent.items() if n < max(4, count // 1500)}
    judged = sorted(((coherence(story), story) for story in told if not rare & set(words_of(story.lower()))), reverse=True)
    judged = [(score, story) for score, story in judged if score > 0]
    return [story for _, story in judged[:count // 6]], len(told), len(judged)
