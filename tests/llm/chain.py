"""A language model whose text is known beforehand: each token says which one comes next.

Attention and MLP are zero, an embedding is one-hot, and row NEXT[i] of the output has a one at i. So the likeliest token
comes next with a probability near 1 at temperature 1, and by chance at a high one."""
import gguf
import numpy as np

CONTROL = ['<|user|>', '<|assistant|>', '<|end|>']
WORDS = [' one', ' two', ' three', ' four']
TEMPLATE = ('{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}'
            '{% if add_generation_prompt %}<|assistant|>{% endif %}')
BYTES = 3  # the token of byte 0
USER, ASSISTANT, END = range(BYTES + 256, BYTES + 259)
FIRST = END + 1
COUNT = FIRST + len(WORDS)
TEXT = ' one two threeé four'  # what it says, again and again
TOKENS = [FIRST, FIRST + 1, FIRST + 2, BYTES + 0xC3, BYTES + 0xA9, FIRST + 3]


def next_tokens():
    chain = dict.fromkeys(range(COUNT), FIRST)
    return chain | dict(zip(TOKENS, TOKENS[1:] + [END]))


def write(path, template=TEMPLATE, context=4096, strength=1.0, chain=None, words=(), kinds=None):
    """`chain`: other steps; `words`: more tokens; `kinds`: of some tokens, by number."""
    count = COUNT + len(words)
    width = (count + 31) // 32 * 32
    embedding = np.zeros((count, width), '<f4')
    embedding[range(count), range(count)] = 1
    output = np.zeros((count, width), '<f4')
    for token, after in (dict.fromkeys(range(count), FIRST) | next_tokens() | (chain or {})).items():
        output[after, token] = strength
    tensors = {'token_embd.weight': embedding, 'output.weight': output, 'output_norm.weight': np.ones(width, '<f4')}
    for name, shape in {'attn_norm': (width,), 'ffn_norm': (width,), 'attn_q': (16, width), 'attn_k': (16, width),
                        'attn_v': (16, width), 'attn_output': (width, 16), 'ffn_gate': (32, width), 'ffn_up': (32, width),
                        'ffn_down': (width, 32)}.items():
        tensors[f'blk.0.{name}.weight'] = (np.ones if 'norm' in name else np.zeros)(shape, '<f4')
    keys = {'general.architecture': 'llama', 'llama.block_count': 1, 'llama.embedding_length': width,
            'llama.feed_forward_length': 32, 'llama.attention.head_count': 1, 'llama.attention.key_length': 16,
            'llama.attention.value_length': 16, 'llama.rope.dimension_count': 16}
    gguf.write(path, keys | vocabulary_keys(context, template, words, kinds),
               {name: ('F32', data.shape, data.tobytes()) for name, data in tensors.items()})


def vocabulary_keys(context, template=TEMPLATE, words=(), kinds=None):
    """The keys of the vocabulary: single bytes, marks of the template, words."""
    count = COUNT + len(words)
    types = {token: 6 for token in range(BYTES, BYTES + 256)} | {0: 2, 1: 3, 2: 3, USER: 3, ASSISTANT: 3, END: 3} | (kinds or {})
    tokens = ['<unk>', '<s>', '</s>'] + [f'<0x{i:02X}>' for i in range(256)] + CONTROL + \
        [word.replace(' ', '▁') for word in [*WORDS, *words]]
    keys = {'llama.context_length': context, 'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.tokens': tokens,
            'tokenizer.ggml.scores': [0.0] * count, 'tokenizer.ggml.token_type': [types.get(token, 1) for token in range(count)],
            'tokenizer.ggml.bos_token_id': 1, 'tokenizer.ggml.eos_token_id': 2, 'tokenizer.ggml.unknown_token_id': 0,
            'tokenizer.ggml.add_space_prefix': False}
    return keys | ({'tokenizer.chat_template': template} if template else {})
