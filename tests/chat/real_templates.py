#!/usr/bin/env python3
"""Real chat templates, each with several conversations, byte for byte as jinja2 rendered them. TAP.

    real_templates.py GUICHET ROOT

The templates are those of ../shared (or GUICHET_SHARED), with the renderings beside them."""
import json
import os
import sys
import tempfile

import reference

GUICHET, ROOT = os.path.abspath(sys.argv[1]), sys.argv[2]
FOLDER = os.path.join(os.environ.get('GUICHET_SHARED') or os.path.join(ROOT, '..', 'shared'), 'models', 'llm', 'templates')


def try_all(data, folder):
    results = []
    for name, conversations in data['expected'].items():
        with open(os.path.join(FOLDER, name), encoding='utf-8') as file:
            text = file.read()
        for conversation, wanted in conversations.items():
            got = reference.run(GUICHET, folder, text, {**data['variables'], **data['conversations'][conversation]})
            if not isinstance(wanted, dict):
                fault = reference.difference(wanted, got)
            elif "unknown tag 'generation'" in wanted['error']:  # a tag that we ignore, as Hugging Face's library does
                fault = '' if got[0] == 0 else got[2]
            else:
                fault = reference.difference(Exception(wanted['error']), got)
            results.append((f'{name}, {conversation}', fault))
    return results


def main():
    path = os.path.join(FOLDER, 'expected.json')
    if not os.path.exists(path):
        print('1..0 # SKIP no chat templates in ../shared')
        return 0
    with open(path, encoding='utf-8') as file:
        data = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        return reference.report(try_all(data, folder))


sys.exit(main())
