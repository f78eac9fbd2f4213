#!/usr/bin/env python3
"""Measure the images: how long they take to build, what they weigh, and how soon a container answers.

    images.py [--no-write] [--starts N]      a section of docs/benchmarks.md; --no-write: on standard output alone

Everything is built from a copy of the tree in a store of its own, which goes afterwards: nothing that is on the machine already helps, and nothing
of it changes. Needs root and what tools/setup installs for images and bench; ResNet-152 is torchvision's, with random weights. Starts are of
containers made before, with everything in the page cache.
"""
import argparse
import contextlib
import datetime
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bench
import section

ROOT = bench.ROOT
NETWORK, ADDRESS = 'guichet-bench', '10.123.45.9'
# One address of each kind for all: the machine remembers which belong together, and looks again only after a second.
CREATE = ('create', '--network', NETWORK, '--ip', ADDRESS, '--mac-address', '92:d0:c6:0a:29:33', '--read-only', '--no-healthcheck')
MOST_MEGABYTES, MOST_START_MS = 120, 500
CONTAINERS = '''[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
'''
STORAGE = '''[storage]
driver = "overlay"
graphroot = "{0}/store"
runroot = "{0}/run"
'''
# What is in an image, by the names of its files; the first that fits counts.
PARTS = [
    ('oneDNN: kernels for every generation of processors', r'libdnnl'),
    ('OpenSSL', r'lib(ssl|crypto)\.'),
    ('libc, libm, libstdc++, libgomp', r'ld-linux|lib(c|m|stdc\+\+|gomp|gcc_s|resolv|pthread|dl|rt)[-.]'),
    ('image formats, libevent, jansson, libsodium', r'lib(jpeg|png|webp|sharpyuv|z\.|event|jansson|sodium)'),
    ('libcurl and what Debian links it with', r'\.so'),
    ('guichet, its page included', r'/usr/bin/guichet$'),
    ('certificates, copyright files, the list of software', r''),
]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command)}: {(done.stderr or done.stdout).strip()[-600:]}')
    return done.stdout.strip()


def podman(*arguments):
    return run('podman', *arguments)


# ---- Building -----------------------------------------------------------------------------------------------------------

def copy_tree(folder):
    """What git knows of the tree, and ResNet-152 beside the default model."""
    tree = os.path.join(folder, 'tree')
    for name in run('git', '-C', ROOT, 'ls-files').split('\n'):
        if os.path.isfile(os.path.join(ROOT, name)):
            os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), os.path.join(tree, name), follow_symlinks=False)
    os.makedirs(bench.ZOO, exist_ok=True)
    model = os.path.join(tree, 'models', 'resnet152')
    os.makedirs(model)
    shutil.copy(bench.export('resnet152'), os.path.join(model, 'model.onnx'))
    return tree


def debian(folder):
    tar = os.path.join(folder, 'debian.tar')
    run('mmdebstrap', '--quiet', '--variant=minbase', 'bookworm', tar)
    podman('import', '--quiet', tar, 'localhost/debian:bookworm-slim')
    os.unlink(tar)


def build(tree, *arguments):
    """-> seconds"""
    before = time.monotonic()
    run('deploy/build.sh', '--engine', 'buildah', '--debian-image', 'localhost/debian:bookworm-slim', *arguments, cwd=tree)
    return time.monotonic() - before


def build_times(tree):
    both = ('--model', 'models/resnet152', 'backend')
    rows = [('from nothing but Debian: toolchain installed, program compiled, `animals` baked', build(tree)),
            ('an unchanged tree', build(tree))]
    with open(os.path.join(tree, 'src', 'base', 'error.c'), 'a', encoding='utf-8') as file:
        file.write('const char *error_edited(void);\nconst char *error_edited(void) {\n    return "edited";\n}\n')
    rows.append(('one C file edited: compiled, and the program\'s layer of each image', build(tree)))
    rows.append(('a backend with ResNet-152 as well: copied, baked', build(tree, *both)))
    return rows


# ---- Sizes --------------------------------------------------------------------------------------------------------------

def layers(image):
    """Bytes of the layers that are not empty, from the ground up."""
    history = json.loads(podman('history', '--format', 'json', f'localhost/{image}'))
    return [step['size'] for step in reversed(history) if step['size']]


def parts(image):
    """-> {part: bytes} of an image's files"""
    container = run('buildah', 'from', '--pull-never', f'localhost/{image}')
    sizes = {name: 0 for name, _ in PARTS}
    try:
        root = run('buildah', 'mount', container)
        for place, _, names in os.walk(root):
            for path in (os.path.join(place, name) for name in names):
                if not os.path.islink(path):
                    part = next(name for name, pattern in PARTS if re.search(pattern, path))
                    sizes[part] += os.path.getsize(path)
    finally:
        run('buildah', 'rm', container)
    return sizes


# ---- Starts -------------------------------------------------------------------------------------------------------------

def ask(method, path, body=None):
    """The answer's status, 0 where nobody listens yet: a packet to an address that is not there yet is lost for a second."""
    connection = http.client.HTTPConnection(ADDRESS, 8080, timeout=10 if body else 0.05)
    try:
        connection.request(method, path, body, {'Content-Type': 'image/png'} if body else {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def memory_of(name):
    """Megabytes resident"""
    pid = json.loads(podman('inspect', name))[0]['State']['Pid']
    with open(f'/proc/{pid}/status', encoding='ascii') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmRSS')) / 1000


def start(image, request, *options):
    """-> milliseconds from `podman start` to the answer to `request`, megabytes resident then. What is asked until then is small:
    a photo sent again and again would be in the way of what it waits for."""
    name = podman(*CREATE, *options, f'localhost/{image}')
    try:
        before = time.monotonic()
        with subprocess.Popen(['podman', 'start', name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            while ask('GET', '/readyz' if request else '/healthz') != 200:
                if time.monotonic() - before > 60:
                    raise RuntimeError(f'{image} does not answer: {podman("logs", name)}')
                time.sleep(0.002)
            if request and ask(*request) != 200:
                raise RuntimeError(f'{image} is ready and does not answer: {podman("logs", name)}')
            elapsed = time.monotonic() - before
        return elapsed * 1000, memory_of(name)
    finally:
        podman('rm', '-f', '-t', '1', name)


def start_of_nothing(image):
    """Milliseconds until podman and runc have started a program, whatever it does."""
    name = podman(*CREATE, '--entrypoint', '["/usr/bin/guichet", "--version"]', f'localhost/{image}')
    try:
        before = time.monotonic()
        podman('start', name)
        return (time.monotonic() - before) * 1000, 0
    finally:
        podman('rm', '-f', '-t', '1', name)


def unbaked(name, folder):
    """The model of a backend's image without what was baked, to be mounted over it."""
    container = podman('create', f'localhost/guichet-backend-{name}')
    podman('cp', f'{container}:/models/{name}', folder)
    podman('rm', container)
    for file in os.listdir(os.path.join(folder, name)):
        if file.endswith('.baked'):
            os.unlink(os.path.join(folder, name, file))
    return f'{folder}/{name}:/models/{name}:ro'


def starts(folder, count):
    """-> [title, ms, MB, whether it has a bound]; all kinds in turns, so that a machine that slows down slows all."""
    with open(os.path.join(bench.photos(), '00.png'), 'rb') as file:
        photo = ('POST', '/predict', file.read())
    kinds = [('`podman start` alone, of a program that ends at once', lambda: start_of_nothing('guichet-gateway'), False),
             ('gateway, /healthz', lambda: start('guichet-gateway', None, '--env', 'GUICHET_BACKENDS=a=http://127.0.0.1:9'), False)]
    for name, title in (('animals', '`animals`'), ('resnet152', 'ResNet-152')):
        image, volume = f'guichet-backend-{name}', unbaked(name, folder)
        kinds.append((f'backend {title}, baked, a photo', lambda image=image: start(image, photo), True))
        kinds.append((f'backend {title}, not baked, a photo',
                      lambda image=image, volume=volume: start(image, photo, '--volume', volume), False))
    results = [[] for _ in kinds]
    for number in range(count + 1):
        for (_, measure, _), runs in zip(kinds, results):
            figures = measure()
            if number:  # the first fills the page cache
                runs.append(figures)
    return [(title, *(statistics.median(column) for column in zip(*runs)), bound)
            for (title, _, bound), runs in zip(kinds, results)]


# ---- Writing ------------------------------------------------------------------------------------------------------------

def verdict(value, most):
    return f'{value:.0f} (at most {most}: {"met" if value <= most else "**missed**"})'


def table(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '| --- |' + ' ---: |' * (len(head) - 1)]
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows]) + '\n'


def measure(folder, count):
    load = os.getloadavg()[0]
    tree = copy_tree(folder)
    debian(folder)
    bench.say('building')
    built = build_times(tree)
    inside = parts('guichet-gateway')
    base, program = layers('guichet-gateway')
    sizes = [('runtime base: shared libraries', base), ('guichet, its page included', program)]
    for name, title in (('animals', '`animals`'), ('resnet152', 'ResNet-152')):
        sizes.append((f'model {title}: the network and what was baked', layers(f'guichet-backend-{name}')[1]))
    bench.say('starting')
    podman('network', 'create', '--subnet', '10.123.45.0/24', NETWORK)
    try:
        started = starts(folder, count)
    finally:
        podman('network', 'rm', '-f', NETWORK)
    whole = sum(inside.values()) / 1e6
    return '\n'.join([
        '## Images: building, sizes, starts\n',
        f'{datetime.date.today():%d %B %Y}; {os.cpu_count()} processors; Debian 12 base; '
        f'{run("buildah", "--version").split(" (")[0]}, {podman("--version")} with runc. Load average at the start: {load:.1f}. '
        'Repeat it: `make bench-images`.\n',
        table(['build of all four images', 's'], [(title, f'{seconds:.0f}') for title, seconds in built]),
        'Debian\'s packages come over the network in the first, and out of this machine in the others.\n',
        table(['layer', 'MB'], [(title, f'{size / 1e6:.1f}') for title, size in sizes]),
        table(['in an image without a model', 'MB unpacked'],
              [(name, f'{size / 1e6:.1f}') for name, size in inside.items()] + [('**together**', verdict(whole, MOST_MEGABYTES))]),
        table(['container: from `podman start` to the first answer', 'ms', 'resident, MB'],
              [(title, verdict(ms, MOST_START_MS) if bound else f'{ms:.0f}', f'{memory:.0f}' if memory else '')
               for title, ms, memory, bound in started]),
        f'Medians of {count} starts each, taken in turns. The first row is what the runtime takes by itself, and part of all others.'])


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split('\n\n')[1].strip())
    parser.add_argument('--no-write', action='store_true')
    parser.add_argument('--starts', type=int, default=11)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='guichet-images-'))
        for name, text in (('containers', CONTAINERS), ('storage', STORAGE.format(folder))):
            path = os.path.join(folder, f'{name}.conf')
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
            os.environ[{'containers': 'CONTAINERS_CONF', 'storage': 'CONTAINERS_STORAGE_CONF'}[name]] = path
        os.environ['BUILDAH_ISOLATION'] = 'chroot'
        stack.callback(subprocess.run, ['umount', '--lazy', os.path.join(folder, 'store', 'overlay')], capture_output=True)
        text = measure(folder, options.starts)
    print(text)
    if not options.no_write:
        section.insert(os.path.join(ROOT, 'docs', 'benchmarks.md'), 'images', text)


if __name__ == '__main__':
    sys.exit(main())
