#!/usr/bin/env python3
"""The house rules that a program can check. TAP; the argument is the root of the source tree."""
import collections
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import house  # noqa: E402
from tree import Tree  # noqa: E402

FORMATTER_MAJOR = 14  # Debian 12's; another release lays some lines out differently


def libraries_do_not_end_the_process(tree):
    for path in tree.tracked('src/*.c'):
        if path.startswith(('src/cli/', 'src/server/')):
            continue
        for number, line in enumerate(tree.read(path).split('\n'), 1):
            if re.search(r'(?<![\w.>])(exit|abort)\s*\(', line):
                yield f'{path}:{number} calls exit or abort'


def headers_guard_and_explain_themselves(tree):
    for path in tree.tracked('src/*.h'):
        text = tree.read(path)
        if '#pragma once' not in text and not path.endswith('_template.h'): # included once for each element type
            yield f'{path} has no #pragma once'
        if not text.startswith('/*'):
            yield f'{path} does not open with what it is for'


def nothing_is_left_to_do(tree):
    for path in tree.tracked('src', 'web', 'tools', 'deploy', 'Makefile'):
        if not path.endswith(('.c', '.h', '.js', '.css', '.html', '.py', '.sh', '.build', 'Makefile')):
            continue
        for number, line in enumerate(tree.read(path).split('\n'), 1):
            if re.search(r'\b(TODO|FIXME|XXX|HACK)\b', line):
                yield f'{path}:{number} {line.strip()[:80]}'


def no_machine_path_or_outside_resource(tree):
    """A path of somebody's machine anywhere; in the page, anything fetched from elsewhere."""
    home = re.compile(r'(?<![\w.])/(home|Users|work)/\w+')
    for path in tree.tracked('src', 'web', 'tests', 'tools', 'docs', 'deploy', 'README.md', 'Makefile', '.ci'):
        if not re.search(r'(\.(c|h|js|css|html|py|sh|md|build|txt|yaml|json)|Makefile|/run|/setup)$', path):
            continue
        for number, line in enumerate(tree.read(path).split('\n'), 1):
            if home.search(line) and path != 'tests/style/style.py':
                yield f'{path}:{number} names a path of one machine: {line.strip()[:80]}'
            if path.startswith('web/') and re.search(r'(src|href|url|import|from)\s*[=(]?\s*[\'"]?(https?:)?//\w', line):
                yield f'{path}:{number} loads from elsewhere: {line.strip()[:80]}'


def page_has_no_inline_script_or_style(tree):
    """The Content-Security-Policy allows neither."""
    for path in tree.tracked('web/*.html'):
        text = tree.read(path)
        if re.search(r'<script(?![^>]*\bsrc=)', text) or re.search(r'<style|\sstyle=|\son\w+=', text):
            yield f'{path} has an inline script, style or handler'


def description_is_of_this_service(tree):
    """web/openapi.json is of this version, and its references are whole. Its paths are tests/unit/test_endpoints.c's."""
    text = tree.read('web/openapi.json')
    api = json.loads(text)
    version = re.search(r"version: '([^']+)'", tree.read('meson.build')).group(1)
    if api['info']['version'] != version:
        yield f'web/openapi.json is of version {api["info"]["version"]}, the project of {version}'
    names = collections.Counter()
    for path, item in api['paths'].items():
        for method, operation in item.items():
            if method == 'parameters':  # of all operations of the path
                continue
            names[operation.get('operationId')] += 1
            for scheme in (name for one in operation.get('security', api.get('security', [])) for name in one):
                if scheme not in api['components']['securitySchemes']:
                    yield f'web/openapi.json: {method} {path} asks for {scheme}, which is no security scheme'
            if 'security' not in operation and '401' not in operation['responses']:
                yield f'web/openapi.json: {method} {path} does not say 401'
    for name, count in names.items():
        if count > 1 or not name:
            yield f'web/openapi.json: {count} operations have the operationId {name}'
    for reference in sorted(set(re.findall(r'"\$ref": "#/([^"]+)"', text))):
        node = api
        for key in reference.split('/'):
            node = node.get(key, {})
        if not node:
            yield f'web/openapi.json refers to {reference}, which is not there'


DOCUMENTS_TO_COME = set()


def documents_link_to_what_exists(tree):
    """Relative links of Markdown files lead to a file or folder of the repository."""
    missing = set()
    for path in tree.tracked('*.md'):
        for target in re.findall(r'\]\(([^)\s#]+)[^)]*\)', re.sub(r'```.*?```', '', tree.read(path), flags=re.S)):
            if re.match(r'[a-z]+:', target):
                continue
            name = os.path.normpath(os.path.join(os.path.dirname(path), target))
            if os.path.exists(tree.path(name)):
                continue
            missing.add(name)
            if name not in DOCUMENTS_TO_COME:
                yield f'{path} links to {target}, which is not there'
    for name in sorted(DOCUMENTS_TO_COME - missing):
        yield f'{name} is in DOCUMENTS_TO_COME, and exists or is not linked to'


SOURCE_NAME = re.compile(r'[\w.*{},-]+\.(?:c|h|py|js|mjs|sh|bash|md)')
PATH_NAME = re.compile(r'[\w.*{},-]*[\w*}](?:/[\w.*{},-]*[\w*}])*/?')
PLACEHOLDER = re.compile(r'(?<![A-Za-z])(?:NAME|FAMILY)(?![A-Za-z])')
# What documents name that is no file of the repository, each with its reason.
NAMED_ELSEWHERE = {
    'prometheus.io/scrape': 'an annotation of Kubernetes',
}


def alternatives(name):
    """a/{b,c}.d -> a/b.d, a/c.d"""
    braces = re.search(r'\{([^{}]*)\}', name)
    if not braces:
        return [name]
    return [path for word in braces.group(1).split(',') for path in alternatives(name[:braces.start()] + word + name[braces.end():])]


def documents_name_what_exists(tree):
    """A source file or path in backquotes is the end of a path of the repository. NAME and FAMILY stand for any."""
    files = tree.tracked('.')
    folders = {path[:at.start()] for path in files for at in re.finditer('/', path)}
    known = [f'/{path}' for path in (*files, *folders)]
    used = set()
    for document in tree.tracked('*.md'):
        text = re.sub(r'```.*?```', '', tree.read(document), flags=re.S)
        for name in sorted(set(re.findall(r'`([^`\n]+)`', text))):
            if not SOURCE_NAME.fullmatch(name) and not (PATH_NAME.fullmatch(name) and '/' in name):
                continue
            if PLACEHOLDER.search(name) or name.startswith('build/'):
                continue
            if name in NAMED_ELSEWHERE:
                used.add(name)
                continue
            for path in alternatives(name.rstrip('/')):
                if not any(fnmatch.fnmatchcase(path_known, f'*/{path}') for path_known in known):
                    yield f'{document} names {path}, which is not there'
    for name in sorted(NAMED_ELSEWHERE.keys() - used):
        yield f'{name} is in NAMED_ELSEWHERE, and no document names it'


LOCK = re.compile(r'^\s*(?:static )?(?:pthread_mutex_t|pthread_rwlock_t|pthread_once_t|once_flag) (\w+)', re.M)


def threads_and_locks_are_documented(tree):
    """docs/threads.md has a row for each file that starts a thread, and for each lock, by its name and file."""
    rows = [line for line in tree.read('docs/threads.md').split('\n') if line.startswith('|')]
    for path in tree.tracked('src/*.c', 'src/*.h'):
        text, file = tree.read(path), f'`{path[len("src/"):]}`'
        if 'pthread_create(' in text and not any(file in row for row in rows):
            yield f'{path} starts a thread: docs/threads.md has no row with {file}'
        for name in LOCK.findall(text):
            if not any(file in row and re.search(rf'[`.]{name}`', row) for row in rows):
                yield f'{path} has the lock {name}: docs/threads.md has no row with it and {file}'


def files_are_clean(tree):
    for path in tree.tracked('src', 'web', 'tests', 'tools', 'deploy'):
        if not path.endswith(('.c', '.h', '.js', '.mjs', '.css', '.html', '.py', '.build')):
            continue
        text = tree.read(path)
        if not text.strip():
            continue
        if re.search(r'[ \t]+$', text, re.M):
            yield f'{path} has blanks at the end of a line'
        if '\r' in text or not text.endswith('\n'):
            yield f'{path} does not end with a newline, or has carriage returns'


def formatted(tree):
    done = subprocess.run(['clang-format', '--dry-run', *tree.tracked('src/*.c', 'src/*.h', 'tests/*.c', 'tests/*.h')], cwd=tree.root,
                          capture_output=True, text=True)
    for path in sorted(set(re.findall(r'^(\S+?):\d+:\d+: warning', done.stderr, re.M))):
        yield f'{path} is not as clang-format lays it out (make format)'


def shell_scripts_are_clean(tree):
    scripts = [path for path in tree.tracked('.ci', 'deploy', 'tests', 'tools')
               if re.match(r'#!/\S*(bin/|env )(ba)?sh\b', read_start(tree, path)) or path.endswith('.bash')]
    done = subprocess.run(['shellcheck', '--external-sources', '--format=gcc', *scripts], cwd=tree.root, capture_output=True, text=True)
    yield from done.stdout.splitlines()


def read_start(tree, path):
    with open(tree.path(path), 'rb') as file:
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


CHECKS = [*house.CHECKS, libraries_do_not_end_the_process, headers_guard_and_explain_themselves, nothing_is_left_to_do,
          no_machine_path_or_outside_resource, page_has_no_inline_script_or_style, description_is_of_this_service,
          documents_link_to_what_exists, documents_name_what_exists, threads_and_locks_are_documented,
          files_are_clean, shell_scripts_are_clean, formatted]
MISSING = {formatted: formatter_is_missing, shell_scripts_are_clean: checker_is_missing}  # a tool that a check needs


def main():
    tree = Tree(sys.argv[1])
    if tree.tracked('src') is None:
        print('1..0 # SKIP not a git checkout')
        return 0
    print(f'1..{len(CHECKS)}')
    failed = 0
    for number, check in enumerate(CHECKS, 1):
        reason = MISSING[check]() if check in MISSING else None
        if reason:
            print(f'ok {number} - {check.__name__} # SKIP {reason}')
            continue
        complaints = list(check(tree))
        print(f'{"not " if complaints else ""}ok {number} - {check.__name__}')
        for line in complaints:
            print(f'#   {line}')
        failed += bool(complaints)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
