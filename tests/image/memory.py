#!/usr/bin/env python3
"""What decoding really takes against what the header said it would, over photos that announce much in few bytes.

Argument: the probe. TAP on standard output.
"""
import os
import subprocess
import sys
import tempfile
import time

import bombs

PROBE = sys.argv[1]
SANITIZED = os.environ.get('GUICHET_SANITIZED') == '1'  # a sanitizer's own memory hides what is measured
MOST_MB = 128
tests = failed = 0


def ask(*fields):
    """(reply, MB at the peak, seconds) of a probe that does nothing else"""
    start = time.time()
    with subprocess.Popen([PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(('\t'.join(map(str, fields)) + '\ntime\t/none\n').encode())
        process.stdin.flush()
        reply = process.stdout.readline().decode().rstrip('\n')
        if reply.startswith('tensor'):
            process.stdout.read(224 * 224 * 12)
        if not process.stdout.readline().startswith(b'error'):
            return 'the probe died', 0, 0
        with open(f'/proc/{process.pid}/status', encoding='ascii') as status:
            peak = [int(line.split()[1]) for line in status if line.startswith('VmHWM')][0]
        process.stdin.close()
    return reply, peak / 1024, time.time() - start


def check(name, fault):
    global tests, failed
    tests += 1
    failed += bool(fault)
    print(f'{"not " if fault else ""}ok {tests} - {name}' + (f'\n# {fault}' if fault else ''), flush=True)


def look(path, size, refusable, usual):
    """'' where all is well"""
    cost = ask('cost', path)[0]
    reply, peak, seconds = ask('tensor', path, 0, 0, 256, 2, 224, 224)
    taken = peak - usual - size / 1e6
    print(f'# {os.path.basename(path)}: {size} bytes, {cost}, {reply[:90]}: {peak:.0f} MB, {seconds:.1f} s')
    if reply.startswith('error'):
        small = SANITIZED or taken < 5
        return '' if refusable and 'too large' in reply and small else f'{reply}, {taken:.0f} MB'
    if not reply.startswith('tensor'):
        return reply
    announced = int(cost.split()[1]) / 1e6
    if announced > MOST_MB:
        return f'{announced:.0f} MB are announced'
    if not SANITIZED and taken > announced + 3:
        return f'{taken:.1f} MB were taken, and {announced:.1f} announced'
    return ''


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'usual.png')
        with open(path, 'wb') as file:
            file.write(bombs.png(500, 400))
        usual = ask('tensor', path, 0, 0, 256, 2, 224, 224)[1]
        for name, content, refusable in bombs.all_bombs():
            path = os.path.join(folder, name)
            with open(path, 'wb') as file:
                file.write(content)
            check(name, look(path, len(content), refusable, usual))
            os.unlink(path)

        path = os.path.join(folder, 'scans.jpg')
        with open(path, 'wb') as file:
            file.write(bombs.jpeg(4000, 4000, progressive=True, repeat=150))
        reply, _, seconds = ask('tensor', path, 0, 0, 256, 2, 224, 224)
        check('scans', '' if 'scans' in reply and seconds < 60 else f'{reply}, {seconds:.1f} s')
    print(f'1..{tests}')
    return failed > 0


if __name__ == '__main__':
    sys.exit(main())
