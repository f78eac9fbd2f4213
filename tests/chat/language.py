#!/usr/bin/env python3
"""The language of chat templates, feature by feature, against jinja2. TAP.

    language.py GUICHET ROOT"""
import os
import sys
import tempfile

import cases
import reference


def main():
    made = reference.environment()
    if made is None:
        print('1..0 # SKIP python3-jinja2 is not installed')
        return 0
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (area, text) in enumerate(cases.all_cases(), 1):
            wanted = reference.render(made, text, cases.VARIABLES)
            got = reference.run(os.path.abspath(sys.argv[1]), folder, text, cases.VARIABLES)
            fault = reference.difference(wanted, got)
            results.append((f'{area} {number}', fault and f'{text!r}\n{fault}'))
    return reference.report(results)


sys.exit(main())
