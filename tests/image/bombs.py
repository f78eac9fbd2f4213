"""Photos that take far more memory than they have bytes, made without an image library."""
import struct
import zlib


def png_chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def exif(orientation):
    return b'II*\0\x08\0\0\0\1\0' + struct.pack('<HHIHH', 0x0112, 3, 1, orientation, 0) + bytes(4)


def png(width, height, colour=2, depth=8, interlaced=False, orientation=1, between=b''):
    """All zero."""
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth
    packer, parts = zlib.compressobj(9), []
    passes = [(8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)] if interlaced else [(1, 1)]
    offsets = [(0, 0), (4, 0), (0, 4), (2, 0), (0, 2), (1, 0), (0, 1)]
    for (across, down), (x, y) in zip(passes, offsets):
        columns, left = max(0, -(-(width - x) // across)), max(0, -(-(height - y) // down))
        row = bytes(1 + (columns * bits + 7) // 8) if columns else b''
        while left and row:
            rows = min(left, max(1, (1 << 20) // len(row)))
            parts.append(packer.compress(row * rows))
            left -= rows
    parts.append(packer.flush())
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, interlaced)
    palette = png_chunk(b'PLTE', b'\0\0\0\xff\xff\xff') if colour == 3 else b''
    turned = png_chunk(b'eXIf', exif(orientation)) if orientation > 1 else b''
    return b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', header) + palette + turned + between + \
        png_chunk(b'IDAT', b''.join(parts)) + png_chunk(b'IEND', b'')


def png_texts(count, kind=b'zTXt', megabytes=8):
    """Chunks of text that inflate to so many megabytes each."""
    packed = zlib.compress(b'a' * ((megabytes << 20) - 100), 9)
    middle = b'\0\0' if kind == b'zTXt' else b'\0\1\0\0\0'
    return b''.join(png_chunk(kind, b'k%d' % i + middle + packed) for i in range(count))


def png_profile(megabytes):
    return png_chunk(b'iCCP', b'p\0\0' + zlib.compress(bytes(megabytes << 20), 9))


def segment(marker, data):
    return bytes([0xff, marker]) + struct.pack('>H', len(data) + 2) + data


def jpeg(width, height, components=3, progressive=False, scan_each=False, sampling=0x11, orientation=1, repeat=1):
    """All grey: each block has a difference of 0 and ends there, two bits; one bit where scans are progressive.

    repeat: passes over the same pixels, of a progressive file."""
    code = bytes([1]) + bytes(15) + b'\0'  # one code, a bit long, for 0
    frame = struct.pack('>BHHB', 8, height, width, components) + b''.join(
        bytes([i + 1, 0x11 if i else sampling, 0]) for i in range(components))
    parts = [b'\xff\xd8']
    if orientation > 1:
        parts.append(segment(0xe1, b'Exif\0\0' + exif(orientation)))
    parts += [segment(0xdb, b'\0' + bytes([1]) * 64), segment(0xc2 if progressive else 0xc0, frame),
              segment(0xc4, b'\0' + code + b'\x10' + code)]
    across, down = sampling >> 4, sampling & 15
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    blocks = [across * down] + [1] * (components - 1)

    def scan(which, count, spectrum, bits):
        return segment(0xda, bytes([len(which)]) + b''.join(bytes([i + 1, 0]) for i in which) + spectrum) + \
            bytes((count * bits + 7) // 8)
    if progressive:
        parts.append(scan(range(components), units * sum(blocks), b'\0\0\1', 1))
        parts += [scan(range(components), units * sum(blocks), b'\0\0\x10', 1)] * (repeat - 1)
    elif scan_each:
        own = -(-width // 8) * -(-height // 8)
        parts += [scan([i], own if blocks[i] > 1 or max(blocks) == 1 else units, b'\0\x3f\0', 2)
                  for i in range(components)]
    else:
        parts.append(scan(range(components), units * sum(blocks), b'\0\x3f\0', 2))
    return b''.join(parts) + b'\xff\xd9'


def webp_chunk(kind, data):
    return kind + struct.pack('<I', len(data)) + data + bytes(len(data) & 1)


def webp_pixels(width, height):
    """Lossless, all one colour: no bits for any pixel."""
    bits, at = 0, 0
    for value, length in [(width - 1, 14), (height - 1, 14), (0, 1), (0, 3), (0, 1), (0, 1), (0, 1)] + [(1, 4)] * 5:
        bits |= value << at
        at += length
    return webp_chunk(b'VP8L', b'\x2f' + bits.to_bytes(16, 'little'))


class Bits:
    """From the lowest of each byte."""

    def __init__(self):
        self.value, self.at = 0, 0
        self.done = []

    def put(self, value, count):
        self.value |= value << self.at
        self.at += count
        if self.at >= 512:
            self.done.append((self.value & (1 << 512) - 1).to_bytes(64, 'little'))
            self.value >>= 512
            self.at -= 512

    def bytes(self):
        return b''.join(self.done) + self.value.to_bytes(self.at // 8 + 1, 'little')


def webp_groups(side, groups):
    """Lossless, side x side, all black, with so many groups of prefix codes, each used by one block of 4 x 4 pixels."""
    bits = Bits()
    for value, length in [(0x2f, 8), (side - 1, 14), (side - 1, 14), (0, 4), (0, 1), (0, 1), (1, 1), (0, 3), (0, 1)]:
        bits.put(value, length)
    for _ in range(2):  # green and red: all 256 values, 8 bits each
        bits.put(0, 1)
        bits.put(8, 4)  # twelve lengths of lengths, of which the last is that of "8"
        for length in [0] * 11 + [1]:
            bits.put(length, 3)
        for value, length in [(1, 1), (3, 3), (254, 8)]:  # 256 symbols
            bits.put(value, length)
    for _ in range(3):
        bits.put(1, 4)
    reverse = [int(f'{i:08b}'[::-1], 2) for i in range(256)]
    for block in range((side // 4) ** 2):
        group = block % groups
        bits.put(reverse[group & 255], 8)
        bits.put(reverse[group >> 8], 8)
    for _ in range(groups):
        bits.put(0b00010001000100010001, 20)
    return riff(webp_chunk(b'VP8L', bits.bytes()))


def riff(chunks):
    return b'RIFF' + struct.pack('<I', len(chunks) + 4) + b'WEBP' + chunks


def webp(width, height):
    return riff(webp_pixels(width, height))


def webp_animation(width, height, frame_width, frame_height):
    def three(*values):
        return b''.join(struct.pack('<I', value)[:3] for value in values)
    frame = three(0, 0, frame_width - 1, frame_height - 1, 100) + b'\0' + webp_pixels(frame_width, frame_height)
    return riff(webp_chunk(b'VP8X', b'\x02\0\0\0' + three(width - 1, height - 1)) + webp_chunk(b'ANIM', bytes(6)) +
                webp_chunk(b'ANMF', frame) * 2)


def gif(side):
    """side x side, all of one colour: each code stands for one pixel more than the last."""
    bits, left = Bits(), side * side
    bits.put(4, 3)
    while left > 0:
        bits.put(0, 3)
        left -= 1
        width, code = 3, 6
        while left > 0 and code < 4095:
            bits.put(code, width)
            left -= code - 4
            code += 1
            width += code == 1 << width and width < 12
        if left > 0:
            bits.put(4, width)  # clear
    bits.put(5, width)
    stream = bits.bytes()
    blocks = b''.join(bytes([len(part)]) + part for part in (stream[i:i + 255] for i in range(0, len(stream), 255)))
    return b'GIF89a' + struct.pack('<HHBBB', side, side, 0x91, 0, 0) + bytes(range(12)) + \
        b',' + struct.pack('<HHHHB', 0, 0, side, side, 0) + b'\2' + blocks + b'\0;'


def tiff(width, height, rows):
    """Grey, all zero, in strips of so many rows."""
    strips, offsets, counts, data = -(-height // rows), [], [], b''
    packed = {}
    for i in range(strips):
        lines = min(rows, height - i * rows)
        if lines not in packed:
            packed[lines] = zlib.compress(bytes(width * lines), 9)
            offsets.append(8 + len(data))
            data += packed[lines]
        else:
            offsets.append(offsets[0])
        counts.append(len(packed[lines]))
    lists = struct.pack(f'<{strips}I', *offsets) + struct.pack(f'<{strips}I', *counts)
    at = 8 + len(data)
    one = strips == 1
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
               (273, 4, strips, offsets[0] if one else at), (277, 3, 1, 1), (278, 4, 1, rows),
               (279, 4, strips, counts[0] if one else at + 4 * strips)]
    return b'II*\0' + struct.pack('<I', at + len(lists)) + data + lists + struct.pack('<H', len(entries)) + \
        b''.join(struct.pack('<HHII', *entry) for entry in entries) + bytes(4)


def all_bombs():
    """(name, bytes, whether it may be refused)"""
    yield 'rgb.png', png(10000, 10000), False
    yield 'grey16.png', png(10000, 10000, 0, 16), False
    yield 'palette1.png', png(10000, 10000, 3, 1), False
    yield 'rgba16.png', png(8000, 8000, 6, 16), False
    yield 'turned.png', png(10000, 10000, 3, 1, orientation=6), False
    yield 'turned-back.png', png(12000, 9000, 2, 8, orientation=3), False
    yield 'wide.png', png(30000, 4000), False
    yield 'high-and-turned.png', png(4000, 30000, orientation=8), False
    yield 'interlaced.png', png(6000, 6000, 2, 8, interlaced=True), False
    yield 'interlaced-large.png', png(10000, 10000, 2, 8, interlaced=True), True
    yield 'interlaced-palette.png', png(10000, 10000, 3, 1, interlaced=True), False
    yield 'ztxt.png', png(8, 8, between=png_texts(400)), False
    yield 'itxt.png', png(8, 8, between=png_texts(400, b'iTXt')), False
    yield 'iccp.png', png(8, 8, between=png_profile(500)), False
    yield 'one-colour.gif', gif(10000), False
    yield 'strips.tif', tiff(10000, 10000, 16), False
    yield 'lines.tif', tiff(2000, 30000, 1), False
    yield 'one-strip.tif', tiff(9000, 9000, 9000), False
    yield 'one-strip-large.tif', tiff(11000, 11000, 11000), True
    yield 'camera.jpg', jpeg(12000, 9000), False
    yield 'turned.jpg', jpeg(12000, 9000, orientation=6), False
    yield 'sampled.jpg', jpeg(12000, 9000, sampling=0x22, orientation=8), False
    yield 'four.jpg', jpeg(10000, 8000, 4), False
    yield 'progressive.jpg', jpeg(4000, 4000, progressive=True), False
    yield 'progressive-large.jpg', jpeg(10000, 10000, progressive=True), True
    yield 'progressive-sampled.jpg', jpeg(6000, 6000, progressive=True, sampling=0x22), False
    yield 'scan-each.jpg', jpeg(4000, 4000, scan_each=True), False
    yield 'scan-each-large.jpg', jpeg(10000, 10000, scan_each=True), True
    yield 'four-progressive.jpg', jpeg(10000, 10000, 4, progressive=True), True
    yield 'groups.webp', webp_groups(1024, 60000), True
    yield 'groups-few.webp', webp_groups(1024, 900), False
    yield 'lossless.webp', webp(4000, 4000), False
    yield 'lossless-large.webp', webp(10000, 10000), True
    yield 'canvas.webp', webp_animation(10000, 10000, 1, 1), False
    yield 'animation.webp', webp_animation(10000, 10000, 10000, 10000), True
