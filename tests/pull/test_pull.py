#!/usr/bin/env python3
"""guichet pull and guichet models against a server that speaks Hugging Face's protocol. TAP; the argument is the program."""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from hub_server import Hub, network

PROGRAM = sys.argv[1]
LONG = network(padding=1 << 20)  # 4 MB
SHORT = network()


class Place:
    """A hub, a model folder, and the program between them."""

    def __init__(self):
        self.hub = Hub()
        self.hub.repositories['owner/net'] = {'onnx/model.onnx': LONG, 'README.md': b'words'}
        self.models = tempfile.mkdtemp(prefix='guichet-pull-')

    def close(self):
        self.hub.close()
        shutil.rmtree(self.models, ignore_errors=True)

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items()
                if name not in ('HF_TOKEN', 'http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY')}
        return {**kept, 'GUICHET_MODELS': self.models, 'HF_ENDPOINT': self.hub.url, **more}

    def start(self, *arguments, **more):
        return subprocess.Popen([PROGRAM, *arguments], env=self.environment(**more), text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *arguments, status=0, **more):
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, f'{arguments}: exit {process.returncode}, not {status}\n{out}{err}'
        if status == 1:
            assert len(err.strip().split('\n')) == 1, f'not one line: {err}'
        return out if status == 0 else err

    def pull(self, *arguments, **more):
        return self.run('pull', *arguments, **more)

    def read(self, *names):
        with open(os.path.join(self.models, *names), 'rb') as file:
            return file.read()

    def listed(self):
        return sorted(os.listdir(self.models))


def whole_pull_with_labels_and_preprocessing_supplied(place):
    out = place.pull('hf:owner/net')
    assert 'labels were added' in out and 'preprocessing was added' in out, out
    assert place.listed() == ['net']
    assert sorted(os.listdir(place.models + '/net')) == ['config.json', 'model.onnx', 'preprocessor_config.json',
                                                         'source.json']
    assert place.read('net', 'model.onnx') == LONG
    labels = json.loads(place.read('net', 'config.json'))['id2label']
    assert len(labels) == 1000 and labels['0'].startswith('tench') and labels['281'].startswith('tabby'), labels['281']
    config = json.loads(place.read('net', 'preprocessor_config.json'))
    assert config['image_mean'] == [0.485, 0.456, 0.406] and config['resample'] == 2, config
    source = json.loads(place.read('net', 'source.json'))
    assert source['source'] == 'hf:owner/net@main'
    assert source['files'][0]['sha256'] == hashlib.sha256(LONG).hexdigest()


def config_files_of_the_source_are_kept(place):
    config = json.dumps({'id2label': {'0': 'yes', '1': 'no'}}).encode()
    place.hub.repositories['owner/net'] = {'model.onnx': network(2), 'config.json': config,
                                           'preprocessor_config.json': b'{"size": 7}'}
    assert 'added' not in place.pull('hf:owner/net')
    assert place.read('net', 'config.json') == config
    assert place.read('net', 'preprocessor_config.json') == b'{"size": 7}'


def background_class_comes_first_where_there_are_1001(place):
    place.hub.repositories['owner/net'] = {'model.onnx': network(1001), 'config.json': b'{"model_type": "x"}'}
    place.pull('hf:owner/net')
    config = json.loads(place.read('net', 'config.json'))
    assert config['model_type'] == 'x' and config['id2label']['0'] == 'background', config
    assert config['id2label']['1'].startswith('tench')


def external_data_comes_along(place):
    data = bytes(4 * 12 * 1000)
    place.hub.repositories['owner/net'] = {'onnx/model.onnx': network(external='model.onnx_data'),
                                           'onnx/model.onnx_data': data, 'onnx/other.onnx_data': b'no',
                                           'model.onnx_data': b'no'}
    place.pull('hf:owner/net')
    assert place.read('net', 'model.onnx_data') == data
    assert 'other.onnx_data' not in os.listdir(place.models + '/net')


def external_data_of_any_name_comes_along(place):
    data = bytes(4 * 12 * 1000)
    place.hub.repositories['owner/net'] = {'onnx/model.onnx': network(external='160ea76f.weights'), 'onnx/160ea76f.weights': data,
                                           '160ea76f.weights': b'no'}
    place.pull('hf:owner/net')
    assert place.read('net', '160ea76f.weights') == data
    place.pull(place.hub.url + '/owner/net/resolve/main/onnx/model.onnx', '--name', 'address')
    assert place.read('address', '160ea76f.weights') == data
    for name in ('../config.json', '/etc/passwd', 'a/b', '.hidden', 'source.json', 'config.json'):
        place.hub.repositories['owner/net'] = {'model.onnx': network(external=name), name: data}
        place.pull('hf:owner/net', '--name', 'bad', status=1)
        assert 'bad' not in place.listed(), place.listed()


def sources_as_people_paste_them(place):
    place.hub.repositories['owner/net'] = {'onnx/model.onnx': LONG, 'small model.onnx': SHORT}
    url = place.hub.url
    for number, (source, content, revision) in enumerate([
            ('owner/net', LONG, 'main'), ('owner/net@v2', LONG, 'v2'), (f'{url}/owner/net', LONG, 'main'),
            (f'{url}/owner/net/', LONG, 'main'), (f'{url}/owner/net?library=onnx#x', LONG, 'main'),
            (f'{url}/owner/net/tree/v3/onnx', LONG, 'v3'), (f'{url}/owner/net/blob/v4/onnx/model.onnx', LONG, 'v4')]):
        place.pull(source, '--name', f'm{number}')
        assert place.read(f'm{number}', 'model.onnx') == content, source
        assert json.loads(place.read(f'm{number}', 'source.json'))['source'] == f'hf:owner/net@{revision}', source
    for page in ('/owner/net/discussions/1', '/datasets/owner/net', '/owner/net/blob/v1'):
        assert 'not the page of a model' in place.pull(url + page, '--name', 'x', status=1), page


def refusals_of_the_hub_say_why(place):
    for status, code, said in ((401, 'GatedRepo', 'accept its terms'), (403, 'GatedRepo', 'accept its terms'),
                               (401, 'RepoNotFound', 'no such repository'), (404, 'RevisionNotFound', 'no such revision'),
                               (404, 'EntryNotFound', 'no such file'), (401, 'Other', '(401)')):
        place.hub.refuse = status, code
        assert said in (error := place.pull('hf:owner/net', status=1)), error


def weights_of_others_are_named_with_the_remedy(place):
    place.hub.repositories['owner/net'] = {'model.safetensors': b'x', 'config.json': b'{}'}
    error = place.pull('hf:owner/net', status=1)
    assert 'only weights in safetensors' in error and 'optimum-cli export onnx --model owner/net' in error, error
    place.hub.repositories['onnx-community/net'] = {'onnx/model.onnx': SHORT}
    error = place.pull('hf:owner/net', status=1)
    assert 'guichet pull hf:onnx-community/net' in error, error
    place.pull(error.split('guichet pull ')[1].split()[0])
    assert place.listed() == ['net']


def external_data_that_is_missing_is_named(place):
    place.hub.repositories['owner/net'] = {'model.onnx': network(external='weights.bin')}
    assert 'weights.bin' in place.pull('hf:owner/net', status=1)
    assert place.listed() == []


def revision_and_name_and_file_are_as_asked(place):
    place.hub.repositories['owner/net'] = {'a b/#1.onnx': SHORT, 'model.onnx': LONG}
    place.pull('--name', 'Mine', '--file', 'a b/#1.onnx', 'hf:owner/net@refs/pr/1')
    assert place.read('Mine', 'model.onnx') == SHORT
    assert place.hub.asked('/tree/refs%2Fpr%2F1') and place.hub.asked('/resolve/refs%2Fpr%2F1/a%20b/%231.onnx')
    assert 'has no file x.onnx' in place.pull('--name', 'b', '--file', 'x.onnx', 'hf:owner/net', status=1)


def several_networks_ask_for_a_choice(place):
    place.hub.repositories['owner/net'] = {'a.onnx': SHORT, 'b.onnx': SHORT}
    error = place.pull('hf:owner/net', status=1)
    assert '--file' in error and 'a.onnx, b.onnx' in error, error
    place.hub.repositories['owner/net'] = {'README.md': b''}
    assert 'no ONNX file' in place.pull('hf:owner/net', status=1)


def listing_of_many_pages_is_read_to_its_end(place):
    place.hub.page = 7
    files = {f'junk/{i}': b'x' for i in range(40)}
    place.hub.repositories['owner/net'] = {**files, 'model.onnx': SHORT}
    place.pull('hf:owner/net')
    assert len(place.hub.asked('/tree/')) == 6, len(place.hub.asked('/tree/'))


def cut_goes_on_where_it_stopped(place):
    place.hub.cut_after = [1500000, 1000000]
    place.pull('hf:owner/net')
    assert place.read('net', 'model.onnx') == LONG
    ranges = [headers.get('Range') for headers in place.hub.asked('/resolve/main/onnx')]
    assert ranges == [None, 'bytes=1500000-', 'bytes=2500000-'], ranges
    assert place.hub.asked('/resolve/main/onnx')[1]['If-Range'].startswith('"')


def file_that_changed_in_between_starts_again(place):
    changed = network(padding=(1 << 20) + 5)
    url = f'{place.hub.url}/owner/net/resolve/main/onnx/model.onnx'
    process = start_slow(place, url, '--name', 'net')
    process.kill()
    process.communicate()
    place.hub.slow = 0
    place.hub.repositories['owner/net']['onnx/model.onnx'] = changed
    place.pull(url, '--name', 'net')
    assert place.hub.requests[-1][2].get('Range'), 'did not try to resume'
    assert place.read('net', 'model.onnx') == changed


def server_without_ranges_is_read_again(place):
    place.hub.ranges = False
    place.hub.cut_after = [1500000]
    place.pull('hf:owner/net')
    assert place.read('net', 'model.onnx') == LONG


def server_that_always_cuts_is_given_up(place):
    place.hub.etags = False
    place.hub.cut_after = [200000] * 50
    url = f'{place.hub.url}/owner/net/resolve/main/onnx/model.onnx'
    error = place.pull(url, status=1)
    assert 'cut the connection' in error, error
    assert 3 <= len(place.hub.requests) <= 10, len(place.hub.requests)


def passing_failures_are_tried_again(place):
    place.hub.fail_next = 2
    place.pull('hf:owner/net')
    assert place.listed() == ['net']


def start_slow(where, *arguments):
    """A pull of a slow server, caught in the middle of its file."""
    where.hub.slow = 0.02
    process = where.start('pull', *arguments)
    for _ in range(500):
        parts = [os.path.join(folder, name) for folder, _, names in os.walk(where.models) for name in names
                 if name.endswith('.part')]
        with contextlib.suppress(FileNotFoundError):
            if parts and os.path.getsize(parts[0]) > 300000:
                return process
        time.sleep(0.02)
    raise AssertionError('the pull did not begin')


def kill_leaves_no_half_model_and_the_next_goes_on(place):
    process = start_slow(place, 'hf:owner/net')
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert place.listed() == ['.pull-net']
    listed = json.loads(place.run('models', '--json'))
    assert 'net' not in [model['name'] for model in listed['models'] if model['installed']], listed
    place.hub.slow = 0
    place.pull('hf:owner/net')
    assert place.listed() == ['net'] and place.read('net', 'model.onnx') == LONG
    start = int(place.hub.requests[-1][2]['Range'][6:-1])
    assert start > 300000, start


def second_pull_at_the_same_time_is_refused(place):
    process = start_slow(place, 'hf:owner/net')
    assert 'another pull' in place.pull('hf:owner/net', status=1)
    place.hub.slow = 0
    process.communicate(timeout=60)
    assert process.returncode == 0 and place.listed() == ['net']


def damaged_part_is_fetched_again(place):
    process = start_slow(place, 'hf:owner/net')
    process.kill()
    process.communicate()
    place.hub.slow = 0
    with open(place.models + '/.pull-net/model.onnx.part', 'r+b') as part:
        part.seek(1000)
        part.write(b'damage')
    place.pull('hf:owner/net')
    assert place.read('net', 'model.onnx') == LONG


def wrong_hash_keeps_nothing(place):
    place.hub.lie['onnx/model.onnx'] = 'ab' * 32
    error = place.pull('hf:owner/net', status=1)
    assert 'SHA-256' in error and 'abab' in error, error
    assert not [name for name in place.listed() if name != '.pull-net'], place.listed()
    assert len(place.hub.asked('/resolve/main/onnx')) == 1


def wrong_size_is_refused(place):
    place.hub.listing = [{'type': 'file', 'path': 'model.onnx', 'size': 1, 'lfs': {'oid': 'ab' * 32, 'size': 99}}]
    place.hub.repositories['owner/net'] = {'model.onnx': SHORT}
    assert 'size' in place.pull('hf:owner/net', status=1)


def what_is_no_network_is_refused(place):
    place.hub.repositories['owner/net'] = {'model.onnx': b'<html>hello</html>' * 100}
    error = place.pull('hf:owner/net', status=1)
    assert 'model.onnx' in error, error
    place.hub.repositories['owner/net'] = {'model.onnx': SHORT[:-2000]}
    place.pull('hf:owner/net', status=1)
    assert place.listed() == []


def token_goes_to_the_endpoint_alone(place):
    other = Hub()
    other.repositories = place.hub.repositories
    place.hub.token = 'secret-1'
    place.hub.redirect_to = other.url
    try:
        place.pull('hf:owner/net', HF_TOKEN='secret-1')
    finally:
        other.close()
    assert place.hub.asked('/resolve/')[0]['Authorization'] == 'Bearer secret-1'
    assert other.requests and all('Authorization' not in headers for _, _, headers in other.requests)
    assert place.read('net', 'model.onnx') == LONG


def token_is_not_sent_to_other_addresses(place):
    other = Hub()
    other.repositories['a/b'] = {'model.onnx': SHORT}
    try:
        place.pull(other.url + '/a/b/resolve/main/model.onnx?x=1', HF_TOKEN='secret-1')
    finally:
        other.close()
    assert place.listed() == ['model'] and 'Authorization' not in other.requests[0][2]


def refusals_say_what_to_do(place):
    place.hub.token = 'secret-1'
    error = place.pull('hf:owner/net', status=1)
    assert '401' in error and 'HF_TOKEN' in error, error
    error = place.pull('hf:owner/net', status=1, HF_TOKEN='wrong')
    assert 'refused' in error and 'wrong' not in error, error
    place.hub.token = None
    assert '404' in place.pull('hf:owner/nothing', status=1)
    assert 'redirects too many times' in place.pull(place.hub.url + '/loop', status=1)
    assert place.listed() == []


def token_is_not_asked_for_elsewhere(place):
    other = Hub()
    other.token = 'secret-2'
    try:
        error = place.pull(other.url + '/a/b/resolve/main/model.onnx', status=1)
        assert '401' in error and 'HF_TOKEN' not in error, error
        error = place.pull(other.url + '/a/b/resolve/main/model.onnx', status=1, HF_TOKEN='secret-1')
        assert '401' in error and 'HF_TOKEN' not in error and 'refused' not in error, error
    finally:
        other.close()


def urls_with_passwords_are_refused_and_not_repeated(place):
    error = place.pull(place.hub.url.replace('//', '//name:secret@') + '/model.onnx', status=1)
    assert 'user name or password' in error and 'secret' not in error, error
    assert place.listed() == [] and not place.hub.requests


def damaged_config_is_refused(place):
    for classes in (2, 1000):
        place.hub.repositories['owner/net'] = {'model.onnx': network(classes), 'config.json': b'{"id2label": '}
        assert 'config.json' in place.pull('hf:owner/net', status=1)
    assert place.listed() == []


def no_network_is_said_clearly(place):
    place.hub.close()
    assert 'is there a network?' in place.pull('hf:owner/net', status=1)
    error = place.pull('http://no-such-host.invalid/model.onnx', status=1)
    assert 'is there a network?' in error, error


def sources_that_are_none_are_refused(place):
    for source in ('hf:owner', 'hf:../..', 'hf:a/..', 'hf:a/b/c', 'hf:a b/c', 'hf:owner/net@../x', 'hf:/net', 'hf:owner/'):
        assert 'not a repository' in place.pull(source, status=1), source
    assert 'not in the catalogue (resnet152' in place.pull('resnet9000', status=1)
    assert 'not in the catalogue' in place.pull('file:///etc/passwd', status=1)
    for name in ('../x', '.hidden', 'a/b', 'a:int8', '', 'x' * 65):
        assert 'not a name' in place.pull('--name', name, 'hf:owner/net', status=1), name
    assert 'SHA-256' in place.pull('--sha256', 'xyz', place.hub.url + '/model.onnx', status=1)
    place.pull(status=2)
    place.pull('--nonsense', 'hf:owner/net', status=2)
    assert not place.hub.requests


def hostile_listing_cannot_write_elsewhere(place):
    good = {'type': 'file', 'size': len(SHORT), 'lfs': {'oid': hashlib.sha256(SHORT).hexdigest(), 'size': len(SHORT)}}
    bad = ['../model.onnx', '/tmp/model.onnx', 'onnx/../../model.onnx', 'model.onnx_data/../../x', 'a\\b.onnx',
           'model.onnx_\n', '', './model.onnx', 'a//model.onnx']
    place.hub.listing = [{**good, 'path': path} for path in bad]
    place.hub.listing += [{'type': 'file', 'path': 7}, 5, None, {**good, 'path': 'x.onnx', 'size': 'y', 'lfs': 3},
                          {**good, 'path': 'z.onnx', 'lfs': {'oid': 'zz', 'size': -5}}]
    assert 'no ONNX file' in place.pull('hf:owner/net', status=1)
    place.hub.listing = {'error': 'not a list'}
    assert 'not a list of files' in place.pull('hf:owner/net', status=1)
    place.hub.listing = [{'type': 'file', 'path': 'model.onnx', 'size': 1 << 60}]
    assert 'limit' in place.pull('hf:owner/net', status=1)
    assert place.listed() == []


def disk_that_is_too_small_is_noticed_first(place):
    place.hub.listing = [{'type': 'file', 'path': f'model.onnx{tail}', 'size': 8 << 30, 'oid': '0'}
                         for tail in ['', *(f'_data{i}' for i in range(30))]]
    free = shutil.disk_usage(place.models).free
    if free > 31 * (8 << 30):
        return 'the disk has more than 248 GiB free'
    error = place.pull('hf:owner/net', status=1)
    assert 'too full' in error and 'MB are free' in error, error
    assert place.listed() == []
    return None


def folder_that_cannot_be_written_is_named(place):
    file = os.path.join(place.models, 'file')
    with open(file, 'w') as out:
        out.write('x')
    assert file in place.pull('hf:owner/net', status=1, GUICHET_MODELS=file + '/models')


def model_that_is_there_stays_until_forced(place):
    place.pull('hf:owner/net')
    asked = len(place.hub.requests)
    assert 'already' in place.pull('hf:owner/net') and len(place.hub.requests) == asked
    place.hub.repositories['owner/net'] = {'model.onnx': SHORT}
    place.pull('--force', 'hf:owner/net')
    assert place.read('net', 'model.onnx') == SHORT and place.listed() == ['net']
    place.hub.repositories['owner/net'] = {'model.onnx': b'junk'}
    place.pull('--force', 'hf:owner/net', status=1)
    assert place.read('net', 'model.onnx') == SHORT and place.listed() == ['net']


def catalogue_comes_from_the_endpoint(place):
    place.hub.repositories['Xenova/resnet-152'] = {
        'onnx/model.onnx': LONG, 'onnx/model_quantized.onnx': SHORT, 'config.json': b'{"id2label": {"0": "a"}}',
        'preprocessor_config.json': b'{}'}
    place.pull('resnet152')
    assert place.read('resnet152', 'model.onnx') == LONG
    listed = {model['name']: model for model in json.loads(place.run('models', '--json'))['models']}
    assert listed['resnet152']['installed'] and listed['resnet152']['source'] == 'hf:Xenova/resnet-152@main', listed
    assert not listed['vgg16']['installed'] and listed['vgg16']['bytes'] == 553437752
    assert {'resnet152', 'convnext_base', 'swin_b', 'vgg16', 'resnet50'} <= set(listed)
    table = place.run('models')
    assert 'resnet152' in table and 'guichet pull' in table, table


def catalogue_hashes_are_asked_for(place):
    zoo = 'validated/vision/classification/vgg/model/vgg16-12.onnx'
    place.hub.repositories['onnxmodelzoo/legacy_models'] = {zoo: LONG}
    error = place.pull('vgg16', status=1)
    assert 'size' in error, error
    assert place.listed() in ([], ['.pull-vgg16'])


def help_is_there(place):
    assert 'HF_TOKEN' in place.pull('--help') and 'guichet models' in place.run('models', '--help')


def models_lists_an_empty_or_missing_folder(place):
    listed = json.loads(place.run('models', '--json', GUICHET_MODELS=place.models + '/none'))
    assert any(model['name'] == 'resnet50' for model in listed['models'])
    os.mkdir(place.models + '/empty')
    os.mkdir(place.models + '/.pull-x')
    names = [model['name'] for model in json.loads(place.run('models', '--json'))['models']]
    assert 'empty' not in names and '.pull-x' not in names, names


def run_all(namespace):
    """Every function of `namespace` that takes a place is a test."""
    tests = [test for test in namespace.values()
             if getattr(test, '__code__', None) and test.__code__.co_varnames[:test.__code__.co_argcount] == ('place',)]
    print(f'1..{len(tests)}')
    failed = 0
    for number, test in enumerate(tests, 1):
        place, note = Place(), ''
        try:
            skipped = test(place)
            if skipped:
                note = f' # SKIP {skipped}'
            verdict = 'ok'
        except Exception:
            verdict = 'not ok'
            failed += 1
            traceback.print_exc()
        finally:
            place.close()
        print(f'{verdict} {number} - {test.__name__.replace("_", " ")}{note}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(run_all(globals()))
