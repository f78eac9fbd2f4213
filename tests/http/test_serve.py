#!/usr/bin/env python3
"""`guichet serve` over stand-in backends: starts, ends, crashes, memory, swaps. Its models are folders with a text file."""
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from tiers import BACKEND_STAND_IN, GUICHET, Client, Load, Process, Serve, ask, free_port, outstanding, run_tests, until


def test_starts_on_first_use():
    with Serve({'cats': '', 'dogs': 'slow 0.5'}) as serve:
        assert serve.states() == {'cats': 'stopped', 'dogs': 'stopped'}
        assert serve.predict('dogs').json()['category'] == 'dogs'
        assert serve.states() == {'cats': 'stopped', 'dogs': 'ready'}
        for target in ['/models', '/models?details=1', '/metrics', '/readyz', '/v2/health/ready', '/v2/repository/index', '/',
                       '/session', '/model/cats/metrics']:
            assert ask(serve.port, 'GET', target).status == 200, target
        for target in ['/v2/models/cats/ready', '/v2/models/cats/versions/1/ready']:
            reply = ask(serve.port, 'GET', target)
            assert reply.status == 503 and reply.json() == {'ready': False}, target
        for target in ['/v1/models/cats', '/v1/models/cats/versions/1']:
            assert ask(serve.port, 'GET', target).json()['model_version_status'][0]['state'] == 'START', target
            assert ask(serve.port, 'POST', target, b'').status == 405
        assert serve.states()['cats'] == 'stopped', 'looking starts nothing'


def test_callers_share_a_start():
    with Serve({'cats': 'slow 1.5'}) as serve:
        pids, threads = [], []
        for _ in range(12):
            threads.append(threading.Thread(target=lambda: pids.append(serve.predict('cats').json()['pid'])))
            threads[-1].start()
        until(lambda: serve.states()['cats'] == 'starting', what='the start')
        for thread in threads:
            thread.join()
        assert len(pids) == 12 and len(set(pids)) == 1, pids
        assert serve.metric('guichet_model_loads_total', 'cats') == 1


def test_metrics_of_every_model():
    """/metrics holds each model's own metrics; its counters outlive its process, and nothing is woken or kept awake"""
    count, summed = 'nv_inference_count{model="%s",version="1"}', 'guichet_infer_seconds_sum{model="%s",version="1"}'
    queue = 'guichet_queue_length{model="%s",version="1"}'
    with Serve({'cats': '', 'dogs': '', 'mice': ''}, '--idle', '2s') as serve:
        def inferences(name):
            return serve.metrics().get(count % name, 0)
        for number in range(3):
            serve.predict('cats')
        serve.predict('dogs')
        until(lambda: (inferences('cats'), inferences('dogs')) == (3, 1), what='the metrics of both')
        metrics = serve.metrics()
        assert metrics[summed % 'cats'] == 3 / 8 and metrics[queue % 'cats'] == 0
        assert metrics['process_resident_memory_bytes'] > 1e6, 'those of the one process that answers'
        assert metrics['guichet_model_loads_total{model="cats"}'] == 1
        assert not any('version="1"' in name and 'loads_total' in name for name in metrics), 'counted once'
        assert not any('mice' in name and 'nv_' in name for name in metrics)
        until(lambda: (serve.metrics() and serve.states()) == {'cats': 'stopped', 'dogs': 'stopped', 'mice': 'stopped'}, 30,
              'the end of both, though their metrics are read')
        metrics = serve.metrics()
        assert metrics[count % 'cats'] == 3 and queue % 'cats' not in metrics
        pid = serve.predict('cats').json()['pid']
        until(lambda: inferences('cats') == 4, what='the new process adding to the old one')
        os.kill(pid, signal.SIGKILL)
        until(lambda: serve.metric('guichet_model_crashes_total', 'cats') == 1)
        serve.predict('cats')
        until(lambda: inferences('cats') == 5, what='the metrics after a crash')
        serve.write('cats', 'version 2')
        until(lambda: serve.predict('cats').json()['version'] == '2')
        assert inferences('cats') >= 6
        assert serve.states()['mice'] == 'stopped'
        shutil.rmtree(os.path.join(serve.folder, 'dogs'))
        until(lambda: count % 'dogs' not in serve.metrics(), what='the end of a model that is gone')


def test_children_inherit_nothing():
    """a backend has none of our sockets and files: not the listening one that systemd gave, nor what a shell left open"""
    folder = tempfile.mkdtemp()
    os.makedirs(folder + '/cats')
    with open(folder + '/cats/model.onnx', 'w', encoding='utf-8'):
        pass
    with socket.socket() as given, open(folder + '/left-open', 'w', encoding='utf-8') as left:
        given.bind(('127.0.0.1', 0))
        given.listen()
        os.dup2(given.fileno(), 103)
        os.dup2(left.fileno(), 109)
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&103 9<&109 103<&- 109<&-'
        with Process('bash', '-c', script, 'sh', GUICHET, 'serve', '--models', folder, '--backend-program', BACKEND_STAND_IN,
                     '--default-model', 'dogs', environment={'XDG_STATE_HOME': folder}, pass_fds=(103, 109)) as serve:
            os.close(103)
            os.close(109)
            serve.wait_line('guichet is at')
            serve.wait_line('--default-model dogs: there is no such model yet')
            child = ask(given.getsockname()[1], 'POST', '/model/cats/predict', b'{}').json()['pid']

            def files(pid):
                found = set()
                for name in os.listdir(f'/proc/{pid}/fd'):
                    with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                        found.add(os.readlink(f'/proc/{pid}/fd/{name}'))
                return found
            ours = files(serve.child.pid)
            assert folder + '/left-open' in ours and f'socket:[{os.fstat(given.fileno()).st_ino}]' in ours, ours
            shared = {name for name in files(child) & ours if name.startswith(('socket:', folder))}
            assert not shared, shared
    shutil.rmtree(folder)


def test_children_get_their_socket():
    """a model's process is given the socket that it listens on: the port is nobody else's at any time"""
    with Serve({'cats': 'slow 2', 'dogs': ''}) as serve:
        thread = threading.Thread(target=serve.predict, args=('cats',))
        thread.start()
        until(lambda: serve.states()['cats'] == 'starting', what='its start')

        def child():
            for pid in filter(str.isdigit, os.listdir('/proc')):
                with contextlib.suppress(OSError), open(f'/proc/{pid}/cmdline', 'rb') as file:
                    words = file.read().split(b'\0')
                    if os.path.join(serve.folder, 'cats').encode() in words:
                        return int(words[words.index(b'--port') + 1])
            return None
        until(child, what='its process')
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                thief.bind(('127.0.0.1', child()))
                thief.listen()
                raise RuntimeError('the port could be taken')
            except OSError:
                pass
        thread.join()
        reply = serve.predict('cats').json()
        assert reply['port'] == int(reply['options']['--port'])
        os.kill(reply['pid'], signal.SIGKILL)
        until(lambda: serve.predict('cats').json()['pid'] != reply['pid'], what='another process')
        assert serve.predict('cats').json()['port'] != serve.predict('dogs').json()['port']


def test_idle_models_end():
    """a model that nobody asked for ends; listings and metrics do not keep it awake"""
    with Serve({'cats': ''}, '--idle', '1s') as serve:
        pid = serve.predict('cats').json()['pid']
        until(lambda: serve.metric('guichet_model_loads_total', 'cats') == 1 and serve.states()['cats'] == 'stopped', 30)
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


def take_turns(serve, *names):
    """Each model runs once, so that what it takes is known; the last one goes on running."""
    for name in names:
        assert serve.predict(name).status == 200
    until(lambda: serve.states() == {name: 'ready' if name == names[-1] else 'stopped' for name in names}, what='room')


def test_busy_models_are_not_evicted():
    with Serve({name: 'memory 100' for name in ('a', 'b')}, '--memory', '180M') as serve:
        take_turns(serve, 'b', 'a')
        answers = []
        thread = threading.Thread(target=lambda: answers.append(serve.predict('a', '?sleep=1.5').status))
        thread.start()
        until(lambda: outstanding(serve.port, 'a') == 1, what='its beginning')
        assert serve.predict('b').status == 200
        assert answers == [200], 'the other one was ended before it had answered'
        thread.join()


def test_a_busy_model_makes_room():
    """--patience: a model that is never idle ends what it has and makes room; nothing of either is lost"""
    with Serve({name: 'memory 100' for name in ('a', 'b')}, '--memory', '180M', '--patience', '1s') as serve:
        take_turns(serve, 'b', 'a')
        before = serve.metric('guichet_model_evictions_total', 'a')
        load = Load(serve.port, '/model/a/predict?sleep=0.05', threads=4)
        until(lambda: load.statuses.get(200, 0) > 4, what='the load')
        for _ in range(2):
            # Four threads may all be between two requests; one that takes longer than the patience is not.
            slow = []
            thread = threading.Thread(target=lambda: slow.append(serve.predict('a', '?sleep=2').status))
            thread.start()
            until(lambda: outstanding(serve.port, 'a') > 4, what='the slow request beside the load')
            begun = time.monotonic()
            assert serve.predict('b').status == 200
            assert time.monotonic() - begun > 0.9, 'not before it has waited'
            thread.join()
            assert slow == [200], slow
            until(lambda: serve.states() == {'a': 'ready', 'b': 'stopped'}, what='the turn of the other')
        assert serve.metric('guichet_model_evictions_total', 'a') == before + 2
        assert load.end(20) >= 20 and not load.errors, load.errors[:3]


def test_every_busy_model_has_its_turn():
    """three models that are always busy, and memory for one: who waits longest comes next"""
    with Serve({name: 'memory 100' for name in ('a', 'b', 'c')}, '--memory', '180M', '--patience', '0.3') as serve:
        take_turns(serve, 'c', 'b', 'a')
        loads = [Load(serve.port, f'/model/{name}/predict?sleep=0.02', threads=2) for name in ('c', 'b', 'a')]
        evicted = lambda: [serve.metric('guichet_model_evictions_total', name) for name in ('a', 'b', 'c')]
        until(lambda: min(evicted()) >= 2, 60, 'two turns for each')
        assert max(evicted()) <= min(evicted()) + 1, evicted()
        for load in loads:
            assert load.end(4) >= 4 and not load.errors, load.errors[:3]


def test_who_left_evicts_nobody():
    """a caller that gives up waiting costs the model that runs nothing, neither while it is busy nor afterwards"""
    with Serve({name: 'memory 100' for name in ('a', 'b')}, '--memory', '180M', '--patience', '1s') as serve:
        take_turns(serve, 'b', 'a')
        pid = serve.predict('a').json()['pid']
        thread = threading.Thread(target=serve.predict, args=('a', '?sleep=3'))
        thread.start()
        until(lambda: outstanding(serve.port, 'a') == 1, what='its beginning')
        with socket.create_connection(('127.0.0.1', serve.port)) as caller:
            caller.sendall(b'POST /model/b/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}')
            until(lambda: outstanding(serve.port, 'b') == 1, what='its waiting')
        until(lambda: outstanding(serve.port, 'b') == 0, what='its end')
        thread.join()
        time.sleep(0.6)  # two rounds of the supervisor
        assert serve.predict('a').json()['pid'] == pid
        assert serve.metric('guichet_model_loads_total', 'b') == 1 and serve.states()['b'] == 'stopped'


def test_preload_evicts_nobody():
    """models for which there is no room stay stopped until somebody asks"""
    with Serve({name: 'memory 100' for name in ('a', 'b')}, '--memory', '180M', '--preload') as serve:
        until(lambda: 'ready' in serve.states().values(), what='the first')
        first, second = sorted('ab', key=lambda name: serve.states()[name] != 'ready')
        until(lambda: serve.metric('guichet_model_memory_bytes', first) > 1e8)
        assert serve.predict(second).status == 200
        until(lambda: serve.states() == {first: 'stopped', second: 'ready'}, what='room')
        pid = serve.predict(second).json()['pid']
        time.sleep(1)
        assert serve.predict(second).json()['pid'] == pid and serve.metric('guichet_model_loads_total', first) == 1


def test_crash_is_contained():
    """a backend that is killed is started again, and its requests are tried once more"""
    with Serve({'cats': '', 'dogs': ''}) as serve:
        pid, other = serve.predict('cats').json()['pid'], serve.predict('dogs').json()['pid']
        answers = []
        thread = threading.Thread(target=lambda: answers.append(serve.predict('cats', '?sleep=1').json()['pid']))
        thread.start()
        until(lambda: outstanding(serve.port) == 1, what='its beginning')
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
            good = load.statuses.get(200, 0)
            until(lambda: load.statuses.get(200, 0) > good + 40, 60, 'answers: what the last end broke off is answered')
            os.kill(Client(serve.port).ask('POST', '/model/cats/predict', b'{}').json()['pid'], signal.SIGKILL)
        assert load.end(21) > 20 and not load.errors, load.errors[:3]


def test_broken_model():
    """a model that cannot load is listed with its reason and hurts nobody"""
    with Serve({'cats': '', 'sick': 'broken model.onnx: the file ends early'}) as serve:
        reply = serve.predict('sick')
        assert reply.status == 424 and 'the file ends early' in reply.json()['error'] and not reply.header('Retry-After')
        assert ask(serve.port, 'POST', '/v2/models/sick/infer', b'{}').status == 424
        assert serve.details('sick')['state'] == 'failed' and 'ends early' in serve.details('sick')['reason']
        index = ask(serve.port, 'POST', '/v2/repository/index', b'').json()
        assert [entry['reason'] for entry in index if entry['name'] == 'sick'] == ['model.onnx: the file ends early']
        assert serve.predict('cats').status == 200
        tried = len([line for line in serve.process.lines if 'the file ends early' in line])
        assert tried >= 1, serve.process.lines
        assert [serve.predict('sick').status for _ in range(5)] == [424] * 5
        later = len([line for line in serve.process.lines if 'the file ends early' in line])
        assert later < tried + 5, 'it is not tried each time'
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
        assert load.end(51) > 50 and not load.errors, load.errors[:3]


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


def test_language_models_are_listed():
    """a folder of GGUF files is a language model, each file a variant"""
    with Serve({'cats': ''}) as serve:
        serve.write('tales', '', 'tales-q4_0.gguf')
        until(lambda: ask(serve.port, 'GET', '/models').json() == ['cats', 'tales'], what='the model')
        for part in (1, 2):
            serve.write('tales', '', f'tales-F16-0000{part}-of-00002.gguf')
        names = ['cats', 'tales', 'tales:F16', 'tales:Q4_0']
        until(lambda: ask(serve.port, 'GET', '/models').json() == names, what='its variants')
        assert [serve.details(name).get('kind') for name in names] == [None] + ['language'] * 3
        index = ask(serve.port, 'POST', '/v2/repository/index').json()
        assert [entry['name'] for entry in index] == names, index


class Managed(Serve):
    """With a control listener, and what is asked there."""

    def __init__(self, models, *arguments):
        super().__init__(models, '--control', '127.0.0.1:0', *arguments)
        line = self.process.wait_line('accepts every call')
        self.control = int(line.split('127.0.0.1:')[1].split()[0])

    def load(self, name):
        return ask(self.control, 'POST', f'/v2/repository/models/{name}/load', b'')

    def unload(self, name):
        return ask(self.control, 'POST', f'/v2/repository/models/{name}/unload', b'')

    def version(self, name):
        return self.predict(name).json()['version']


def test_load_and_unload():
    """at the control listener; the public door refuses both"""
    with Managed({'cats': '', 'sick': 'broken beyond hope'}) as serve:
        for verb in 'load', 'unload':
            assert ask(serve.port, 'POST', f'/v2/repository/models/cats/{verb}', b'').status == 403
        assert serve.states()['cats'] == 'stopped'
        assert serve.load('cats').status == 200
        assert serve.states()['cats'] == 'ready'
        assert serve.load('cats').status == 200, 'once more'
        assert serve.unload('cats').status == 200
        assert serve.states()['cats'] == 'stopped'
        assert serve.unload('cats').status == 200, 'once more'
        reply = serve.load('sick')
        assert reply.status == 400 and reply.json()['error'] == 'model "sick" cannot be loaded: beyond hope', reply.body
        for call in serve.load, serve.unload:
            assert call('mice').status == 404
        assert serve.load('.state').status == 404, 'a folder that is no model'


def test_load_takes_the_folder_as_it_is():
    """a folder put down or changed just before its load answers from then on; one that is damaged is told, and changes nothing"""
    with Managed({'cats': 'version 1'}) as serve:
        assert serve.version('cats') == '1'
        load = Load(serve.port, '/model/cats/predict?sleep=0.01', threads=3)
        for version in '234':
            serve.write('cats', f'version {version}')
            assert serve.load('cats').status == 200
            assert serve.version('cats') == version
        serve.write('cats', 'broken by a bad copy')
        reply = serve.load('cats')
        assert reply.status == 400 and 'keeps serving its old version' in reply.json()['error'], reply.body
        assert reply.json()['error'].endswith('by a bad copy') and serve.version('cats') == '4'
        serve.write('cats', 'version 5')
        assert serve.load('cats').status == 200 and serve.version('cats') == '5'
        assert load.end(20) >= 20 and not load.errors, load.errors[:3]
        serve.write('dogs', 'version 7')
        assert serve.load('dogs').status == 200 and serve.version('dogs') == '7'
        serve.write('sick', 'broken from the start')
        assert serve.load('sick').status == 400
        serve.write('sick', 'version healed')
        assert serve.load('sick').status == 200 and serve.version('sick') == 'healed'
        shutil.rmtree(os.path.join(serve.folder, 'dogs'))
        assert serve.load('dogs').status == 404


def test_unload_answers_when_it_is_done():
    """after an unload nothing is left of the process, and its requests were answered; loads and unloads at once disturb none"""
    with Managed({'cats': '', 'late': 'slow 20'}) as serve:
        for _ in range(5):
            assert serve.load('cats').status == 200
            pid, answers = serve.predict('cats').json()['pid'], []
            thread = threading.Thread(target=lambda: answers.append(serve.predict('cats', '?sleep=0.5').json()['pid']))
            thread.start()
            until(lambda: outstanding(serve.port) == 1, what='its beginning')
            assert serve.unload('cats').status == 200
            assert not os.path.exists(f'/proc/{pid}'), 'the process is gone'
            assert ask(serve.port, 'GET', '/v2/models/cats/ready').status == 503
            thread.join()
            assert answers == [pid], 'it was answered before the process ended'
        begun, replies = time.monotonic(), []
        thread = threading.Thread(target=lambda: replies.append(serve.load('late').status))
        thread.start()
        until(lambda: serve.states()['late'] == 'starting', what='its start')
        assert serve.unload('late').status == 200
        assert time.monotonic() - begun < 15, 'a model that loads is not waited for'
        assert serve.states()['late'] in ('stopped', 'starting')
        serve.process.kill(signal.SIGTERM)
        thread.join()
        assert replies == [503] and serve.process.child.wait(30) == 0, 'the end of the service answers who waits'


def test_loads_wait_no_longer_than_the_timeout():
    with Managed({'late': 'slow 30'}, '--timeout', '1') as serve:
        reply = serve.load('late')
        assert reply.status == 504 and 'still starting' in reply.json()['error'], reply.body


def test_explicit_control():
    """--model-control explicit: an unloaded model is out of service, and folders that come or change wait for a load"""
    with Managed({'cats': 'version 1', 'dogs': ''}, '--model-control', 'explicit') as serve:
        assert serve.version('cats') == '1', 'what was there at the start is in service'
        serve.write('cats', 'version 2')
        serve.write('mice', 'version 3')
        until(lambda: 'mice' in serve.states(), what='the new folder')
        assert serve.states()['mice'] == 'unloaded'
        reply = serve.predict('mice')
        assert reply.status == 404 and '/v2/repository/models/mice/load' in reply.json()['error'], reply.body
        assert serve.load('mice').status == 200 and serve.version('mice') == '3'
        assert serve.unload('cats').status == 200
        assert serve.states() == {'cats': 'unloaded', 'dogs': 'stopped', 'mice': 'ready'}
        for method, target in [('POST', '/predict?model=cats'), ('POST', '/model/cats/predict'), ('POST', '/v2/models/cats/infer'),
                               ('GET', '/v2/models/cats')]:
            reply = ask(serve.port, method, target, b'{}' if method == 'POST' else None)
            assert reply.status == 404 and 'out of service' in reply.json()['error'], (target, reply.body)
        assert ask(serve.port, 'GET', '/v2/models/cats/ready').status == 503
        index = {entry['name']: entry for entry in ask(serve.port, 'POST', '/v2/repository/index', b'').json()}
        assert index['cats']['state'] == 'UNAVAILABLE' and index['cats']['reason'] == 'unloaded'
        assert serve.unload('cats').status == 200, 'once more'
        assert serve.load('cats').status == 200 and serve.version('cats') == '2'
        serve.write('cats', 'version 4')
        time.sleep(2.5)  # a watcher would have taken it by then
        assert serve.version('cats') == '2'
        assert serve.load('cats').status == 200 and serve.version('cats') == '4'
        assert serve.predict('dogs').status == 200
    run = subprocess.run([GUICHET, 'serve', '--model-control', 'maybe'], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2 and 'auto or explicit' in run.stderr


def test_ends_in_order():
    """Ctrl-C finishes what has begun and leaves no process behind"""
    with Serve({'cats': '', 'dogs': ''}) as serve:
        pids = [serve.predict(name).json()['pid'] for name in ('cats', 'dogs')]
        answers = []
        thread = threading.Thread(target=lambda: answers.append(serve.predict('cats', '?sleep=1').status))
        thread.start()
        until(lambda: outstanding(serve.port) == 1, what='its beginning')
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


def test_reload():
    """SIGHUP reads session keys, API keys and the certificate again; a file that is wrong changes nothing"""
    with tempfile.TemporaryDirectory() as folder:
        def certificate(name):
            subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
                            '-subj', f'/CN={name}', '-keyout', folder + '/key', '-out', folder + '/cert'], check=True,
                           stderr=subprocess.DEVNULL)

        def write(name, text):
            with open(f'{folder}/{name}', 'w', encoding='ascii') as file:
                file.write(text)
            os.chmod(f'{folder}/{name}', 0o600)
            return f'{folder}/{name}'

        def seen():
            """The certificate that a new connection is shown."""
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection(('127.0.0.1', serve.port)) as plain, context.wrap_socket(plain) as one:
                return one.getpeercert(True)

        def call(method, target, **headers):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection('127.0.0.1', serve.port, context=context, timeout=30)
            connection.request(method, target, headers={key.replace('_', '-'): value for key, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers.get('Set-Cookie', ''), answer.read()

        def told(target='/healthz'):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection('127.0.0.1', serve.port, context=context, timeout=30)
            connection.request('GET', target)
            return connection.getresponse().headers
        certificate('one')
        keys = write('keys', 'first-key-that-is-long-enough-to-be-one-of-them\n')
        doors = write('doors', 'me ' + hashlib.sha256(b'sesame').hexdigest() + '\n')
        with Serve({'cats': '', 'dogs': ''}, '--tls-cert', folder + '/cert', '--tls-key', folder + '/key', '--session-key', keys,
                   '--api-keys', doors) as serve:
            first = seen()
            assert told()['Strict-Transport-Security'] == 'max-age=31536000'
            chosen = call('PUT', '/model/dogs', X_Api_Key='sesame')
            assert chosen[0] == 200, chosen
            cookie = chosen[1]
            assert 'Secure' in cookie and 'HttpOnly' in cookie and 'SameSite=Lax' in cookie, cookie
            chosen = cookie.split(';')[0]
            choice = lambda: json.loads(call('GET', '/session', Cookie=chosen, X_Api_Key='sesame')[2])['model']
            assert choice() == 'dogs' and call('GET', '/models')[0] == 401
            certificate('two')
            write('keys', 'second-key-that-is-long-enough-to-be-one-of-them\nfirst-key-that-is-long-enough-to-be-one-of-them\n')
            write('doors', 'me ' + hashlib.sha256(b'sesame').hexdigest() + '\nyou ' + hashlib.sha256(b'open').hexdigest() + '\n')
            serve.process.kill(signal.SIGHUP)
            serve.process.wait_line('reloaded the files')
            assert seen() != first and choice() == 'dogs' and call('GET', '/models', X_Api_Key='open')[0] == 200
            write('keys', 'short\n')
            serve.process.kill(signal.SIGHUP)
            serve.process.wait_line('not reloaded')
            assert choice() == 'dogs'
            write('keys', 'second-key-that-is-long-enough-to-be-one-of-them\n')
            serve.process.kill(signal.SIGHUP)
            until(lambda: choice() == 'cats', what='the end of the first key, and of its sessions')
        with Serve({'cats': ''}, '--tls-cert', folder + '/cert', '--tls-key', folder + '/key', '--no-hsts') as serve:
            assert told()['X-Request-Id'] and not told()['Strict-Transport-Security']
    with Serve({'cats': ''}) as serve:
        assert not ask(serve.port, 'GET', '/healthz').header('Strict-Transport-Security')


def test_secrets_stay_here():
    """a model's process has none of the secrets of the environment"""
    secrets = {'HF_TOKEN': 'a', 'AWS_SECRET_ACCESS_KEY': 'b', 'DB_PASSWORD': 'c', 'OPENAI_API_KEY': 'd', 'HARMLESS': 'e'}
    os.environ.update(secrets)
    try:
        with Serve({'cats': ''}) as serve:
            seen = serve.predict('cats').json()['environment']
    finally:
        for name in secrets:
            del os.environ[name]
    assert 'HARMLESS' in seen and not set(secrets) & set(seen) - {'HARMLESS'}, seen


def test_options_of_the_models():
    """what a model's process must know of the options reaches it"""
    given = {'--precision': 'f32', '--body-limit': '30M', '--max-batch': '4', '--max-wait': '2.5', '--queue': '300', '--timeout': '20'}
    with Serve({'cats': ''}, *(word for option in given.items() for word in option)) as serve:
        options = serve.predict('cats').json()['options']
        assert {name: options.get(name) for name in given} == given, options
        assert len(ask(serve.port, 'POST', '/model/cats/predict', bytes(25 << 20)).json()) > 3
        assert ask(serve.port, 'POST', '/model/cats/predict', bytes(31 << 20)).status == 413
    with Serve({'cats': ''}) as serve:
        assert not set(given) & set(serve.predict('cats').json()['options']), 'none is made up'


def test_wrong_options_are_told():
    """an option that a model's process would refuse is refused before anything starts"""
    for name, value in [('--precision', 'f8'), ('--max-batch', '0'), ('--max-wait', 'soon'), ('--queue', '1.5'), ('--timeout', '-1'),
                        ('--body-limit', 'much')]:
        told = [subprocess.run([GUICHET, verb, name, value], capture_output=True, text=True, check=False, timeout=60)
                for verb in ('serve', 'backend')]
        assert [run.returncode for run in told] == [2, 2], told
        lines = [run.stderr.split('\n')[0].split(': ', 1)[1] for run in told]
        assert lines[0] == lines[1] and name in lines[0], lines


def test_timeout_includes_the_start():
    """--timeout is of the whole request: a slow model, and one that is slow to start"""
    with Serve({'cats': '', 'late': 'slow 20'}, '--timeout', '1') as serve:
        until(lambda: serve.predict('cats').status == 200, what='its start')
        begun = time.monotonic()
        assert serve.predict('cats', '?sleep=20').status == 504
        reply = serve.predict('late')
        assert reply.status == 504 and 'still starting' in reply.json()['error'], reply.body
        assert time.monotonic() - begun < 15, 'not the default of 60 s'


def test_queue_of_a_model():
    """--queue above the gateway's usual bound is not cut to it"""
    with Serve({'cats': ''}, '--queue', '400') as serve:
        serve.predict('cats')
        load = Load(serve.port, '/model/cats/predict?sleep=0.5', threads=300)
        assert load.end(300) >= 300 and not load.errors, load.errors[:3]


def test_callers_behind_a_proxy():
    """--trust-forwarded: each person behind the proxy has a rate of their own; without it, the proxy is the one caller"""
    def statuses(*arguments):
        with Serve({'cats': ''}, '--rate', '0.01:1', *arguments) as serve:
            return [ask(serve.port, 'GET', '/models', X_Forwarded_For=f'192.0.2.{person}').status for person in (1, 2, 1)]
    assert statuses('--trust-forwarded') == [200, 200, 429]
    assert statuses() == [200, 429, 429]


def test_full_disk():
    """a disk that is full costs the log and the kept key, and no answer"""
    if subprocess.run(['unshare', '-m', 'true'], stderr=subprocess.DEVNULL).returncode:
        return 'a full disk of its own needs a mount namespace'
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(folder + '/full')
        os.makedirs(folder + '/models/cats')
        with open(folder + '/models/cats/model.onnx', 'w', encoding='utf-8'):
            pass
        script = 'mount -t tmpfs -o size=16k none "$0/full" && (cat /dev/zero > "$0/full/filled" 2>/dev/null; true) && ' \
                 '(echo > "$0/full/more") 2>/dev/null && exit 9; exec "$@" > /dev/full 2> "$0/messages"'
        port = free_port()
        with Process('unshare', '-m', 'sh', '-c', script, folder, GUICHET, 'serve', '--models', folder + '/models', '--port', str(port),
                     '--access-log', 'json', '--backend-program', BACKEND_STAND_IN,
                     environment={'XDG_STATE_HOME': folder + '/full/state'}) as serve:
            def answers():
                try:
                    return ask(port, 'GET', '/readyz').status == 200
                except OSError:
                    return False
            until(answers, what='the service')
            cookie = ask(port, 'PUT', '/model/cats').header('Set-Cookie').split(';')[0]
            assert ask(port, 'GET', '/session', Cookie=cookie).json()['model'] == 'cats'
            load = Load(port, threads=4)
            assert load.end(21) > 20 and not load.errors, load.errors[:3]
            assert serve.end() == 0
    return None


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
