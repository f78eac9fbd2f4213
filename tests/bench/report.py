"""What bench.py measured, as a section of docs/benchmarks.md and as a chart."""
import os

import chart
import section

ORDER = ['resnet50', 'resnet152', 'vgg16', 'convnext_base', 'swin_b', 'mobilenet_v2', 'mobilenet_v2_qat', 'animals']
TITLES = {'resnet50': 'ResNet-50', 'resnet152': 'ResNet-152', 'vgg16': 'VGG-16', 'convnext_base': 'ConvNeXt-B',
          'swin_b': 'Swin-B', 'mobilenet_v2': 'MobileNetV2', 'mobilenet_v2_qat': 'MobileNetV2, trained for int8',
          'animals': 'animals (the default model)'}
# What was set out to be reached: at most. Those of bfloat16 and int8 are for processors with AMX.
TARGETS = {
    'f32 / ort f32': {'resnet50': 0.88, 'resnet152': 0.88, 'vgg16': 1.0, 'convnext_base': 0.9, 'swin_b': 0.8,
                      'mobilenet_v2': 0.8},
    'auto / ort f32': {'resnet50': 0.17, 'resnet152': 0.17, 'vgg16': 0.25, 'convnext_base': 0.22, 'swin_b': 0.25,
                       'mobilenet_v2': 0.5},
    'int8 / ort f32': {'resnet50': 0.11, 'resnet152': 0.11, 'vgg16': 0.15},
    'int8 / ort int8': {'resnet50': 0.35, 'resnet152': 0.35, 'vgg16': 0.35, 'mobilenet_v2_qat': 0.5},
    'int8 / auto': {'resnet50': 1.0, 'resnet152': 1.0},
}
MOST_ABOVE = 15  # per cent of a ResNet's run above its convolutions and matrix products
MOST_START, MOST_BAKED_MS, MOST_MEMORY = 0.5, 150, 1.3


def ordered(results):
    return [name for name in ORDER if name in results] + sorted(set(results) - set(ORDER))


def title(name):
    return TITLES.get(name, name)


def verdict(value, most):
    return 'met' if value <= most else '**missed**'


def ms(value):
    return '' if value is None else f'{value:.2f}' if value < 10 else f'{value:.1f}' if value < 100 else f'{value:.0f}'


def judged(result, name, key):
    """'0.83 (at most 0.88: met)'"""
    ratio, most = result['ratio'].get(key), TARGETS.get(key, {}).get(name)
    if ratio is None:
        return ''
    return f'{ratio:.2f} (at most {most:.2f}: {verdict(ratio, most)})' if most else f'{ratio:.2f}'


def table(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '| --- |' + ' ---: |' * (len(head) - 1)]
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows]) + '\n'


def floats(speed, auto):
    rows = []
    for name in ordered(speed):
        time = speed[name]['ms']
        if 'ort f32' in time:
            rows.append([title(name), ms(time['ort f32']), ms(time.get('f32')), judged(speed[name], name, 'f32 / ort f32'),
                         ms(time.get('auto')), judged(speed[name], name, 'auto / ort f32')])
    return table(['network, batch 1', 'ONNX Runtime f32, ms', 'guichet f32, ms', 'ratio', f'guichet {auto}, ms', 'ratio'], rows)


def integers(speed):
    rows = []
    for name in ordered(speed):
        time = speed[name]['ms']
        if 'int8' in time:
            rows.append([title(name), ms(time.get('ort int8')), ms(time['int8']), judged(speed[name], name, 'int8 / ort int8'),
                         judged(speed[name], name, 'int8 / ort f32'), judged(speed[name], name, 'int8 / auto')])
    return rows and table(['int8, batch 1', 'ONNX Runtime, same file, ms', 'guichet, ms', 'ours / ONNX Runtime int8',
                           'ours / ONNX Runtime f32', 'our int8 / our default float'], rows)


def others(speed, auto):
    rows = []
    for name in ordered(speed):
        ratio = speed[name]['ratio']
        cells = [ratio.get(key) for key in ('f32 batch 8 / f32', 'auto batch 8 / auto', 'f32 AVX2 / ort f32',
                                            'f32 AVX-512 / ort f32')]
        if any(cell is not None for cell in cells):
            rows.append([title(name)] + ['' if cell is None else f'{cell:.2f}' for cell in cells])
    return rows and table(['ratio', 'f32: an image of a batch of 8 / alone', f'{auto}: an image of 8 / alone',
                           'f32 with AVX2 only / ONNX Runtime', 'f32 with AVX-512, no AMX / ONNX Runtime'], rows)


def starts(start, auto):
    rows = []
    for name in ordered(start):
        result = start[name]
        for key, label in (('ort f32', 'ONNX Runtime, f32'), ('f32', 'guichet, f32'), ('auto', f'guichet, {auto}'),
                           ('auto, baked', f'guichet, {auto}, baked')):
            if key not in result['ms']:
                continue
            ratio, memory = result['ratio'].get(key), result['peak'][key] / result['file']
            first = f'{result["ms"][key]:.0f}'
            text = f'{ratio:.2f}' if ratio is not None else ''
            held = f'{result["peak"][key] / 1e6:.0f}'
            if name == 'resnet152' and key == 'auto, baked':
                first += f' (at most {MOST_BAKED_MS}: {verdict(result["ms"][key], MOST_BAKED_MS)})'
            elif name == 'resnet152' and ratio is not None:
                text += f' (at most {MOST_START:.2f}: {verdict(ratio, MOST_START)})'
                held += f', {memory:.2f} of the file (at most {MOST_MEMORY}: {verdict(memory, MOST_MEMORY)})'
            rows.append([f'{title(name)}: {label}', first, text, held])
    return rows and table(['from exec to the first answer', 'ms', 'ratio', 'peak memory, MB'], rows)


def profile_lines(speed):
    for name in ordered(speed):
        above = speed[name].get('above_percent')
        if above is not None:
            yield (f'- {title(name)}: a whole run takes {above:.1f} % more than its convolutions and matrix products alone '
                   f'(at most {MOST_ABOVE} %: {verdict(above, MOST_ABOVE)}).')


def markdown(results):
    machine, speed, start = results['machine'], results['speed'], results['start']
    native = 'amx_bf16' in machine['flags'] or 'avx512_bf16' in machine['flags']
    auto, amx = 'bf16' if native else 'f32 (auto)', 'amx_bf16' in machine['flags']
    parts = ['## Speed, start and memory\n',
             f'{machine["date"]}; {machine["processor"]}, {machine["processors"]} processors '
             f'({", ".join(machine["flags"]) or "no vector extensions that matter"}); {machine["system"]}; guichet '
             f'{machine["guichet"]} with oneDNN {machine["onednn"]}; ONNX Runtime {machine["onnxruntime"]} '
             f'(onnxruntime-node). {machine["threads"]} threads each. Medians over {machine["rounds"]} rounds; a ratio is the '
             'median of the ratios of each round, ours over theirs: below 1 we are faster. Load average at the start: '
             f'{machine["load"]:.1f}.\n']
    if not amx:
        parts.append('The targets for bf16 and int8 were set for processors with AMX. **This one has none**: its bf16 and '
                     'int8 units do a fraction of that work, and the targets are shown beside what was reached all the same.\n')
    if speed:
        parts += ['![Time of one image against ONNX Runtime](benchmarks.svg)\n', floats(speed, auto)]
        parts += [integers(speed) or 'No int8 network could be made.\n', others(speed, auto) or '']
        parts.append('Instruction sets are limited by `ONEDNN_MAX_CPU_ISA`, for ours only: ONNX Runtime has no such setting and '
                     'uses all that the processor has, so these columns ask more of us than of it.\n')
        parts.append('\n'.join(profile_lines(speed)) + '\n')
        broken = [f'- {title(name)}, {key}: {reason}' for name in ordered(speed)
                  for key, reason in speed[name].get('failed', {}).items()]
        if broken:
            parts += ['Could not be measured:\n', '\n'.join(broken) + '\n']
    if start:
        parts += [starts(start, auto), 'A process from nothing (`guichet classify` of one photo; for ONNX Runtime, load and one '
                  'run), files in the page cache. Memory is the most that was resident at once, pages of the mapped file '
                  'included.\n']
    return '\n'.join(part for part in parts if part.strip())


def write(root, results, text):
    docs = os.path.join(root, 'docs')
    os.makedirs(docs, exist_ok=True)
    section.insert(os.path.join(docs, 'benchmarks.md'), 'speed', text)
    drawn = chart.draw(results, ordered, title) if results['speed'] else ''
    if drawn:
        with open(os.path.join(docs, 'benchmarks.svg'), 'w', encoding='utf-8') as file:
            file.write(drawn)
