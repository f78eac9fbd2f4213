"""A decoder in float64, written for clearness: random models of every family, and the logits they must give."""
import dataclasses

import gguf
import numpy as np


@dataclasses.dataclass
class Family:
    architecture: str
    halves: bool = True
    qk_norm: bool = False
    biases: bool = False
    after_norms: bool = False
    gelu: bool = False
    scaled: bool = False
    score_cap: float = 0
    logit_cap: float = 0
    window: int = 0
    window_period: int = 0
    unturned_period: int = 0
    fused: bool = False
    tied: bool = True
    factors: bool = False
    linear_scale: float = 1
    local_base: float = 0
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 16
    layers: int = 2
    width: int = 64
    inner: int = 96
    vocabulary: int = 96
    base: float = 10000.0
    epsilon: float = 1e-5


FAMILIES = {
    'llama2': Family('llama', halves=False, tied=False, kv_heads=4),
    'llama3': Family('llama', halves=False, factors=True, base=500000.0),
    'mistral': Family('llama', halves=False, tied=False, head_size=24),
    'qwen2': Family('qwen2', biases=True, base=1e6),
    'qwen3': Family('qwen3', qk_norm=True, head_size=32, base=1e6, epsilon=1e-6),
    'gemma2': Family('gemma2', after_norms=True, gelu=True, scaled=True, score_cap=50.0, logit_cap=30.0, window=8,
                     window_period=2, layers=4, head_size=32),
    'gemma3': Family('gemma3', after_norms=True, gelu=True, scaled=True, qk_norm=True, window=8, window_period=6, layers=7,
                     base=1e6, local_base=10000.0, kv_heads=1, linear_scale=8.0),
    'phi3': Family('phi3', fused=True, tied=False),
    'smollm3': Family('smollm3', halves=False, unturned_period=4, layers=5, base=5e6),
}


class Model:
    """Random weights; `kinds`: the types of matrices, in turn."""

    def __init__(self, family, seed, kinds=('F32',)):
        self.family, self.random, self.kinds = family, np.random.default_rng(seed), kinds
        self.tensors, self.worth, self.next_kind = {}, {}, 0
        f = family
        self.matrix('token_embd.weight', f.vocabulary, f.width)
        self.vector('output_norm.weight', f.width)
        if not f.tied:
            self.matrix('output.weight', f.vocabulary, f.width)
        if f.factors:
            self.vector('rope_freqs.weight', f.head_size // 2, 1, 4)
        for i in range(f.layers):
            self.layer(f'blk.{i}.')

    def matrix(self, name, rows, columns):
        kind = self.kinds[self.next_kind % len(self.kinds)]
        self.next_kind += 1
        content, self.worth[name] = gguf.matrix(kind, self.random, rows, columns, 1.5 / np.sqrt(columns))
        self.tensors[name] = (kind, (rows, columns), content)

    def vector(self, name, count, low=0.5, high=1.5):
        numbers = self.random.uniform(low, high, count).astype('<f4')
        self.tensors[name] = ('F32', (count,), numbers.tobytes())
        self.worth[name] = numbers.astype(float)

    def layer(self, prefix):
        f = self.family
        queries, keys = f.heads * f.head_size, f.kv_heads * f.head_size
        for name in ('attn_norm', 'ffn_norm') + (('post_attention_norm', 'post_ffw_norm') if f.after_norms else ()):
            self.vector(f'{prefix}{name}.weight', f.width)
        if f.fused:
            self.matrix(prefix + 'attn_qkv.weight', queries + 2 * keys, f.width)
            self.matrix(prefix + 'ffn_up.weight', 2 * f.inner, f.width)
        else:
            for name, rows in (('attn_q', queries), ('attn_k', keys), ('attn_v', keys)):
                self.matrix(f'{prefix}{name}.weight', rows, f.width)
                if f.biases:
                    self.vector(f'{prefix}{name}.bias', rows, -0.5, 0.5)
            self.matrix(prefix + 'ffn_gate.weight', f.inner, f.width)
            self.matrix(prefix + 'ffn_up.weight', f.inner, f.width)
        self.matrix(prefix + 'attn_output.weight', f.width, queries)
        self.matrix(prefix + 'ffn_down.weight', f.width, f.inner)
        if f.qk_norm:
            self.vector(prefix + 'attn_q_norm.weight', f.head_size)
            self.vector(prefix + 'attn_k_norm.weight', f.head_size)

    def keys(self):
        f, a = self.family, self.family.architecture
        keys = {'general.architecture': a, f'{a}.block_count': f.layers, f'{a}.context_length': 256,
                f'{a}.embedding_length': f.width, f'{a}.feed_forward_length': f.inner, f'{a}.attention.head_count': f.heads,
                f'{a}.attention.head_count_kv': f.kv_heads, f'{a}.attention.layer_norm_rms_epsilon': f.epsilon,
                f'{a}.attention.key_length': f.head_size, f'{a}.attention.value_length': f.head_size,
                f'{a}.rope.freq_base': f.base, f'{a}.rope.dimension_count': f.head_size}
        if f.score_cap:
            keys[f'{a}.attn_logit_softcapping'] = f.score_cap
        if f.logit_cap:
            keys[f'{a}.final_logit_softcapping'] = f.logit_cap
        if f.window:
            keys[f'{a}.attention.sliding_window'] = f.window
        if f.linear_scale != 1:
            keys[f'{a}.rope.scaling.type'] = 'linear'
            keys[f'{a}.rope.scaling.factor'] = f.linear_scale
        return keys | vocabulary(f.vocabulary)

    def write(self, path):
        gguf.write(path, self.keys(), self.tensors)

    def write_parts(self, stem, count):
        """As several files, tensors in turn."""
        names = list(self.tensors)
        for i in range(count):
            keys = (self.keys() if i == 0 else {}) | {'split.no': i, 'split.count': count, 'split.tensors.count': len(names)}
            gguf.write(f'{stem}-{i + 1:05}-of-{count:05}.gguf', keys, {n: self.tensors[n] for n in names[i::count]})

    def logits(self, tokens):
        f, w = self.family, self.worth
        x = w['token_embd.weight'][tokens] * (np.sqrt(f.width) if f.scaled else 1)
        for i in range(f.layers):
            p = f'blk.{i}.'
            added = self.attention(i, norm(x, w[p + 'attn_norm.weight'], f.epsilon))
            x = x + (norm(added, w[p + 'post_attention_norm.weight'], f.epsilon) if f.after_norms else added)
            added = self.mlp(p, norm(x, w[p + 'ffn_norm.weight'], f.epsilon))
            x = x + (norm(added, w[p + 'post_ffw_norm.weight'], f.epsilon) if f.after_norms else added)
        x = norm(x, w['output_norm.weight'], f.epsilon) @ w['token_embd.weight' if f.tied else 'output.weight'].T
        return f.logit_cap * np.tanh(x / f.logit_cap) if f.logit_cap else x

    def mlp(self, p, x):
        f, w = self.family, self.worth
        up = x @ w[p + 'ffn_up.weight'].T
        gate, up = (up[:, :f.inner], up[:, f.inner:]) if f.fused else (x @ w[p + 'ffn_gate.weight'].T, up)
        if f.gelu:
            gate = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate ** 3)))
        else:
            gate = gate / (1 + np.exp(-gate))
        return gate * up @ w[p + 'ffn_down.weight'].T

    def project(self, p, x):
        f, w = self.family, self.worth
        if f.fused:
            q, k = f.heads * f.head_size, f.kv_heads * f.head_size
            return np.split(x @ w[p + 'attn_qkv.weight'].T, [q, q + k], axis=1)
        return [x @ w[f'{p}{n}.weight'].T + w.get(f'{p}{n}.bias', 0) for n in ('attn_q', 'attn_k', 'attn_v')]

    def attention(self, layer, x):
        f, w, p = self.family, self.worth, f'blk.{layer}.'
        n = len(x)
        q, k, v = self.project(p, x)
        q, k, v = q.reshape(n, f.heads, -1), k.reshape(n, f.kv_heads, -1), v.reshape(n, f.kv_heads, -1)
        if f.qk_norm:
            q, k = norm(q, w[p + 'attn_q_norm.weight'], f.epsilon), norm(k, w[p + 'attn_k_norm.weight'], f.epsilon)
        local = f.window and layer % f.window_period != f.window_period - 1
        if not f.unturned_period or layer % f.unturned_period != f.unturned_period - 1:
            q, k = self.turn(q, local), self.turn(k, local)
        k, v = (np.repeat(t, f.heads // f.kv_heads, axis=1) for t in (k, v))
        scores = np.einsum('qhd,khd->hqk', q, k) / np.sqrt(f.head_size)
        if f.score_cap:
            scores = f.score_cap * np.tanh(scores / f.score_cap)
        distance = np.arange(n)[:, None] - np.arange(n)[None, :]
        hidden = (distance < 0) | (distance >= f.window if local else False)
        scores = np.where(hidden, -np.inf, scores)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out = np.einsum('hqk,khd->qhd', scores / scores.sum(axis=-1, keepdims=True), v)
        return out.reshape(n, -1) @ w[p + 'attn_output.weight'].T

    def turn(self, x, local):
        f = self.family
        base = f.local_base if local and f.local_base else f.base
        frequencies = base ** (-np.arange(0, f.head_size, 2) / f.head_size) / (1 if local else f.linear_scale)
        if f.factors:
            frequencies = frequencies / self.worth['rope_freqs.weight']
        angles = np.arange(len(x))[:, None, None] * frequencies
        a, b = np.split(x, 2, axis=-1) if f.halves else (x[..., 0::2], x[..., 1::2])
        turned = a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)
        return np.concatenate(turned, axis=-1) if f.halves else np.stack(turned, axis=-1).reshape(x.shape)


def norm(x, scale, epsilon):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * scale


def vocabulary(count):
    """Enough of a SentencePiece vocabulary for a file to be complete."""
    tokens = ['<unk>', '<s>', '</s>'] + [f'<0x{i:02X}>' for i in range(count - 3)]
    return {'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.scores': [0.0] * count,
            'tokenizer.ggml.token_type': [2, 3, 3] + [6] * (count - 3), 'tokenizer.ggml.bos_token_id': 1,
            'tokenizer.ggml.eos_token_id': 2, 'tokenizer.ggml.unknown_token_id': 0}
