"""What the tests of gateway, frontend and `guichet serve` share: real processes, requests over real sockets, TAP."""
import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
GUICHET = os.environ.get('GUICHET', os.path.join(HERE, '..', '..', 'build', 'guichet'))
STAND_IN = os.path.join(HERE, 'stand_in.py')
BACKEND_STAND_IN = os.path.join(HERE, 'backend_stand_in.py')
MODEL = os.environ.get('GUICHET_TEST_MODEL', os.path.join(HERE, '..', '..', 'models', 'animals'))
# 64x64, drawn: a gradient.
JPEG = base64.b64decode(
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71'
    '////m8H////6/+b9//j/2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4'
    '+Pj4+Pj4+Pj/wAARCABAAEADASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAgEEBf/EABYQAQEBAAAAAAAAAAAAAAAAAAEA'
    'Av/EABcBAQEBAQAAAAAAAAAAAAAAAAMCAQX/xAAYEQEBAQEBAAAAAAAAAAAAAAABAAIRIf/aAAwDAQACEQMRAD8A5ISMyCZmSwYG'
    'ZmZBULHk2WhmpmRmQUrNliZkZkEgsWbLZQmFQkFvfLkZYmZBIJBYs2WJmQSMyM09myxMyCQSClZstlCQSCQVduRliEgkFQpWbLQJ'
    'BUzIKVmyxCQSMyClZstlCQSCQVduRliZkEgkFKzZYhIJGZBSs2WISCQSClZst//Z')


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


class Process:
    """A child whose output is collected; ends with the `with` block."""

    def __init__(self, *command, environment=None, pass_fds=(), prepare=None):
        self.lines = []
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, errors='replace', pass_fds=pass_fds, preexec_fn=prepare,
                                      env={**os.environ, **(environment or {})})
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.lines.append(line.rstrip('\n'))

    def wait_line(self, part, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in list(self.lines):
                if part in line:
                    return line
            if self.child.poll() is not None:
                self.reader.join(2)
                if not any(part in line for line in self.lines):
                    raise AssertionError(f'ended with {self.child.returncode}: {self.lines[-5:]}')
            time.sleep(0.01)
        raise AssertionError(f'no line with {part!r} in {self.lines[-10:]}')

    def kill(self, number=signal.SIGKILL):
        self.child.send_signal(number)

    def end(self, seconds=30):
        """SIGTERM; returns the exit status."""
        if self.child.poll() is None:
            self.child.terminate()
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError('did not end on SIGTERM')
        self.reader.join(5)
        return self.child.returncode

    def end_well(self):
        """SIGTERM; it must end by itself, without an error. (A sanitizer looks for leaks then.)"""
        status = self.end()
        assert status == 0, (status, self.lines[-20:])

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind and self.lines:
            print('# ' + '\n# '.join(self.lines[-15:]))
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.reader.join(5)
        self.child.stdout.close()


def stand_in(name, port=0, host='127.0.0.1'):
    process = Process(sys.executable, STAND_IN, name, str(port or free_port()), host)
    end = time.monotonic() + 20
    while not process.lines and time.monotonic() < end:
        time.sleep(0.005)
    process.port = int(process.lines[0])
    process.url = f'http://{host}:{process.port}'
    return process


def backend(*arguments, environment=None, model=MODEL):
    process = Process(GUICHET, 'backend', '--model', model, '--address', '127.0.0.1', '--port', '0', *arguments,
                      environment=environment)
    process.port = int(process.wait_line('listening on port', 60).split('port ')[1])
    process.url = f'http://127.0.0.1:{process.port}'
    return process


def gateway(*arguments, environment=None, log='off'):
    process = Process(GUICHET, 'gateway', '--address', '127.0.0.1', '--port', '0', '--access-log', log, '--check', '0.3',
                      *arguments, environment=environment)
    process.port = int(process.wait_line('listening on port').split('port ')[1])
    return process


def frontend(*arguments, environment=None):
    process = Process(GUICHET, 'frontend', '--address', '127.0.0.1', '--port', '0', '--access-log', 'off', *arguments,
                      environment=environment)
    process.port = int(process.wait_line('listening on port').split('port ')[1].split(',')[0])
    return process


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Client:
    """One connection, kept open."""

    def __init__(self, port, timeout=30):
        self.connection = http.client.HTTPConnection('127.0.0.1', port, timeout=timeout)

    def ask(self, method, target, body=None, **headers):
        self.connection.request(method, target, body, {key.replace('_', '-'): value for key, value in headers.items()})
        answer = self.connection.getresponse()
        return Reply(answer.status, answer.getheaders(), answer.read())

    def close(self):
        self.connection.close()


def ask(port, method, target, body=None, **headers):
    client = Client(port)
    try:
        return client.ask(method, target, body, **headers)
    finally:
        client.close()


def raw(port, data, seconds=15):
    """Send bytes as they are; everything that comes back until the other side closes (or time is up)."""
    with socket.create_connection(('127.0.0.1', port), timeout=seconds) as one:
        received = b''
        try:
            one.sendall(data)
            while True:
                chunk = one.recv(65536)
                if not chunk:
                    break
                received += chunk
        except (socket.timeout, ConnectionError):
            pass
        return received


class Load:
    """Threads that ask the same thing again and again; counts what came back."""

    def __init__(self, port, target='/model/cats/predict', threads=8, body=b'{}', **headers):
        self.statuses, self.errors, self.replies = {}, [], []
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.arguments = (port, target, body, headers)
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        port, target, body, headers = self.arguments
        client = Client(port)
        while not self.stop.is_set():
            try:
                reply = client.ask('POST', target, body, **headers)
                with self.lock:
                    self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
                    if reply.status != 200:
                        self.errors.append(reply.body[:200])
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.errors.append(repr(error))
                client.close()
                client = Client(port)
        client.close()

    def end(self, least=0):
        """Number of good answers, once there are `least`; the others are in `errors`."""
        until(lambda: self.statuses.get(200, 0) >= least or self.errors, 120, f'{least} answers')
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        return self.statuses.get(200, 0)


class Serve:
    """A folder of models, and guichet serve over it, before stand-in backends."""

    def __init__(self, models, *arguments):
        self.folder = tempfile.mkdtemp()
        for name, text in models.items():
            self.write(name, text)
        self.process = Process(GUICHET, 'serve', '--models', self.folder, '--port', '0', '--backend-program',
                               BACKEND_STAND_IN, *arguments, environment={'XDG_STATE_HOME': self.folder + '/.state'})
        self.port = int(self.process.wait_line('guichet is at').rsplit(':', 1)[1])

    def write(self, name, text, file='model.onnx'):
        """As an installer does: a whole folder at once."""
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, '.new'), 'w', encoding='utf-8') as out:
            out.write(text)
        os.replace(os.path.join(path, '.new'), os.path.join(path, file))

    def states(self):
        return {entry['name']: entry['state'] for entry in ask(self.port, 'GET', '/models?details=1').json()}

    def details(self, name):
        return next(entry for entry in ask(self.port, 'GET', '/models?details=1').json() if entry['name'] == name)

    def predict(self, name, query=''):
        return ask(self.port, 'POST', f'/model/{name}/predict{query}', b'{}')

    def metric(self, name, model):
        text = ask(self.port, 'GET', '/metrics').body.decode()
        return next(float(line.rsplit(' ', 1)[1]) for line in text.split('\n') if line.startswith(f'{name}{{model="{model}"'))

    def metrics(self):
        """Every sample of /metrics; each family must be there once, and each sample."""
        samples, families = {}, []
        for line in ask(self.port, 'GET', '/metrics').body.decode().strip().split('\n'):
            if line.startswith('# TYPE '):
                families.append(line.split()[2])
            elif not line.startswith('#'):
                name, value = line.rsplit(' ', 1)
                assert name not in samples, name
                samples[name] = float(value)
        assert len(families) == len(set(families)), families
        return samples

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.__exit__(*what)
        shutil.rmtree(self.folder)


def check_docs(port, absent=()):
    """The tier describes itself: / leads to /docs, whose files are all there, and /openapi.json names what it answers."""
    home = ask(port, 'GET', '/')
    assert home.status == 302 and home.header('Location') == '/docs', home.status
    page = ask(port, 'GET', '/docs')
    assert page.status == 200 and page.header('Content-Type').startswith('text/html')
    assert "default-src 'self'" in page.header('Content-Security-Policy')
    for target in ['/assets/docs.js', '/assets/dom.js', '/assets/style.css', '/assets/mark.svg']:
        assert ask(port, 'GET', target).status == 200, target
    paths = ask(port, 'GET', '/openapi.json').json()['paths']
    assert '/predict' in paths and '/v2/models/{model}/infer' in paths and not set(absent) & set(paths), sorted(paths)
    assert ask(port, 'POST', '/docs').status == 405 and ask(port, 'HEAD', '/docs').body == b''
    assert ask(port, 'GET', '/gateway/openapi.json').status in (401, 404)
    assert ask(port, 'GET', '/docs', If_None_Match=page.header('ETag')).status == 304


def outstanding(port, model='cats'):
    """Requests at a model, as gateway or serve counts them."""
    text = ask(port, 'GET', '/metrics').body.decode()
    return int(re.search(rf'^guichet_gateway_outstanding\{{model="{model}"\}} (\d+)$', text, re.M).group(1))


def until(condition, seconds=20, what='the condition'):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f'{what} did not come about in {seconds} s')


def run_tests(module):
    """Every function named test_… of a module, in order, as TAP. Its docstring, or its name, is the description. Words on
    the command line select by part of the name."""
    tests = [(name, value) for name, value in vars(module).items() if name.startswith('test_') and callable(value)]
    tests = [test for test in tests if len(sys.argv) < 2 or any(word in test[0] for word in sys.argv[1:])]
    print(f'1..{len(tests)}', flush=True)
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        description = (test.__doc__ or name[5:].replace('_', ' ')).strip().split('\n')[0]
        try:
            skipped = test()
            print(f'ok {number} - {description}' + (f' # SKIP {skipped}' if skipped else ''), flush=True)
        except Exception:  # a test that fails must not hide the others
            failed += 1
            print('# ' + '\n# '.join(traceback.format_exc().strip().split('\n')))
            print(f'not ok {number} - {description}', flush=True)
    return 1 if failed else 0
