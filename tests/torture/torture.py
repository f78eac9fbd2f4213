#!/usr/bin/env python3
"""Every allocation of `guichet classify` fails in turn: it ends with an error line or does without, and never crashes.

Usage: torture.py GUICHET LIBRARY MODELS PHOTO

In CI each of them; elsewhere every fourth, from another one on each day. TORTURE_EVERY=1 is all of them.
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time

MOST = 5000  # allocations: more would be a loop
EVERY = int(os.environ.get('TORTURE_EVERY') or (1 if os.environ.get('CI') == 'true' else 4))
SECONDS = 60


def run_failing(command, library, number, folder):
    """The process with allocation `number` failing: (whether it came to that, exit status, standard error)."""
    marker = os.path.join(folder, str(number))
    environment = dict(os.environ, LD_PRELOAD=library, FAIL_AT=str(number), FAIL_FILE=marker, OMP_NUM_THREADS='1',
                       GOMP_SPINCOUNT='0')
    process = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    return os.path.exists(marker), process.returncode, process.stderr.decode(errors='replace').strip()


def fault_of(status, text):
    """What is wrong with how the process ended; '' if nothing is."""
    if status < 0:
        return f'ended by signal {-status}'
    if status not in (0, 1):
        return f'exit status {status}'
    if status == 1 and not text:
        return 'failed without a word'
    return ''


def torture(name, command, library):
    faults, tried, number, reached = [], 0, int(time.time() / 86400) % EVERY, True
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        while reached and number < MOST:
            batch = range(number, number + 16 * EVERY, EVERY)
            for at, (happened, status, text) in zip(
                    batch, pool.map(lambda at: run_failing(command, library, at, folder), batch)):
                reached = happened
                if not happened:
                    break
                number, tried = at + EVERY, tried + 1
                fault = fault_of(status, text)
                if fault:
                    faults.append(f'allocation {at}: {fault}: {text[-200:]}')
    return tried, faults


def main():
    guichet, library, models, photo = sys.argv[1:]
    cases = [('classify', [guichet, 'classify', '--model', os.path.join(models, 'animals'), photo]),
             ('classify in int8', [guichet, 'classify', '--model', os.path.join(models, 'animals') + ':int8', photo])]
    print(f'1..{len(cases)}', flush=True)
    failed = False
    for at, (name, command) in enumerate(cases, 1):
        count, faults = torture(name, command, library)
        if count * EVERY < 200:
            faults.append(f'only {count} allocations could be made to fail')
        failed |= bool(faults)
        print(f'{"not ok" if faults else "ok"} {at} - {name}: {count} allocations failed in turn')
        for fault in faults:
            print('#', fault)
        sys.stdout.flush()
    return failed


if __name__ == '__main__':
    sys.exit(main())
