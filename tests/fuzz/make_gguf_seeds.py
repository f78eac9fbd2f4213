#!/usr/bin/env python3
"""Write the seeds of fuzz_gguf: a small vocabulary of each kind, a decoder of two families, and all types of weights."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'llm'))
import decoder  # noqa: E402
import gguf  # noqa: E402
import numpy as np  # noqa: E402

folder = os.path.join(HERE, 'corpus', 'gguf')
os.makedirs(folder, exist_ok=True)
letters = [chr(c) for c in range(33, 127)] + ['\u0120']
gguf.write(os.path.join(folder, 'byte_level'), {
    'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.tokens': letters + ['ab', '\u0120ab', '<|e|>'],
    'tokenizer.ggml.token_type': [1] * (len(letters) + 2) + [3], 'tokenizer.ggml.merges': ['a b', '\u0120 ab'],
    'tokenizer.ggml.unknown_token_id': 0}, {})
gguf.write(os.path.join(folder, 'wordpiece'), {
    'tokenizer.ggml.model': 'bert', 'tokenizer.ggml.tokens': ['[UNK]', '\u2581a', 'b', '\u2581.'],
    'tokenizer.ggml.token_type': [2, 1, 1, 1], 'tokenizer.ggml.unknown_token_id': 0}, {})
small = {'width': 8, 'inner': 8, 'heads': 2, 'kv_heads': 1, 'head_size': 4, 'layers': 1, 'vocabulary': 16}
for name in ('gemma2', 'phi3'):
    family = decoder.FAMILIES[name]
    decoder.Model(decoder.Family(**{**family.__dict__, **small}), 1).write(os.path.join(folder, name))
random = np.random.default_rng(1)
gguf.write(os.path.join(folder, 'types'), {}, {kind: (kind, (1, 256), gguf.matrix(kind, random, 1, 256)[0]) for kind in gguf.TYPES})
