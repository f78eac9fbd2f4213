#!/usr/bin/env python3
"""Write the page's files as C: embed.py OUTPUT.c FILE… (see src/server/edge/web_files.h). Runs at build time only."""
import hashlib
import json
import os
import sys

TYPES = {'.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8',
         '.js': 'text/javascript; charset=utf-8', '.svg': 'image/svg+xml', '.jpg': 'image/jpeg',
         '.json': 'application/json'}
PAGES = {'index.html': '/', 'docs.html': '/docs', 'openapi.json': '/openapi.json'}


# What a tier alone does not answer; its own description is without them.
MISSING = {'gateway': ['/session'],
           'backend': ['/session', '/v2/repository/models/{model}/load', '/v2/repository/models/{model}/unload']}


def of_tier(description, missing):
    """The API's description (JSON text) without some of its paths."""
    api = json.loads(description)
    for path in missing:
        del api['paths'][path]
    return json.dumps(api, ensure_ascii=False, indent=1).encode()


def contents(files):
    """Pairs of path and bytes."""
    for name in files:
        with open(name, 'rb') as file:
            data = file.read()
        base = os.path.basename(name)
        yield PAGES.get(base, '/assets/' + base), data
        for tier in MISSING if base == 'openapi.json' else ():
            yield f'{tier}/{base}', of_tier(data, MISSING[tier])


def array(data):
    rows = [data[start:start + 24] for start in range(0, len(data), 24)]
    return ',\n'.join('    ' + ','.join(str(byte) for byte in row) for row in rows)


def main(output, files):
    parts = ['#include "server/edge/web_files.h"\n\n#include <string.h>\n']
    table = []
    for number, (path, data) in enumerate(contents(files)):
        kind = TYPES[os.path.splitext('page.html' if path in ('/', '/docs') else path)[1]]
        tag = hashlib.sha256(data).hexdigest()[:16]
        parts.append(f'static const unsigned char file_{number}[] = {{\n{array(data)}}};\n')
        table.append(f'    {{"{path}", "{kind}", "\\"{tag}\\"", '
                     f'file_{number}, sizeof(file_{number})}},')
    parts.append('static const struct web_file files[] = {\n' + '\n'.join(table) + '\n};\n')
    parts.append('const struct web_file *web_file_find(const char *path) {\n'
                 '    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)\n'
                 '        if (strcmp(files[i].path, path) == 0)\n'
                 '            return &files[i];\n'
                 '    return NULL;\n}\n')
    with open(output, 'w', encoding='ascii') as file:
        file.write('\n'.join(parts))


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2:])
