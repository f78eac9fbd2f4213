#!/usr/bin/env python3
"""Speed, start and memory of guichet and of ONNX Runtime, side by side in one run.

    bench.py PROGRAM [--models NAME,…] [--parts speed,start] [--rounds N] [--seconds S] [--threads N] [--no-write]

Everything that is compared is measured in every round, one after the other, each in a process of its own; a ratio is
that of two neighbours in one round, and what is printed is the median over the rounds. So a machine that slows down for a
while slows both. Needs node and the peer (tools/setup bench); networks are exported with export.py into .cache/zoo.
"""
import argparse
import datetime
import json
import os
import platform
import random
import shutil
import statistics
import struct
import subprocess
import sys
import zlib

import report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, 'tests', 'bench')
CACHE = os.path.join(ROOT, '.cache')
ZOO = os.path.join(CACHE, 'zoo')
SHARED = os.environ.get('GUICHET_SHARED') or os.path.join(ROOT, '..', 'shared')
PEER = os.path.join(HERE, 'peer.js')
NETWORKS = ['resnet50', 'resnet152', 'vgg16', 'convnext_base', 'swin_b', 'mobilenet_v2']
QUANTISED = ['resnet50', 'resnet152', 'vgg16']  # the others are float networks, or have a trained int8 file


def say(text):
    print(text, flush=True)


def png(path, side, seed):
    """A drawing for networks to look at: soft shades and some noise."""
    source = random.Random(seed)
    phases = [source.uniform(0.01, 0.08) for _ in range(6)]
    rows = bytearray()
    for y in range(side):
        rows.append(0)
        for x in range(side):
            for channel in range(3):
                shade = (x * phases[channel] + y * phases[3 + channel]) % 2
                rows.append(int(200 * abs(1 - shade)) + source.randrange(50))

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    with open(path, 'wb') as file:
        file.write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>2I5B', side, side, 8, 2, 0, 0, 0)) +
                   chunk(b'IDAT', zlib.compress(bytes(rows))) + chunk(b'IEND', b''))


def photos():
    folder = os.path.join(CACHE, 'bench', 'photos')
    if not os.path.isdir(folder):
        os.makedirs(folder + '.new', exist_ok=True)
        for i in range(9):
            png(os.path.join(folder + '.new', f'{i:02d}.png'), 256, i)
        os.rename(folder + '.new', folder)
    return folder


class Bench:
    def __init__(self, program, threads, rounds, seconds):
        self.program, self.threads, self.rounds, self.seconds = os.path.abspath(program), threads, rounds, seconds
        self.environment = dict(os.environ, NODE_PATH=os.path.join(CACHE, 'peer', 'node_modules'))

    def run(self, command, environment=None):
        """-> standard output, seconds, peak memory in bytes; raises with the command's own words."""
        started = datetime.datetime.now()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=dict(self.environment, **(environment or {})))
        out, err = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        elapsed = (datetime.datetime.now() - started).total_seconds()
        if process.returncode:
            raise RuntimeError(f'{" ".join(command)}: {err.decode().strip()[-300:]}')
        return out.decode(), elapsed, usage.ru_maxrss * 1024

    def ours(self, model, precision, batch=1, isa=None):
        command = [self.program, 'bench', model, '--batch', str(batch), '--precision', precision, '--threads',
                   str(self.threads), '--json', '--iters']
        return lambda iters: json.loads(self.run([*command, str(iters)], {'ONEDNN_MAX_CPU_ISA': isa} if isa else None)[0])

    def theirs(self, model, shape, batch=1):
        command = ['node', PEER, 'bench', model, '--shape', 'x'.join(map(str, (batch, *shape))), '--threads',
                   str(self.threads), '--iters']
        return lambda iters: json.loads(self.run([*command, str(iters)])[0])

    def measure(self, contenders):
        """{name: run(iters)} -> {name: [median ms of each round]}; one that fails is left out, with its reason."""
        iters, times, failed = {}, {}, {}
        for name, run in contenders.items():
            try:
                first = run(3)['median_ms']
                iters[name] = max(5, min(400, round(self.seconds * 1000 / first)))
                times[name] = []
            except (RuntimeError, ValueError, KeyError) as error:
                failed[name] = str(error)
                say(f'    {name}: {error}')
        for _ in range(self.rounds):
            for name, medians in times.items():
                medians.append(contenders[name](iters[name])['median_ms'])
        return times, failed


def export(name):
    path = os.path.join(ZOO, f'{name}.onnx')
    if not os.path.exists(path):
        say(f'  exporting {name}')
        folder = os.path.join(ZOO, 'new')
        subprocess.run([sys.executable, os.path.join(HERE, 'export.py'), folder, name], check=True, stdout=subprocess.DEVNULL)
        for file in os.listdir(folder):
            os.rename(os.path.join(folder, file), os.path.join(ZOO, file))
    return path


def quantise(bench, name, path):
    """Speed needs no good photos: drawings calibrate, and every layer is taken whatever it costs."""
    folder = os.path.join(ZOO, f'{name}-int8')
    made = os.path.join(folder, 'model_int8.onnx')
    if not os.path.exists(made):
        say(f'  quantising {name}')
        bench.run([bench.program, 'quantize', path, '--calibrate', photos(), '--method', 'minmax', '--max-loss', '100',
                   '--output', folder])
    return made


def networks(bench, names):
    """-> (name, float file, int8 file or None, shape of one input)"""
    os.makedirs(ZOO, exist_ok=True)
    for name in names:
        if name in NETWORKS:
            path, small = export(name), None
            if name in QUANTISED:
                try:
                    small = quantise(bench, name, path)
                except RuntimeError as error:
                    say(f'    no int8: {error}')
            yield name, path, small, (3, 224, 224)
        elif name == 'animals':
            folder = os.path.join(ROOT, 'models', 'animals')
            path, small = os.path.join(folder, 'model.onnx'), os.path.join(folder, 'model_int8.onnx')
            if os.path.exists(path):
                yield name, path, small if os.path.exists(small) else None, (3, 64, 64)
        elif name == 'mobilenet_v2_qat':
            path = os.path.join(SHARED, 'models', name, 'model.onnx')
            if os.path.exists(path):
                yield name, None, path, (3, 224, 224)
        else:
            sys.exit(f'bench: no network {name} (there are: {" ".join(NETWORKS)} animals mobilenet_v2_qat)')


def contenders_of(bench, path, small, shape):
    runs = {}
    if path:
        runs['ort f32'] = bench.theirs(path, shape)
        runs['f32'] = bench.ours(path, 'f32')
        runs['auto'] = bench.ours(path, 'auto')
    if small:
        runs['ort int8'] = bench.theirs(small, shape)
        runs['int8'] = bench.ours(small, 'auto')
    if path:
        runs['f32 batch 8'] = bench.ours(path, 'f32', batch=8)
        runs['auto batch 8'] = bench.ours(path, 'auto', batch=8)
        runs['f32 AVX2'] = bench.ours(path, 'f32', isa='AVX2')
        runs['f32 AVX-512'] = bench.ours(path, 'f32', isa='AVX512_CORE')
    return runs


def summary(times):
    """Median ms of each, and median ratios of neighbours."""
    result = {'ms': {name: statistics.median(values) for name, values in times.items()}, 'ratio': {}}
    for over, under in (('f32', 'ort f32'), ('auto', 'ort f32'), ('int8', 'ort f32'), ('int8', 'ort int8'), ('int8', 'auto'),
                        ('f32 AVX2', 'ort f32'), ('f32 AVX-512', 'ort f32'), ('f32 batch 8', 'f32'), ('auto batch 8', 'auto')):
        if over in times and under in times:
            images = 8 if over.endswith('batch 8') else 1
            result['ratio'][f'{over} / {under}'] = statistics.median(
                a / images / b for a, b in zip(times[over], times[under]))
    return result


def measure_profile(bench, path):
    """How much a whole run takes above its convolutions and matrix products, of the measured median run."""
    try:
        out = bench.run([bench.program, 'bench', path, '--precision', 'auto', '--threads', str(bench.threads), '--iters',
                         '50', '--profile', '--json'])[0]
        return json.loads(out)['profile']['above_percent']
    except (RuntimeError, KeyError):
        return None


def measure_speed(bench, names):
    results = {}
    for name, path, small, shape in networks(bench, names):
        say(f'  {name}')
        times, failed = bench.measure(contenders_of(bench, path, small, shape))
        results[name] = dict(summary(times), failed=failed, rounds=times)
        if name.startswith('resnet'):
            results[name]['above_percent'] = measure_profile(bench, path)
        for key, ratio in results[name]['ratio'].items():
            over, under = key.split(' / ')
            say(f'    {key:24s} {ratio:6.3f}   {results[name]["ms"][over]:9.3f} ms / {results[name]["ms"][under]:9.3f} ms')
    return results


def start_folder(name, path, kind):
    """The network alone in a folder, so that a baked file beside it is there or is not."""
    folder = os.path.join(ZOO, f'start-{kind}')
    shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    os.makedirs(os.path.join(folder, name))
    copy = os.path.join(folder, name, 'model.onnx')
    try:
        os.link(path, copy)
    except OSError:
        shutil.copyfile(path, copy)
    for file in ('config.json', 'preprocessor_config.json'):
        beside = os.path.join(os.path.dirname(path), file)
        if os.path.exists(beside):
            shutil.copyfile(beside, os.path.join(folder, name, file))
    return copy


def measure_start(bench, name, path, shape):
    """From exec to the end of the first answer, files in the page cache."""
    photo = os.path.join(photos(), '00.png')
    plain, baked = start_folder(name, path, 'plain'), start_folder(name, path, 'baked')
    classify = ['classify', photo, '--json', '--threads', str(bench.threads), '--model']
    runs = {'ort f32': ['node', PEER, 'load', path, '--shape', 'x'.join(map(str, (1, *shape))), '--threads',
                        str(bench.threads)],
            'f32': [bench.program, *classify, plain, '--precision', 'f32'],
            'auto': [bench.program, *classify, plain]}
    try:
        bench.run([bench.program, 'bake', baked])
        runs['auto, baked'] = [bench.program, *classify, baked]
    except RuntimeError as error:
        say(f'    not baked: {error}')
    seconds, peaks = {key: [] for key in runs}, {key: [] for key in runs}
    for _ in range(bench.rounds + 1):
        for key, command in runs.items():
            _, elapsed, peak = bench.run(command)
            seconds[key].append(elapsed)
            peaks[key].append(peak)
    result = {'file': os.path.getsize(path),  # the first round only warms the page cache
              'ms': {key: 1000 * statistics.median(values[1:]) for key, values in seconds.items()},
              'peak': {key: statistics.median(values[1:]) for key, values in peaks.items()},
              'ratio': {key: statistics.median(a / b for a, b in zip(values[1:], seconds['ort f32'][1:]))
                        for key, values in seconds.items() if key != 'ort f32'}}
    for key in runs:
        say(f'    {key:12s} {result["ms"][key]:8.1f} ms, at most {result["peak"][key] / 1e6:7.1f} MB')
    return result


def machine(bench):
    """What the numbers are true of."""
    with open('/proc/cpuinfo', encoding='utf-8') as lines:
        info = dict(line.strip().split('\t', 1) for line in lines if '\t' in line)
    flags = info.get('flags\t', info.get('flags', '')).replace(':', ' ').split()
    with open('/etc/os-release', encoding='utf-8') as lines:
        system = dict(line.strip().replace('"', '').split('=', 1) for line in lines if '=' in line)
    with open(os.path.join(CACHE, 'peer', 'node_modules', 'onnxruntime-node', 'package.json'), encoding='utf-8') as file:
        peer = json.load(file)['version']
    library = subprocess.run(['pkg-config', '--modversion', 'dnnl'], capture_output=True, text=True).stdout.strip()
    if not library:
        library = subprocess.run(['dpkg-query', '-W', '-f', '${Version}', 'libdnnl-dev'], capture_output=True,
                                 text=True).stdout.split('-')[0]
    wanted = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8')
    return {'processor': info.get('model name', platform.machine()).lstrip(': '), 'processors': os.cpu_count(),
            'flags': [flag for flag in wanted if flag in flags], 'system': system.get('PRETTY_NAME', platform.system()),
            'onednn': library, 'onnxruntime': peer, 'threads': bench.threads, 'rounds': bench.rounds,
            'guichet': bench.run([bench.program, '--version'])[0].split()[-1],
            'date': datetime.datetime.now(datetime.timezone.utc).strftime('%d %B %Y').lstrip('0'),
            'load': os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description='guichet beside ONNX Runtime')
    parser.add_argument('program')
    parser.add_argument('--models', default=','.join([*NETWORKS, 'animals', 'mobilenet_v2_qat']))
    parser.add_argument('--parts', default='speed,start')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2.0)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--no-write', action='store_true', help='leave docs/ as it is')
    arguments = parser.parse_args()
    bench = Bench(arguments.program, arguments.threads, arguments.rounds, arguments.seconds)
    names = arguments.models.split(',')
    results = {'machine': machine(bench), 'speed': {}, 'start': {}}
    if 'speed' in arguments.parts:
        say('speed')
        results['speed'] = measure_speed(bench, names)
    if 'start' in arguments.parts:
        for name in [name for name in ('resnet152', 'resnet50', 'animals') if name in names]:
            for _, path, _, shape in networks(bench, [name]):
                say(f'start of {name}')
                results['start'][name] = measure_start(bench, name, path, shape)
    os.makedirs(os.path.join(CACHE, 'bench'), exist_ok=True)
    with open(os.path.join(CACHE, 'bench', 'results.json'), 'w', encoding='utf-8') as file:
        json.dump(results, file, indent=1)
    text = report.markdown(results)
    print('\n' + text)
    if not arguments.no_write:
        report.write(ROOT, results, text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
