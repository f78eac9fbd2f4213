#!/usr/bin/env python3
"""Language models: guichet and llama.cpp side by side, for docs/benchmarks.md.

    llm.py PROGRAM [--models NAME,…] [--threads N] [--rounds N] [--instructions avx2|avx512|amx] [--no-write]

Files with random weights in the shapes of real models (llm_models.py) are written into .cache/llm-bench. In each round both
programs measure a file, one right after the other; a ratio is that of two neighbours, ours over theirs, and what is printed is
the median. With one thread, both count their processor's time, which other processes disturb less. `--instructions` limits
both: ours by GUICHET_INSTRUCTIONS, llama.cpp's by leaving it one of its libraries.
"""
import argparse
import contextlib
import datetime
import glob
import json
import os
import platform
import statistics
import subprocess

import llm_models
import section

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FILES = os.path.join(ROOT, '.cache', 'llm-bench')
PEER = os.path.join(ROOT, '.cache', 'llm-peer')
LIBRARIES = {'avx2': 'haswell', 'avx512': 'icelake', 'amx': 'sapphirerapids'}
PROMPT, STEPS, SEQUENCES = 512, 64, 8
# What is asked for: ours / theirs; (prompt, steps) by instruction set and type
TARGETS = {'avx2': {'Q4_0': (1.2, 1.0), 'Q8_0': (1.2, 1.0), 'Q4_K_M': (1.2, 1.1), 'F16': (1.2, 1.1)},
           'avx512': {'Q4_0': (1.5, 1.1), 'Q8_0': (1.5, 1.1), 'Q4_K_M': (1.5, 1.2), 'F16': (1.5, 1.2)},
           'amx': {'Q4_0': (3, 1.2), 'Q8_0': (3, 1.1), 'Q4_K_M': (4, 1.5), 'F16': (4, 1.35)}}
TOGETHER = {'avx2': 2, 'avx512': 3, 'amx': 4}


def run(command, **environment):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False,
                          env=dict(os.environ, **environment))
    if done.returncode:
        raise SystemExit(f'{" ".join(command)}: {done.stderr.strip()[-400:]}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(program, path, threads, instructions):
    return run([program, 'bench', path, '--json', '--iters', '1', '--threads', str(threads), '--prompt', str(PROMPT), '--steps',
                str(STEPS), '--sequences', str(SEQUENCES)], GUICHET_INSTRUCTIONS=instructions)


def theirs(path, threads):
    return run(['node', os.path.join(HERE, 'llm-peer', 'peer.mjs'), path, str(threads), str(PROMPT), str(STEPS), '1'], LLM_PEER=PEER)


@contextlib.contextmanager
def limited(instructions):
    """llama.cpp takes the best library that it finds for the processor: leave it one."""
    moved = []
    libraries = os.path.join(PEER, 'node_modules', '@node-llama-cpp', 'linux-x64', 'bins', '*', 'libggml-cpu-*.so')
    for path in glob.glob(libraries + '.aside'):  # of a run that was ended by a signal
        os.rename(path, path.removesuffix('.aside'))
    for path in glob.glob(libraries):
        if f'-{LIBRARIES[instructions]}.' not in path:
            os.rename(path, path + '.aside')
            moved.append(path)
    try:
        yield
    finally:
        for path in moved:
            os.rename(path + '.aside', path)


def processor():
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        for line in file:
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.machine()


def verdict(ratio, target):
    return f'{ratio:.2f} (at least {target:g}: {"met" if ratio >= target else "**missed**"})'


def measure(name, arguments):
    """A row of the table."""
    quantization = name.rsplit('-', 1)[1]
    path = os.path.join(FILES, name + '.gguf')
    llm_models.main(FILES, [name])
    rounds = []
    for _ in range(arguments.rounds):
        peer, own = theirs(path, arguments.threads), ours(arguments.program, path, arguments.threads, arguments.instructions)
        rounds.append((own['prompt_per_s'] / peer['prompt'], own['steps_per_s'] / peer['decode'],
                       own['together_per_s'] / own['steps_per_s'], own, peer))
        print(name, ' '.join(f'{number:.2f}' for number in rounds[-1][:3]), flush=True)
    prompt, steps, together = (statistics.median(row[i] for row in rounds) for i in range(3))
    own, peer = rounds[-1][3:]
    wanted = TARGETS[arguments.instructions][quantization]
    return (f'| {name} | {own["prompt_per_s"]:.0f} / {peer["prompt"]:.0f} | {verdict(prompt, wanted[0])} | '
            f'{own["steps_per_s"]:.1f} / {peer["decode"]:.1f} | {verdict(steps, wanted[1])} | '
            f'{verdict(together, TOGETHER[arguments.instructions])} | {own["peak_bytes"] / os.path.getsize(path):.2f} / '
            f'{peer["peak"] / os.path.getsize(path):.2f} |')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('--models')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--instructions', default='avx2', choices=LIBRARIES)
    parser.add_argument('--no-write', action='store_true')
    arguments = parser.parse_args()
    names = arguments.models.split(',') if arguments.models else \
        [f'{model}-{kind}' for model in llm_models.MODELS for kind in llm_models.TYPES]

    load = os.getloadavg()[0]
    with limited(arguments.instructions):
        rows = [measure(name, arguments) for name in names]
    with open(os.path.join(HERE, 'llm-peer', 'package.json'), encoding='utf-8') as file:
        version = json.load(file)['dependencies']['node-llama-cpp']
    timed = 'processor time of one thread' if arguments.threads == 1 else f'{arguments.threads} threads'
    text = f'''## Language models

{datetime.date.today():%-d %B %Y}; {processor()}, {os.cpu_count()} processors, both limited to {arguments.instructions}; Debian 12; llama.cpp as node-llama-cpp {version} ships it; {timed}. Random weights in the shapes and the mix of types of the real files. Medians over {arguments.rounds} rounds; rates are those of the last round, tokens per second, ours / theirs. Load average at the start: {load:.1f}. Repeat it: `make bench-llm`.

| file | prompt of {PROMPT} | ratio | then, one by one | ratio | {SEQUENCES} at once / one | peak memory / file |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
''' + '\n'.join(rows)
    print(text)
    if not arguments.no_write:
        section.insert(os.path.join(ROOT, 'docs', 'benchmarks.md'), 'llm', text)


if __name__ == '__main__':
    main()
