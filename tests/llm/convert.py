#!/usr/bin/env python3
"""Folders of Hugging Face's to GGUF: models of every family that is read, written by this test in both forms, give the same logits."""
import json
import os
import struct
import subprocess
import sys
import tempfile

import decoder
import gguf
import numpy as np

PROGRAM = os.path.abspath(sys.argv[1])
HOME = tempfile.TemporaryDirectory()
ENVIRONMENT = dict(os.environ, HOME=HOME.name, LC_ALL='C.UTF-8', OMP_NUM_THREADS='1')
NAMES = {'attn_q': 'self_attn.q_proj', 'attn_k': 'self_attn.k_proj', 'attn_v': 'self_attn.v_proj', 'attn_output': 'self_attn.o_proj',
         'attn_q_norm': 'self_attn.q_norm', 'attn_k_norm': 'self_attn.k_norm', 'attn_norm': 'input_layernorm',
         'ffn_norm': 'post_attention_layernorm', 'ffn_gate': 'mlp.gate_proj', 'ffn_up': 'mlp.up_proj', 'ffn_down': 'mlp.down_proj'}
ENDS = {'token_embd.weight': 'model.embed_tokens.weight', 'output_norm.weight': 'model.norm.weight', 'output.weight': 'lm_head.weight'}
TYPES = {'llama2': 'llama', 'llama3': 'llama', 'mistral': 'mistral', 'qwen2': 'qwen2', 'qwen3': 'qwen3', 'smollm3': 'smollm3'}
results = []


def check(name, good, why=''):
    results.append(bool(good))
    print(f'{"ok" if good else "not ok"} {len(results)} - {name}', flush=True)
    if not good:
        print('# ' + str(why).replace('\n', '\n# '), flush=True)


def path(*names):
    return os.path.join(HOME.name, *names)


def run(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=120, cwd=HOME.name, env=ENVIRONMENT, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def apart(content, shape, heads):
    """Neighbours to halves, as Hugging Face has the rows of q and k."""
    rows = np.frombuffer(content, np.uint8).reshape(shape[0], -1)
    turned = rows.reshape(heads, shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(shape[0], -1)
    return turned.tobytes()


def their_name(name):
    if name in ENDS:
        return ENDS[name]
    _, layer, part, kind = name.split('.')
    return f'model.layers.{layer}.{NAMES[part]}.{kind}'


def safetensors(file_name, tensors):
    header, data = {'__metadata__': {'format': 'pt'}}, b''
    for name, (kind, shape, content) in tensors.items():
        header[name] = {'dtype': kind, 'shape': list(shape), 'data_offsets': [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    with open(file_name, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text + data)


def byte_characters():
    """GPT-2's characters for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def byte_vocabulary(count):
    tokens, merges = list(byte_characters().values()), []
    for pair in ('t h', 'th e', 'Ġ a', 'i n', 'e r', 'Ġ the', 'in g'):
        merges.append(pair)
        tokens.append(pair.replace(' ', ''))
    return tokens + [f'<|{i}|>' for i in range(count - len(tokens))], merges


def config_of(name, family):
    config = {'model_type': TYPES[name], 'num_hidden_layers': family.layers, 'hidden_size': family.width, 'intermediate_size': family.inner,
              'num_attention_heads': family.heads, 'num_key_value_heads': family.kv_heads, 'head_dim': family.head_size,
              'rms_norm_eps': family.epsilon, 'rope_theta': family.base, 'max_position_embeddings': 256, 'hidden_act': 'silu',
              'tie_word_embeddings': family.tied, 'bos_token_id': 290, 'eos_token_id': 291}
    if family.factors:
        config['rope_scaling'] = {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
                                  'original_max_position_embeddings': 128}
    return config


def llama3_factors(family):
    half = np.arange(family.head_size // 2)
    length = 2 * np.pi * family.base ** (2 * half / family.head_size)
    smooth = (128 / length - 1) / (4 - 1)
    factors = np.where(length < 128 / 4, 1, np.where(length > 128, 8, 1 / ((1 - smooth) / 8 + smooth)))
    return ('F32', (len(half),), factors.astype('<f4').tobytes())


def write_both(name, shards=1):
    family = decoder.dataclasses.replace(decoder.FAMILIES[name], vocabulary=300)
    model = decoder.Model(family, 5, ('BF16',) if name == 'qwen3' else ('F32',))
    tokens, merges = byte_vocabulary(300)
    if family.factors:
        model.tensors['rope_freqs.weight'] = llama3_factors(family)
    keys = {key: value for key, value in model.keys().items() if not key.startswith('tokenizer')}
    keys |= {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'qwen2', 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.merges': merges,
             'tokenizer.ggml.token_type': [1] * 263 + [3] * 37, 'tokenizer.ggml.bos_token_id': 290, 'tokenizer.ggml.eos_token_id': 291,
             'tokenizer.ggml.add_bos_token': False}
    gguf.write(path(f'{name}.gguf'), keys, model.tensors)

    folder, theirs = path(name), {}
    os.makedirs(folder)
    for tensor, (kind, shape, content) in model.tensors.items():
        if tensor == 'rope_freqs.weight':
            continue
        part = tensor.split('.')[2] if tensor.startswith('blk') else ''
        if not family.halves and part in ('attn_q', 'attn_k'):
            content = apart(content, shape, shape[0] // family.head_size)
        theirs[their_name(tensor)] = (kind, shape, content)
    with open(os.path.join(folder, 'config.json'), 'w', encoding='utf-8') as file:
        json.dump(config_of(name, family), file)
    with open(os.path.join(folder, 'tokenizer.json'), 'w', encoding='utf-8') as file:
        json.dump({'added_tokens': [{'id': i, 'content': tokens[i], 'special': True} for i in range(263, 300)],
                   'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
                       {'type': 'Split', 'pattern': {'Regex': "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"}},
                       {'type': 'ByteLevel'}]},
                   'model': {'type': 'BPE', 'vocab': {t: i for i, t in enumerate(tokens[:263])}, 'merges': [m.split() for m in merges]}}, file)
    with open(os.path.join(folder, 'tokenizer_config.json'), 'w', encoding='utf-8') as file:
        json.dump({'add_bos_token': False, 'eos_token': {'content': tokens[291]}, 'chat_template': '{{ messages }}'}, file)
    if shards == 1:
        safetensors(os.path.join(folder, 'model.safetensors'), theirs)
        return folder
    index = {}
    for i in range(shards):
        file = f'model-{i + 1:05}-of-{shards:05}.safetensors'
        part = dict(list(theirs.items())[i::shards])
        safetensors(os.path.join(folder, file), part)
        index |= dict.fromkeys(part, file)
    with open(os.path.join(folder, 'model.safetensors.index.json'), 'w', encoding='utf-8') as file:
        json.dump({'weight_map': index}, file)
    return folder


def logits(model):
    done = run('logits', model, '--tokens', '290,3,77,150,20,9,255,260', '--precision', 'f32', '--output', 'out.f32')
    if done[0]:
        return str(done)
    with open(path('out.f32'), 'rb') as file:
        return file.read()


def check_family(name):
    folder = write_both(name, shards=3 if name == 'qwen2' else 1)
    done = run('convert', folder, '--output', f'{name}-new.gguf')
    check(f'{name} is converted', done[0] == 0, done)
    old, new = (logits(path(f'{name}{end}.gguf')) for end in ('', '-new'))
    if name == 'llama3':  # factors are computed by both sides
        near = isinstance(new, bytes) and np.allclose(np.frombuffer(old, '<f4'), np.frombuffer(new, '<f4'), rtol=1e-4, atol=1e-4)
        check(f'{name}: nearly the same logits', near, new if isinstance(new, str) else '')
    else:
        check(f'{name}: the same logits', old == new, new if isinstance(new, str) else '')


def fails(name, part, folder):
    done = run('convert', folder, '--output', 'none.gguf')
    check(name, done[0] == 1 and part in done[2] and done[2].count('\n') == 1 and not os.path.exists(path('none.gguf')), done)


def change(folder, file, **values):
    name = os.path.join(folder, file)
    with open(name, encoding='utf-8') as stream:
        content = json.load(stream)
    with open(name, 'w', encoding='utf-8') as stream:
        json.dump(content | values, stream)


def check_refusals(folder):
    weights = os.path.join(folder, 'model.safetensors')
    with open(weights, 'rb') as file:
        whole = file.read()
    length = struct.unpack('<Q', whole[:8])[0]
    header = json.loads(whole[8:8 + length])
    for name, broken in (('a file cut short', whole[:-1000]), ('within its header', whole[:100]), ('an empty file', b''),
                         ('a header that is too long', struct.pack('<Q', 1 << 62) + whole[8:])):
        with open(weights, 'wb') as file:
            file.write(broken)
        fails(name, 'model.safetensors', folder)
    for name, value in (('dtype', 'I64'), ('shape', [1 << 40, 1 << 40]), ('data_offsets', [8, 4]), ('data_offsets', [0, 1 << 62]), ('shape', [-1])):
        text = json.dumps(header | {'model.norm.weight': header['model.norm.weight'] | {name: value}}).encode()
        with open(weights, 'wb') as file:
            file.write(struct.pack('<Q', len(text)) + text + whole[8 + length:])
        fails(f'{name} {value}', 'model.norm.weight', folder)
    norm = header['model.norm.weight']['data_offsets']
    for name, part, text in (
            ('two tensors of the same bytes', 'overlap', header | {'model.layers.0.input_layernorm.weight':
                                                                  header['model.norm.weight'] | {'data_offsets': norm}}),
            ('a tensor of a layer missing', 'not a whole model', {key: value for key, value in header.items() if 'layers.1.self_attn.q_proj' not in key}),
            ('a matrix on its side', 'not a whole model', {
                key: value | {'shape': value['shape'][::-1]} if key == 'model.layers.0.mlp.down_proj.weight' else value
                for key, value in header.items()}),
            ('no last layer', 'lm_head.weight', {key: value for key, value in header.items() if key != 'lm_head.weight'})):
        change(folder, 'config.json', tie_word_embeddings=name != 'no last layer')
        text = json.dumps(text).encode()
        with open(weights, 'wb') as file:
            file.write(struct.pack('<Q', len(text)) + text + whole[8 + length:])
        fails(name, part, folder)
    change(folder, 'config.json', tie_word_embeddings=True)
    with open(weights, 'wb') as file:
        file.write(whole)
    done = run('convert', folder, '--output', weights)
    with open(weights, 'rb') as file:
        check('weights are not written over', done[0] == 1 and 'no GGUF file' in done[2] and file.read() == whole, done)
    change(folder, 'config.json', model_type='gpt_bigcode')
    fails('an architecture that is not read', 'gpt_bigcode', folder)
    change(folder, 'config.json', model_type='qwen2', rope_scaling={'rope_type': 'yarn'})
    fails('a scaling that is not read', 'yarn', folder)
    change(folder, 'config.json', rope_scaling=None, num_hidden_layers=1)
    fails('a tensor too many', 'is not one of', folder)


def main():
    for name in TYPES:
        check_family(name)
    with open(path('text.txt'), 'w', encoding='utf-8') as file:
        file.write('The cat there, thing 12345 isn\'t\n  "Café"! ' * 60)
    tokens = [run('tokenize', path(f'qwen3{end}.gguf'), path('text.txt'))[1] for end in ('', '-new')]
    check('the same tokens', tokens[0] == tokens[1] and len(tokens[0]) > 100, tokens)
    template = run('inspect', path('qwen3-new.gguf'))
    check('with its template', 'template    yes' in template[1], template)
    done = run('quantize', path('qwen2'), '--to', 'Q8_0', '--text', path('text.txt'), '--output', 'small')
    check('quantize takes folders', done[0] == 0 and os.path.exists(path('small/qwen2-Q8_0.gguf')), done)
    fails('a folder without a model', 'config.json', HOME.name)
    check_refusals(write_both_again())
    print(f'1..{len(results)}')
    sys.exit(not all(results))


def write_both_again():
    os.rename(path('qwen2'), path('qwen2-shards'))
    return write_both('qwen2')


main()
