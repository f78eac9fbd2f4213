#!/usr/bin/python3
"""Train the language model `tales`, a story-teller, and write it as GGUF.

Needs Debian's python3-torch, python3-numpy and libopenblas0-pthread; run it with /usr/bin/python3.

  train_tales.py data   FOLDER [--stories N] [--teacher STORIES260K_FOLDER]   write the stories, their tokenizer and their tokens
  train_tales.py train  FOLDER [--steps 2500]   train; goes on from FOLDER/checkpoint.pt where that is
  train_tales.py sample FOLDER [PROMPT…]        what it tells
  train_tales.py export FOLDER MODEL.gguf       write the checkpoint: float16 matrices, float32 norms

The recipe:
- Most stories come from plots (train_tales/plots.py), written so that they keep to their hero and object; names, animals, things
  and places vary, so that the network learns to copy rather than to remember. The rest are the best that stories260K told.
- A Llama of four layers of width 256, so that K-quants apply; its own byte-level vocabulary of 2,048 tokens, tied.
- Muon (orthogonalised momentum) for the matrices, Adam for the rest; the rate falls to 0 over the last 40 % of the steps.
- Three steps of four see texts of 256 tokens, which is quicker; the fourth has the whole context.
- Two threads, each with its own part of a batch: on a busy machine, nothing waits for anything but the end of a step.
"""
import os
os.environ |= {'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}  # before PyTorch reads them

import argparse
import concurrent.futures
import json
import math
import random
import signal
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'train_tales'))
import bpe
import grammar

VOCABULARY, CONTEXT, WIDTH, INNER, LAYERS, HEADS, KV_HEADS, HEAD = 2048, 512, 256, 512, 4, 4, 2, 64
BASE, EPSILON = 10000.0, 1e-5
CHUNK_TOKENS, CHUNKS = 1024, 2  # a thread takes so many tokens at once, and a step has so many of these parts

TEMPLATE = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "    {%- if message.role == 'system' %}{{ '<|system|>' + message.content }}\n"
    "    {%- elif message.role == 'user' %}{{ '<|user|>' + message.content }}\n"
    "    {%- elif message.role == 'assistant' %}{{ '<|tale|>' + message.content + '<|end|>' }}\n"
    "    {%- else %}{{ raise_exception('tales knows the roles system, user and assistant') }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|tale|>' }}{% endif %}")


# --- Data ------------------------------------------------------------------------------------------------------------

def encode_story(tokenizer, text):
    """-> tokens, and whether each is to be learned."""
    ids = [bpe.BEGIN, *tokenizer.encode(text), bpe.END]
    return ids, [1] * len(ids)


def encode_conversation(tokenizer, turns):
    ids, learned = [bpe.BEGIN], [0]
    for role, text in turns:
        words = tokenizer.encode(text)
        ids += [{'system': bpe.SYSTEM, 'user': bpe.USER, 'tale': bpe.TALE}[role], *words]
        learned += [0] + [int(role == 'tale')] * len(words)
        if role == 'tale':
            ids.append(bpe.END)
            learned.append(1)
    return ids, learned


def teacher_stories(folder, cache):
    if os.path.exists(cache):
        with open(cache, encoding='utf-8') as file:
            return json.load(file)
    import teacher
    words = {'name': 'Lily Tim Tom Ben Mia Sam Anna Max Sue Jack Lucy Timmy Bob Spot Sara Jane Amy Joe'.split(),
             'kind': 'girl boy dog cat bird bear bunny frog fish fox mouse duck lion monkey bug pig cow tree car'.split(),
             'adjective': 'big small happy kind brave sad clever red nice silly'.split()}
    told = teacher.stories(f'{folder}/stories260K.bin', f'{folder}/tok512.bin', 5120, words, 1)[0]
    with open(cache, 'w', encoding='utf-8') as file:
        json.dump(told, file)
    return told


def make_data(folder, count, teacher):
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(20261128)
    told = [grammar.Tale(rng).story() for _ in range(count * 55 // 100)]
    talks = [grammar.conversation(rng) for _ in range(count * 45 // 100)]
    borrowed = teacher_stories(teacher, os.path.join(folder, 'teacher.json')) if teacher else []
    sample = told[:12000] + [text for talk in talks[:6000] for _, text in talk] + borrowed
    merges = os.path.join(folder, 'merges.json')
    if not os.path.exists(merges):
        with open(merges, 'w', encoding='utf-8') as file:
            json.dump(bpe.train(sample, VOCABULARY), file)
    tokenizer = load_tokenizer(folder)

    held = [encode_story(tokenizer, grammar.Tale(random.Random(-1 - i)).story()) for i in range(200)]
    borrowed_held, borrowed = borrowed[::20], [story for i, story in enumerate(borrowed) if i % 20]
    documents = [encode_story(tokenizer, story) for story in told + borrowed * 2]
    documents += [encode_conversation(tokenizer, talk) for talk in talks]
    rng.shuffle(documents)
    for name, part in (('train', documents), ('held', held), ('held_teacher', [encode_story(tokenizer, s) for s in borrowed_held])):
        np.savez(os.path.join(folder, f'{name}.npz'), ids=np.array([i for ids, _ in part for i in ids], np.uint16),
                 learned=np.array([l for _, learned in part for l in learned], np.uint8))
    text = sum(map(len, told)) + sum(len(t) for talk in talks for _, t in talk)
    print(f'{len(told)} stories and {len(talks)} conversations of plots ({text / 1e6:.1f} MB), {len(borrowed)} stories of the teacher; '
          f'{sum(len(ids) for ids, _ in documents)} tokens')


def load_tokenizer(folder):
    with open(os.path.join(folder, 'merges.json'), encoding='utf-8') as file:
        return bpe.Tokenizer(json.load(file))


# --- Network ---------------------------------------------------------------------------------------------------------

def new_weights():
    torch.manual_seed(1)
    shapes = {'token_embd': (VOCABULARY, WIDTH), 'output_norm': (WIDTH,)}
    for i in range(LAYERS):
        shapes |= {f'blk.{i}.attn_norm': (WIDTH,), f'blk.{i}.attn_q': (HEADS * HEAD, WIDTH), f'blk.{i}.attn_k': (KV_HEADS * HEAD, WIDTH),
                   f'blk.{i}.attn_v': (KV_HEADS * HEAD, WIDTH), f'blk.{i}.attn_output': (WIDTH, HEADS * HEAD),
                   f'blk.{i}.ffn_norm': (WIDTH,), f'blk.{i}.ffn_gate': (INNER, WIDTH), f'blk.{i}.ffn_up': (INNER, WIDTH),
                   f'blk.{i}.ffn_down': (WIDTH, INNER)}
    weights = {}
    for name, shape in shapes.items():
        size = 0.02 if name == 'token_embd' else shape[-1] ** -0.5 * (0.2 if name.endswith(('output', 'down')) else 1)
        weights[name] = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * size
        weights[name].requires_grad_()
    return weights


def turns(length, start=0):
    angles = torch.arange(start, start + length)[:, None] * BASE ** (-torch.arange(0, HEAD, 2) / HEAD)
    return angles.cos()[:, None], angles.sin()[:, None]


def turn(x, cos, sin):
    """RoPE over neighbours, as architecture llama has it. x: [batch, length, heads, HEAD]"""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def norm(x, scale):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPSILON) * scale


def forward(w, ids, cache=None):
    """ids [batch, length] -> logits [batch, length, VOCABULARY]. `cache`: a list of (keys, values) by layer, which grows."""
    batch, length = ids.shape
    past = cache[0][0].shape[2] if cache and cache[0] else 0
    cos, sin = turns(length, past)
    hidden = torch.ones(length, past + length, dtype=torch.bool).triu(past + 1)
    x = F.embedding(ids, w['token_embd'])
    for i in range(LAYERS):
        p = f'blk.{i}.'
        h = norm(x, w[p + 'attn_norm'])
        q = turn((h @ w[p + 'attn_q'].T).view(batch, length, HEADS, HEAD), cos, sin).transpose(1, 2)
        k = turn((h @ w[p + 'attn_k'].T).view(batch, length, KV_HEADS, HEAD), cos, sin).transpose(1, 2)
        v = (h @ w[p + 'attn_v'].T).view(batch, length, KV_HEADS, HEAD).transpose(1, 2)
        if cache is not None:
            if cache[i]:
                k, v = torch.cat([cache[i][0], k], 2), torch.cat([cache[i][1], v], 2)
            cache[i] = (k, v)
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        scores = (q @ k.transpose(-1, -2) * HEAD ** -0.5).masked_fill(hidden, -math.inf)
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1) @ w[p + 'attn_output'].T
        h = norm(x, w[p + 'ffn_norm'])
        x = x + (F.silu(h @ w[p + 'ffn_gate'].T) * (h @ w[p + 'ffn_up'].T)) @ w[p + 'ffn_down'].T
    return norm(x, w['output_norm']) @ w['token_embd'].T


def tell(w, tokenizer, prompt, temperature=0.7, length=250, seed=1):
    """prompt: tokens -> the text that follows, and whether it came to an end."""
    generator = torch.Generator().manual_seed(seed)
    cache, said, ids = [None] * LAYERS, [], torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(min(length, CONTEXT - len(prompt))):
            logits = forward(w, ids, cache)[0, -1]
            token = int(logits.argmax()) if temperature == 0 else int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
            if token == bpe.END:
                return tokenizer.decode(said), True
            said.append(token)
            ids = torch.tensor([[token]])
    return tokenizer.decode(said), False


def prompt_tokens(tokenizer, text):
    """A text to go on with, or, after '> ', something said in a conversation."""
    if text.startswith('> '):
        return [bpe.BEGIN, bpe.USER, *tokenizer.encode(text[2:]), bpe.TALE]
    return [bpe.BEGIN, *tokenizer.encode(text)]


# --- Training --------------------------------------------------------------------------------------------------------

def orthogonal(g):
    """Newton-Schulz iterations towards the nearest orthogonal matrix (Jordan et al. 2024, "Muon")."""
    x = g / (g.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


class Optimiser:
    def __init__(self, weights):
        self.state = {name: {'m': torch.zeros_like(w), 'v': torch.zeros_like(w)} for name, w in weights.items()}
        self.steps = 0

    def step(self, weights, grads, rate):
        """`rate`: 1 at its height."""
        self.steps += 1
        with torch.no_grad():
            for (name, w), g in zip(weights.items(), grads):
                s = self.state[name]
                if w.dim() == 2 and name != 'token_embd':
                    s['m'].mul_(0.95).add_(g)
                    w.mul_(1 - 0.02 * 0.05 * rate)
                    w.sub_(orthogonal(g + 0.95 * s['m']), alpha=0.02 * rate * max(1, w.shape[0] / w.shape[1]) ** 0.5)
                else:
                    s['m'].mul_(0.9).add_(g, alpha=0.1)
                    s['v'].mul_(0.98).addcmul_(g, g, value=0.02)
                    m, v = (s[k] / (1 - b ** self.steps) for k, b in (('m', 0.9), ('v', 0.98)))
                    w.sub_(m / (v.sqrt() + 1e-8), alpha=0.003 * rate)


def losses(w, ids, learned):
    logits = forward(w, ids[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction='none')
    return (loss * learned[:, 1:].flatten()).sum(), learned[:, 1:].sum()


def perplexity(w, path):
    data = np.load(path)
    ids, learned = (torch.from_numpy(data[key].astype(np.int64)) for key in ('ids', 'learned'))
    ids, learned = (t[:len(t) // 256 * 256].view(-1, 256)[:32] for t in (ids, learned))
    with torch.no_grad():
        loss, count = losses(w, ids, learned)
    return math.exp(loss / count)


def save(path, weights, optimiser, seconds, seen):
    torch.save({'weights': {k: v.detach() for k, v in weights.items()}, 'state': optimiser.state, 'steps': optimiser.steps,
                'seconds': seconds, 'seen': seen}, path + '.new')
    os.replace(path + '.new', path)


def report(w, tokenizer, folder):
    held = [f'{perplexity(w, os.path.join(folder, name)):.3f}' for name in ('held.npz', 'held_teacher.npz')
            if os.path.exists(os.path.join(folder, name)) and len(np.load(os.path.join(folder, name))['ids']) >= 256]
    print(f'held out: perplexity {" / ".join(held)}')
    for prompt in ('Once upon a time', '> Hello', '> Tell me a story about a purple elephant and a kite.'):
        print(f'  {prompt} … {tell(w, tokenizer, prompt_tokens(tokenizer, prompt))[0]!r}', flush=True)


def train(folder, total_steps):
    data, tokenizer = np.load(os.path.join(folder, 'train.npz')), load_tokenizer(folder)
    ids, learned = (torch.from_numpy(data[key].astype(np.int64)) for key in ('ids', 'learned'))
    path, weights = os.path.join(folder, 'checkpoint.pt'), new_weights()
    optimiser, before, seen = Optimiser(weights), 0.0, 0
    if os.path.exists(path):
        saved = torch.load(path)
        for name, w in weights.items():
            w.data.copy_(saved['weights'][name])
        optimiser.state, optimiser.steps, before, seen = saved['state'], saved['steps'], saved['seconds'], saved['seen']
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
    print(f'{sum(w.numel() for w in weights.values())} weights, {len(ids)} tokens', flush=True)

    def part(starts):
        length = CHUNK_TOKENS // len(starts) + 1
        rows, wanted = (torch.stack([t[s:s + length] for s in starts]) for t in (ids, learned))
        loss, count = losses(weights, rows, wanted)
        return torch.autograd.grad(loss, list(weights.values())), loss.item(), count.item()

    started, spoken, shown = time.process_time(), time.time(), []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        while not ending:
            progress = optimiser.steps / total_steps
            if progress >= 1:
                break
            rng = np.random.default_rng([7, optimiser.steps])
            starts = rng.integers(0, len(ids) - CONTEXT - 1, (CHUNKS, 2 if optimiser.steps % 4 == 0 else 4))
            parts = list(pool.map(part, starts))
            total = sum(count for _, _, count in parts)
            grads = [sum(gs) / total for gs in zip(*(grads for grads, _, _ in parts))]
            optimiser.step(weights, grads, min(1, (optimiser.steps + 1) / 50, (1 - progress) / 0.4))
            shown.append(sum(loss for _, loss, _ in parts) / total)
            seen += CHUNKS * CHUNK_TOKENS
            if optimiser.steps % 20 == 0:
                print(f'step {optimiser.steps} of {total_steps}, {(before + time.process_time() - started) / 60:.1f} min of processor, {seen / 1e6:.2f} M tokens, loss {np.mean(shown[-20:]):.4f}', flush=True)
            if time.time() - spoken > 300:
                save(path, weights, optimiser, before + time.process_time() - started, seen)
                report(weights, tokenizer, folder)
                spoken = time.time()
    save(path, weights, optimiser, before + time.process_time() - started, seen)
    report(weights, tokenizer, folder)


# --- GGUF ------------------------------------------------------------------------------------------------------------

def text_bytes(text):
    return struct.pack('<Q', len(text.encode())) + text.encode()


def value_bytes(value):
    if isinstance(value, bool):
        return struct.pack('<I?', 7, value)
    if isinstance(value, int):
        return struct.pack('<II', 4, value)
    if isinstance(value, float):
        return struct.pack('<If', 6, value)
    if isinstance(value, str):
        return struct.pack('<I', 8) + text_bytes(value)
    kind = 8 if isinstance(value[0], str) else 5
    return struct.pack('<IIQ', 9, kind, len(value)) + b''.join(text_bytes(v) if kind == 8 else struct.pack('<i', v) for v in value)


def export(folder, path):
    weights, tokenizer = torch.load(os.path.join(folder, 'checkpoint.pt'))['weights'], load_tokenizer(folder)
    keys = {
        'general.architecture': 'llama', 'general.name': 'tales', 'general.author': 'guichet', 'general.license': 'mit',
        'general.description': 'Tells short tales for children', 'general.file_type': 1,
        'general.tags': ['text-generation', 'stories'], 'general.languages': ['en'],
        'llama.block_count': LAYERS, 'llama.context_length': CONTEXT, 'llama.embedding_length': WIDTH, 'llama.feed_forward_length': INNER,
        'llama.attention.head_count': HEADS, 'llama.attention.head_count_kv': KV_HEADS, 'llama.attention.layer_norm_rms_epsilon': EPSILON,
        'llama.rope.freq_base': BASE, 'llama.rope.dimension_count': HEAD, 'llama.vocab_size': VOCABULARY,
        'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'gpt-2', 'tokenizer.ggml.tokens': tokenizer.tokens,
        'tokenizer.ggml.token_type': [3] * len(bpe.SPECIAL) + [1] * (VOCABULARY - len(bpe.SPECIAL)),
        'tokenizer.ggml.merges': [' '.join(pair) for pair in tokenizer.merges], 'tokenizer.ggml.bos_token_id': bpe.BEGIN,
        'tokenizer.ggml.eos_token_id': bpe.END, 'tokenizer.ggml.add_bos_token': True, 'tokenizer.chat_template': TEMPLATE}
    head, data = struct.pack('<4sIQQ', b'GGUF', 3, len(weights), len(keys)), b''
    head += b''.join(text_bytes(key) + value_bytes(value) for key, value in keys.items())
    for name, w in weights.items():
        data += bytes(-len(data) % 32)
        head += text_bytes(name + '.weight') + struct.pack('<I', w.dim()) + b''.join(struct.pack('<Q', n) for n in reversed(w.shape))
        head += struct.pack('<IQ', int(w.dim() == 2), len(data))
        data += w.numpy().astype('<f2' if w.dim() == 2 else '<f4').tobytes()
    with open(path, 'wb') as file:
        file.write(head + bytes(-len(head) % 32) + data)
    print(f'{path}: {os.path.getsize(path)} bytes')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', choices=['data', 'train', 'sample', 'export'])
    parser.add_argument('folder')
    parser.add_argument('rest', nargs='*')
    parser.add_argument('--stories', type=int, default=70000)
    parser.add_argument('--teacher')
    parser.add_argument('--steps', type=int, default=2500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.task == 'data':
        make_data(arguments.folder, arguments.stories, arguments.teacher)
    elif arguments.task == 'train':
        train(arguments.folder, arguments.steps)
    elif arguments.task == 'export':
        export(arguments.folder, arguments.rest[0])
    else:
        weights, tokenizer = torch.load(os.path.join(arguments.folder, 'checkpoint.pt'))['weights'], load_tokenizer(arguments.folder)
        for prompt in arguments.rest or ['Once upon a time', '> Hello']:
            print(f'{prompt} … {tell(weights, tokenizer, prompt_tokens(tokenizer, prompt))[0]}\n')


main()
