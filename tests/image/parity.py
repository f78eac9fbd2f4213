#!/usr/bin/env python3
"""src/image against Pillow and numpy, byte for byte, on pictures drawn here and (where they are) on photographs.

Arguments: the probe, and the root of the source tree. TAP on standard output; skipped without Pillow or numpy.
"""
import io
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib

try:
    import numpy as np
    import PIL
    from PIL import Image, ImageOps
except ImportError as missing:
    print(f'1..0 # skip {missing} (Debian: python3-pil python3-numpy)')
    sys.exit(0)
import bombs  # noqa: E402
warnings.simplefilter('ignore')

PROBE, ROOT = sys.argv[1], sys.argv[2]
SHARED = os.environ.get('GUICHET_SHARED') or os.path.join(ROOT, '..', 'shared')
FILTERS = {0: 'nearest', 1: 'lanczos', 2: 'bilinear', 3: 'bicubic', 4: 'box', 5: 'hamming'}
tests = 0
failed = 0


class Probe:
    def __init__(self):
        self.process = subprocess.Popen([PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *fields):
        """-> an array of pixels or values, or the text of an error"""
        self.process.stdin.write(('\t'.join(map(str, fields)) + '\n').encode())
        self.process.stdin.flush()
        kind, _, rest = self.process.stdout.readline().decode().rstrip('\n').partition(' ')
        if kind in ('error', 'time', 'cost', ''):
            return rest or 'the probe died'
        width, height = map(int, rest.split())
        if kind == 'image':
            return np.frombuffer(self.process.stdout.read(width * height * 3), np.uint8).reshape(height, width, 3)
        return np.frombuffer(self.process.stdout.read(width * height * 12), np.float32).reshape(3, height, width)


probe = Probe()


def check(name, good, why=''):
    global tests, failed
    tests += 1
    failed += not good
    print(f'{"" if good else "not "}ok {tests} - {name}' + ('' if good else f': {why}'), flush=True)


def difference(ours, theirs):
    """'' where equal"""
    if isinstance(ours, str):
        return ours
    if ours.shape != theirs.shape:
        return f'shape {ours.shape}, not {theirs.shape}'
    unequal = np.count_nonzero(ours != theirs)
    return f'{unequal} of {ours.size} values differ, by {np.abs(ours.astype(float) - theirs).max()}' if unequal else ''


def reference(path):
    with Image.open(path) as image:
        image.load()  # turns a TIFF by itself; Pillow 9 would turn it twice
        return (image if path.endswith('.tif') else ImageOps.exif_transpose(image)).convert('RGB')


def drawing(width, height, seed=1):
    """Smooth shades, hard edges and noise, in all channels."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.RandomState(seed).randint(0, 60, (height, width, 3))
    shades = np.stack([x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1),
                       127 + 120 * np.sin(x / 7.0) * np.cos(y / 5.0)], 2)
    shades[((x // 16 + y // 16) % 2) == 0] *= 0.6
    return Image.fromarray(np.clip(shades + noise - 30, 0, 255).astype(np.uint8), 'RGB')


def png(width, height, depth, colour, rows, *chunks):
    """A PNG written by hand, for the kinds that Pillow does not write."""
    def chunk(name, data):
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)) + \
        b''.join(chunk(*c) for c in chunks) + \
        chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row for row in rows))) + chunk(b'IEND', b'')


def jpeg_files(folder):
    picture = drawing(121, 87)
    for subsampling in (0, 1, 2):
        for quality in (15, 75, 97):
            for progressive in (False, True):
                path = f'{folder}/rgb-{subsampling}-{quality}-{progressive}.jpg'
                picture.save(path, subsampling=subsampling, quality=quality, progressive=progressive)
                yield path
    picture.convert('L').save(f'{folder}/grey.jpg')
    yield f'{folder}/grey.jpg'
    picture.convert('CMYK').save(f'{folder}/cmyk.jpg', quality=90)
    yield f'{folder}/cmyk.jpg'
    for size in ((1, 1), (7, 3), (8, 8), (17, 33), (640, 3), (3, 640)):
        drawing(*size).save(f'{folder}/size-{size[0]}.jpg')
        yield f'{folder}/size-{size[0]}.jpg'
    for orientation in range(0, 10):
        for suffix in ('jpg', 'png', 'webp'):
            exif = Image.Exif()
            exif[0x0112] = orientation
            path = f'{folder}/turn{orientation}.{suffix}'
            drawing(50, 30).save(path, exif=exif, **({'lossless': True} if suffix == 'webp' else {}))
            yield path


def odd_jpeg_files(folder):
    for name, content in (('scan-each', bombs.jpeg(61, 47, scan_each=True, sampling=0x22)),
                          ('turned-sampled', bombs.jpeg(61, 47, sampling=0x21, orientation=7)),
                          ('four-progressive', bombs.jpeg(61, 47, 4, progressive=True))):
        with open(f'{folder}/{name}.jpg', 'wb') as file:
            file.write(content)
        yield f'{folder}/{name}.jpg'
    for orientation in range(2, 9):  # sizes that no block divides, through both passes of resizing
        exif = Image.Exif()
        exif[0x0112] = orientation
        drawing(131, 77).save(f'{folder}/odd{orientation}.jpg', exif=exif, subsampling=2, progressive=orientation % 2)
        yield f'{folder}/odd{orientation}.jpg'


def png_files(folder):
    picture = drawing(61, 47)
    rng = random.Random(2)
    for mode in ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I'):
        image = picture.convert('L').convert('I').point(lambda v: v * 4) if mode == 'I' else picture.convert(mode)
        if mode in ('LA', 'RGBA'):
            image.putalpha(picture.convert('L'))
        image.save(f'{folder}/{mode}.png')
        yield f'{folder}/{mode}.png'
    for colours in (2, 3, 4, 13, 16, 200):
        image = picture.quantize(colours)
        image.save(f'{folder}/palette{colours}.png', transparency=1)
        yield f'{folder}/palette{colours}.png'
    picture.save(f'{folder}/transparent.png', transparency=(0, 0, 0))
    yield f'{folder}/transparent.png'
    for depth, colour, channels in ((2, 0, 1), (4, 0, 1), (1, 0, 1), (16, 0, 1), (16, 2, 3), (16, 4, 2), (16, 6, 4),
                                    (8, 2, 3), (8, 4, 2), (8, 6, 4)):
        width, height = 13, 9
        rows = [bytes(rng.randrange(256) for _ in range((width * depth * channels + 7) // 8)) for _ in range(height)]
        path = f'{folder}/made-{depth}-{colour}.png'
        with open(path, 'wb') as file:
            file.write(png(width, height, depth, colour, rows, (b'gAMA', b'\0\0\xb1\x8f')))
        yield path
    if int(PIL.__version__.split('.')[0]) < 10:  # later ones have black where ours, as these do, has grey
        rows = [bytes(rng.randrange(6) for _ in range(13)) for _ in range(9)]
        with open(f'{folder}/short-palette.png', 'wb') as file:  # indices beyond the palette's end
            file.write(png(13, 9, 8, 3, rows, (b'PLTE', bytes(range(100, 112)))))
        yield f'{folder}/short-palette.png'
    for name, image in (('RGB', picture), ('L', picture.convert('L')), ('palette', picture.quantize(200))):
        with open(f'{folder}/interlaced-{name}.png', 'wb') as file:
            file.write(interlaced_png(image))
        yield f'{folder}/interlaced-{name}.png'


def interlaced_png(image):
    """Pillow writes none: the seven passes of PNG (Third Edition), 8.1."""
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b''.join(b'\0' + row.tobytes() for x, y, across, down in passes for row in pixels[y::down, x::across])
    palette = bombs.png_chunk(b'PLTE', bytes(image.getpalette()[:600])) if image.mode == 'P' else b''
    header = struct.pack('>IIBBBBB', *image.size, 8, {'RGB': 2, 'L': 0, 'P': 3}[image.mode], 0, 0, 1)
    return b'\x89PNG\r\n\x1a\n' + bombs.png_chunk(b'IHDR', header) + palette + \
        bombs.png_chunk(b'IDAT', zlib.compress(rows)) + bombs.png_chunk(b'IEND', b'')


def webp_files(folder):
    picture = drawing(77, 55)
    for name, image, options in (('lossy', picture, {'quality': 80}), ('lossless', picture, {'lossless': True}),
                                 ('alpha', picture.convert('RGBA'), {'quality': 60}),
                                 ('alpha-lossless', picture.convert('RGBA'), {'lossless': True, 'exact': True})):
        if image.mode == 'RGBA':
            image.putalpha(picture.convert('L'))
        image.save(f'{folder}/{name}.webp', **options)
        yield f'{folder}/{name}.webp'
    picture.save(f'{folder}/film.webp', save_all=True, append_images=[drawing(77, 55, 5)], duration=100)
    yield f'{folder}/film.webp'


def gif_files(folder):
    picture = drawing(61, 47)
    for name, image, options in (('plain', picture.quantize(200), {'interlace': 0}), ('interlaced', picture.quantize(64), {'interlace': 1}),
                                 ('transparent', picture.quantize(16), {'transparency': 3}), ('grey', picture.convert('L'), {}),
                                 ('bilevel', picture.convert('1'), {})):
        image.save(f'{folder}/{name}.gif', **options)
        yield f'{folder}/{name}.gif'
    picture.quantize(32).save(f'{folder}/film.gif', save_all=True, append_images=[drawing(61, 47, 5).quantize(32)], duration=100)
    yield f'{folder}/film.gif'
    for name, transparent in (('part', None), ('part-transparent', 7)):  # a frame within a larger canvas, and one that stands out
        stream = io.BytesIO()
        picture.quantize(32).save(stream, 'gif', **({} if transparent is None else {'transparency': transparent}))
        whole = bytearray(stream.getvalue())
        frame = whole.index(b',\0\0\0\0' + struct.pack('<HH', 61, 47))
        whole[frame + 1:frame + 5] = struct.pack('<HH', 5, 9)
        for width, height in ((80, 70), (30, 90)):
            whole[6:10] = struct.pack('<HH', width, height)
            path = f'{folder}/{name}-{width}.gif'
            with open(path, 'wb') as file:
                file.write(whole)
            yield path


def bmp(width, height, bits, pixels, compression=0, palette=b'', masks=b'', header=40):
    """A BMP written by hand; height < 0: from the top."""
    info = struct.pack('<IHHHH', 12, width, height, 1, bits) if header == 12 else \
        struct.pack('<IiiHHIIiiII', 40, width, height, 1, bits, compression, len(pixels), 2835, 2835, len(palette) // 4, 0)
    start = 14 + len(info) + len(masks) + len(palette)
    return b'BM' + struct.pack('<IHHI', start + len(pixels), 0, 0, start) + info + masks + palette + pixels


def bmp_files(folder):
    picture, rng = drawing(61, 47), random.Random(6)
    for mode in ('1', 'L', 'P', 'RGB', 'RGBA'):
        picture.convert(mode).save(f'{folder}/{mode}.bmp')
        yield f'{folder}/{mode}.bmp'
    palette = bytes(rng.randrange(256) if i % 4 < 3 else 0 for i in range(64))
    noise = lambda size: bytes(rng.randrange(256) for _ in range(size))
    made = {
        'nibbles': bmp(13, 9, 4, noise(8 * 9), palette=palette),
        'from-top': bmp(13, -9, 24, noise(40 * 9)),
        'core': bmp(13, 9, 24, noise(40 * 9), header=12),
        '555': bmp(13, 9, 16, noise(28 * 9)),
        '565': bmp(13, 9, 16, noise(28 * 9), 3, masks=struct.pack('<III', 0xf800, 0x7e0, 0x1f)),
        'fields': bmp(13, 9, 32, noise(52 * 9), 3, masks=struct.pack('<III', 0xff0000, 0xff00, 0xff)),
        'runs8': bmp(13, 4, 8, b'\5\3\0\4abcd\4\1\0\0\x0d\7\0\0\0\3xyz\0\x0a\2\0\0\x0d\1\0\1', 1,
                     palette=bytes(rng.randrange(256) for _ in range(1024))),
        'runs4': bmp(13, 3, 4, b'\x0d\x12\0\0\0\6\x12\x34\x56\0\x07\x31\0\0\x0d\x77\0\1', 2, palette=palette),
    }
    for name, content in made.items():
        with open(f'{folder}/{name}.bmp', 'wb') as file:
            file.write(content)
        yield f'{folder}/{name}.bmp'


def tiled_tiff(image, side):
    """Pillow writes none: an uncompressed TIFF (6.0, section 15) in square tiles."""
    across, down = -(-image.width // side), -(-image.height // side)
    tiles = [image.crop((x * side, y * side, (x + 1) * side, (y + 1) * side)).tobytes() for y in range(down) for x in range(across)]
    entries = [(256, 4, [image.width]), (257, 4, [image.height]), (258, 3, [8, 8, 8]), (259, 3, [1]), (262, 3, [2]), (277, 3, [3]),
               (322, 4, [side]), (323, 4, [side])]
    directory = 8 + 2 + 12 * (len(entries) + 2) + 4
    extra, table = b'', b''
    start = directory + 6 + 8 * len(tiles)
    entries += [(324, 4, [start + i * len(tiles[0]) for i in range(len(tiles))]), (325, 4, [len(tile) for tile in tiles])]
    for tag, kind, values in entries:
        packed = struct.pack(f'>{len(values)}{"HI"[kind == 4]}', *values)
        table += struct.pack('>HHI', tag, kind, len(values))
        table += packed.ljust(4, b'\0') if len(packed) <= 4 else struct.pack('>I', directory + len(extra))
        extra += packed if len(packed) > 4 else b''
    return b'MM\0*' + struct.pack('>IH', 8, len(entries)) + table + bytes(4) + extra + b''.join(tiles)


def tiff_files(folder):
    picture = drawing(61, 47)
    for mode in ('1', 'L', 'P', 'RGB', 'RGBA', 'LA'):
        for compression in ('raw', 'tiff_lzw', 'packbits', 'tiff_adobe_deflate'):
            path = f'{folder}/{mode}-{compression}.tif'
            picture.convert(mode).save(path, compression=compression)
            yield path
    for orientation in (1, 3, 6, 8):
        path = f'{folder}/turned{orientation}.tif'
        picture.save(path, tiffinfo={274: orientation})
        yield path
    with open(f'{folder}/tiles.tif', 'wb') as file:
        file.write(tiled_tiff(drawing(61, 47), 32))
    yield f'{folder}/tiles.tif'


def test_refused(folder):
    """What photographs do not use is refused in words."""
    picture = drawing(61, 47)
    for name, image, options, word in (('cmyk.tif', picture.convert('CMYK'), {}, 'CMYK'),
                                       ('fax.tif', picture.convert('1'), {'compression': 'group4'}, 'compressed'),
                                       ('jpeg.tif', picture, {'compression': 'jpeg'}, 'compressed'),
                                       ('float.tif', picture.convert('F'), {}, '32 bits')):
        image.save(f'{folder}/{name}', **options)
        answer = probe.ask('decode', f'{folder}/{name}')
        check(f'{name} is refused', isinstance(answer, str) and word in answer, answer)
    entries = [(256, 4, 1, 60), (257, 4, 1, 40), *((60000 + i, 1, 1 << 20, 8) for i in range(40))]
    deep = b'II*\0\x08\0\0\0' + struct.pack('<H', len(entries)) + b''.join(struct.pack('<HHII', *e) for e in entries) + bytes(1 << 21)
    with open(f'{folder}/tags.tif', 'wb') as file:
        file.write(deep)
    answer = probe.ask('decode', f'{folder}/tags.tif')
    check('a TIFF of many large tags is refused', isinstance(answer, str) and 'tags' in answer, answer)


def test_decoders(folder):
    for path in [*jpeg_files(folder), *odd_jpeg_files(folder), *png_files(folder), *webp_files(folder), *gif_files(folder),
                 *bmp_files(folder), *tiff_files(folder)]:
        check(f'decode {os.path.basename(path)}', not (why := difference(probe.ask('decode', path),
                                                                        np.asarray(reference(path)))), why)


def test_turned(folder):
    """Turned while they are resized."""
    for path in odd_jpeg_files(folder):
        upright, whys = reference(path), []
        for number, (width, height) in ((2, (40, 40)), (3, (90, 30)), (1, (200, 210)), (0, (33, 51)), (4, upright.size)):
            x, y = width // 4, height // 5
            theirs = np.asarray(upright.resize((width, height), number))[y:y + height // 2, x:x + width // 2]
            whys.append(difference(probe.ask('window', path, width, height, number, x, y, width // 2, height // 2), theirs))
        check(f'resize {os.path.basename(path)} turned', not any(whys), whys)


def test_damage(folder):
    """Any cut short of the end is an error in words, and so are sizes out of bounds."""
    picture = drawing(60, 40)
    for name, options in (('jpg', {}), ('progressive.jpg', {'progressive': True}), ('png', {}), ('webp', {}),
                          ('bmp', {}), ('gif', {}), ('lzw.tiff', {'compression': 'tiff_lzw'})):
        stream = io.BytesIO()
        picture.save(stream, {'jpg': 'jpeg', 'progressive.jpg': 'jpeg', 'lzw.tiff': 'tiff'}.get(name, name), **options)
        whole = stream.getvalue()[:-1 if name == 'gif' else None]  # a GIF's last byte says that there is no more
        bad = []
        for length in [*range(0, len(whole) - 1, max(1, len(whole) // 60)), len(whole) - 1]:
            path = f'{folder}/cut'
            with open(path, 'wb') as file:
                file.write(whole[:length])
            if not isinstance(probe.ask('decode', path), str):
                bad.append(length)
        check(f'a truncated {name} is refused', not bad, f'cut at {bad} of {len(whole)}')


def test_resize(folder):
    rng = random.Random(3)
    path = f'{folder}/source.png'
    for number, name in FILTERS.items():
        worst = ''
        sizes = [(1, 1, 5, 7), (5, 7, 1, 1), (64, 48, 64, 48), (64, 48, 64, 20), (64, 48, 30, 48), (300, 2, 3, 200),
                 (900, 700, 224, 256), (33, 21, 257, 129)]
        sizes += [tuple(rng.randrange(1, 200) for _ in range(4)) for _ in range(40)]
        for index, (from_w, from_h, to_w, to_h) in enumerate(sizes):
            picture = drawing(from_w, from_h, index)
            picture.save(path, compress_level=1)
            theirs = np.asarray(picture.resize((to_w, to_h), number))
            why = difference(probe.ask('resize', path, to_w, to_h, number), theirs)
            x, y = rng.randrange(to_w), rng.randrange(to_h)
            w, h = rng.randrange(1, to_w - x + 1), rng.randrange(1, to_h - y + 1)
            why = why or difference(probe.ask('window', path, to_w, to_h, number, x, y, w, h),
                                    theirs[y:y + h, x:x + w])
            worst = worst or (why and f'{from_w}x{from_h} to {to_w}x{to_h}: {why}')
        check(f'resize {name} of {len(sizes)} sizes, whole and in part', not worst, worst)


def hugging_face(image, width, height, short, number, crop_w, crop_h):
    """What transformers' image processors compute, step by step as they do, in numpy."""
    if short:
        low, high = sorted(image.size)
        long = int(short * high / low)
        width, height = (short, long) if image.size[0] <= image.size[1] else (long, short)
    pixels = np.asarray(image.resize((width, height), number))
    if crop_w:
        top, left = (height - crop_h) // 2, (width - crop_w) // 2
        bottom, right = top + crop_h, left + crop_w
        if top < 0 or left < 0 or bottom > height or right > width:
            new_h, new_w = max(crop_h, height), max(crop_w, width)
            padded = np.zeros((new_h, new_w, 3), np.uint8)
            top_pad, left_pad = math.ceil((new_h - height) / 2), math.ceil((new_w - width) / 2)
            padded[top_pad:top_pad + height, left_pad:left_pad + width] = pixels
            pixels = padded
            top, bottom, left, right = top + top_pad, bottom + top_pad, left + left_pad, right + left_pad
        pixels = pixels[max(0, top):bottom, max(0, left):right]
    values = (pixels * (1 / 255)).astype(np.float32)
    values = (values - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)
    return values.transpose(2, 0, 1)


def test_preprocess(folder):
    rng = random.Random(4)
    path = f'{folder}/source.png'
    worst = ''
    cases = [(100, 75, 0, 0, 64, 2, 56, 56), (75, 100, 0, 0, 64, 3, 64, 64), (100, 75, 40, 30, 0, 2, 64, 64),
             (100, 75, 41, 30, 0, 2, 64, 20), (33, 20, 50, 60, 0, 3, 0, 0), (20, 900, 0, 0, 24, 2, 31, 31)]
    for _ in range(60):
        low = rng.randrange(8, 90)
        cases.append((rng.randrange(2, 150), rng.randrange(2, 150), 0, 0, low, rng.choice([2, 3]),
                      rng.randrange(1, 100), rng.randrange(1, 100)))
    for index, (from_w, from_h, *rest) in enumerate(cases):
        picture = drawing(from_w, from_h, index)
        picture.save(path, compress_level=1)
        why = difference(probe.ask('tensor', path, *rest), hugging_face(picture, *rest))
        worst = worst or (why and f'{from_w}x{from_h} {rest}: {why}')
    check(f'preprocess {len(cases)} recipes', not worst, worst)


def test_photographs():
    folder = os.path.join(SHARED, 'data', 'imagenet250')
    photos = sorted(name for name in os.listdir(folder) if name.endswith('.JPEG')) if os.path.isdir(folder) else []
    if not photos:
        global tests
        tests += 1
        print(f'ok {tests} - photographs # skip there is no data/imagenet250 in {SHARED}')
        return
    decoded, resized = [], []
    for name in photos:
        path = os.path.join(folder, name)
        image = reference(path)
        if why := difference(probe.ask('decode', path), np.asarray(image)):
            decoded.append(f'{name}: {why}')
        if why := difference(probe.ask('tensor', path, 0, 0, 256, 2, 224, 224), hugging_face(image, 0, 0, 256, 2, 224, 224)):
            resized.append(f'{name}: {why}')
    check(f'decode {len(photos)} photographs', not decoded, decoded[:1])
    check(f'preprocess {len(photos)} photographs', not resized, resized[:1])


with tempfile.TemporaryDirectory() as scratch:
    test_decoders(scratch)
    test_turned(scratch)
    test_refused(scratch)
    test_damage(scratch)
    test_resize(scratch)
    test_preprocess(scratch)
    test_photographs()
print(f'1..{tests}')
sys.exit(failed > 0)
