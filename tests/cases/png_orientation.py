#!/usr/bin/env python3
"""A PNG's orientation, wherever tools leave it: eXIf, ImageMagick's raw profiles (plain and compressed), XMP. The network
tells which colour is on top."""
import struct
import sys
import tempfile
import zlib

import case
import tiny

SIDE = 8


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def photo(between):
    """The left half is red, the right half is blue; `between`: chunks before the pixels."""
    row = b'\0' + bytes([255, 0, 0]) * (SIDE // 2) + bytes([0, 0, 255]) * (SIDE // 2)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', SIDE, SIDE, 8, 2, 0, 0, 0)) + between + \
        chunk(b'IDAT', zlib.compress(row * SIDE)) + chunk(b'IEND', b'')


def exif(orientation):
    return b'MM\0*' + struct.pack('>IH', 8, 1) + struct.pack('>HHIHH', 0x112, 3, 1, orientation, 0) + struct.pack('>I', 0)


def raw_profile(orientation, name=b'exif'):
    data = (b'Exif\0\0' + exif(orientation)).hex()
    lines = '\n'.join(data[at:at + 72] for at in range(0, len(data), 72))
    return b'\n' + name + b'\n%8d\n' % (len(data) // 2) + lines.encode() + b'\n'


def xmp(orientation):
    return (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>' % orientation)


def chunks(orientation):
    """Name -> the chunk."""
    key, profile = b'Raw profile type exif', raw_profile(orientation)
    return {'eXIf': chunk(b'eXIf', exif(orientation)),
            'zTXt': chunk(b'zTXt', key + b'\0\0' + zlib.compress(profile)),
            'tEXt': chunk(b'tEXt', key + b'\0' + profile),
            'zTXt, APP1': chunk(b'zTXt', b'Raw profile type APP1\0\0' + zlib.compress(raw_profile(orientation, b'APP1'))),
            'iTXt, XMP': chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + xmp(orientation))}


def network():
    """red: how much more red is in the top half than in the bottom one; blue: the opposite."""
    top = [1.0 if row < SIDE // 2 else -1.0 for row in range(SIDE) for _ in range(SIDE)]
    weights = [0.25 * value for sign in (1, -1) for channel in (1, 0, -1) for value in (sign * channel * t for t in top)]
    nodes = [tiny.node('Conv', ['photo', 'weights'], ['sums']), tiny.node('Flatten', ['sums'], ['logits'])]
    return case.network(nodes, [tiny.value_info('photo', ['n', 3, SIDE, SIDE])], [tiny.value_info('logits', ['n', 2])],
                        [tiny.tensor('weights', [2, 3, SIDE, SIDE], weights)])


def on_top(guichet, folder, between):
    """'red' or 'blue' for a photo that was turned, 'neither' for one that was not."""
    said = case.classify(guichet, folder, photo(between))
    if isinstance(said, str):
        return said
    return said[0]['label'] if said[0]['probability'] > 0.9 else 'neither'


def main():
    guichet, results = sys.argv[1], []
    with tempfile.TemporaryDirectory() as folder:
        case.folder_write(folder, network(), {'id2label': {'0': 'red', '1': 'blue'}})
        # 6: turned a quarter clockwise to be upright, so the left comes to the top; 8: the right does.
        for orientation, wanted in ((1, 'neither'), (3, 'neither'), (6, 'red'), (8, 'blue')):
            for name, between in chunks(orientation).items():
                said = on_top(guichet, folder, between)
                results.append((f'{name}, orientation {orientation}', '' if said == wanted else f'{said}, should be {wanted}'))
        damaged = chunk(b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(raw_profile(6))[:-9])
        said = on_top(guichet, folder, damaged)
        results.append(('a damaged text is ignored', '' if said in ('neither', 'red') else said))
    return case.check(results)


if __name__ == '__main__':
    sys.exit(main())
