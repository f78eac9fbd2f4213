"""What the tests of streaming share: probes with and without TLS, one behind the other, and a client that reads piece by
piece and sees where a reply breaks."""
import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

from tiers import HERE, Process, ask

PROBE = os.environ.get('HTTP_PROBE', os.path.join(HERE, '..', '..', 'build', 'tests', 'http', 'http_probe'))
SANITIZED = 'asan' in PROBE or 'tsan' in PROBE
PIECE = 64 << 10


class Broken(Exception):
    """The reply ended before it was complete: `rest` are the last bytes."""

    def __init__(self, text, rest=b''):
        super().__init__(text)
        self.rest = rest


def probe(*arguments):
    process = Process(PROBE, *arguments)
    process.port = int(process.wait_line('port').split()[1])
    return process


def make_certificate(folder):
    """Paths of certificate and key for localhost; None where there is no openssl."""
    certificate, key = os.path.join(folder, 'c.pem'), os.path.join(folder, 'k.pem')
    command = ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', certificate, '-days', '2',
               '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return certificate, key


class Way:
    """How a client reaches the routes of the probe `far`: directly, or by the relay of `near`; plain, or over TLS."""

    def __init__(self, name, far, near=None, context=None):
        self.name, self.far, self.near, self.context = name, far, near, context
        self.port, self.prefix = (near.port, '/relay') if near else (far.port, '')

    def connect(self):
        one = socket.create_connection(('127.0.0.1', self.port), timeout=30)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.context:
            return one
        return self.context.wrap_socket(one, server_hostname='localhost', suppress_ragged_eofs=False)

    def ask(self, path, method=None, **more):
        return Reply(self, path, method, **more)

    def processes(self):
        return [one for one in (self.far, self.near) if one]


class Reply:
    """A request, and its reply as it comes. `body`: sent with its length; `chunks`: sent as chunks. `path` None: the
    request has been sent."""

    def __init__(self, way, path, method=None, version='1.1', headers=(), body=None, chunks=None, one=None):
        self.socket = one or way.connect()
        self.file = self.status = self.body = None
        method = method or ('GET' if body is None and chunks is None else 'POST')
        lines = [f'{method} {way.prefix}{path} HTTP/{version}', 'Host: a', *headers]
        if body is not None:
            lines.append(f'Content-Length: {len(body)}')
        if chunks is not None:
            lines.append('Transfer-Encoding: chunked')
        self.method = method
        if path is None:
            return
        self.socket.sendall('\r\n'.join(lines + ['', '']).encode() + (body or b''))
        for chunk in chunks or ():
            self.socket.sendall(b'%x\r\n%s\r\n' % (len(chunk), chunk))
        if chunks is not None:
            self.socket.sendall(b'0\r\n\r\n')

    def start(self):
        """Read the head."""
        if self.status:
            return self
        self.file = self.file or self.socket.makefile('rb')
        line = self.line()
        self.status = int(line.split()[1])
        self.headers = {}
        while (line := self.line()) != '':
            name, _, value = line.partition(':')
            self.headers[name.lower()] = value.strip()
        return self

    def next(self):
        """Go on with what follows on the connection."""
        self.status = self.body = None

    def line(self):
        text = self.file.readline()
        if not text.endswith(b'\r\n'):
            raise Broken('the connection ended')
        return text[:-2].decode()

    def take(self, size):
        got = self.file.read(size)
        if len(got) != size:
            raise Broken(f'{len(got)} bytes of {size}', got)
        return got

    def pieces(self):
        """The body's bytes, a chunk or up to 64 KiB at a time; a second call goes on where the first was left."""
        self.body = self.body or self.read_pieces()
        return self.body

    def read_pieces(self):
        self.start()
        if self.method == 'HEAD' or self.status in (204, 304):
            return
        if self.headers.get('transfer-encoding') == 'chunked':
            while size := int(self.line(), 16):
                yield self.take(size)
                assert self.take(2) == b'\r\n'
            assert self.line() == ''
        elif 'content-length' in self.headers:
            left = int(self.headers['content-length'])
            while left:
                yield self.take(min(left, PIECE))
                left -= min(left, PIECE)
        else:
            while got := self.file.read1(PIECE):
                yield got

    def read(self):
        return b''.join(self.pieces())

    def read_broken(self):
        """The bytes before the reply breaks, which it must."""
        got = []
        try:
            for piece in self.pieces():
                got.append(piece)
        except Broken as broken:
            return b''.join(got) + broken.rest
        except (ConnectionError, ssl.SSLError):
            return b''.join(got)
        raise AssertionError('the reply is complete')

    def ends(self):
        """The server closes the connection."""
        try:
            return self.file.read(1) == b''
        except (ConnectionError, ssl.SSLError):
            return True

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.close()

    def close(self):
        if self.file:
            self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def ways(*arguments, tls=True, relay=True):
    """Every way from a client to a probe, with the same arguments for each probe."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pair = make_certificate(folder) if tls else None
        found = []
        for secure in (False, True) if pair else (False,):
            keys = (f'cert={pair[0]}', f'key={pair[1]}') if secure else ()
            context = ssl.create_default_context(cafile=pair[0]) if secure else None
            far = stack.enter_context(probe(*keys, *arguments))
            kind = 'TLS' if secure else 'plain'
            found.append(Way(f'{kind}, direct', far, None, context))
            if relay:
                scheme = 'https://localhost' if secure else 'http://127.0.0.1'
                trust = (f'ca={pair[0]}',) if secure else ()
                near = stack.enter_context(probe(f'upstream={scheme}:{far.port}', *trust, *keys, *arguments))
                found.append(Way(f'{kind}, relayed', far, near, context))
        yield found


class Upstream:
    """A server in Python for one script: `serve(connection)` runs for every connection, on a thread of its own."""

    def __init__(self, serve):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.serve = serve
        self.accepted = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self.run, args=(one,), daemon=True).start()

    def run(self, one):
        with one, contextlib.suppress(OSError):
            self.serve(one)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


@contextlib.contextmanager
def relay_to(serve, *arguments):
    """A way by a relay to a server in Python."""
    with Upstream(serve) as upstream, probe(f'upstream=http://127.0.0.1:{upstream.port}', *arguments) as near:
        way = Way('relayed', upstream, near)
        way.upstream = upstream
        yield way


def read_head(one):
    text = b''
    while b'\r\n\r\n' not in text:
        got = one.recv(65536)
        if not got:
            raise ConnectionError('no request')
        text += got
    return text


def pattern(size):
    """The bytes that /flood sends and /count expects."""
    return b''.join(bytes([ord('a') + i % 26]) * PIECE for i in range((size + PIECE - 1) // PIECE))[:size]


def peak_memory(process):
    """Most memory resident since reset_peak, in bytes."""
    with open(f'/proc/{process.child.pid}/status', encoding='ascii') as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith('VmHWM'))


def reset_peak(process):
    with open(f'/proc/{process.child.pid}/clear_refs', 'w', encoding='ascii') as file:
        file.write('5')
    return peak_memory(process)


def state(process, context=None):
    """The counters of a probe."""
    if not context:
        return ask(process.port, 'GET', '/state').json()
    with Way('', process, None, context).ask('/state') as reply:
        return json.loads(reply.read())


def within(seconds, measure, tries=3):
    """`measure()` gives seconds; a busy machine may spoil one try, but not each of them."""
    taken = []
    for _ in range(tries):
        taken.append(measure())
        if taken[-1] < seconds:
            return
    raise AssertionError(f'took {taken} s, not less than {seconds}')


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def note(text):
    print(f'# {text}', file=sys.stdout, flush=True)
