"""A language model that always says the same: each token has one that follows it, and nothing else is likely.

One-hot embeddings, layers that add nothing, and an output matrix that is the table of what follows what.
"""
import gguf
import numpy as np

TEMPLATE = ('{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}'
            '{% if add_generation_prompt %}<|assistant|>{% endif %}')
ANSWER = ['▁Good', '▁day', '.', '▁Caf', b'\xc3', b'\xa9', '?', '<|end|>']
SPECIAL = ['<unk>', '<s>', '</s>', '<|end|>', '<|system|>', '<|user|>', '<|assistant|>']


def byte(value):
    return f'<0x{value:02X}>'


def name(token):
    return byte(token[0]) if isinstance(token, bytes) else token


def tables(answer, starts, special):
    """Names of all tokens, their kinds, and what follows: {token: token}."""
    special = SPECIAL + special
    words = list(dict.fromkeys(name(t) for t in answer if not isinstance(t, bytes) and t not in special))
    tokens = special + [byte(i) for i in range(256)] + words
    kinds = [2] + [3] * (len(special) - 1) + [6] * 256 + [1] * len(words)
    chain = list(map(name, answer))
    follows = dict(zip(chain, chain[1:])) | {name(start): chain[0] for start in starts}
    assert len(follows) == len(answer) - 1 + len(starts), 'a token of an answer has one successor'
    return tokens, kinds, {tokens.index(a): tokens.index(b) for a, b in follows.items()}


def write(path, answer=None, template=TEMPLATE, starts=('<|assistant|>', b'e'), context=256, kind='F32', split=1, special=()):
    """After one of `starts`, `answer` (words, or single bytes) to its last token; after any other token, the last one
    again. A text that ends in "e" is continued with the answer, too. `kind`: the type of the output matrix. `split`: files. `special`: more special tokens."""
    tokens, kinds, follows = tables(answer or ANSWER, starts, list(special))
    count = len(tokens)
    width = -(-count // 256) * 256
    last = tokens.index(name((answer or ANSWER)[-1]))
    table = np.zeros((count, width), '<f4')
    for token in range(count):
        table[follows.get(token, last), token] = 1
    embedding = np.eye(count, width, dtype='<f4')

    def matrix(rows, columns):
        return 'F32', (rows, columns), bytes(4 * rows * columns)

    def ones():
        return 'F32', (width,), np.ones(width, '<f4').tobytes()

    head, inner = 16, 32
    tensors = {'token_embd.weight': ('F32', (count, width), embedding.tobytes()), 'output_norm.weight': ones(),
               'output.weight': ('F16', (count, width), table.astype('<f2').tobytes()) if kind == 'F16' else
               ('F32', (count, width), table.tobytes()),
               'blk.0.attn_norm.weight': ones(), 'blk.0.ffn_norm.weight': ones(),
               'blk.0.attn_q.weight': matrix(head, width), 'blk.0.attn_k.weight': matrix(head, width),
               'blk.0.attn_v.weight': matrix(head, width), 'blk.0.attn_output.weight': matrix(width, head),
               'blk.0.ffn_gate.weight': matrix(inner, width), 'blk.0.ffn_up.weight': matrix(inner, width),
               'blk.0.ffn_down.weight': matrix(width, inner)}
    keys = {'general.architecture': 'llama', 'general.name': 'Parrot', 'llama.block_count': 1, 'llama.context_length': context,
            'llama.embedding_length': width, 'llama.feed_forward_length': inner, 'llama.attention.head_count': 1,
            'llama.attention.head_count_kv': 1, 'llama.attention.layer_norm_rms_epsilon': 1e-5,
            'llama.attention.key_length': head, 'llama.attention.value_length': head, 'llama.rope.freq_base': 10000.0,
            'llama.rope.dimension_count': head, 'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.tokens': tokens,
            'tokenizer.ggml.scores': [0.0] * count, 'tokenizer.ggml.token_type': kinds, 'tokenizer.ggml.bos_token_id': 1,
            'tokenizer.ggml.eos_token_id': 2, 'tokenizer.ggml.unknown_token_id': 0}
    if template:
        keys['tokenizer.chat_template'] = template
    if split == 1:
        gguf.write(path, keys, tensors)
        return
    names = list(tensors)
    for i in range(split):
        own = (keys if i == 0 else {}) | {'split.no': i, 'split.count': split, 'split.tensors.count': len(names)}
        gguf.write(path.replace('.gguf', f'-{i + 1:05}-of-{split:05}.gguf'), own, {n: tensors[n] for n in names[i::split]})
