#!/usr/bin/env python3
"""What tests/run and tests/tidy.py count: they must see every failure. TAP; the argument is the root of the source tree."""
import importlib.machinery
import importlib.util
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(sys.argv[1], 'tests'))
import tidy  # noqa: E402

LOADER = importlib.machinery.SourceFileLoader('runner', os.path.join(sys.argv[1], 'tests', 'run'))
SPEC = importlib.util.spec_from_loader('runner', LOADER)

# name, Meson's result, the program's output, and what must be counted: passed, failed, skipped
CASES = [
    ('every line of TAP is one test', 'OK', '1..2\nok 1 - a\nok 2 - b\n', (2, 0, 0)),
    ('a failed line is a failure', 'FAIL', '1..2\nok 1 - a\nnot ok 2 - b\n', (1, 1, 0)),
    ('a program that dies after its lines has failed', 'FAIL', '1..1\nok 1 - a\n', (1, 1, 0)),
    ('a program that dies before them has failed', 'ERROR', '', (0, 1, 0)),
    ('one that hangs has failed', 'TIMEOUT', '1..3\nok 1 - a\n', (1, 1, 0)),
    ('a skipped line is skipped', 'OK', '1..2\nok 1 - a\nok 2 - b # SKIP no network\n', (1, 0, 1)),
    ('so is cmocka\'s', 'OK', '1..1\nnot ok 1 # SKIP b\n', (0, 0, 1)),
    ('a program that skips itself is skipped', 'SKIP', '1..0 # SKIP no browser\n', (0, 0, 1)),
    ('without TAP the exit status counts', 'OK', 'fine\n', (1, 0, 0)),
]


def count(result, output):
    runner = importlib.util.module_from_spec(SPEC)
    LOADER.exec_module(runner)
    runner.count_test('build', {'name': 'guichet:unit / x', 'result': result, 'stdout': output, 'returncode': 0})
    return runner.passed, len(runner.failures), sum(runner.skipped.values())


# what clang-tidy finds in a file, whether the list of tests/tidy.py has it, and whether it passes
TIDY_CASES = [
    ('a clean file passes', [], False, True),
    ('a finding fails', ['x.c:1: error'], False, False),
    ('a finding in a file of the list passes', ['x.c:1: error'], True, True),
    ('a clean file must leave the list', [], True, False),
]


def tidy_passes(findings, listed):
    tidy.STILL = {'x.c'} if listed else set()
    return tidy.verdict('x.c', findings)[0]


CHECKS = [(name, count(result, output), expected) for name, result, output, expected in CASES]
CHECKS += [(f'tidy: {name}', tidy_passes(findings, listed), expected) for name, findings, listed, expected in TIDY_CASES]

print(f'1..{len(CHECKS)}')
wrong = 0
for number, (name, counted, expected) in enumerate(CHECKS, 1):
    wrong += counted != expected
    print(f'{"" if counted == expected else "not "}ok {number} - {name}')
    if counted != expected:
        print(f'#   counted {counted}, not {expected}')
sys.exit(1 if wrong else 0)
