#!/usr/bin/env python3
"""The C examples of the documents compile against today's headers. TAP.

    examples.py ROOT COMPILER…

Each is compiled by itself, after what its document takes as known."""
import os
import re
import subprocess
import sys

ROOT, COMPILER = sys.argv[1], sys.argv[2:]
FLAGS = ['-std=gnu17', '-D_GNU_SOURCE', '-Isrc', '-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-Wno-unused-function',
         '-Wno-missing-field-initializers', '-xc', '-']

OPERATOR = """
#include "ops/family.h"
extern const struct op_def softsign_operators[];
bool softsign_infer(struct node *node, struct error *error);
bool softsign_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error);
"""
HANDLER = """
#include "model/model.h"
#include "server/backend/handlers.h"
#include "server/edge/respond.h"
void backend_count(struct backend *backend, struct http_request *request);
"""
# The rows' shorthands are those of the table itself.
ROW = HANDLER + """
#include "server/edge/endpoint.h"
#include "server/edge/service.h"
#include "server/gateway/handlers.h"
SHORTHANDS
const struct endpoint row[] = {
EXAMPLE
};
"""
# Document -> what stands around each of its examples, in order.
DOCUMENTS = {
    'docs/adding-an-operator.md': [OPERATOR + 'EXAMPLE'],
    'docs/adding-an-endpoint.md': [HANDLER + 'EXAMPLE', ROW],
}


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def shorthands():
    """The #define lines of the table of endpoints."""
    return '\n'.join(re.findall(r'^#define (?:.*\\\n)*.*$', read('src/server/endpoints.c'), re.M))


def compile_example(around, example):
    """-> what the compiler says; '' for an example that is right"""
    text = around.replace('SHORTHANDS', shorthands()).replace('EXAMPLE', example)
    run = subprocess.run([*COMPILER, *FLAGS], input=text, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return '' if run.returncode == 0 else run.stderr.strip() or f'exit status {run.returncode}'


def main():
    results = []
    for path, surroundings in DOCUMENTS.items():
        examples = re.findall(r'^```c\n(.*?)^```', read(path), re.S | re.M)
        results.append((f'{path} has {len(surroundings)} examples', '' if len(examples) == len(surroundings) else f'{len(examples)}'))
        for number, (around, example) in enumerate(zip(surroundings, examples), 1):
            results.append((f'{path}, example {number}', compile_example(around, example)))

    print(f'1..{len(results)}')
    for number, (name, fault) in enumerate(results, 1):
        print(f'{"not ok" if fault else "ok"} {number} - {name}')
        for line in fault.split('\n') if fault else ():
            print(f'# {line}')
    return any(fault for _, fault in results)


sys.exit(main())
