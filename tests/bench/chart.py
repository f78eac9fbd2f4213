"""The chart of docs/benchmarks.svg: for each network, time of one image against ONNX Runtime's in float32.

Plain SVG with its own style sheet, so that it is legible on light and on dark pages, and a title and a description for
those who listen to it."""
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 860, 210, 150
BAR, GAP, GROUP = 16, 4, 20
SERIES = [('ort f32', 'ONNX Runtime float32', 'peer'), ('ort int8', 'ONNX Runtime int8', 'peer8'),
          ('f32', 'guichet float32', 'f32'), ('auto', 'guichet bfloat16', 'bf16'), ('int8', 'guichet int8', 'int8')]
STYLE = '''
    .paper { fill: #ffffff } text { font: 13px system-ui, sans-serif; fill: #24292f }
    .number { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
    .head { font-size: 16px; font-weight: 600 } .small { font-size: 12px } .soft { fill: #57606a }
    .grid { stroke: #d0d7de } .one { stroke: #57606a; stroke-dasharray: 3 3 }
    .peer { fill: #8c959f } .peer8 { fill: #bfc6cd } .f32 { fill: #54aeff } .bf16 { fill: #0969da } .int8 { fill: #1a7f64 }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117 } .number { stroke: #0d1117 }
      text { fill: #e6edf3 } .soft { fill: #9198a1 } .grid { stroke: #3d444d } .one { stroke: #9198a1 }
      .peer { fill: #7d8590 } .peer8 { fill: #4b535d } .f32 { fill: #79c0ff } .bf16 { fill: #388bfd } .int8 { fill: #3fb68b }
    }
'''


def text(x, y, words, kind='', anchor='start'):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def bars_of(result, native):
    """-> (series, ratio, milliseconds) that were measured, against ONNX Runtime's float32 (its int8 where there is no float)"""
    time = result['ms']
    base = time.get('ort f32') or time.get('ort int8')
    if not base:
        return []
    ratios = {'f32': 'f32 / ort f32', 'auto': 'auto / ort f32',
              'int8': 'int8 / ort f32' if 'ort f32' in time else 'int8 / ort int8'}
    return [(entry, result['ratio'].get(ratios.get(entry[0]), time[entry[0]] / base), time[entry[0]])
            for entry in SERIES if entry[0] in time and (native or entry[0] != 'auto')]


def legend(y, used):
    parts, x = [], 16
    for key, name, kind in SERIES:
        if key in used:
            parts.append(f'<rect x="{x}" y="{y - 11}" width="12" height="12" rx="2" class="{kind}"/>')
            parts.append(text(x + 17, y, name, 'small'))
            x += 34 + 6.8 * len(name)
    return parts


def group(y, name, bars, scale):
    parts = [text(LEFT - 12, y + len(bars) * (BAR + GAP) / 2 + 2, name, '', 'end')]
    for (_, label, kind), ratio, ms in bars:
        width = max(1.0, ratio * scale)
        number = f'{ms:.2f}' if ms < 10 else f'{ms:.1f}'
        parts.append(f'<rect x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2" class="{kind}">'
                     f'<title>{escape(f"{name}, {label}: {number} ms, {ratio:.2f}")}</title></rect>')
        parts.append(text(LEFT + width + 6, y + BAR - 4, f'{ratio:.2f}  ·  {number} ms', 'number'))
        y += BAR + GAP
    return parts


def draw(results, ordered, title):
    speed, machine = results['speed'], results['machine']
    native = 'amx_bf16' in machine['flags'] or 'avx512_bf16' in machine['flags']  # else the default is float32, drawn already
    groups = [(title(name), bars_of(speed[name], native)) for name in ordered(speed)]
    groups = [(name, bars) for name, bars in groups if bars]
    if not groups:
        return ''
    most = max(ratio for _, bars in groups for _, ratio, _ in bars)
    scale = (WIDTH - LEFT - RIGHT) / max(1.0, most)
    used = {entry[0] for _, bars in groups for entry, _, _ in bars}
    top, y, body = 84, 84, []
    for name, bars in groups:
        body += group(y, name, bars, scale)
        y += len(bars) * (BAR + GAP) + GROUP
    grid = []
    for step in range(0, int(max(1.0, most) * 4) + 1):
        x, kind = LEFT + step / 4 * scale, 'one' if step == 4 else 'grid'
        grid.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{y - 8}" class="{kind}"/>')
        grid.append(text(x, y + 8, f'{step / 4:g}', 'small soft', 'middle'))
    words = '; '.join(f'{name}: ' + ', '.join(f'{entry[1]} {ratio:.2f} ({ms:.1f} ms)' for entry, ratio, ms in bars)
                      for name, bars in groups)
    head = 'Time of one image against ONNX Runtime (float32 = 1; shorter is faster)'
    foot = f'{machine["processor"]}, {machine["threads"]} threads, batch 1, {machine["date"]}'
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 44}" width="{WIDTH}" height="{y + 44}" role="img" '
        'aria-labelledby="title about">', f'<title id="title">{escape(head)}</title>', f'<desc id="about">{escape(words)}</desc>',
        f'<style>{STYLE}</style>', f'<rect width="{WIDTH}" height="{y + 44}" rx="8" class="paper"/>', text(16, 30, head, 'head'), *legend(58, used), *grid, *body,
        text(LEFT, y + 32, foot, 'small soft'), '</svg>\n'])
