#!/usr/bin/env python3
"""Every allocation of `guichet classify` and `guichet backend` fails in turn: they end with an error line or do without,
and never crash. A backend loads its model, is asked twice for a photo, and ends.

Usage: torture.py GUICHET LIBRARY MODELS PHOTO

In CI each of them; elsewhere every fourth, from another one on each day. TORTURE_EVERY=1 is all of them.
"""
import concurrent.futures
import http.client
import os
import re
import select
import subprocess
import sys
import tempfile
import time

MOST = 5000  # allocations: more would be a loop
EVERY = int(os.environ.get('TORTURE_EVERY') or (1 if os.environ.get('CI') == 'true' else 4))
SECONDS = 60


def environment_of(library, number, marker):
    return dict(os.environ, LD_PRELOAD=library, FAIL_AT=str(number), FAIL_FILE=marker, OMP_NUM_THREADS='1', GOMP_SPINCOUNT='0')


def run_verb(command, library, number, marker):
    """(exit status, standard error)"""
    process = subprocess.run(command, env=environment_of(library, number, marker), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    return process.returncode, process.stderr.decode(errors='replace').strip()


def ask(port, photo):
    """The status of a prediction; None where the connection was closed instead."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=SECONDS)
    try:
        connection.request('POST', '/predict', photo, {'Content-Type': 'image/jpeg'})
        return connection.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def run_service(command, library, number, marker, photo):
    """The same for a backend, which is asked twice and then told to end."""
    process = subprocess.Popen(command, env=environment_of(library, number, marker), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text, end, fault = b'', time.monotonic() + SECONDS, ''
    try:
        while not (found := re.search(rb'listening on port (\d+)', text)) and time.monotonic() < end:
            if select.select([process.stdout], [], [], 1)[0]:
                more = os.read(process.stdout.fileno(), 65536)
                if not more:
                    break
                text += more
        if found:
            statuses = [ask(int(found.group(1)), photo) for _ in range(2)]
            if any(status not in (200, 500, 503, None) for status in statuses):
                fault = f'answered with {statuses}'
            process.terminate()
        text += process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        fault = 'did not end'
    finally:
        process.kill()
        process.wait()
    return (fault or process.returncode), text.decode(errors='replace').strip()


def run_failing(command, library, number, folder, photo):
    """The process with allocation `number` failing: (whether it came to that, exit status, what it wrote)."""
    marker = os.path.join(folder, str(number))
    status, text = (run_service(command, library, number, marker, photo) if photo else
                    run_verb(command, library, number, marker))
    return os.path.exists(marker), status, text


def fault_of(status, text):
    """What is wrong with how the process ended; '' if nothing is."""
    if isinstance(status, str):
        return status
    if status < 0:
        return f'ended by signal {-status}'
    if status not in (0, 1):
        return f'exit status {status}'
    if status == 1 and not text:
        return 'failed without a word'
    return ''


def torture(command, library, photo):
    faults, tried, number, reached = [], 0, int(time.time() / 86400) % EVERY, True
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        while reached and number < MOST:
            batch = range(number, number + 16 * EVERY, EVERY)
            for at, (happened, status, text) in zip(
                    batch, pool.map(lambda at: run_failing(command, library, at, folder, photo), batch)):
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
    animals = os.path.join(models, 'animals')
    with open(photo, 'rb') as file:
        content = file.read()
    cases = [('classify', [guichet, 'classify', '--model', animals, photo], None),
             ('classify in int8', [guichet, 'classify', '--model', animals + ':int8', photo], None),
             ('backend', [guichet, 'backend', '--model', animals, '--address', '127.0.0.1', '--port', '0', '--threads', '1',
                          '--decode-threads', '1', '--access-log', 'off'], content)]
    print(f'1..{len(cases)}', flush=True)
    failed = False
    for at, (name, command, content) in enumerate(cases, 1):
        count, faults = torture(command, library, content)
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
