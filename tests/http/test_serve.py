#!/usr/bin/env python3
"""`guichet serve` over stand-in backends: starts, ends, crashes, memory, swaps. Its models are folders with a text file."""
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

from tiers import BACKEND_STAND_IN, GUICHET, Client, Load, Process, ask, run_tests, until


class Serve:
    """A folder of models, and guichet serve over it."""

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

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.__exit__(*what)
        shutil.rmtree(self.folder)


def test_starts_on_first_use():
    with Serve({'cats': '', 'dogs': 'slow 0.5'}) as serve:
        assert serve.states() == {'cats': 'stopped', 'dogs': 'stopped'}
        assert serve.predict('dogs').json()['category'] == 'dogs'
        assert serve.states() == {'cats': 'stopped', 'dogs': 'ready'}
        for target in ['/models', '/models?details=1', '/metrics', '/readyz', '/v2/health/ready', '/v2/repository/index', '/',
                       '/session', '/model/cats/metrics']:
            assert ask(serve.port, 'GET', target).status == 200, target
        assert serve.states()['cats'] == 'stopped', 'looking starts nothing'


def test_callers_share_a_start():
    with Serve({'cats': 'slow 0.7'}) as serve:
        pids, threads = [], []
        for _ in range(12):
            threads.append(threading.Thread(target=lambda: pids.append(serve.predict('cats').json()['pid'])))
            threads[-1].start()
        time.sleep(0.3)
        assert serve.states()['cats'] == 'starting'
        for thread in threads:
            thread.join()
        assert len(pids) == 12 and len(set(pids)) == 1, pids
        assert serve.metric('guichet_model_loads_total', 'cats') == 1


def test_idle_models_end():
    """a model that nobody asked for ends; listings and metrics do not keep it awake"""
    with Serve({'cats': ''}, '--idle', '1s') as serve:
        pid = serve.predict('cats').json()['pid']
        until(lambda: serve.metric('guichet_model_loads_total', 'cats') == 1 and serve.states()['cats'] == 'stopped', 10)
        until(lambda: not os.path.exists(f'/proc/{pid}'), what='the end of its process')
        assert serve.predict('cats').json()['pid'] != pid


def test_preload():
    with Serve({'cats': '', 'dogs': ''}, '--preload', '--idle', '1s') as serve:
        until(lambda: serve.states() == {'cats': 'ready', 'dogs': 'ready'})
        time.sleep(1.5)
        assert serve.states() == {'cats': 'ready', 'dogs': 'ready'}


def test_memory_evicts_the_least_recently_used():
    with Serve({name: 'memory 100' for name in ('a', 'b', 'c')}, '--memory', '280M') as serve:
        serve.predict('a')
        serve.predict('b')
        time.sleep(0.1)
        serve.predict('a')
        until(lambda: serve.details('b')['state'] == 'ready' and serve.metric('guichet_model_memory_bytes', 'b') > 1e8)
        assert serve.predict('c').status == 200
        until(lambda: serve.states() == {'a': 'ready', 'b': 'stopped', 'c': 'ready'}, what='room')
        assert serve.metric('guichet_model_evictions_total', 'b') == 1


def test_busy_models_are_not_evicted():
    with Serve({name: 'memory 100' for name in ('a', 'b')}, '--memory', '180M') as serve:
        serve.predict('b')
        serve.predict('a')
        until(lambda: serve.states() == {'a': 'ready', 'b': 'stopped'}, what='room')  # what each takes is known now
        answers = []
        thread = threading.Thread(target=lambda: answers.append(serve.predict('a', '?sleep=1.5').status))
        thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        assert serve.predict('b').status == 200
        waited = time.monotonic() - started
        thread.join()
        assert answers == [200] and waited > 1, (answers, waited)


def test_crash_is_contained():
    """a backend that is killed is started again, and its requests are tried once more"""
    with Serve({'cats': '', 'dogs': ''}) as serve:
        pid, other = serve.predict('cats').json()['pid'], serve.predict('dogs').json()['pid']
        answers = []
        thread = threading.Thread(target=lambda: answers.append(serve.predict('cats', '?sleep=0.5').json()['pid']))
        thread.start()
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        thread.join()
        assert len(answers) == 1 and answers[0] != pid, answers
        assert serve.predict('dogs').json()['pid'] == other
        reply = serve.predict('cats', '?die=1')
        assert reply.status == 502 and 'error' in reply.json(), 'a request that kills is not repeated forever'
        until(lambda: serve.predict('cats').status == 200)
        assert serve.metric('guichet_model_crashes_total', 'cats') == 3


def test_killed_under_load():
    with Serve({'cats': ''}) as serve:
        serve.predict('cats')
        load = Load(serve.port, threads=4)
        for _ in range(2):
            time.sleep(0.3)
            os.kill(Client(serve.port).ask('POST', '/model/cats/predict', b'{}').json()['pid'], signal.SIGKILL)
            time.sleep(0.3)
        time.sleep(0.5)
        assert load.end() > 20 and not load.errors, load.errors[:3]


def test_broken_model():
    """a model that cannot load is listed with its reason and hurts nobody"""
    with Serve({'cats': '', 'sick': 'broken model.onnx: the file ends early'}) as serve:
        reply = serve.predict('sick')
        assert reply.status == 503 and 'the file ends early' in reply.json()['error']
        assert serve.details('sick')['state'] == 'failed' and 'ends early' in serve.details('sick')['reason']
        index = ask(serve.port, 'POST', '/v2/repository/index', b'').json()
        assert [entry['reason'] for entry in index if entry['name'] == 'sick'] == ['model.onnx: the file ends early']
        assert serve.predict('cats').status == 200
        started = time.monotonic()
        assert serve.predict('sick').status == 503 and time.monotonic() - started < 0.3, 'it is not tried each time'
        serve.write('sick', 'version healed, and longer')
        until(lambda: serve.predict('sick').status == 200, what='the mended model')


def test_swap_under_load():
    """a changed folder is swapped in without a lost request"""
    with Serve({'cats': 'version 1'}) as serve:
        serve.predict('cats')
        load = Load(serve.port, '/model/cats/predict?sleep=0.01', threads=6)
        for version in ('2', '3'):
            time.sleep(0.2)
            serve.write('cats', f'version {version}')
            until(lambda: serve.predict('cats').json()['version'] == version, what=f'version {version}')
        serve.write('cats', 'broken by a bad copy')
        until(lambda: 'bad copy' in serve.details('cats').get('reason', ''), what='the reason')
        assert serve.predict('cats').json()['version'] == '3', 'the old version goes on'
        assert load.end() > 50 and not load.errors, load.errors[:3]


def test_folders_come_and_go():
    with Serve({'cats': ''}) as serve:
        serve.write('dogs', '')
        serve.write('dogs', '', 'model_int8.onnx')
        until(lambda: ask(serve.port, 'GET', '/models').json() == ['cats', 'dogs', 'dogs:int8'], what='the new models')
        assert serve.predict('dogs').json()['category'] == 'dogs'
        assert serve.predict('dogs:int8').json()['category'] == 'dogs:int8'
        assert serve.details('dogs:int8')['precision'] == 'int8'
        shutil.rmtree(os.path.join(serve.folder, 'dogs'))
        until(lambda: ask(serve.port, 'GET', '/models').json() == ['cats'], what='the end of the models')
        assert serve.predict('dogs').status == 404


def test_load_and_unload():
    with Serve({'cats': '', 'sick': 'broken beyond hope'}) as serve:
        assert ask(serve.port, 'POST', '/v2/repository/models/cats/load', b'').status == 200
        assert serve.states()['cats'] == 'ready'
        assert ask(serve.port, 'POST', '/v2/repository/models/cats/unload', b'').status == 200
        until(lambda: serve.states()['cats'] == 'stopped')
        assert ask(serve.port, 'POST', '/v2/repository/models/sick/load', b'').status == 503
        assert ask(serve.port, 'POST', '/v2/repository/models/mice/load', b'').status == 404


def test_ends_in_order():
    """Ctrl-C finishes what has begun and leaves no process behind"""
    with Serve({'cats': '', 'dogs': ''}) as serve:
        pids = [serve.predict(name).json()['pid'] for name in ('cats', 'dogs')]
        answers = []
        thread = threading.Thread(target=lambda: answers.append(serve.predict('cats', '?sleep=0.8').status))
        thread.start()
        time.sleep(0.3)
        serve.process.kill(signal.SIGINT)
        assert serve.process.child.wait(20) == 0
        thread.join()
        assert answers == [200], answers
        assert not any(os.path.exists(f'/proc/{pid}') for pid in pids)


def test_children_die_with_the_parent():
    with Serve({'cats': ''}) as serve:
        pid = serve.predict('cats').json()['pid']
        serve.process.kill(signal.SIGKILL)
        serve.process.child.wait()

        def gone():
            try:
                with open(f'/proc/{pid}/stat', encoding='ascii') as file:
                    return file.read().rsplit(')', 1)[1].split()[0] == 'Z'
            except OSError:
                return True
        until(gone, what='the end of the child')


def test_sessions_outlive_a_restart():
    with tempfile.TemporaryDirectory() as state:
        cookie = None
        for _ in range(2):
            with Serve({'cats': '', 'dogs': ''}) as serve:
                serve.process.end()
                again = Process(GUICHET, 'serve', '--models', serve.folder, '--port', '0', '--backend-program',
                                BACKEND_STAND_IN, environment={'XDG_STATE_HOME': state})
                with again:
                    port = int(again.wait_line('guichet is at').rsplit(':', 1)[1])
                    if cookie is None:
                        cookie = ask(port, 'PUT', '/model/dogs').header('Set-Cookie').split(';')[0]
                    assert ask(port, 'GET', '/session', Cookie=cookie).json()['model'] == 'dogs'


if __name__ == '__main__':
    sys.exit(run_tests(sys.modules['__main__']))
