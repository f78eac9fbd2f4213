#!/usr/bin/env python3
"""The house rules that a program can check. TAP; the argument is the root of the source tree."""
import json
import os
import re
import shutil
import subprocess
import sys

ROOT = sys.argv[1]
FORMATTER_MAJOR = 14  # Debian 12's; another release lays some lines out differently
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def tracked(*patterns):
    """Files of the repository; every file under the root where there is no git."""
    command = ['git', '-C', ROOT, 'ls-files', '--cached', '--others', '--exclude-standard', '--', *patterns]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split('\n')
    except (OSError, subprocess.CalledProcessError):
        return None
    return sorted(name for name in set(listed) if name and os.path.isfile(os.path.join(ROOT, name)))


def rooms():
    """The rooms from the ground up, as the top meson.build lists them."""
    return re.findall(r"^subdir\('src/(\w+)'\)", read('meson.build'), re.M)


def room_includes_only_below():
    order = rooms()
    for path in tracked('src/*.c', 'src/*.h'):
        room = path.split('/')[1]
        for name in INCLUDE.findall(read(path)):
            other = name.split('/')[0]
            if '/' in name and other in order and order.index(other) > order.index(room):
                yield f'{path} includes {name}, which lies above it'


def http_knows_only_base():
    for path in tracked('src/http/*.c', 'src/http/*.h'):
        for name in INCLUDE.findall(read(path)):
            if '/' in name and name.split('/')[0] in set(rooms()) - {'base', 'http'}:
                yield f'{path} includes {name}'


def libraries_stay_in_their_room():
    homes = [(r'dnnl.*', r'src/plan/dnnl\w*\.[ch]'), (r'(event2/.*|evhttp.h|event.h)', r'src/http/.*'),
             (r'turbojpeg.h|png.h|webp/.*', r'src/image/.*'), (r'sodium.h', r'src/(http|serve|cli)/.*')]
    for path in tracked('src/*.c', 'src/*.h'):
        for name in INCLUDE.findall(read(path)):
            for library, home in homes:
                if re.fullmatch(library, name) and not re.fullmatch(home, path):
                    yield f'{path} includes {name}, which belongs in {home}'


def libraries_do_not_end_the_process():
    for path in tracked('src/*.c'):
        if path.startswith(('src/cli/', 'src/serve/')):
            continue
        for number, line in enumerate(read(path).split('\n'), 1):
            if re.search(r'(?<![\w.>])(exit|abort)\s*\(', line):
                yield f'{path}:{number} calls exit or abort'


def headers_guard_and_explain_themselves():
    for path in tracked('src/*.h'):
        text = read(path)
        if '#pragma once' not in text and not path.endswith('_template.h'): # included once for each element type
            yield f'{path} has no #pragma once'
        if not text.startswith('/*'):
            yield f'{path} does not open with what it is for'


def nothing_is_left_to_do():
    for path in tracked('src', 'web', 'tools', 'deploy', 'Makefile'):
        if not path.endswith(('.c', '.h', '.js', '.css', '.html', '.py', '.sh', '.build', 'Makefile')):
            continue
        for number, line in enumerate(read(path).split('\n'), 1):
            if re.search(r'\b(TODO|FIXME|XXX|HACK)\b', line):
                yield f'{path}:{number} {line.strip()[:80]}'


def no_machine_path_or_outside_resource():
    """A path of somebody's machine anywhere; in the page, anything fetched from elsewhere."""
    home = re.compile(r'(?<![\w.])/(home|Users|work)/\w+')
    for path in tracked('src', 'web', 'tests', 'tools', 'docs', 'deploy', 'README.md', 'Makefile', '.ci'):
        if not re.search(r'(\.(c|h|js|css|html|py|sh|md|build|txt|yaml|json)|Makefile|/run|/setup)$', path):
            continue
        for number, line in enumerate(read(path).split('\n'), 1):
            if home.search(line) and path != 'tests/style/style.py':
                yield f'{path}:{number} names a path of one machine: {line.strip()[:80]}'
            if path.startswith('web/') and re.search(r'(src|href|url|import|from)\s*[=(]?\s*[\'"]?(https?:)?//\w', line):
                yield f'{path}:{number} loads from elsewhere: {line.strip()[:80]}'


def page_has_no_inline_script_or_style():
    """The Content-Security-Policy allows neither."""
    for path in tracked('web/*.html'):
        text = read(path)
        if re.search(r'<script(?![^>]*\bsrc=)', text) or re.search(r'<style|\sstyle=|\son\w+=', text):
            yield f'{path} has an inline script, style or handler'


def description_is_of_this_service():
    """web/openapi.json: this version, whole references, and every route of the tiers' tables."""
    text = read('web/openapi.json')
    api = json.loads(text)
    version = re.search(r"version: '([^']+)'", read('meson.build')).group(1)
    if api['info']['version'] != version:
        yield f'web/openapi.json is of version {api["info"]["version"]}, the project of {version}'
    for reference in sorted(set(re.findall(r'"\$ref": "#/([^"]+)"', text))):
        node = api
        for key in reference.split('/'):
            node = node.get(key, {})
        if not node:
            yield f'web/openapi.json refers to {reference}, which is not there'
    described = {re.sub(r'\{\w+\}', '*', path) for path in api['paths']}
    for path in tracked('src/serve/*.c'):
        for route in re.findall(r'^\s*\{"(/[^"]*[^"/])", [A-Z_"]', read(path), re.M):
            if route.replace('/versions/1', '/versions/*') not in described:
                yield f'{path} has the route {route}, which web/openapi.json does not describe'


def files_are_clean():
    for path in tracked('src', 'web', 'tests', 'tools', 'deploy'):
        if not path.endswith(('.c', '.h', '.js', '.mjs', '.css', '.html', '.py', '.build')):
            continue
        text = read(path)
        if not text.strip():
            continue
        if re.search(r'[ \t]+$', text, re.M):
            yield f'{path} has blanks at the end of a line'
        if '\r' in text or not text.endswith('\n'):
            yield f'{path} does not end with a newline, or has carriage returns'


def formatted():
    done = subprocess.run(['clang-format', '--dry-run', *tracked('src/*.c', 'src/*.h', 'tests/*.c', 'tests/*.h')], cwd=ROOT,
                          capture_output=True, text=True)
    for path in sorted(set(re.findall(r'^(\S+?):\d+:\d+: warning', done.stderr, re.M))):
        yield f'{path} is not as clang-format lays it out (make format)'


def shell_scripts_are_clean():
    scripts = [path for path in tracked('.ci', 'deploy', 'tests', 'tools')
               if re.match(r'#!/\S*(bin/|env )(ba)?sh\b', read_start(path)) or path.endswith('.bash')]
    done = subprocess.run(['shellcheck', '--external-sources', '--format=gcc', *scripts], cwd=ROOT, capture_output=True, text=True)
    yield from done.stdout.splitlines()


def read_start(path):
    with open(os.path.join(ROOT, path), 'rb') as file:
        return file.read(40).decode('latin-1')


def checker_is_missing():
    return None if shutil.which('shellcheck') else 'shellcheck is not installed'


def formatter_is_missing():
    if not shutil.which('clang-format'):
        return 'clang-format is not installed'
    version = subprocess.run(['clang-format', '--version'], capture_output=True, text=True).stdout
    major = re.search(r'version (\d+)', version)
    if not major or int(major.group(1)) != FORMATTER_MAJOR:
        return f'the layout is that of clang-format {FORMATTER_MAJOR}; here is {version.strip()}'
    return None


CHECKS = [room_includes_only_below, http_knows_only_base, libraries_stay_in_their_room,
          libraries_do_not_end_the_process, headers_guard_and_explain_themselves, nothing_is_left_to_do,
          no_machine_path_or_outside_resource, page_has_no_inline_script_or_style,
          description_is_of_this_service, files_are_clean, shell_scripts_are_clean, formatted]
MISSING = {formatted: formatter_is_missing, shell_scripts_are_clean: checker_is_missing}  # a tool that a check needs


def main():
    if tracked('src') is None:
        print('1..0 # SKIP not a git checkout')
        return 0
    print(f'1..{len(CHECKS)}')
    failed = 0
    for number, check in enumerate(CHECKS, 1):
        reason = MISSING[check]() if check in MISSING else None
        if reason:
            print(f'ok {number} - {check.__name__} # SKIP {reason}')
            continue
        complaints = list(check())
        print(f'{"not " if complaints else ""}ok {number} - {check.__name__}')
        for line in complaints:
            print(f'#   {line}')
        failed += bool(complaints)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
