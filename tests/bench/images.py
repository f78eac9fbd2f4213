#!/usr/bin/env python3
"""Measure the images: sizes by layer, and from a container's start to its first answer. Markdown on standard output.

    tests/bench/images.py [NAME...]      backends guichet-backend-NAME; animals by default

Needs root, podman with runc, and the images of deploy/build.sh. Each start is of a container that was made before; the page cache is warm.
"""
import http.client
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib

STARTS = 7
CONF = '''[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
'''


def podman(*arguments):
    return subprocess.run(['podman', *arguments], check=True, capture_output=True, text=True).stdout.strip()


def photo():
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    rows = b''.join(b'\0' + bytes(v for x in range(320) for v in (x % 256, 255 - y, x * y % 256)) for y in range(240))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 320, 240, 8, 2, 0, 0, 0)) +
            chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def ask(address, method, path, body=None):
    """The answer's status, 0 where nobody listens yet."""
    connection = http.client.HTTPConnection(address, 8080, timeout=5)
    try:
        connection.request(method, path, body, {'Content-Type': 'image/png'} if body else {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def start(image, method, path, body, *options):
    """Milliseconds from `podman start` to a 200, and those of them after the process had begun."""
    name = podman('create', '--network', 'guichet-bench', '--read-only', '--no-healthcheck', *options, image)
    try:
        before = time.time()
        process = subprocess.Popen(['podman', 'start', name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        address = None
        while time.time() - before < 60:
            if not address:
                found = json.loads(podman('inspect', name))[0]
                address = next((network['IPAddress'] for network in found['NetworkSettings']['Networks'].values()), '')
            if address and ask(address, method, path, body) == 200:
                break
            time.sleep(0.001)
        after = time.time()
        process.wait()
        pid = json.loads(podman('inspect', name))[0]['State']['Pid']
        with open(f'/proc/{pid}/stat', encoding='ascii') as file:
            ticks = int(file.read().rsplit(')', 1)[1].split()[19])
        with open('/proc/uptime', encoding='ascii') as file:
            booted = time.time() - float(file.read().split()[0])
        begun = booted + ticks / os.sysconf('SC_CLK_TCK')
        with open(f'/proc/{pid}/status', encoding='ascii') as file:
            memory = next(int(line.split()[1]) for line in file if line.startswith('VmRSS')) / 1000
        return (after - before) * 1000, (after - begun) * 1000, memory
    finally:
        podman('rm', '-f', '-t', '1', name)


def unbaked(name, folder):
    """The model of a backend's image, without what was baked: to be mounted over it."""
    container = podman('create', f'localhost/guichet-backend-{name}')
    podman('cp', f'{container}:/models/{name}', folder)
    podman('rm', container)
    for file in os.listdir(os.path.join(folder, name)):
        if file.endswith('.baked'):
            os.unlink(os.path.join(folder, name, file))
    return f'{folder}/{name}:/models/{name}:ro'


def median_start(*arguments):
    runs = [start(*arguments) for _ in range(STARTS)]
    return [sorted(column)[STARTS // 2] for column in zip(*runs)]


def layers(image):
    print(f'| {image} | |')
    for line in reversed(podman('history', '--no-trunc', '--format', '{{.Size}}\t{{.CreatedBy}}', image).split('\n')):
        size, _, made = line.partition('\t')
        if not size.startswith('0 B') and made:
            print(f'| {made.replace("/bin/sh -c #(nop) ", "").split(" in ")[0][:70]} | {size} |')


def main(names):
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as conf, tempfile.TemporaryDirectory() as folder:
        conf.write(CONF)
        conf.flush()
        os.environ['CONTAINERS_CONF'] = conf.name
        subprocess.run(['podman', 'network', 'create', 'guichet-bench'], capture_output=True)
        try:
            print('| layer | size |\n| --- | --- |')
            for image in ('guichet-gateway', 'guichet-frontend', 'guichet', *(f'guichet-backend-{name}' for name in names)):
                layers(f'localhost/{image}')
            print('\n| container | start to first answer, ms | of that after exec, ms | resident, MB |\n| --- | --- | --- | --- |')
            rows = [('gateway, /healthz', 'guichet-gateway', 'GET', '/healthz', None, '--env', 'GUICHET_BACKENDS=a=http://127.0.0.1:9')]
            for name in names:
                request = (f'guichet-backend-{name}', 'POST', '/predict', photo())
                rows.append((f'backend {name}, baked, a photo', *request))
                rows.append((f'backend {name}, not baked, a photo', *request, '--volume', unbaked(name, folder)))
            for title, image, *request in rows:
                whole, own, memory = median_start(f'localhost/{image}', *request)
                print(f'| {title} | {whole:.0f} | {own:.0f} | {memory:.0f} |', flush=True)
        finally:
            subprocess.run(['podman', 'network', 'rm', '-f', 'guichet-bench'], capture_output=True)


if __name__ == '__main__':
    main(sys.argv[1:] or ['animals'])
