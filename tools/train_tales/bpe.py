"""Byte-level byte pair encoding as GPT-2 does it: trained here, written into the GGUF."""
import collections
import functools
import re

SPECIAL = ['<|begin|>', '<|end|>', '<|system|>', '<|user|>', '<|tale|>']
BEGIN, END, SYSTEM, USER, TALE = range(5)
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+")


def printable():
    """GPT-2's character for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


BYTES = printable()


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.ranks = {pair: i for i, pair in enumerate(self.merges)}
        self.tokens = SPECIAL + list(BYTES.values()) + [a + b for a, b in self.merges]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.word = functools.lru_cache(200000)(self.word)

    def word(self, word):
        parts = [BYTES[b] for b in word.encode()]
        while len(parts) > 1:
            rank, at = min((self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == len(self.ranks):
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        return [self.ids[part] for part in parts]

    def encode(self, text):
        return [i for word in WORDS.findall(text) for i in self.word(word)]

    def decode(self, ids):
        back = {c: b for b, c in BYTES.items()}
        return bytes(back[c] for i in ids if i >= len(SPECIAL) for c in self.tokens[i]).decode(errors='replace')


def train(texts, count):
    """The merges for a vocabulary of `count` tokens: the most frequent pair first, of equal ones the first by spelling."""
    frequency = collections.Counter(word for text in texts for word in WORDS.findall(text))
    words = [([BYTES[b] for b in word.encode()], n) for word, n in frequency.items()]
    pairs, places = collections.Counter(), collections.defaultdict(set)
    for index, (parts, n) in enumerate(words):
        for pair in zip(parts, parts[1:]):
            pairs[pair] += n
            places[pair].add(index)
    merges = []
    while len(merges) < count - len(SPECIAL) - 256:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for index in places.pop(best):
            parts, n = words[index]
            for pair in zip(parts, parts[1:]):
                pairs[pair] -= n
            at = 0
            while at + 1 < len(parts):
                if (parts[at], parts[at + 1]) == best:
                    parts[at:at + 2] = [best[0] + best[1]]
                at += 1
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
                places[pair].add(index)
        del pairs[best]
    return merges
