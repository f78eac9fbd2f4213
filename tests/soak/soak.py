#!/usr/bin/env python3
"""A quarter of an hour under 512 MiB: usual photos beside bombs, hangs, swaps, kills, bodies that stall and readers that
do not read. No usual request may fail unless it is refused by rule, and memory must stay flat.

    make soak                       (root, for a control group; SOAK_SECONDS=900)

Prints a line a minute and a table at the end; exit status 1 where something was wrong."""
import collections
import http.client
import os
import random
import re
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ('http', 'image'):
    sys.path.insert(0, os.path.join(HERE, '..', room))
import test_budget as budget  # noqa: E402
from tiers import GUICHET, JPEG, MODEL, Process, ask  # noqa: E402

SECONDS = float(os.environ.get('SOAK_SECONDS', '900'))
LIMIT_MB = 512
BY_RULE = {503, 429, 413}  # with the reason in the body, and Retry-After for the first two
MODELS = ('animals', 'beasts')


class ControlGroup:
    """Of version 1 or 2, where this system lets us make one; None elsewhere."""

    def __init__(self):
        self.path, self.peak = None, None
        with open('/proc/self/cgroup', encoding='ascii') as file:
            for line in file:
                _, controllers, path = line.rstrip('\n').split(':', 2)
                if controllers == 'memory':
                    self.make('/sys/fs/cgroup/memory' + path, 'memory.limit_in_bytes', 'memory.max_usage_in_bytes')
                elif not controllers:
                    self.make('/sys/fs/cgroup' + path, 'memory.max', 'memory.peak')

    def make(self, parent, limit, peak):
        path = os.path.join(parent, f'guichet-soak-{os.getpid()}')
        try:
            os.mkdir(path)
            if not os.path.exists(os.path.join(path, limit)):
                os.rmdir(path)
                return
            with open(os.path.join(path, limit), 'w', encoding='ascii') as file:
                file.write(str(LIMIT_MB << 20))
            self.path, self.peak = path, os.path.join(path, peak)
        except OSError:
            pass

    def enter(self):
        """The calling process, and what it starts."""
        if self.path:
            with open(os.path.join(self.path, 'cgroup.procs'), 'w', encoding='ascii') as file:
                file.write('0')

    def peak_mb(self):
        if not self.path or not os.path.exists(self.peak):
            return float('nan')
        with open(self.peak, encoding='ascii') as file:
            return int(file.read()) / 2**20

    def close(self):
        if self.path:
            os.rmdir(self.path)


def rss_mb(pid):
    try:
        with open(f'/proc/{pid}/status', encoding='ascii') as file:
            return int(re.search(r'^VmRSS:\s+(\d+)', file.read(), re.M).group(1)) / 1024
    except (OSError, AttributeError):
        return 0


def children(pid):
    try:
        with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


class Soak:
    def __init__(self, process, port, folder):
        self.pid, self.port, self.folder = process.child.pid, port, folder
        self.end = time.monotonic() + SECONDS
        self.lock = threading.Lock()
        self.usual, self.bombs, self.events = (collections.Counter() for _ in range(3))
        self.faults, self.memory, self.times = [], [], []

    def going(self):
        return time.monotonic() < self.end

    def fault(self, text):
        with self.lock:
            self.faults.append(f'{SECONDS - (self.end - time.monotonic()):.0f} s: {text}')

    def ask_usual(self, random_numbers):
        model = random_numbers.choice(MODELS)
        start = time.monotonic()
        try:
            reply = ask(self.port, 'POST', f'/model/{model}/predict', JPEG, Content_Type='image/jpeg')
        except (OSError, http.client.HTTPException) as error:
            self.fault(f'a usual photo at {model}: {error!r}')
            return
        with self.lock:
            self.usual[reply.status] += 1
            self.times.append(time.monotonic() - start)
        if reply.status == 200 and 'category' not in reply.json():
            self.fault(f'an answer without a prediction: {reply.body[:200]}')
        if reply.status in (503, 429) and not reply.header('Retry-After'):
            self.fault(f'{reply.status} without Retry-After: {reply.body[:200]}')
        if reply.status != 200 and reply.status not in BY_RULE:
            self.fault(f'a usual photo at {model}: {reply.status} {reply.body[:200]}')
        if reply.status in (503, 429):
            time.sleep(1)

    def usual_caller(self, seed):
        numbers = random.Random(seed)
        while self.going():
            self.ask_usual(numbers)

    def bomber(self, mix, seed):
        numbers = random.Random(seed)
        while self.going():
            name, target, body, headers = numbers.choice(mix)
            try:
                status = ask(self.port, 'POST', target, body, **{k.replace('-', '_'): v for k, v in headers.items()}).status
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__  # refused while it was sent
            with self.lock:
                self.bombs[status] += 1
            if isinstance(status, int) and status not in (200, 400, 404, 413, 415, 422, 429, 503, 504):
                self.fault(f'{name}: {status}')

    def every(self, seconds, what):
        while self.going():
            time.sleep(seconds)
            if self.going():
                with self.lock:
                    self.events[what.__name__] += 1
                try:
                    what()
                except OSError as error:
                    self.fault(f'{what.__name__}: {error!r}')

    def kill(self):
        for pid in random.sample(children(self.pid), 1) if children(self.pid) else []:
            os.kill(pid, signal.SIGKILL)

    def hang(self):
        for pid in random.sample(children(self.pid), 1) if children(self.pid) else []:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(2)
            os.kill(pid, signal.SIGCONT)

    def swap(self):
        """As `cp` does: over the file that is served."""
        for file in os.listdir(MODEL):
            path = os.path.join(MODEL, file)
            if os.path.isfile(path):
                shutil.copyfile(path, os.path.join(self.folder, 'beasts', file))

    def stall(self):
        """A body that stops in the middle, and a reader that does not read."""
        one = socket.create_connection(('127.0.0.1', self.port))
        one.sendall(b'POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 5000000\r\n\r\n' + bytes(100000))
        other = socket.create_connection(('127.0.0.1', self.port))
        other.sendall(b'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n' * 50)
        time.sleep(5)
        one.close()
        other.close()

    def watch(self, group):
        started, told = time.monotonic(), 0
        while self.going():
            sizes = [rss_mb(self.pid)] + [rss_mb(pid) for pid in children(self.pid)]
            self.memory.append((time.monotonic() - started, sizes[0], sum(sizes)))
            if time.monotonic() - started > 60 * (told + 1):
                told += 1
                print(f'{told:3} min: serve {sizes[0]:.0f} MB, all {sum(sizes):.0f} MB, group peak {group.peak_mb():.0f} MB; '
                      f'usual {dict(self.usual)}, bombs {dict(self.bombs)}, faults {len(self.faults)}', flush=True)
            time.sleep(0.5)


def table(soak, group):
    third = SECONDS / 3
    early = [m for t, m, _ in soak.memory if third / 2 < t <= third]
    late = [m for t, m, _ in soak.memory if t > 2 * third]
    grown = statistics.median(late) - statistics.median(early) if early and late else 0
    print(f'\nusual photos  {dict(sorted(soak.usual.items()))}, median {1000 * statistics.median(soak.times):.0f} ms, '
          f'longest {max(soak.times):.1f} s\nbombs         {dict(soak.bombs)}\nevents        {dict(soak.events)}\n'
          f'memory        serve {statistics.median(early or [0]):.0f} MB early, {statistics.median(late or [0]):.0f} MB late; '
          f'all at most {max(total for _, _, total in soak.memory):.0f} MB; group peak {group.peak_mb():.0f} of {LIMIT_MB} MB')
    if grown > 8:
        soak.faults.append(f'serve has grown by {grown:.1f} MB')
    for fault in soak.faults[:20]:
        print('not right:', fault)
    print(f'{len(soak.faults)} faults')


def main():
    group = ControlGroup()
    print(f'{SECONDS:.0f} s, {"a control group of" if group.path else "no control group can be made; the budget alone says"} {LIMIT_MB} MB')
    with tempfile.TemporaryDirectory() as folder, budget.Origin(bytes(20 << 20)) as origin:
        mix = list(budget.make_mix(origin))  # takes a while
        for name in MODELS:
            shutil.copytree(MODEL, os.path.join(folder, name))
        process = Process(GUICHET, 'serve', '--models', folder, '--port', '0', '--allow-private-urls', '--preload', '--access-log', 'off',
                          *([] if group.path else ['--memory-budget', f'{LIMIT_MB // 2}M']),
                          environment={'XDG_STATE_HOME': folder + '/.state'}, prepare=group.enter)
        with process:
            soak = Soak(process, int(process.wait_line('guichet is at').rsplit(':', 1)[1]), folder)
            threads = [threading.Thread(target=soak.usual_caller, args=(seed,)) for seed in range(3)]
            threads += [threading.Thread(target=soak.bomber, args=(mix, seed)) for seed in range(2)]
            threads += [threading.Thread(target=soak.every, args=pair) for pair in (
                (13, soak.kill), (29, soak.hang), (37, soak.swap), (11, soak.stall))]
            for thread in threads:
                thread.start()
            soak.watch(group)
            for thread in threads:
                thread.join(120)
            time.sleep(2)
            if ask(soak.port, 'POST', '/predict', JPEG, Content_Type='image/jpeg').status != 200:
                soak.faults.append('a usual photo afterwards is not answered')
            table(soak, group)
            process.end()
    group.close()
    return bool(soak.faults)


if __name__ == '__main__':
    sys.exit(main())
