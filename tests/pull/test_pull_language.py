#!/usr/bin/env python3
"""guichet pull of language models: which GGUF file, its parts, its checks, variants that join. TAP; the argument is the program."""
import json
import os
import sys

from test_pull import run_all

REPOSITORY = 'Owner/Tales-1B-Instruct-GGUF'
NAME = 'tales-1b-instruct'


def gguf(name, size=1000):
    return (b'GGUF' + name.encode() * size)[:size]


def offer(at, *names, **contents):
    """Files of the repository: the first the largest."""
    at.hub.repositories[REPOSITORY] = {'README.md': b'words', 'config.json': b'{}'} | {
        name: gguf(name, 2000 - 100 * i) for i, name in enumerate(names)} | contents


def files(place, name=NAME):
    return sorted(os.listdir(os.path.join(place.models, name)))


def usual_file_is_fetched_where_no_variant_is_named(place):
    offer(place, 'tales-F16.gguf', 'tales-q8_0.gguf', 'mmproj-f16.gguf', 'tales-Q4_K_M.gguf', 'tales-Q2_K.gguf')
    out = place.pull(f'hf:{REPOSITORY}')
    assert f'{NAME}:Q4_K_M' in out, out
    assert files(place) == ['source.json', 'tales-Q4_K_M.gguf']
    assert place.read(NAME, 'tales-Q4_K_M.gguf') == gguf('tales-Q4_K_M.gguf', 1700)
    assert json.loads(place.read(NAME, 'source.json'))['source'] == f'hf:{REPOSITORY}@main'
    offer(place, 'tales-F16.gguf', 'tales-q8_0.gguf', 'tales-Q5_0.gguf', 'tales-Q2_K.gguf')
    place.pull('--name', 'other', f'hf:{REPOSITORY}@v1')
    assert files(place, 'other') == ['source.json', 'tales-Q5_0.gguf'] and place.hub.asked('/resolve/v1/')
    listed = {model['name']: model for model in json.loads(place.run('models', '--json'))['models']}
    assert listed[NAME]['kind'] == 'language' and listed[NAME]['source'] == f'hf:{REPOSITORY}@main'


def variant_is_as_asked_and_others_are_named(place):
    offer(place, 'tales-F16.gguf', 'tales-q8_0.gguf', 'tales-Q4_K_M.gguf')
    place.pull(f'hf:{REPOSITORY}@main:Q8_0')
    assert files(place) == ['source.json', 'tales-q8_0.gguf']
    error = place.pull('--name', 'x', f'hf:{REPOSITORY}:Q6_K', status=1)
    assert 'has no Q6_K; there is F16, Q4_K_M, Q8_0' in error, error
    place.pull('--name', 'y', '--file', 'tales-F16.gguf', f'hf:{REPOSITORY}')
    assert files(place, 'y') == ['source.json', 'tales-F16.gguf']
    assert 'has no file' in place.pull('--name', 'z', '--file', 'no.gguf', f'hf:{REPOSITORY}', status=1)
    assert 'not both' in place.pull('--name', 'z', '--file', 'tales-F16.gguf', f'hf:{REPOSITORY}:F16', status=1)
    for bad in (':', '@', '@:Q4_0', ':a/b', ':Q4_0:x', '@main:'):
        assert 'not a repository' in place.pull(f'hf:{REPOSITORY}{bad}', status=1), bad
    assert place.listed() == [NAME, 'y']


def all_parts_of_a_split_file_come(place):
    parts = [f'Q8_0/tales-Q8_0-0000{i}-of-00003.gguf' for i in (1, 2, 3)]
    offer(place, 'tales-Q4_K_M.gguf', *parts, 'Q8_0/tales-Q8_0-00001-of-00002.gguf', 'other/tales-Q8_0-00001-of-00003.gguf')
    place.pull('--file', parts[1], f'hf:{REPOSITORY}')
    assert files(place) == ['source.json', *(os.path.basename(part) for part in parts)], files(place)
    assert place.read(NAME, 'tales-Q8_0-00003-of-00003.gguf') == gguf(parts[2], 1700)
    offer(place, *parts[:2])
    error = place.pull('--name', 'x', f'hf:{REPOSITORY}:Q8_0', status=1)
    assert 'has 2 of the 3 parts' in error, error
    assert place.listed() == [NAME]


def another_variant_joins(place):
    offer(place, 'tales-F16.gguf', 'tales-Q8_0.gguf', 'tales-Q4_K_M.gguf')
    place.pull(f'hf:{REPOSITORY}')
    out = place.pull(f'hf:{REPOSITORY}:Q8_0')
    assert 'beside what was there' in out, out
    assert files(place) == ['source.json', 'tales-Q4_K_M.gguf', 'tales-Q8_0.gguf'] and place.listed() == [NAME]
    note = json.loads(place.read(NAME, 'source.json'))
    assert [file['name'] for file in note['files']] == ['tales-Q4_K_M.gguf', 'tales-Q8_0.gguf'], note
    asked = len(place.hub.asked('/resolve/'))
    assert 'already' in place.pull(f'hf:{REPOSITORY}:q8_0') and len(place.hub.asked('/resolve/')) == asked
    place.hub.repositories['someone/else'] = {'else-Q5_0.gguf': gguf('else')}
    error = place.pull('--name', NAME, 'hf:someone/else', status=1)
    assert 'choose another name with --name' in error and f'hf:{REPOSITORY}@main' in error, error
    place.pull('--force', '--name', NAME, 'hf:someone/else')
    assert files(place) == ['else-Q5_0.gguf', 'source.json']


def cut_download_resumes(place):
    content = gguf('long', 3 << 20)
    place.hub.repositories[REPOSITORY] = {'tales-Q8_0.gguf': content}
    place.hub.cut_after = [1 << 20]
    place.pull(f'hf:{REPOSITORY}')
    assert place.read(NAME, 'tales-Q8_0.gguf') == content
    assert any('Range' in headers for headers in place.hub.asked('/resolve/')), 'it went on where it stopped'


def wrong_hash_is_refused(place):
    offer(place, 'tales-Q8_0.gguf')
    place.hub.lie['tales-Q8_0.gguf'] = 'a' * 64
    assert 'SHA-256' in place.pull(f'hf:{REPOSITORY}', status=1)
    assert NAME not in place.listed()


def networks_come_before_language_models(place):
    offer(place, 'tales-Q8_0.gguf', **{'model.onnx': b'junk'})
    assert place.pull(f'hf:{REPOSITORY}', status=1) and not place.hub.asked('tales-Q8_0')
    place.pull(f'hf:{REPOSITORY}:Q8_0')
    assert files(place) == ['source.json', 'tales-Q8_0.gguf']
    error = place.pull('--name', 'x', 'hf:owner/net:int8', status=1)
    assert 'no GGUF file' in error, error


def file_at_a_url_is_a_model(place):
    offer(place, 'Tales v2-Q8_0.gguf', **{'no-Q4_0.gguf': b'<html>sorry'})
    url = f'{place.hub.url}/{REPOSITORY}/resolve/main'
    place.pull(f'{url}/Tales%20v2-Q8_0.gguf?download=true')
    name, = place.listed()
    assert any(file.endswith('-Q8_0.gguf') for file in files(place, name)), files(place, name)
    error = place.pull('--name', 'x', f'{url}/no-Q4_0.gguf', status=1)
    assert 'is no GGUF file' in error, error
    error = place.pull('--name', 'x', f'{url}/x-00001-of-00002.gguf', status=1)
    assert 'not a whole model' in error, error
    assert place.listed() == [name]


def hostile_names_stay_in_the_folder(place):
    offer(place)
    for path in ('../x-Q8_0.gguf', '/tmp/x-Q8_0.gguf', 'a/../x-Q8_0.gguf'):
        place.hub.listing = [{'type': 'file', 'path': path, 'size': 10, 'lfs': {'oid': 'a' * 64, 'size': 10}}]
        error = place.pull(f'hf:{REPOSITORY}', status=1)
        assert 'no GGUF file' in error, error
    place.hub.listing = [{'type': 'file', 'path': 'x-00001-of-00999.gguf', 'size': 10}] * 3
    place.pull(f'hf:{REPOSITORY}', status=1)
    place.hub.listing = [{'type': 'file', 'path': 'x.gguf', 'size': 1 << 60}]
    assert 'limit' in place.pull(f'hf:{REPOSITORY}', status=1)
    assert place.listed() == []


if __name__ == '__main__':
    sys.exit(run_all(globals()))
