"""What the parity tests share: the program and ONNX Runtime on one input, and how far apart their answers are. Standard
library only."""
import array
import math
import os
import random
import subprocess
import tempfile


def shape_text(shape):
    return 'x'.join(map(str, shape))


class Tap:
    def __init__(self):
        self.count = 0
        self.failed = 0

    def check(self, name, good, why=''):
        self.count += 1
        self.failed += not good
        print(f'{"" if good else "not "}ok {self.count} - {name}', flush=True)
        if not good:
            self.note(why or 'no reason was given')

    def skip(self, name, why):
        self.count += 1
        print(f'ok {self.count} - {name} # SKIP {why}', flush=True)

    def note(self, text):
        for line in str(text).strip().split('\n'):
            print(f'# {line}', flush=True)

    def end(self):
        print(f'1..{self.count}', flush=True)
        return 1 if self.failed else 0


class Pair:
    """Our program and the peer; `problem` says why there is no peer."""

    def __init__(self, program, root, threads=2):
        self.program, self.threads = os.path.abspath(program), threads
        cache = os.path.join(root, '.cache', 'parity')
        os.makedirs(cache, exist_ok=True)
        self.folder = tempfile.TemporaryDirectory(dir=cache)  # goes with this object
        self.script = os.path.join(root, 'tests', 'bench', 'peer.js')
        modules = os.path.join(root, '.cache', 'peer', 'node_modules')
        self.environment = dict(os.environ, NODE_PATH=modules)
        self.problem = '' if os.path.isdir(os.path.join(modules, 'onnxruntime-node')) else \
            'ONNX Runtime is not in .cache/peer (tools/setup bench)'
        try:
            subprocess.run(['node', '--version'], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            self.problem = 'node is not installed'

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def noise(self, shape, seed=1):
        """A file of standard normal numbers, about what a normalised photo holds."""
        path = self.path(f'noise-{shape_text(shape)}-{seed}.f32')
        if not os.path.exists(path):
            source = random.Random(seed)
            values = array.array('f', (source.gauss(0, 1) for _ in range(math.prod(shape))))
            with open(path, 'wb') as file:
                values.tofile(file)
        return path

    def command(self, command, out, timeout):
        """-> the numbers, or the text of an error"""
        if os.path.exists(out):
            os.unlink(out)
        try:
            run = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f'nothing after {timeout} s'
        if run.returncode:
            return f'exit status {run.returncode}: {run.stderr.strip()[-500:]}'
        values = array.array('f')
        with open(out, 'rb') as file:
            values.frombytes(file.read())
        os.unlink(out)
        return values

    def ours(self, model, source, shape, precision, timeout=600):
        out = self.path('ours.f32')
        return self.command([self.program, 'run', model, source, out, '--shape', shape_text(shape), '--precision',
                             precision, '--threads', str(self.threads)], out, timeout)

    def theirs(self, model, source, shape, timeout=600, optimizations='all'):
        out = self.path('theirs.f32')
        return self.command(['node', self.script, 'run', model, source, out, '--shape', shape_text(shape), '--threads',
                             str(self.threads), '--optimizations', optimizations], out, timeout)


def distance(ours, theirs):
    """-> largest difference over the largest value, cosine, whether the first answers agree"""
    largest = max(map(abs, theirs))
    difference = max(abs(a - b) for a, b in zip(ours, theirs))
    lengths = math.sqrt(math.fsum(a * a for a in ours)) * math.sqrt(math.fsum(b * b for b in theirs))
    cosine = math.fsum(a * b for a, b in zip(ours, theirs)) / lengths if lengths else 0.0
    return difference / largest if largest else math.inf, cosine, \
        max(range(len(ours)), key=ours.__getitem__) == max(range(len(theirs)), key=theirs.__getitem__)


def judge(tap, name, ours, theirs, most=1e-4, least=None):
    """One line of TAP: at most `most` apart and the same answer, or at least `least` alike. Returns what was measured."""
    if least is not None and isinstance(ours, str) and 'this processor cannot compute in bfloat16' in ours:
        tap.skip(name, 'this processor cannot compute in bfloat16')
        return None
    if isinstance(theirs, str) or isinstance(ours, str):
        tap.check(name, False, f'ONNX Runtime: {theirs}' if isinstance(theirs, str) else ours)
        return None
    if len(ours) != len(theirs) or not len(ours) or not all(map(math.isfinite, ours)):
        tap.check(name, False, f'{len(ours)} numbers for {len(theirs)}, or some are not finite')
        return None
    apart, cosine, same = distance(ours, theirs)
    good = cosine >= least if least is not None else apart <= most and same
    tap.check(f'{name} ({apart:.1e} apart, cosine {cosine:.6f})', good,
              f'difference {apart:.3e} of the largest value, cosine {cosine:.7f}, answers {"agree" if same else "differ"}')
    return apart, cosine, same
