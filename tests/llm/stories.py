#!/usr/bin/env python3
"""What the model tales learns from: stories of plots are whole, keep to their hero, and go through its tokenizer and back."""
import os
import random
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(sys.argv[2], 'tools', 'train_tales'))
import bpe
import grammar
import plots

results = []


def report(name, problem):
    results.append(not problem)
    print(f'{"not ok" if problem else "ok"} {len(results)} - {name}', flush=True)
    if problem:
        print(f'# {problem}')


def broken(story):
    if re.search(r'[{}()|]|\s\s|\ba [aeio]', story.replace('a one', '')) or story.count('"') % 2:
        return 'it has something unfilled'
    if not re.search(r'[.!?]"?$', story) or re.search(r'(^|[.] )"?[a-z]', story):
        return 'its sentences are not whole'
    return ''


def main():
    told = [grammar.Tale(random.Random(seed)) for seed in range(600)]
    stories = [tale.story() for tale in told]
    report('stories are whole', next((f'{broken(s)}: {s}' for s in stories if broken(s)), ''))
    report('the same seed tells the same', '' if grammar.Tale(random.Random(5)).story() == stories[5] else 'another')
    astray = [story for tale, story in zip(told, stories) if tale.hero.name and story.count(tale.hero.name) < 2]
    report('heroes are named again', astray[0] if astray else '')
    report('every plot is told', str(set(plots.PLOTS) - {tale.plot for tale in told}).replace('set()', ''))
    talks = [grammar.conversation(random.Random(seed)) for seed in range(300)]
    wrong = [talk for talk in talks if [role for role, _ in talk if role != 'system'][::2] != ['user'] * (len(talk) // 2) or talk[-1][0] != 'tale']
    report('conversations take turns', str(wrong[0]) if wrong else '')

    tokenizer = bpe.Tokenizer(bpe.train(stories, 600))
    texts = stories[:50] + [' Zoë\n\n  "x"  ', '', '🦊_1,000\t']
    report('tokens give the text again', next((text for text in texts if tokenizer.decode(tokenizer.encode(text)) != text), ''))
    report('a vocabulary of its size', '' if len(tokenizer.tokens) == len(set(tokenizer.tokens)) == 600 else str(len(tokenizer.tokens)))
    print(f'1..{len(results)}')
    sys.exit(not all(results))


main()
