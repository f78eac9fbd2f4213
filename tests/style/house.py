"""The house: which room may include which, who may open a struct, and how things are named.

A room is a folder below src/. Every exception stands in a table below, with its reason; an exception that no file
needs any more is a failure, so the tables only shrink.
"""
import collections
import os
import re

# From the ground up. A room includes itself and what its row names: rooms, or single headers.
EDGES = {
    'base': '',
    'tensor': 'base',
    'graph': 'base tensor',
    'onnx': 'base tensor graph',
    'ops': 'base tensor graph',
    'linear': 'base tensor',
    'plan': 'base tensor graph ops',
    'passes': 'base tensor graph ops',
    'lowering': 'base tensor graph ops plan passes',
    'engine': 'base tensor graph onnx ops plan passes lowering',
    'gguf': 'base linear',
    'tokenizer': 'base gguf',
    'chat': 'base',
    'llm': 'base linear gguf tokenizer chat',
    'image': 'base',
    'model': 'base tensor onnx engine image',
    'data': 'base model',
    'quant': 'base tensor graph onnx ops linear gguf tokenizer llm passes engine model data',
    'train': 'base tensor graph ops passes engine',
    'teach': 'base tensor graph onnx ops passes engine model data quant train',
    'http': 'base',
    'hub': 'base model',
    'server/edge': 'base http model/name.h',
    'server/backend': 'base tensor engine model http server/edge',
    'server/backend/language': 'base chat tokenizer llm model/name.h http server/edge',
    'server/backend/protocol': 'base tensor model http server/edge server/backend',
    'server/gateway': 'base http model/name.h server/edge',
    'server/frontend': 'base http server/edge',
    'server/supervisor': 'base engine/engine.h llm/memory.h model http server/edge server/gateway server/frontend',
    'server': 'server/edge server/backend server/gateway server/frontend',  # the table of endpoints
    'cli': 'base tensor gguf tokenizer llm engine chat model data quant teach http hub server/edge server/backend server/gateway '
           'server/frontend server/supervisor',
}

# (room, room or header): why it is allowed although the row above does not name it.
EXCEPTIONS = {
    ('hub', 'onnx/external_names.h'): 'pull fetches the files of weights that a network names',
    ('server/backend', 'server/backend/protocol'): 'one service: its protocols are files of its own, and it calls them',
    ('server/backend', 'server/backend/language'): 'the service of a language model is one of those that a backend is',
    ('server/frontend', 'server/gateway'): 'one chain: the frontend passes on to the gateway in its process; never the other way',
    ('cli', 'onnx/onnx.h'): 'inspect reads a network that the engine may not support',
    ('cli', 'ops/operator.h'): 'inspect tells which operators are missing',
    ('cli', 'passes/passes.h'): 'inspect expands operators as the engine does, to count them',
    ('cli', 'linear/linear.h'): 'bench names the instructions that products run on',
    ('cli', 'plan/plan.h'): 'bench and inspect print the steps of a plan',
}

LIBRARIES = [  # (headers, the files that may include them)
    (r'dnnl.*', r'src/plan/dnnl\w*\.[ch]'),
    (r'event2/.*|evhttp\.h|event\.h', r'src/http/.*'),
    (r'jpeglib\.h|jerror\.h|png\.h|webp/.*|gif_lib\.h|tiffio\.h', r'src/image/.*'),
    (r'sodium\.h', r'src/(http|server|cli)/.*'),
    (r'openssl/.*', r'src/(http/.*|base/sha256\.c)'),
    (r'utf8proc\.h', r'src/tokenizer/unicode\.c'),
    (r'zlib\.h', r'src/(http/inflate|image/png_orientation)\.c'),
    (r'curl/.*', r'src/(http/.*|hub/download\.c)'),
]

OPENED_MOST = 3
# Private structs that more files may open, each with its reason.
LANGUAGE = {
    'backend': 'the language of server/backend/: a service, and what each kind of model adds to it',
    'gateway': 'the language of server/gateway/: its table of replicas, under one lock',
    'language': 'the language of server/backend/language/: the service, which every request of it asks',
    'language_fields': 'a value: what a request asks for',
    'lowering': 'the language of lowering/: every file adds steps to it',
    'llm_weights': 'a value: the weights, made once and read by whoever runs them',
    'option_list': 'an argument: a table of options',
    'option_spec': 'an argument: a table of options',
    'post_list': "a value: a node's post-ops and their operands, as a primitive takes them",
    'attend': 'an argument: what attention is computed over',
    'conv_geometry': 'a value: what Conv and its relatives slide over what',
    'head_layout': 'a value: how a tensor holds heads',
    'heads': "a value: a view of a tensor's heads",
    'pair_view': 'a value: a view of a tensor over queries and keys',
    'shaped_inputs': "a value: the inputs of a run without its data",
    'primitive_step': 'an argument: a primitive and the tensors that it works on',
    'process': "the language of server/supervisor/: a model's process",
    'protobuf': 'the cursor that every reader of onnx/ moves',
    'protobuf_field': 'a value: the field at the cursor',
    'proxy_request': 'the language of the proxy: begun, sent, received, judged, a file each',
    'replica': 'the language of server/gateway/: what is chosen, asked and checked',
    'route': 'the language of server/gateway/: a model and its replicas',
    'serving_arguments': 'an argument: what the verbs that serve were told',
    'supervised': 'the language of server/supervisor/: a model and its processes',
    'supervisor': 'the language of server/supervisor/: the models, and who leaves',
    'tensor_proto': 'a value: a tensor as the file has it',
    'tokenizer': 'the language of tokenizer/: each kind reads it',
    'vocabulary': 'the language of tokenizer/: each kind looks tokens up',
    'vocabulary_token': 'a value: a token as the file has it',
    'window': 'a value: the geometry of a sliding window',
}
LANGUAGE |= dict.fromkeys(
    ['jinja_bound', 'jinja_builder', 'jinja_callable', 'jinja_dict', 'jinja_entry', 'jinja_given', 'jinja_list', 'jinja_loop',
     'jinja_run', 'jinja_text', 'jinja_value'],
    'the values of chat/: every function that templates can call works on them')
LANGUAGE |= dict.fromkeys(
    ['jinja_growing', 'jinja_node', 'jinja_nodes', 'jinja_parser', 'jinja_program', 'jinja_signature', 'jinja_token'],
    'the tree of chat/: made by the parser, walked by the evaluator')
LANGUAGE |= dict.fromkeys(['automaton', 'automaton_node'],
                          "the language of chat/'s constraints: made by the readers of schemas, walked by positions")
# Private structs that are to be closed: their rooms are being rebuilt.
OPEN_STILL = {}

CPP_KEYWORDS = frozenset(
    'and and_eq asm bitand bitor catch char8_t class co_await co_return co_yield compl concept consteval constexpr constinit '
    'const_cast decltype delete dynamic_cast explicit export friend mutable namespace new noexcept not not_eq nullptr operator '
    'or or_eq private protected public reinterpret_cast requires static_cast template this throw try typeid typename using '
    'virtual wchar_t xor xor_eq'.split())
KEYWORDS_STILL = set()

# British verbs in -ise, by stem: identifiers and file names have -ize.
BRITISH = re.compile(
    r'(?:authoris|capitalis|categoris|customis|discretis|equalis|finalis|generalis|initialis|linearis|localis|materialis|'
    r'maximis|memoris|minimis|normalis|optimis|organis|parallelis|penalis|prioritis|quantis|randomis|realis|recognis|'
    r'regularis|serialis|specialis|standardis|summaris|synchronis|tokenis|utilis|vectoris|visualis)(?:e|ing|ation)', re.I)
BRITISH_STILL = set()

# Struct tags that two files define for different things, until their rooms rename them.
TAGS_STILL = set()


def room_of(path):
    return os.path.dirname(path).removeprefix('src/')


def rooms_include_what_the_table_allows(tree):
    used, rooms = set(), set()
    for path in tree.sources('src'):
        room = room_of(path)
        rooms.add(room)
        if room not in EDGES:
            yield f'{path}: the room {room} has no row in EDGES (tests/style/house.py)'
            continue
        allowed = {room, *EDGES[room].split()}
        for name in tree.includes(path):
            other = os.path.dirname(name)
            if f'src/{name}' not in tree.sources('src') or other in allowed or name in allowed:
                continue
            exception = next((key for key in ((room, other), (room, name)) if key in EXCEPTIONS), None)
            if exception:
                used.add(exception)
            else:
                yield f'{path} includes {name}: {room} must not know {other}'
    for room in EDGES.keys() - rooms:
        yield f'EDGES has a row for {room}, and there is no such room'
    for room, other in EXCEPTIONS.keys() - used:
        yield f'EXCEPTIONS allows {room} to include {other}, which no file does'


def rooms_stand_on_lower_rooms(tree):
    """The table itself: each row names rows above it, so that there is no cycle."""
    below = set()
    for room, row in EDGES.items():
        for other in row.split():
            if os.path.dirname(other) not in below and other not in below:
                yield f'EDGES lets {room} include {other}, which is not below it'
        below.add(room)


def build_lists_rooms_in_order(tree):
    """meson.build builds from the ground up, as the table does."""
    listed = re.findall(r"^subdir\('src/(\w+)'\)", tree.read('meson.build'), re.M)
    order = list(dict.fromkeys(room.split('/')[0] for room in EDGES))
    if [room for room in listed if room in order] != [room for room in order if room in listed]:
        yield f'meson.build has the rooms as {" ".join(listed)}; the table as {" ".join(order)}'


def libraries_stay_in_their_room(tree):
    for path in tree.sources('src'):
        for name in tree.includes(path):
            for library, home in LIBRARIES:
                if re.fullmatch(library, name) and not re.fullmatch(home, path):
                    yield f'{path} includes {name}, which belongs in {home}'


def struct_definitions(tree, *folders):
    """tag -> files that define it."""
    found = collections.defaultdict(list)
    for path in tree.sources(*folders):
        for tag in re.findall(r'\b(?:struct|union|enum)\s+(\w+)\s*\{', tree.code(path)):
            found[tag].append(path)
    return found


def variables_of(tree, tag, path):
    """The names that a file declares with a struct's type, as variables, parameters or fields."""
    return set(re.findall(rf'\bstruct\s+{tag}\b(?:\s|\*|\bconst\b)*(\w+)\b(?!\s*[({{])', tree.code(path)))


def files_that_open(tree, tag, header):
    """The .c files that see a struct's definition, and touch a field through a variable of its type."""
    for path in tree.sources('src'):
        if not path.endswith('.c') or header not in tree.headers_seen(path):
            continue
        names = set().union(*(variables_of(tree, tag, seen) for seen in (path, *tree.headers_seen(path))))
        if names and re.search(rf'\b(?:{"|".join(names)})\b(?:\[[^]]*\])?\s*(?:->|\.)\s*\w', tree.code(path)):
            yield path


def is_private(tree, header):
    """A header that says so in its name, or that no other room sees."""
    if re.search(r'(?:^|[/_])(?:private|internal)\.h$', header):
        return True
    return all(room_of(path) == room_of(header) for path in tree.sources('src') if header in tree.headers_seen(path))


def private_structs_are_opened_by_few_files(tree):
    opened_by_many = set()
    for tag, headers in sorted(struct_definitions(tree, 'src').items()):
        for header in headers:
            if not header.endswith('.h') or not is_private(tree, header):
                continue
            files = list(files_that_open(tree, tag, header))
            if len(files) <= OPENED_MOST:
                continue
            opened_by_many.add(tag)
            if tag not in LANGUAGE and OPEN_STILL.get(tag) != room_of(header):
                yield f'struct {tag} of {header} is opened by {len(files)} files: {" ".join(files)}'
    for tag in (LANGUAGE.keys() | OPEN_STILL.keys()) - opened_by_many:
        yield f'struct {tag} is in LANGUAGE or OPEN_STILL, and no more than {OPENED_MOST} files open it'


def tags_are_unique(tree):
    doubled = {tag: files for tag, files in struct_definitions(tree, 'src').items() if len(set(files)) > 1}
    for tag in sorted(doubled.keys() - TAGS_STILL):
        yield f'struct, union or enum {tag} is defined by {" and ".join(doubled[tag])}'
    for tag in sorted(TAGS_STILL - doubled.keys()):
        yield f'{tag} is in TAGS_STILL, and is unique'


def identifiers(tree, path):
    """(line number, identifier) of a C file; line 0 is the file's own name."""
    yield 0, os.path.basename(path)
    for number, line in enumerate(tree.code(path).split('\n'), 1):
        for name in re.findall(r'\b[A-Za-z_]\w*', line):
            yield number, name


def named_otherwise(tree, is_wrong, exempt, list_name, complaint):
    """Complain of identifiers of src/ and tests/ that are wrong, and of exempt rooms that have none."""
    wrong_rooms = set()
    for path in tree.sources('src', 'tests'):
        room = room_of(path)
        for number, name in identifiers(tree, path):
            if is_wrong(name):
                wrong_rooms.add(room)
                if room not in exempt:
                    yield f'{path}:{number} {name} {complaint}'
    for room in sorted(exempt - wrong_rooms):
        yield f'{room} is in {list_name}, and has no such name'


def identifiers_are_no_cpp_keywords(tree):
    yield from named_otherwise(tree, CPP_KEYWORDS.__contains__, KEYWORDS_STILL, 'KEYWORDS_STILL', 'is a keyword of C++')


def identifiers_are_spelled_ize(tree):
    yield from named_otherwise(tree, BRITISH.search, BRITISH_STILL, 'BRITISH_STILL', 'is spelled -is-: identifiers have -iz-')


CHECKS = [rooms_include_what_the_table_allows, rooms_stand_on_lower_rooms, build_lists_rooms_in_order,
          libraries_stay_in_their_room, private_structs_are_opened_by_few_files, tags_are_unique,
          identifiers_are_no_cpp_keywords, identifiers_are_spelled_ize]
