#!/usr/bin/env python3
"""Nobody reads the log: every request is answered, SIGTERM ends the process, and lost lines are counted and told."""
import http.client
import os
import pty
import re
import select
import socket
import subprocess
import sys
import tempfile
import termios
import time

import case

REQUESTS = 1500


def ask(port, target):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    connection.request('GET', target)
    body = connection.getresponse().read().decode()
    connection.close()
    return body


def open_ends(kind):
    """(what the program writes to, what nobody reads)"""
    if kind == 'terminal':
        reading, writing = pty.openpty()
        attributes = termios.tcgetattr(writing)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(writing, termios.TCSANOW, attributes)
        return writing, reading
    if kind == 'socket':
        ends = socket.socketpair()
        return ends[0].detach(), ends[1].detach()
    reading, writing = os.pipe()
    return writing, reading


def read_until(reading, pattern, text=b'', between=lambda: None):
    """The first match in text and what follows it; between is called where nothing comes for a while"""
    end = time.monotonic() + 20
    while not (found := re.search(pattern, text)):
        assert time.monotonic() < end, text[-500:]
        if select.select([reading], [], [], 0.5)[0]:
            text += os.read(reading, 65536)
        else:
            between()
    return found


def try_one(guichet, arguments, kind):
    writing, reading = open_ends(kind)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([guichet, *arguments(folder), '--access-log', 'json', '--port', '0', '--address', '127.0.0.1'],
                                   stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env={**os.environ, 'XDG_STATE_HOME': folder})
        os.close(writing)
        try:
            port = int(read_until(reading, rb'(?:port |127\.0\.0\.1:)(\d+)').group(1))
            for _ in range(REQUESTS):
                ask(port, '/healthz')
            lost = int(re.search(r'^guichet_log_dropped_total (\d+)$', ask(port, '/metrics'), re.M).group(1))
            if lost == 0:
                return 'no line was lost: the test proves nothing'
            text = os.read(reading, 1 << 20)
            # There is room again, at once or, of a terminal, a little later: the next line that finds it tells.
            told = int(read_until(reading, rb'\{"dropped_lines":(\d+)\}\n', text, lambda: ask(port, '/healthz')).group(1))
            if told < lost:
                return f'{lost} lines were lost, and {told} told'
            for _ in range(REQUESTS):
                ask(port, '/healthz')
            process.terminate()
            process.wait(20)
            return ''
        except (OSError, AssertionError, subprocess.TimeoutExpired) as error:
            return repr(error)
        finally:
            process.kill()
            process.wait()
            os.close(reading)


def main():
    def serve(folder):
        return ['serve', '--models', folder]

    def gateway(_):
        return ['gateway', '--backend', 'cats=http://127.0.0.1:1']
    return case.check([(f'{name}, {kind}', try_one(sys.argv[1], arguments, kind)) for name, arguments, kind in (
        ('serve', serve, 'pipe'), ('gateway', gateway, 'pipe'), ('gateway', gateway, 'socket'), ('serve', serve, 'terminal'))])


if __name__ == '__main__':
    sys.exit(main())
