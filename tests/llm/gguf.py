"""Writes GGUF files, and random blocks of every quantised type together with what they are worth."""
import struct

import numpy as np

TYPES = {'F32': 0, 'F16': 1, 'Q4_0': 2, 'Q4_1': 3, 'Q5_0': 6, 'Q5_1': 7, 'Q8_0': 8, 'Q2_K': 10, 'Q3_K': 11, 'Q4_K': 12,
         'Q5_K': 13, 'Q6_K': 14, 'IQ4_NL': 20, 'IQ4_XS': 23, 'BF16': 30}
NONLINEAR = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack('<Q', len(value)) + value


def value(item):
    """A value with its type: str, bool, int (u32), float (f32), or a list of one of them."""
    if isinstance(item, (list, tuple)):
        first = item[0] if item else 0
        kind, pack = (8, text) if isinstance(first, (str, bytes)) else (6, lambda x: struct.pack('<f', x)) \
            if isinstance(first, float) else (5, lambda x: struct.pack('<i', x))
        return struct.pack('<IIQ', 9, kind, len(item)) + b''.join(pack(x) for x in item)
    if isinstance(item, (str, bytes)):
        return struct.pack('<I', 8) + text(item)
    if isinstance(item, bool):
        return struct.pack('<IB', 7, item)
    if isinstance(item, float):
        return struct.pack('<If', 6, item)
    return struct.pack('<II', 4, item)


def write(path, keys, tensors, alignment=32):
    """tensors: {name: (type name, shape with the innermost axis last, bytes)}"""
    head = struct.pack('<4sIQQ', b'GGUF', 3, len(tensors), len(keys))
    head += b''.join(text(key) + value(item) for key, item in keys.items())
    data = b''
    for name, (kind, shape, content) in tensors.items():
        data += bytes(-len(data) % alignment)
        head += text(name) + struct.pack('<I', len(shape)) + b''.join(struct.pack('<Q', n) for n in reversed(shape))
        head += struct.pack('<IQ', TYPES[kind], len(data))
        data += content
    with open(path, 'wb') as file:
        file.write(head + bytes(-len(head) % alignment) + data)


def half(random, *shape):
    """float16 scales of a usual size, as (bytes, float64)."""
    numbers = (random.uniform(0.5, 2, shape) * 0.002).astype('<f2')
    return numbers.view(np.uint8).reshape(*shape, 2), numbers.astype(float)


def nibbles(packed):
    """[n, 16] bytes -> [n, 32]: low nibbles first."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1).astype(int)


def small_blocks(kind, random, count):
    """[count] blocks of 32 weights: (bytes, weights)."""
    scale_bytes, scale = half(random, count)
    packed = random.integers(0, 256, (count, 16), dtype=np.uint8)
    scale = scale[:, None]
    if kind == 'Q8_0':
        numbers = random.integers(-127, 128, (count, 32)).astype(np.int8)
        return np.hstack([scale_bytes, numbers.view(np.uint8)]), scale * numbers
    if kind == 'Q4_0':
        return np.hstack([scale_bytes, packed]), scale * (nibbles(packed) - 8)
    if kind == 'IQ4_NL':
        return np.hstack([scale_bytes, packed]), scale * NONLINEAR[nibbles(packed)]
    least_bytes, least = half(random, count)
    least = least[:, None]
    if kind == 'Q4_1':
        return np.hstack([scale_bytes, least_bytes, packed]), scale * nibbles(packed) + least
    fifth = random.integers(0, 256, (count, 4), dtype=np.uint8)
    whole = nibbles(packed) | np.unpackbits(fifth, axis=1, bitorder='little').astype(int) << 4
    if kind == 'Q5_0':
        return np.hstack([scale_bytes, fifth, packed]), scale * (whole - 16)
    return np.hstack([scale_bytes, least_bytes, fifth, packed]), scale * whole + least


def k_scales(random, count):
    """Eight 6-bit scales and minima in 12 bytes."""
    scales, leasts = (random.integers(0, 64, (count, 8)) for _ in range(2))
    packed = np.zeros((count, 12), np.uint8)
    packed[:, 0:4] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    packed[:, 4:8] = leasts[:, :4] | (leasts[:, 4:] >> 4) << 6
    packed[:, 8:12] = (scales[:, 4:] & 15) | (leasts[:, 4:] & 15) << 4
    return packed, scales, leasts


def k_blocks(kind, random, count):
    """Q4_K and Q5_K."""
    (scale_bytes, scale), (least_bytes, least) = half(random, count), half(random, count)
    packed, scales, leasts = k_scales(random, count)
    weights = random.integers(0, 32 if kind == 'Q5_K' else 16, (count, 8, 32))
    low = (weights[:, 0::2] & 15) | (weights[:, 1::2] & 15) << 4
    parts = [scale_bytes, least_bytes, packed]
    if kind == 'Q5_K':
        parts.append(((weights >> 4) << np.arange(8)[None, :, None]).sum(axis=1).astype(np.uint8))
    parts.append(low.reshape(count, 128).astype(np.uint8))
    worth = (scale[:, None] * scales)[..., None] * weights - (least[:, None] * leasts)[..., None]
    return np.hstack(parts), worth.reshape(count, 256)


def q6_blocks(random, count):
    scale_bytes, scale = half(random, count)
    weights = random.integers(0, 64, (count, 2, 4, 32))  # halves, groups
    low = (weights[:, :, :2] & 15) | (weights[:, :, 2:] & 15) << 4
    high = ((weights >> 4) << (2 * np.arange(4))[None, None, :, None]).sum(axis=2)
    scales = random.integers(-128, 128, (count, 16)).astype(np.int8)
    worth = (scale[:, None] * scales)[..., None] * (weights.reshape(count, 16, 16) - 32)
    return np.hstack([low.reshape(count, 128).astype(np.uint8), high.reshape(count, 64).astype(np.uint8),
                      scales.view(np.uint8), scale_bytes]), worth.reshape(count, 256)


def quarters(weights):
    """[n, 256] numbers below 4 -> 64 bytes: halves of 128, four groups of 32."""
    groups = weights.reshape(-1, 2, 4, 32) << (2 * np.arange(4))[None, None, :, None]
    return groups.sum(axis=2).reshape(-1, 64).astype(np.uint8)


def q2_blocks(random, count):
    (scale_bytes, scale), (least_bytes, least) = half(random, count), half(random, count)
    scales, leasts = (random.integers(0, 16, (count, 16)) for _ in range(2))
    weights = random.integers(0, 4, (count, 256))
    worth = (scale[:, None] * scales)[..., None] * weights.reshape(count, 16, 16) - (least[:, None] * leasts)[..., None]
    return np.hstack([(scales | leasts << 4).astype(np.uint8), quarters(weights), scale_bytes, least_bytes]), \
        worth.reshape(count, 256)


def q3_blocks(random, count):
    scale_bytes, scale = half(random, count)
    scales = random.integers(0, 64, (count, 16))
    weights = random.integers(-4, 4, (count, 256))
    high = (weights >= 0).reshape(count, 8, 32)
    mask = (high << np.arange(8)[None, :, None]).sum(axis=1).astype(np.uint8)
    packed = np.zeros((count, 12), np.uint8)
    packed[:, :8] = (scales[:, :8] & 15) | (scales[:, 8:] & 15) << 4
    for i in range(16):
        packed[:, 8 + i % 4] |= ((scales[:, i] >> 4) << (i // 4 * 2)).astype(np.uint8)
    worth = (scale[:, None] * (scales - 32))[..., None] * weights.reshape(count, 16, 16)
    return np.hstack([mask, quarters(weights & 3), packed, scale_bytes]), worth.reshape(count, 256)


def iq4_xs_blocks(random, count):
    scale_bytes, scale = half(random, count)
    scales = random.integers(0, 64, (count, 8))
    high = ((scales >> 4) << (2 * np.arange(8))).sum(axis=1).astype('<u2').view(np.uint8).reshape(count, 2)
    low = ((scales[:, 0::2] & 15) | (scales[:, 1::2] & 15) << 4).astype(np.uint8)
    packed = random.integers(0, 256, (count, 8, 16), dtype=np.uint8)
    worth = (scale[:, None] * (scales - 32))[..., None] * NONLINEAR[nibbles(packed)]
    return np.hstack([scale_bytes, high, low, packed.reshape(count, 128)]), worth.reshape(count, 256)


def matrix(kind, random, rows, columns, size=1.0):
    """A random matrix of this type: (its bytes, float64 [rows, columns])."""
    if kind in ('F32', 'F16', 'BF16'):
        numbers = random.normal(0, size, (rows, columns)).astype('<f4')
        if kind == 'F16':
            numbers = numbers.astype('<f2')
        if kind == 'BF16':
            bits = (numbers.view('<u4') >> 16).astype('<u2')
            return bits.tobytes(), (bits.astype('<u4') << 16).view('<f4').astype(float)
        return numbers.tobytes(), numbers.astype(float)

    weights = 256 if '_K' in kind or kind == 'IQ4_XS' else 32
    count = rows * columns // weights
    if weights == 32:
        blocks, worth = small_blocks(kind, random, count)
    elif kind == 'Q6_K':
        blocks, worth = q6_blocks(random, count)
    elif kind == 'Q2_K':
        blocks, worth = q2_blocks(random, count)
    elif kind == 'Q3_K':
        blocks, worth = q3_blocks(random, count)
    elif kind == 'IQ4_XS':
        blocks, worth = iq4_xs_blocks(random, count)
    else:
        blocks, worth = k_blocks(kind, random, count)
    return np.ascontiguousarray(blocks).tobytes(), worth.reshape(rows, columns)
