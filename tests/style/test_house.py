#!/usr/bin/env python3
"""The checks of house.py (and those of documents) can fail, and do not fail for nothing: small trees with and without each fault. TAP."""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import house  # noqa: E402
import style  # noqa: E402
from tree import Tree  # noqa: E402

# The tables of these small houses.
TABLES = {
    'EDGES': {'base': '', 'http': 'base', 'server/edge': 'base http', 'server/gateway': 'base model/name.h server/edge'},
    'EXCEPTIONS': {}, 'LANGUAGE': {}, 'OPEN_STILL': {}, 'TAGS_STILL': set(), 'KEYWORDS_STILL': set(), 'BRITISH_STILL': set(),
}
GROUND = {
    'src/base/a.h': '#pragma once\n', 'src/http/h.h': '#pragma once\n#include "base/a.h"\n',
    'src/server/edge/e.c': '#include <stdio.h>\n#include "http/h.h"\n#include "web_files_data.h"\n',
    'src/server/gateway/g.h': '#pragma once\n#include "server/edge/e.h"\n', 'src/server/edge/e.h': '#pragma once\n',
    'src/server/gateway/g.c': '#include "server/gateway/g.h"\n',
    'meson.build': "subdir('src/base')\nsubdir('src/http')\nsubdir('web')\nsubdir('src/server')\n",
}
PRIVATE = {'src/http/private.h': 'struct desk {\n    int drawer;\n};\nstruct hall {\n    struct desk *desk;\n};\n'}


def opener(statement, argument='struct desk *desk'):
    return f'#include "http/private.h"\nvoid f({argument}) {{\n    {statement}\n}}\n'


def openers(count, statement='desk->drawer = 1;', **more):
    return {**PRIVATE, **{f'src/http/o{i}.c': opener(statement, **more) for i in range(count)}}


# check, what it is about, files added to the ground, tables changed, and a part of each complaint expected
CASES = [
    (house.rooms_include_what_the_table_allows, 'a house as the table has it', {}, {}, []),
    (house.rooms_include_what_the_table_allows, 'an include upwards', {'src/base/b.c': '#include "http/h.h"\n'}, {},
     ['base must not know http']),
    (house.rooms_include_what_the_table_allows, 'an include that is lower, and not in the row',
     {'src/server/gateway/x.c': '#include "http/h.h"\n'}, {}, ['server/gateway must not know http']),
    (house.rooms_include_what_the_table_allows, 'tiers that include each other',
     {'src/server/edge/x.c': '#include "server/gateway/g.h"\n'}, {}, ['server/edge must not know server/gateway']),
    (house.rooms_include_what_the_table_allows, 'a single header that the row names',
     {'src/model/name.h': '', 'src/model/other.h': '', 'src/server/gateway/x.c': '#include "model/name.h"\n#include "model/other.h"\n'},
     {'EDGES': {**TABLES['EDGES'], 'model': ''}}, ['model/other.h']),
    (house.rooms_include_what_the_table_allows, 'a room without a row', {'src/attic/x.c': ''}, {}, ['attic has no row']),
    (house.rooms_include_what_the_table_allows, 'a row without a room', {}, {'EDGES': {**TABLES['EDGES'], 'attic': ''}},
     ['no such room']),
    (house.rooms_include_what_the_table_allows, 'an exception', {'src/base/b.c': '#include "http/h.h"\n'},
     {'EXCEPTIONS': {('base', 'http/h.h'): 'a reason'}}, []),
    (house.rooms_include_what_the_table_allows, 'an exception that nothing needs', {},
     {'EXCEPTIONS': {('base', 'http/h.h'): 'a reason'}}, ['which no file does']),
    (house.rooms_stand_on_lower_rooms, 'a table from the ground up', {}, {'EDGES': {'base': '', 'http': 'base'}}, []),
    (house.rooms_stand_on_lower_rooms, 'a table with a cycle', {}, {'EDGES': {'base': 'http', 'http': 'base'}},
     ['lets base include http']),
    (house.build_lists_rooms_in_order, 'the build in order', {}, {}, []),
    (house.build_lists_rooms_in_order, 'the build out of order',
     {'meson.build': "subdir('src/http')\nsubdir('src/base')\n"}, {}, ['http base']),
    (house.libraries_stay_in_their_room, 'a library at home', {'src/plan/dnnl2.c': '#include <dnnl.h>\n'}, {}, []),
    (house.libraries_stay_in_their_room, 'a library elsewhere', {'src/plan/steps.c': '#include <dnnl.h>\n'}, {}, ['dnnl.h']),
    (house.private_structs_are_opened_by_few_files, 'three files that open a struct', openers(3), {}, []),
    (house.private_structs_are_opened_by_few_files, 'four files', openers(4), {}, ['desk of src/http/private.h is opened by 4']),
    (house.private_structs_are_opened_by_few_files, 'four through another struct',
     openers(4, 'hall->desk->drawer = 1;', argument='struct hall *hall'), {'LANGUAGE': {'hall': 'a reason'}},
     ['desk of src/http/private.h is opened by 4']),
    (house.private_structs_are_opened_by_few_files, 'four that hold one on the stack',
     openers(4, 'struct desk mine; mine.drawer = 1;', argument='void'), {}, ['opened by 4']),
    (house.private_structs_are_opened_by_few_files, 'four that only pass the pointer on', openers(4, 'g(desk);'), {}, []),
    (house.private_structs_are_opened_by_few_files, 'four that speak of it', openers(4, '/* desk->drawer */ g("desk->drawer");'), {}, []),
    (house.private_structs_are_opened_by_few_files, 'four that the language allows', openers(4),
     {'LANGUAGE': {'desk': 'a reason'}}, []),
    (house.private_structs_are_opened_by_few_files, 'an exemption that nothing needs', openers(3),
     {'OPEN_STILL': {'desk': 'http'}}, ['no more than 3']),
    (house.private_structs_are_opened_by_few_files, 'a header that its room alone sees',
     {name.replace('private', 'desk'): text.replace('private', 'desk') for name, text in openers(4).items()}, {}, ['opened by 4']),
    (house.private_structs_are_opened_by_few_files, 'a header that others see, too',
     {**{name.replace('private', 'desk'): text.replace('private', 'desk') for name, text in openers(4).items()},
      'src/server/edge/x.c': '#include "http/desk.h"\n'}, {}, []),
    (house.tags_are_unique, 'a tag that two files use and one defines',
     {'src/http/x.h': 'struct t {\n};\n', 'src/http/x.c': 'static struct t *t;\n'}, {}, []),
    (house.tags_are_unique, 'a tag that two files define', {'src/http/x.c': 'struct t {\n};\n', 'src/base/y.c': 'enum t { T };\n'}, {},
     ['enum t is defined']),
    (house.tags_are_unique, 'an exemption that nothing needs', {}, {'TAGS_STILL': {'t'}}, ['is unique']),
    (house.identifiers_are_no_cpp_keywords, 'a keyword in comments and texts',
     {'src/http/x.c': '/* a new class */\nconst char *a = "delete";\n'}, {}, []),
    (house.identifiers_are_no_cpp_keywords, 'a keyword as a field', {'src/http/x.c': 'struct x {\n    int class;\n};\n'}, {},
     ['x.c:2 class']),
    (house.identifiers_are_no_cpp_keywords, 'an exempt room', {'src/http/x.c': 'int new;\n'}, {'KEYWORDS_STILL': {'http'}}, []),
    (house.identifiers_are_no_cpp_keywords, 'an exemption that nothing needs', {}, {'KEYWORDS_STILL': {'http'}}, ['has no such']),
    (house.identifiers_are_spelled_ize, 'words that end so anyway',
     {'src/http/x.c': 'int supervised, otherwise, noise, raise, precise, depthwise; /* quantised */\n'}, {}, []),
    (house.identifiers_are_spelled_ize, 'British verbs and nouns',
     {'src/http/x.c': 'int quantised, normalise_run, do_requantisation, Specialiser, equalising;\n'}, {}, ['x.c:1'] * 5),
    (house.identifiers_are_spelled_ize, 'a file\'s name', {'src/http/normalise.c': ''}, {}, ['normalise.c:0']),
    (style.documents_link_to_what_exists, 'links to files, folders, sections and elsewhere',
     {'docs/a.md': '[b](../b.md#part) [c](../src) [d](https://example.org/x) [e](#part)\n```\n[f](g)\n```\n', 'b.md': ''}, {}, []),
    (style.documents_link_to_what_exists, 'a link to nothing', {'docs/a.md': '[b](b.md)\n', 'b.md': ''}, {}, ['links to b.md']),
    (style.documents_name_what_exists, 'names of files, folders and placeholders',
     {'docs/a.md': '`src/http/` `http/h.h` `h.h` `{e,g}.c` `gateway/*.c` `ops/NAME.c` `build/x` `GET /v2` `a/b c`\n```\n`x.c`\n```\n'}, {}, []),
    (style.documents_name_what_exists, 'names of nothing', {'docs/a.md': '`src/attic/` `x.c` `http/{h,i}.h` `p.h`\n'}, {},
     ['names http/i.h', 'names p.h', 'names src/attic', 'names x.c']),
    (style.documents_name_what_exists, 'an exemption that nothing needs', {}, {'NAMED_ELSEWHERE': {'a/b': 'a reason'}},
     ['no document names it']),
]


def run(check, files, tables):
    style.DOCUMENTS_TO_COME = set()
    style.NAMED_ELSEWHERE = tables.get('NAMED_ELSEWHERE', {})
    for name, table in {**TABLES, **tables}.items():
        setattr(house, name, table)
    with tempfile.TemporaryDirectory(prefix='guichet-style-') as root:
        for name, text in {**GROUND, **files}.items():
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            with open(os.path.join(root, name), 'w', encoding='utf-8') as file:
                file.write(text)
        subprocess.run(['git', 'init', '--quiet', root], check=True)
        return list(check(Tree(root)))


def main():
    print(f'1..{len(CASES)}')
    failed = 0
    for number, (check, about, files, tables, expected) in enumerate(CASES, 1):
        found = run(check, files, tables)
        good = len(found) == len(expected) and all(part in line for part, line in zip(expected, found))
        failed += not good
        print(f'{"" if good else "not "}ok {number} - {check.__name__}: {about}')
        if not good:
            print(f'#   complained {found}, not {expected}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
