#!/usr/bin/env python3
"""Load over HTTP: the gateway beside nginx, and guichet beside the original's stack. Real processes on loopback.

    load.py PROGRAM STEADY [--parts gateway,service,builds] [--before PROGRAM] [--seconds S] [--rounds N] [--network NAME] [--quick] [--no-write]

What is compared is measured in turns within one round, and a difference or ratio is that of two neighbours in one round; what
is printed is the median over the rounds. STEADY is the open-loop client of steady.c. Writes the section "load" of
docs/benchmarks.md. Needs what `tools/setup load` installs, and two processors or more. Linux.
"""
import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import bench
import report
import section

LATENCY_ROUNDS, LATENCY_SECONDS, RATE = 7, 2, 1000
SHARE_OF_ADDED, SHARE_OF_NGINX, SHARE_OF_SUM = 0.9, 1.0, 0.9


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Stage:
    """Processes and files, gone at the end."""

    def __init__(self, program, steady):
        self.program, self.steady = os.path.abspath(program), os.path.abspath(steady)
        self.folder, self.children = tempfile.mkdtemp(), {}

    def start(self, name, command, url, environment=None):
        with open(f'{self.folder}/{name}.log', 'wb') as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                     env=dict(os.environ, **(environment or {})))
        self.children[name] = child
        end = time.monotonic() + 120
        while not answers(url):
            if child.poll() is not None or time.monotonic() > end:
                with open(f'{self.folder}/{name}.log', encoding='utf-8', errors='replace') as log:
                    raise RuntimeError(f'{name} does not answer at {url}: {log.read()[-500:]}')
            time.sleep(0.05)
        return child

    def end(self, name):
        child = self.children.pop(name)
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def nginx(self, name, processor, port, location, upstream=0):
        """One worker, nothing logged, connections kept."""
        folder = f'{self.folder}/{name}'
        os.makedirs(folder)
        paths = ''.join(f'{kind}_temp_path {folder}/{kind}; ' for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        with open(f'{folder}.conf', 'w', encoding='utf-8') as file:
            file.write(f'''worker_processes 1; daemon off; pid {folder}.pid; error_log {folder}.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json; {paths}
  upstream behind {{ server 127.0.0.1:{upstream or port}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ {location} }} }}
}}
''')
        self.start(name, ['taskset', '-c', str(processor), shutil.which('nginx', path=os.environ['PATH'] + ':/usr/sbin'), '-c',
                          f'{folder}.conf'], f'http://127.0.0.1:{port}/hello')

    def processor_s(self, name):
        """User and system time of a process and its children."""
        pid, ticks = self.children[name].pid, 0
        with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
            pids = [str(pid), *file.read().split()]
        for one in pids:
            with open(f'/proc/{one}/stat', encoding='ascii') as file:
                ticks += sum(int(word) for word in file.read().rsplit(')', 1)[1].split()[11:13])
        return ticks / os.sysconf('SC_CLK_TCK')

    def flood(self, connections, url, seconds, photos=None, processor=None):
        """As fast as the answers come: requests/s, p50 and p99 in ms, errors."""
        environment = dict(os.environ, PHOTOS='\n'.join(photos)) if photos else dict(os.environ)
        pinned = ['taskset', '-c', str(processor)] if processor is not None else []
        out = subprocess.run([*pinned, 'wrk', '-t1', f'-c{connections}', f'-d{seconds}s', '--timeout', '60s', '-s',
                              os.path.join(bench.HERE, 'load.lua'), url], capture_output=True, text=True, check=True,
                             env=environment).stdout
        count, took, errors, p50, p99 = map(float, next(line for line in out.split('\n') if line.startswith('RESULT')).split()[1:])
        if errors >= count:
            raise RuntimeError(f'{url}: of {count:.0f} requests none was answered well')
        return {'per_s': (count - errors) / took, 'p50': p50, 'p99': p99, 'errors': int(errors), 'count': count}

    def steadily(self, port, target, *more):
        """At RATE requests/s: median and p99 in µs, errors. `more`: of steady's arguments."""
        out = subprocess.run(['taskset', '-c', '1', self.steady, str(port), target, str(RATE), str(LATENCY_SECONDS), *more],
                             capture_output=True, text=True, check=True).stdout
        count, errors, p50, p99, most = map(float, out.split())
        return {'p50': p50, 'p99': p99, 'most': most, 'errors': int(errors), 'count': count}

    def close(self):
        for name in list(self.children)[::-1]:
            self.end(name)
        shutil.rmtree(self.folder)


# ---- The gateway ----

def latency_rows(rounds):
    """What each way adds to asking directly, neighbours compared."""
    rows, verdicts = [], {}
    for name in ('direct', 'nginx', 'gateway'):
        row = [name] + [f'{statistics.median(one[name][key] for one in rounds):.0f}' for key in ('p50', 'p99')]
        for key in ('p50', 'p99'):
            added = statistics.median(one[name][key] - one['direct'][key] for one in rounds)
            verdicts[name, key] = added
            row.append('' if name == 'direct' else f'{added:+.0f}')
        rows.append(row + [str(sum(one[name]['errors'] for one in rounds))])
    return rows, verdicts


def gateway_part(stage, rounds, seconds):
    answer, proxy, door = free_port(), free_port(), free_port()
    target = '/model/cats/predict'
    stage.nginx('direct', 1, answer, "return 200 '{\"category\": \"tabby cat\"}';")
    stage.nginx('nginx', 0, proxy, '''proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Request-Id $request_id;''', answer)
    stage.start('gateway', ['taskset', '-c', '0', stage.program, 'gateway', '--backend', f'cats=http://127.0.0.1:{answer}',
                            '--address', '127.0.0.1', '--port', str(door), '--access-log', 'off', '--threads', '1'],
                f'http://127.0.0.1:{door}/hello')
    ports = {'direct': answer, 'nginx': proxy, 'gateway': door}
    for port in ports.values():  # connections made, caches warm
        stage.steadily(port, target)
    latency = []
    for _ in range(rounds):
        latency.append({name: stage.steadily(port, target) for name, port in ports.items()})
        bench.say(f'  at {RATE}/s: ' + ', '.join(f'{name} {one["p50"]:.0f}/{one["p99"]:.0f} µs' for name, one in latency[-1].items()))
    floods = []
    for _ in range(3):
        one = {}
        for name in ('nginx', 'gateway'):
            before = stage.processor_s(name)
            one[name] = stage.flood(32, f'http://127.0.0.1:{ports[name]}{target}', seconds, processor=1)
            used = stage.processor_s(name) - before
            one[name].update(us=used / one[name]['count'] * 1e6, busy=used / seconds)
        floods.append(one)
        bench.say('  flood: ' + ', '.join(f'{name} {one[name]["per_s"]:.0f}/s, {one[name]["us"]:.1f} µs each' for name in one))
    for name in ('gateway', 'nginx', 'direct'):
        stage.end(name)
    return gateway_markdown(latency, floods)


def gateway_markdown(rounds, floods):
    table, added = latency_rows(rounds)
    text = [f'**The gateway at {RATE:,} requests/s** of small bodies, sent at a constant rate and timed from the moment each was '
            f'due; backend and client share one processor, nginx (`proxy_pass`) or the gateway has the other. Medians over '
            f'{len(rounds)} rounds of {LATENCY_SECONDS} s each, in turns.\n',
            report.table(['', 'median, µs', 'p99, µs', 'adds at the median, µs', 'adds at p99, µs', 'errors'], table)]
    for key, words in (('p50', 'the median'), ('p99', 'p99')):
        # Of each round, since what a shared machine does in one round meets all three alike.
        share = statistics.median((one['gateway'][key] - one['direct'][key]) / max(one['nginx'][key] - one['direct'][key], 1)
                                  for one in rounds)
        text.append(f'- The gateway adds {added["gateway", key]:.0f} µs at {words}; in each round, {share:.2f} of what nginx adds '
                    f'(median; at most {SHARE_OF_ADDED}: {report.verdict(share, SHARE_OF_ADDED)}).\n')
    rows = []
    for name in ('nginx', 'gateway'):
        middle = lambda key: statistics.median(one[name][key] for one in floods)
        rows.append([name, f'{middle("per_s"):.0f}', f'{middle("p50"):.2f}', f'{middle("p99"):.2f}', f'{middle("us"):.1f}',
                     f'{middle("busy"):.2f}', str(sum(one[name]['errors'] for one in floods))])
    share = statistics.median(one['gateway']['per_s'] / one['nginx']['per_s'] for one in floods)
    cost = statistics.median(one['gateway']['us'] / one['nginx']['us'] for one in floods)
    good = 'met' if share >= SHARE_OF_NGINX else '**missed**'
    return '\n'.join([*text, '\n**As fast as they go**, 32 connections, one processor each:\n',
                      report.table(['', 'requests/s', 'p50, ms', 'p99, ms', 'processor time a request, µs', 'of its processor',
                                    'errors'], rows),
                      f'- {share:.2f} of nginx\'s requests/s (at least {SHARE_OF_NGINX}: {good}), at {cost:.2f} of its processor '
                      'time a request.\n'])


# ---- What `serve` adds, beside another build ----

def start_build(stage, name, program):
    """-> ports of a backend alone and of `serve`, both with the model of the repository."""
    backend, serve = free_port(), free_port()
    models = os.path.join(bench.ROOT, 'models')
    state = {'XDG_STATE_HOME': f'{stage.folder}/{name}'}
    stage.start(f'{name} backend', [program, 'backend', '--model', f'{models}/animals', '--address', '127.0.0.1', '--port',
                                    str(backend), '--access-log', 'off'], f'http://127.0.0.1:{backend}/readyz', state)
    stage.start(f'{name} serve', [program, 'serve', '--models', models, '--port', str(serve), '--preload', '--access-log', 'off'],
                f'http://127.0.0.1:{serve}/v2/models/animals/ready', state)
    return backend, serve


def builds_part(stage, before, rounds):
    """`serve` beside its own backend: what it adds, now over before, neighbours compared."""
    target, ask = '/v2/models/animals', ('16', 'GET')
    ports = {name: start_build(stage, name, program) for name, program in (('before', before), ('now', stage.program))}
    found = []
    for number in range(rounds + 1):  # the first warms up
        one = {name: [stage.steadily(port, target, *ask) for port in both] for name, both in ports.items()}
        if number:
            found.append(one)
            bench.say('  adds: ' + ', '.join(f'{name} {serve["p50"] - backend["p50"]:.0f}/{serve["p99"] - backend["p99"]:.0f} µs'
                                             for name, (backend, serve) in one.items()))
    for name in ports:
        stage.end(f'{name} serve')
        stage.end(f'{name} backend')

    added = lambda one, name, key: one[name][1][key] - one[name][0][key]
    middle = lambda name, key: statistics.median(added(one, name, key) for one in found)
    rows = [[name, *(f'{middle(name, key):.0f}' for key in ('p50', 'p99')),
             str(sum(part['errors'] for one in found for part in one[name]))] for name in ports]
    share = {key: statistics.median(added(one, 'now', key) / added(one, 'before', key) for one in found) for key in ('p50', 'p99')}
    return '\n'.join([f'**What `serve` adds** to its backend at {RATE:,} small requests/s, another build beside this one; medians over '
                      f'{rounds} rounds in turns.\n',
                      report.table(['', 'adds at the median, µs', 'adds at p99, µs', 'errors'], rows),
                      f'- {share["p50"]:.2f} of what it added before at the median, {share["p99"]:.2f} at p99.\n'])


# ---- The whole service ----

def photos_find(folder):
    """Real photographs where they are at hand, else drawn ones of their usual size."""
    real = os.path.join(bench.SHARED, 'data', 'imagenet250')
    if os.path.isdir(real):
        return [os.path.join(real, name) for name in sorted(os.listdir(real)) if name.lower().endswith(('.jpg', '.jpeg'))]
    from PIL import Image, ImageFilter
    paths = []
    for number in range(24):
        random.seed(number)
        image = Image.frombytes('RGB', (80, 60), random.randbytes(80 * 60 * 3)).resize((500, 375), Image.BICUBIC)
        paths.append(f'{folder}/{number:02d}.jpg')
        image.filter(ImageFilter.GaussianBlur(1)).save(paths[-1], quality=90)
    return paths


def model_make(stage, network):
    """A folder with the network, from torchvision and with random weights; a short name for one that is in the repository."""
    own = os.path.join(bench.ROOT, 'models', network)
    if os.path.isdir(own):
        return os.path.dirname(own)
    path = os.path.join(bench.ZOO, f'{network}.onnx')
    if not os.path.exists(path):
        os.makedirs(bench.ZOO, exist_ok=True)
        subprocess.run(['/usr/bin/python3', os.path.join(bench.HERE, 'export.py'), bench.ZOO, network], check=True)
    folder = f'{stage.folder}/models/{network}'
    os.makedirs(folder)
    os.symlink(path, f'{folder}/model.onnx')
    with open(f'{folder}/preprocessor_config.json', 'w', encoding='ascii') as file:
        json.dump({'size': {'shortest_edge': 256}, 'crop_size': {'height': 224, 'width': 224}, 'do_center_crop': True,
                   'resample': 2, 'rescale_factor': 1 / 255, 'image_mean': [0.485, 0.456, 0.406],
                   'image_std': [0.229, 0.224, 0.225]}, file)
    return os.path.dirname(folder)


def in_process(stage, model, photos):
    """Photos a second that decoding, preprocessing and inference allow, one after the other in one process."""
    run = [stage.program, 'classify', '--json', '--model', model]
    out = subprocess.run([*run, *photos[:8], *photos], capture_output=True, text=True, check=True).stdout
    times = [json.loads(line)['timing_ms'] for line in out.strip().split('\n')][8:]
    return 1e3 / statistics.mean(one['decode'] + one['preprocess'] + one['infer'] for one in times)


def service_rows(name, stage, url, photos, seconds):
    request = urllib.request.Request(url, open(photos[0], 'rb').read(), {'Content-Type': 'image/jpeg'})
    for _ in range(3):
        urllib.request.urlopen(request, timeout=120).read()
    rows, best = [], 0
    for connections in (1, 8, 32):
        one = stage.flood(connections, url, seconds, photos)
        bench.say(f'  {name}, {connections}: {one["per_s"]:.1f}/s, p99 {one["p99"]:.0f} ms')
        best = max(best, one['per_s'])
        rows.append([name, str(connections), f'{one["per_s"]:.1f}', f'{one["p50"]:.1f}', f'{one["p99"]:.1f}', str(one['errors'])])
    return rows, best


def guichet_rows(stage, network, photos, seconds):
    """-> rows, best requests/s, photos/s in-process."""
    models, port = model_make(stage, network), free_port()
    alone = in_process(stage, f'{models}/{network}', photos)
    stage.start('guichet', [stage.program, 'serve', '--models', models, '--port', str(port), '--preload'],
                f'http://127.0.0.1:{port}/v2/models/{network}/ready', {'XDG_STATE_HOME': stage.folder})
    rows, best = service_rows('guichet serve', stage, f'http://127.0.0.1:{port}/predict?model={network}', photos, seconds)
    stage.end('guichet')
    return rows, best, alone


def original_rows(stage, network, photos, seconds):
    port = free_port()
    stage.start('original', ['gunicorn', '--chdir', os.path.join(bench.HERE, 'original'), '--workers', '2', '--timeout', '120',
                             '--bind', f'127.0.0.1:{port}', 'app:app'], f'http://127.0.0.1:{port}/hello',
                {'MODEL_NAME': network})
    rows, best = service_rows('original', stage, f'http://127.0.0.1:{port}/predict', photos, seconds)
    stage.end('original')
    return rows, best


def service_part(stage, networks, seconds):
    photos = photos_find(stage.folder)
    size = statistics.mean(os.path.getsize(path) for path in photos)
    parts = [f'**The whole service**, {len(photos)} JPEGs of {size / 1e3:.0f} kB on average in turn, {seconds} s each; the original is '
             'Flask behind gunicorn with 2 workers, torchvision from Debian, the same network with random weights.\n']
    for network in networks:
        rows, best, alone = guichet_rows(stage, network, photos, seconds)
        share = best / alone
        lines = [f'- {report.title(network)}: decoding, preprocessing and inference alone, one photo after the other in one process: '
                 f'{alone:.1f} photos/s. Over HTTP {share:.2f} of that (at least {SHARE_OF_SUM}: '
                 f'{"met" if share >= SHARE_OF_SUM else "**missed**"}).\n']
        if network != 'animals':  # the original has networks of torchvision alone
            theirs, most = original_rows(stage, network, photos, seconds)
            lines.append(f'- {report.title(network)}: {best / most:.1f} times the original\'s photos/s.\n')
            rows = theirs + rows
        parts += [report.table([report.title(network), 'connections', 'photos/s', 'p50, ms', 'p99, ms', 'errors'], rows), *lines]
    return '\n'.join(parts)


def main():
    parser = argparse.ArgumentParser(description='load over HTTP')
    parser.add_argument('program')
    parser.add_argument('steady')
    parser.add_argument('--parts', default='gateway,service')
    parser.add_argument('--seconds', type=int, default=30, help='of each measurement of the service')
    parser.add_argument('--rounds', type=int, default=LATENCY_ROUNDS, help='of the gateway')
    parser.add_argument('--networks', default='resnet152,animals')
    parser.add_argument('--before', metavar='PROGRAM', help='another build of guichet, for the part "builds"')
    parser.add_argument('--quick', action='store_true', help='to see that it works: nothing is written')
    parser.add_argument('--no-write', action='store_true', help='print the section only')
    arguments = parser.parse_args()
    if 'builds' in arguments.parts and not arguments.before:
        parser.error('the part "builds" needs --before PROGRAM')
    if arguments.quick:
        arguments.seconds, arguments.rounds, arguments.no_write = 2, 1, True
    text = ['## Load\n', f'Load average at the start: {os.getloadavg()[0]:.1f}.\n']
    with contextlib.closing(Stage(arguments.program, arguments.steady)) as stage:
        if 'gateway' in arguments.parts:
            bench.say('the gateway beside nginx')
            text.append(gateway_part(stage, arguments.rounds, 2 if arguments.quick else 4))
        if 'builds' in arguments.parts:
            bench.say('this build beside another')
            text.append(builds_part(stage, os.path.abspath(arguments.before), arguments.rounds))
        if 'service' in arguments.parts:
            bench.say('guichet beside the original')
            text.append(service_part(stage, arguments.networks.split(','), arguments.seconds))
    text = '\n'.join(text)
    print(text)
    if not arguments.no_write:
        section.insert(os.path.join(bench.ROOT, 'docs', 'benchmarks.md'), 'load', text)


if __name__ == '__main__':
    sys.exit(main())
