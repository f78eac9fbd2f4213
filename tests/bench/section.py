#!/usr/bin/env python3
"""docs/benchmarks.md is written by several measurements, each its own section between two marks.

    section.py FILE NAME < MARKDOWN        put it between <!-- NAME:begin --> and <!-- NAME:end -->

A section that is not there yet goes to the end; what stands outside the marks is left alone.
"""
import os
import re
import sys

HEAD = '''# Benchmarks

Every number here was measured by a command in this repository; nothing is carried over from elsewhere. Absolute times
are true of one machine only, so what is compared is measured in one run, in turns, and the ratio is what to look at.
Repeat it: `make bench` (speed, start, memory), `make load` (over HTTP, beside nginx and the original),
`make bench-images` (images, builds, containers; as root), `make bench-llm` (language models, beside llama.cpp).
'''


def insert(path, name, text):
    """Atomic: a reader sees the old file or the new one."""
    begin, end = f'<!-- {name}:begin -->', f'<!-- {name}:end -->'
    document = HEAD
    if os.path.exists(path):
        with open(path, encoding='utf-8') as file:
            document = file.read()
    section = f'{begin}\n{text.strip()}\n{end}'
    pattern = re.compile(re.escape(begin) + '.*?' + re.escape(end), re.S)
    if pattern.search(document):
        document = pattern.sub(lambda _: section, document, count=1)
    else:
        document = f'{document.rstrip()}\n\n{section}\n'
    with open(path + '.new', 'w', encoding='utf-8') as file:
        file.write(document)
    os.replace(path + '.new', path)


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit('usage: section.py FILE NAME < MARKDOWN')
    insert(sys.argv[1], sys.argv[2], sys.stdin.read())
