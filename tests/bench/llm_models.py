#!/usr/bin/env python3
"""GGUF files with random weights in the shapes of real models, in the mix of types that llama-quantize gives each file.

    llm_models.py FOLDER [NAME…]      NAME: SmolLM2-135M-Q4_0, …; all of them without one

Speed depends on shapes and types alone. What is there already stays.
"""
import os
import struct
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'llm'))
import gguf  # noqa: E402 (tests/llm)

BLOCKS = {'F32': (1, 4), 'F16': (1, 2), 'Q4_0': (32, 18), 'Q5_0': (32, 22), 'Q8_0': (32, 34), 'Q4_K': (256, 144), 'Q6_K': (256, 210)}
SCALES = {'Q4_0': (0,), 'Q5_0': (0,), 'Q8_0': (0,), 'Q4_K': (0, 2), 'Q6_K': (208,)}  # where a block has float16 scales
FALLBACKS = {'Q4_K': 'Q5_0', 'Q6_K': 'Q8_0'}  # of rows that are no whole number of super-blocks
TYPES = ('Q4_0', 'Q8_0', 'Q4_K_M', 'F16')
MODELS = {
    'SmolLM2-135M': {'architecture': 'llama', 'layers': 30, 'width': 576, 'inner': 1536, 'heads': 9, 'kv_heads': 3,
                     'vocabulary': 49152, 'base': 100000.0, 'context': 8192},
    'Qwen2.5-0.5B': {'architecture': 'qwen2', 'layers': 24, 'width': 896, 'inner': 4864, 'heads': 14, 'kv_heads': 2,
                     'vocabulary': 151936, 'base': 1000000.0, 'context': 32768},
    'Llama-3.2-1B': {'architecture': 'llama', 'layers': 16, 'width': 2048, 'inner': 8192, 'heads': 32, 'kv_heads': 8,
                     'vocabulary': 128256, 'base': 500000.0, 'context': 131072},
}
POOL = 1 << 20  # blocks or numbers that are made; a tensor repeats them


def pool(kind):
    """Random blocks of a type, whose weights are about as large as real ones."""
    random = np.random.default_rng(1)
    weights, size = BLOCKS[kind]
    if kind == 'F16':
        return random.normal(0, 0.02, POOL).astype('<f2').tobytes()
    count = POOL // weights
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    spread = {'Q4_0': 4.6, 'Q5_0': 9.2, 'Q8_0': 74, 'Q4_K': 4.6 * 31, 'Q6_K': 18.5 * 74}[kind]
    for at in SCALES[kind]:
        scale = random.uniform(0.5, 1.5, count) * 0.02 / spread * (4 if at else 1)
        blocks[:, at:at + 2] = scale.astype('<f2')[:, None].view(np.uint8)
    return blocks.tobytes()


def kind_of(name, columns, quantization, layer, layers):
    """As llama-quantize chooses."""
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    kind = quantization
    if quantization == 'Q4_K_M':
        kind = 'Q6_K' if name == 'token_embd' or (name in ('attn_v', 'ffn_down') and more) else 'Q4_K'
    elif quantization == 'Q4_0' and name == 'token_embd':  # which is the output, too
        kind = 'Q6_K'
    return FALLBACKS.get(kind, kind) if columns % 256 else kind


def layout(model, quantization):
    """[(name, type, shape)]"""
    width, inner, layers = model['width'], model['inner'], model['layers']
    keys = width // model['heads'] * model['kv_heads']
    tensors = [('token_embd.weight', kind_of('token_embd', width, quantization, 0, layers), (model['vocabulary'], width)),
               ('output_norm.weight', 'F32', (width,))]
    for layer in range(layers):
        for name, rows, columns in (('attn_q', width, width), ('attn_k', keys, width), ('attn_v', keys, width),
                                    ('attn_output', width, width), ('ffn_gate', inner, width), ('ffn_up', inner, width),
                                    ('ffn_down', width, inner)):
            kind = kind_of(name, columns, quantization, layer, layers)
            tensors.append((f'blk.{layer}.{name}.weight', kind, (rows, columns)))
            if model['architecture'] == 'qwen2' and name in ('attn_q', 'attn_k', 'attn_v'):
                tensors.append((f'blk.{layer}.{name}.bias', 'F32', (rows,)))
        tensors += [(f'blk.{layer}.{name}.weight', 'F32', (width,)) for name in ('attn_norm', 'ffn_norm')]
    return tensors


def keys_of(model):
    count = model['vocabulary']
    tokens = ['<unk>', '<s>', '</s>'] + [f'<0x{i:02X}>' for i in range(256)]
    tokens += [f't{i}' for i in range(count - len(tokens))]
    name = model['architecture']
    return {
        'general.architecture': name, f'{name}.block_count': model['layers'], f'{name}.context_length': model['context'],
        f'{name}.embedding_length': model['width'], f'{name}.feed_forward_length': model['inner'],
        f'{name}.attention.head_count': model['heads'], f'{name}.attention.head_count_kv': model['kv_heads'],
        f'{name}.attention.layer_norm_rms_epsilon': 1e-5, f'{name}.rope.freq_base': model['base'],
        f'{name}.rope.dimension_count': model['width'] // model['heads'], f'{name}.vocab_size': count,
        'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.scores': [-float(i) for i in range(count)],
        'tokenizer.ggml.token_type': [2, 3, 3] + [6] * 256 + [1] * (count - 259),
        'tokenizer.ggml.bos_token_id': 1, 'tokenizer.ggml.eos_token_id': 2, 'tokenizer.ggml.unknown_token_id': 0,
    }


def write(path, model, quantization):
    keys, tensors, pools, at = keys_of(model), layout(model, quantization), {}, 0
    head = struct.pack('<4sIQQ', b'GGUF', 3, len(tensors), len(keys))
    head += b''.join(gguf.text(key) + gguf.value(item) for key, item in keys.items())
    sizes = []
    for name, kind, shape in tensors:
        weights, size = BLOCKS[kind]
        head += gguf.text(name) + struct.pack('<I', len(shape)) + b''.join(struct.pack('<Q', n) for n in reversed(shape))
        head += struct.pack('<IQ', gguf.TYPES[kind], at)
        sizes.append(int(np.prod(shape)) // weights * size)
        at += sizes[-1] + -sizes[-1] % 32
    with open(path + '.new', 'wb') as file:
        file.write(head + bytes(-len(head) % 32))
        for (_, kind, shape), size in zip(tensors, sizes):
            if kind == 'F32':
                content = np.full(shape, 1.0 if len(shape) == 1 else 0.01, '<f4').tobytes()
            else:
                content = pools[kind] if kind in pools else pools.setdefault(kind, pool(kind))
            whole, rest = divmod(size, len(content))
            for _ in range(whole):
                file.write(content)
            file.write(content[:rest] + bytes(-size % 32))
    os.rename(path + '.new', path)


def main(folder, names):
    os.makedirs(folder, exist_ok=True)
    for name, model in MODELS.items():
        for quantization in TYPES:
            full = f'{name}-{quantization}'
            path = os.path.join(folder, full + '.gguf')
            if (not names or full in names) and not os.path.exists(path):
                write(path, model, quantization)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2:])
