#!/usr/bin/env python3
"""Write the page's files as C: embed.py OUTPUT.c FILE… (see src/serve/web_files.h). Runs at build time only."""
import hashlib
import os
import sys

TYPES = {'.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8',
         '.js': 'text/javascript; charset=utf-8', '.svg': 'image/svg+xml', '.jpg': 'image/jpeg',
         '.json': 'application/json'}
PAGES = {'index.html': '/', 'docs.html': '/docs', 'openapi.json': '/openapi.json'}


def array(data):
    rows = [data[start:start + 24] for start in range(0, len(data), 24)]
    return ',\n'.join('    ' + ','.join(str(byte) for byte in row) for row in rows)


def main(output, files):
    parts = ['#include "serve/web_files.h"\n\n#include <string.h>\n']
    table = []
    for number, name in enumerate(files):
        with open(name, 'rb') as file:
            data = file.read()
        base = os.path.basename(name)
        path = PAGES.get(base, '/assets/' + base)
        tag = hashlib.sha256(data).hexdigest()[:16]
        parts.append(f'static const unsigned char file_{number}[] = {{\n{array(data)}}};\n')
        table.append(f'    {{"{path}", "{TYPES[os.path.splitext(base)[1]]}", "\\"{tag}\\"", '
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
