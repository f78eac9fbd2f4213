#!/usr/bin/env python3
"""clang-tidy over every C file of src/, as .clang-tidy says. TAP, a test a file.

    tests/tidy.py [BUILD [FILE...]]     BUILD (build) has compile_commands.json and the generated headers

Settings: JOBS is how many run at once (all processors). CI=true: the analyser follows calls less far (its shallow mode), which takes
a tenth of the time.
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Of clang's analyser, for machines whose time is short.
SHALLOW = [f'--extra-arg={word}' for word in ('-Xclang', '-analyzer-config', '-Xclang', 'mode=shallow')]
JOBS = int(os.environ.get('JOBS') or os.cpu_count() or 1)
TIDY_MAJOR = 14  # Debian 12's; another release finds other things

# Files with findings that are still to be looked at. One that is clean must leave the list.
STILL = set()


def missing():
    """Why there is nothing to do; None where there is."""
    if not shutil.which('clang-tidy'):
        return 'clang-tidy is not installed'
    version = subprocess.run(['clang-tidy', '--version'], capture_output=True, text=True).stdout
    major = re.search(r'version (\d+)', version)
    if not major or int(major.group(1)) != TIDY_MAJOR:
        return f'the findings are those of clang-tidy {TIDY_MAJOR}; here is {" ".join(version.split())[:60]}'
    return None


def sources(build):
    """The files of src/ that this build compiles, from the root: oneDNN's other generation is not among them."""
    with open(os.path.join(build, 'compile_commands.json'), encoding='utf-8') as file:
        commands = json.load(file)
    paths = {os.path.relpath(os.path.realpath(os.path.join(command['directory'], command['file'])), ROOT) for command in commands}
    return sorted(path for path in paths if path.startswith('src/'))


def examine(build, name):
    """The findings in a file, line by line; what ends without any and fails is a finding, too."""
    depth = SHALLOW if os.environ.get('CI') == 'true' else []
    done = subprocess.run(['clang-tidy', '--quiet', *depth, '-p', build, name], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors='replace')
    findings = [re.sub(r'^\S*?(?=src/)', '', line) for line in done.stdout.splitlines() if line.strip()]
    if done.returncode and not findings:
        findings = [f'clang-tidy ends with status {done.returncode}', *done.stderr.splitlines()[-5:]]
    return findings


def verdict(name, findings):
    """Whether the file passes, and what to say of it."""
    if name in STILL and not findings:
        return False, ['it is clean: take it off the list in tests/tidy.py']
    if name in STILL:
        return True, []
    return not findings, findings


def main(build='build', *names):
    reason = missing()
    if reason:
        print(f'1..0 # SKIP {reason}')
        return 0
    known = sources(build)
    names = names or known
    gone = sorted(STILL - set(known)) if names is known else []
    print(f'1..{len(names) + len(gone)}', flush=True)
    failed, number = len(gone), len(names)
    with concurrent.futures.ThreadPoolExecutor(JOBS) as workers:
        examined = workers.map(lambda name: (name, examine(build, name)), names)
        for position, (name, findings) in enumerate(examined, 1):
            good, words = verdict(name, findings)
            failed += not good
            print(f'{"" if good else "not "}ok {position} - {name}', flush=True)
            for line in words:
                print(f'#   {line}')
    for position, name in enumerate(gone, number + 1):
        print(f'not ok {position} - {name} is on the list in tests/tidy.py, and there is no such file')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
