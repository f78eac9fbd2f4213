#!/usr/bin/env python3
"""What the benchmarks' page says of made-up measurements: honest verdicts, a chart that is XML, sections left alone. TAP."""
import os
import sys
import tempfile
import xml.dom.minidom

sys.dont_write_bytecode = True
import load  # noqa: E402
import report  # noqa: E402
import section  # noqa: E402

RESULTS = {
    'machine': {'date': '1 May 2030', 'processor': 'A <fast> one', 'processors': 2, 'flags': ['avx2', 'avx512_bf16'],
                'system': 'Debian', 'guichet': '1', 'onednn': '3', 'onnxruntime': '1.30.0', 'threads': 2, 'rounds': 5, 'load': 0.1},
    'speed': {'resnet50': {'ms': {'ort f32': 20.0, 'f32': 15.0, 'auto': 10.0, 'ort int8': 8.0, 'int8': 2.0},
                           'ratio': {'f32 / ort f32': 0.75, 'auto / ort f32': 0.5, 'int8 / ort f32': 0.1, 'int8 / ort int8': 0.25,
                                     'int8 / auto': 0.2}, 'above_percent': 16.0, 'failed': {}},
              'mobilenet_v2_qat': {'ms': {'ort int8': 4.0, 'int8': 1.0}, 'ratio': {'int8 / ort int8': 0.25}, 'failed': {}},
              'swin_b': {'ms': {'ort f32': 90.0}, 'ratio': {}, 'failed': {'f32': 'it broke'}}},
    'start': {'resnet152': {'file': 100, 'ms': {'ort f32': 1000.0, 'f32': 400.0, 'auto': 600.0, 'auto, baked': 151.0},
                            'peak': {'ort f32': 300, 'f32': 129, 'auto': 140, 'auto, baked': 90},
                            'ratio': {'f32': 0.4, 'auto': 0.6, 'auto, baked': 0.151}}},
}
tests = failed = 0


def check(name, good):
    global tests, failed
    tests += 1
    failed += not good
    print(f'{"" if good else "not "}ok {tests} - {name}')


text = report.markdown(RESULTS)
check('a target that is reached is met', '0.75 (at most 0.88: met)' in text and '0.10 (at most 0.11: met)' in text)
check('one that is not is missed', '0.50 (at most 0.17: **missed**)' in text and '16.0 % more' in text
      and 'at most 15 %: **missed**' in text)
check('start and memory are judged', '151 (at most 150: **missed**)' in text and '0.40 (at most 0.50: met)' in text
      and '1.29 of the file (at most 1.3: met)' in text and '1.40 of the file (at most 1.3: **missed**)' in text)
check('a processor without AMX is said to have none', 'This one has none' in text)
check('what could not be measured is named', '- Swin-B, f32: it broke' in text)
columns = [line.count('|') for line in text.splitlines() if line.startswith('| ResNet-50 ')]
check('tables have their columns', columns == [7, 7])
with tempfile.TemporaryDirectory() as root:
    path = os.path.join(root, 'docs', 'benchmarks.md')
    report.write(root, RESULTS, text)
    section.insert(path, 'load', 'under load')
    report.write(root, RESULTS, text.replace('1 May', '2 May'))
    with open(path, encoding='utf-8') as file:
        page = file.read()
    check('each section is written once', page.count('<!-- speed:begin -->') == page.count('## Speed') == 1)
    check('a section is replaced and the others stay', '2 May 2030' in page and '1 May 2030' not in page and 'under load' in page)
    chart = xml.dom.minidom.parse(os.path.join(root, 'docs', 'benchmarks.svg')).documentElement
    described = chart.getElementsByTagName('desc')[0].firstChild.data
    check('the chart is described in words', 'ResNet-50: ONNX Runtime float32 1.00 (20.0 ms)' in described)
    bars = [bar for bar in chart.getElementsByTagName('rect') if bar.getElementsByTagName('title')]
    check('a bar is as long as its time', len(bars) == 8 and
          abs(float(bars[2].getAttribute('width')) / float(bars[0].getAttribute('width')) - 0.75) < 0.01)
steady = lambda p50, p99: {'p50': p50, 'p99': p99, 'errors': 0}
flood = lambda per_s, us: {'per_s': per_s, 'us': us, 'p50': 1, 'p99': 2, 'busy': 1, 'errors': 0}
latency = [{'direct': steady(50 + slow, 200), 'nginx': steady(140 + slow, 900), 'gateway': steady(130 + slow, 1300)} for slow in (0, 500, 9)]
text = load.gateway_markdown(latency, [{'nginx': flood(1000, 20), 'gateway': flood(900, 18)}, {'nginx': flood(100, 20), 'gateway': flood(60, 20)},
                                       {'nginx': flood(1000, 20), 'gateway': flood(800, 30)}])
check('what the gateway adds is that of neighbours', 'adds 80 µs at the median; in each round, 0.89 of what nginx adds (median; at most 0.9: met)' in text
      and 'adds 1100 µs at p99; in each round, 1.57 of what nginx adds (median; at most 0.9: **missed**)' in text)
check('its share of requests too', "0.80 of nginx's requests/s (at least 1.0: **missed**), at 1.00 of" in text)
print(f'1..{tests}')
sys.exit(failed > 0)
