#!/usr/bin/env python3
"""Constraints: whatever is written under one fits its schema, by Debian's jsonschema; whatever fits, may be written."""
import json
import random
import string
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    jsonschema = None

WALKER = sys.argv[1]
results = []


def report(name, problem, skip=''):
    results.append(not problem)
    print(f'{"not ok" if problem else "ok"} {len(results)} - {name}' + (f' # SKIP {skip}' if skip else ''), flush=True)
    if problem:
        print(f'# {problem}')


class Walker:
    def __init__(self):
        self.process = subprocess.Popen([WALKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding='utf-8')

    def ask(self, schema=None, seeds=(), texts=(), **more):
        line = {'seeds': list(seeds), 'texts': list(texts), **more} | ({} if schema is None else {'schema': schema})
        self.process.stdin.write(json.dumps(line) + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f'the walker ended at {json.dumps(schema)}')
        return json.loads(answer)


def fits(schema, value):
    try:
        jsonschema.Draft202012Validator(schema).validate(value)
        return True
    except jsonschema.ValidationError:
        return False


# --- Random schemas, each with a function that makes values for it ----------------------------------------------------

NAMES = ['a', 'ab', 'name', 'é', 'x y', 'q"', 'b\\', 'n1', 'type', 'zz']


def random_text(rng, least=0, most=12):
    letters = string.ascii_letters + string.digits + ' "\\/\n\té😀€,:{}[]'
    return ''.join(rng.choice(letters) for _ in range(rng.randint(least, most)))


def any_value(rng, depth=0):
    kind = rng.randrange(4 if depth > 2 else 6)
    if kind == 4:
        return [any_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 5:
        return {random_text(rng): any_value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return [rng.randint(-999, 999), random_text(rng), rng.choice([True, False, None]), round(rng.uniform(-5, 5), 3)][kind]


def string_schema(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return {'type': 'string'}, lambda: random_text(rng)
    if kind == 1:
        least, most = sorted((rng.randrange(5), rng.randrange(9)))
        return {'type': 'string', 'minLength': least, 'maxLength': most}, lambda: random_text(rng, least, most)
    if kind == 2:
        least = rng.randrange(4)
        return {'minLength': least, 'type': 'string'}, lambda: random_text(rng, least, least + 5)
    pattern, make = rng.choice([
        ('^[a-z]{2,5}$', lambda: ''.join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 5)))),
        (r'^\d+-(x|yy)?$', lambda: f'{rng.randint(0, 999)}-{rng.choice(["", "x", "yy"])}'),
        ('^(a|b|é)*$', lambda: ''.join(rng.choice('abé') for _ in range(rng.randrange(6)))),
        ('ab+', lambda: random_text(rng) + 'abbb' + random_text(rng)),
        (r'^[^a-z\s]+\.$', lambda: ''.join(rng.choice('ABC0_"\\') for _ in range(rng.randint(1, 4))) + '.'),
    ])
    return {'type': 'string', 'pattern': pattern}, make


def number_schema(rng):
    schema = {'type': rng.choice(['integer', 'number'])}
    low, high = sorted((rng.randint(-1500, 1500), rng.randint(-1500, 1500)))
    low, high = rng.choice([(low, high), (low, low + 1), (0, high if high >= 0 else 9), (low, low)])
    if rng.random() < 0.5:
        schema['minimum'] = low
    if rng.random() < 0.5:
        schema['maximum'] = high
    if rng.random() < 0.2:
        schema['exclusiveMinimum'] = low - 1
    if rng.random() < 0.2:
        schema['exclusiveMaximum'] = high + 1
    if schema['type'] == 'integer':
        return schema, lambda: rng.randint(low, high)
    return schema, lambda: rng.choice([low, high, round(rng.uniform(low, high), rng.randint(1, 5))])


def object_schema(rng, depth):
    properties, makers = {}, {}
    for name in rng.sample(NAMES, rng.randrange(5)):
        properties[name], makers[name] = random_schema(rng, depth + 1)
    required = [name for name in properties if rng.random() < 0.5]
    schema = {'type': 'object', 'properties': properties, 'required': required}
    others = None
    if rng.random() < 0.3:
        schema['additionalProperties'], others = random_schema(rng, depth + 1) if rng.random() < 0.7 else (True, lambda: any_value(rng))

    def make():
        value = {name: makers[name]() for name in properties if name in required or rng.random() < 0.5}
        if others and rng.random() < 0.5:
            key = random_text(rng) + '-'
            value[key] = others()
        items = list(value.items())
        rng.shuffle(items)
        return dict(items)

    return schema, make


def array_schema(rng, depth):
    inner, make = random_schema(rng, depth + 1)
    least = rng.choice([0, 0, 1, 3])
    most = least + rng.randrange(3)
    return {'type': 'array', 'items': inner, 'minItems': least, 'maxItems': most}, lambda: [make() for _ in range(rng.randint(least, most))]


def choice_schema(rng, depth):
    pairs = [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    return {'anyOf': [schema for schema, _ in pairs]}, lambda: rng.choice(pairs)[1]()


def given_schema(rng):
    values = [any_value(rng, 2) for _ in range(rng.randint(1, 5))]
    return ({'enum': values}, lambda: rng.choice(values)) if rng.random() < 0.7 else ({'const': values[0]}, lambda: values[0])


def random_schema(rng, depth=0):
    kind = rng.randrange(12)
    if kind < 3 and depth < 3:
        return object_schema(rng, depth)
    if kind < 5 and depth < 3:
        return array_schema(rng, depth)
    if kind == 5 and depth < 3:
        return choice_schema(rng, depth)
    if kind == 6:
        return given_schema(rng)
    if kind == 7:
        return {'type': ['boolean', 'null']}, lambda: rng.choice([True, False, None])
    if kind == 8:
        return rng.choice([{}, {'title': 'anything'}]), lambda: any_value(rng)
    return string_schema(rng) if kind < 11 else number_schema(rng)


# --- Checks ----------------------------------------------------------------------------------------------------------

def written(value):
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False)


def check(walker, schema, make, rng, name, walks=6):
    values = [make() for _ in range(8)]
    answer = walker.ask(schema, seeds=[rng.randrange(1 << 30) for _ in range(walks)], texts=[written(value) for value in values])
    if 'error' in answer:
        return f'{name}: {answer["error"]}: {json.dumps(schema)}'
    for value, accepted in zip(values, answer['accepted']):
        if fits(schema, value) and not accepted:
            return f'{name}: {json.dumps(schema)} does not let {json.dumps(value)} through'
    for text in filter(None, answer['walks']):
        try:
            value = json.loads(text)
        except ValueError as problem:
            return f'{name}: {json.dumps(schema)} let {text!r} through: {problem}'
        if not fits(schema, value):
            return f'{name}: {json.dumps(schema)} let {text!r} through'
    return ''


def random_schemas(walker, count):
    for seed in range(count):
        rng = random.Random(seed)
        schema, make = random_schema(rng)
        problem = check(walker, schema, make, rng, f'seed {seed}')
        if problem:
            return problem
    return ''


def spoiled(walker, count):
    """Values with a change: what is still let through must still fit."""
    for seed in range(count):
        rng = random.Random(seed)
        schema, make = random_schema(rng)
        texts = []
        for _ in range(20):
            text = written(make())
            at = rng.randrange(len(text) + 1)
            texts.append(text[:at] + rng.choice(['', '"', '}', ',', '0', 'a', ' ', '-', '\\', text[at:at + 3]]) + text[at + rng.randrange(3):])
        answer = walker.ask(schema, texts=texts)
        for text, accepted in zip(texts, answer['accepted']):
            try:
                good = fits(schema, json.loads(text))
            except ValueError:
                good = False
            if accepted and not good:
                return f'seed {seed}: {json.dumps(schema)} let {text!r} through'
    return ''


NODE = {'type': 'object', 'properties': {'value': {'type': 'integer'}, 'next': {'anyOf': [{'$ref': '#/$defs/node'}, {'type': 'null'}]}},
        'required': ['value', 'next'], 'additionalProperties': False}
SHAPES = {'oneOf': [
    {'type': 'object', 'properties': {'kind': {'const': 'circle'}, 'radius': {'type': 'number', 'minimum': 0}}, 'required': ['kind', 'radius']},
    {'type': 'object', 'properties': {'kind': {'enum': ['square', 'line']}, 'side': {'type': 'number'}}, 'required': ['kind', 'side']}]}


def chain(length):
    value = None
    for i in range(length):
        value = {'next': value, 'value': i}
    return value


CASES = [  # name, schema, texts that may be written, texts that may not
    ('a list that refers to itself', {'$ref': '#/$defs/node', '$defs': {'node': NODE}},
     [json.dumps(chain(n), separators=(',', ':')) for n in (1, 2, 20)], ['null', '{"value":1}', '{"value":1,"next":{}}', json.dumps(chain(70))]),
    ('a tree', {'type': 'object', 'properties': {'children': {'type': 'array', 'items': {'$ref': '#'}}}}, ['{}', '{"children":[{},{"children":[]}]}'],
     ['[]', '{"children":[1]}']),
    ('one of two shapes', SHAPES, ['{"kind":"circle","radius":0.5}', '{"side":-2,"kind":"line"}', '{"radius":0,"kind":"circle"}'],
     ['{"kind":"circle","side":1}', '{"kind":"circle","radius":-1}', '{"kind":"dot"}']),
    ('a date', {'type': 'string', 'format': 'date'}, ['"2026-11-28"', '"2026-01-31"'], ['"2026-13-01"', '"2026-04-31"', '"26-1-1"']),
    ('a time', {'type': 'string', 'format': 'date-time'}, ['"2026-11-28T09:00:00Z"', '"2026-11-28T09:00:00.5+01:00"'], ['"2026-11-28"', '"2026-11-28T25:00:00Z"']),
    ('above 0', {'type': 'number', 'exclusiveMinimum': 0}, ['0.001', '7', '0.10', '12.5'], ['0', '0.0', '-1', '-0.5', '00.1']),
    ('whole numbers', {'type': 'integer', 'minimum': -12, 'exclusiveMaximum': 103.5}, ['-12', '-9', '0', '99', '103'], ['-13', '104', '1.0', '1e1', '007', '-0']),
    ('a union of types', {'type': ['string', 'integer', 'null'], 'maximum': 5}, ['"x"', '5', 'null', '-3'], ['6', 'true', '[]']),
    ('enum of one type', {'type': 'string', 'enum': ['a', 'ab', 1, None]}, ['"a"', '"ab"'], ['1', 'null', '"abc"', '"']),
    ('numbers that begin alike', {'enum': [1, 12, 123]}, ['1', '12', '123'], ['2', '1234', '']),
    ('escapes in a pattern', {'type': 'string', 'pattern': '^["\\\\/\\t]+$'}, ['"\\""', '"\\\\"', '"/"', '"\\t"'], ['""', '"a"', '"\\n"']),
    ('characters are counted, not bytes', {'type': 'string', 'minLength': 2, 'maxLength': 2}, ['"éé"', '"😀a"', '"\\ud83d\\ude00\\n"', '"\\u00e9b"'],
     ['"é"', '"abc"', '"\\ud83d"', '"\\ude00a"', '"\\ud83dab"']),
    ('properties that are not named', {'type': 'object', 'properties': {'a': {'type': 'integer'}}}, ['{}', '{"a":1}', '{ "a": 1}', '{\n  "a": 1\n}'],
     ['{"b":1}', '{"a":"x"}', '{"a":1,"a":2}', '{"a":1,}', '{,}', '{"a":1}}']),
    ('… where they are allowed', {'type': 'object', 'properties': {'a': {'type': 'integer'}}, 'additionalProperties': {'type': 'string'}},
     ['{"b":"x"}', '{"aa":"x","a":1}', '{"":""}', '{"\\"":"x"}'], ['{"b":1}', '{"a":"x"}', '{"\\u0061":"x"}']),
    ('required, and not described', {'type': 'object', 'required': ['a', 'b']}, ['{"a":1,"b":[]}', '{"b":null,"a":{}}'], ['{}', '{"a":1}', '{"a":1,"b":2,"c":3}']),
    ('nothing but an empty list', {'type': 'array', 'items': {'type': 'string'}, 'maxItems': 0}, ['[]', '[ ]'], ['[""]']),
    ('allOf of one', {'allOf': [{'$ref': '#/definitions/x'}], 'definitions': {'x': {'type': 'boolean'}}}, ['true'], ['1']),
    ('a path with escapes', {'$ref': '#/$defs/a~1b~0c', '$defs': {'a/b~c': {'const': [1, {'x': 'é'}]}}}, ['[1,{"x":"é"}]'], ['[1]']),
]
REFUSALS = [  # schema, what the message must name
    ({'type': 'object', 'properties': {'age': {'type': 'integer', 'multipleOf': 3}}}, ['#/properties/age', "'multipleOf'"]),
    ({'type': 'array', 'uniqueItems': True}, ["'uniqueItems'"]), ({'not': {}}, ["'not'"]), ({'if': {}}, ["'if'"]),
    ({'type': 'object', 'patternProperties': {}}, ["'patternProperties'"]), ({'type': 'object', 'minProperties': 1}, ["'minProperties'"]),
    ({'type': 'string', 'format': 'email'}, ["'email'"]), ({'type': 'string', 'pattern': '(?=a)'}, ["'pattern'"]),
    ({'type': 'string', 'pattern': 'a\\b'}, ["'pattern'"]), ({'type': 'string', 'pattern': '(a)\\1'}, ["'pattern'"]),
    ({'type': 'string', 'pattern': '(a*)*'}, ['without end']), ({'type': 'string', 'pattern': '^a|b$'}, ['^ or $']),
    ({'type': 'string', 'pattern': 'a', 'maxLength': 3}, ['only one of']), ({'type': 'number', 'minimum': 0.5}, ["'minimum'", '0.5']),
    ({'type': 'integer', 'minimum': 3, 'maximum': 2}, ['no number']), ({'$ref': 'http://example.org/x'}, ["'$ref'"]), ({'$ref': '#/$defs/x'}, ["'$ref'"]),
    ({'$ref': '#'}, ['without end']), ({'anyOf': [{'$ref': '#'}, {'type': 'null'}]}, ['without end']),
    ({'type': 'object', 'properties': {'a': {'$ref': '#'}}, 'required': ['a']}, ['no JSON']), ({'type': 'array', 'items': {'$ref': '#'}, 'minItems': 1}, ['no JSON']),
    ({'oneOf': [{'type': 'integer'}, {'type': 'number'}]}, ["'oneOf'"]), ({'allOf': [{}, {}]}, ["'allOf'"]), ({'type': 'text'}, ["'text'"]),
    ({'anyOf': [{}], 'type': 'object'}, ["beside other keywords"]), ({'enum': [1], 'minimum': 0}, ['beside other keywords']), ({'enum': []}, ['enum', 'type']),
    ({'type': 'object', 'properties': {'a': False}}, ["'a'"]), ({'type': 'array', 'items': [{}]}, ["'items'"]), ({'prefixItems': [{}]}, ["'prefixItems'"]),
    ({'type': 'object', 'properties': {f'p{i}': {} for i in range(65)}}, ['64']), ({'type': 'string', 'minLength': 3, 'maxLength': 2}, ["'minLength'"]),
    ({'type': 'string', 'maxLength': -1}, ["'maxLength'"]), ({'type': 'object', 'required': ['x'], 'additionalProperties': False}, ["'x'"]),
    ({'type': 'string', 'pattern': '((x{256}){256}){256}'}, ['too large', 'states']), ({'$ref': '#', 'type': 'object'}, ['beside other keywords']),
    ({'type': 'string', 'pattern': '[]'}, ["'pattern'"]), ({'type': 'string', 'pattern': '\\x01'}, ["'pattern'"])]


def objects(walker):
    answer = walker.ask(None, seeds=range(40), texts=['{}', '{"a":[1,{"b":null}]}', '[]', '1', '{"a":1', ''])
    for text in filter(None, answer['walks']):
        if not isinstance(json.loads(text), dict):
            return text
    return '' if answer['accepted'] == [True, True, False, False, False, False] else str(answer['accepted'])


# --- Calls of tools --------------------------------------------------------------------------------------------------

TOOLS = [{'type': 'function', 'function': {'name': 'weather', 'parameters': {
    'type': 'object', 'properties': {'city': {'type': 'string', 'maxLength': 20}, 'days': {'$ref': '#/$defs/days'}}, 'required': ['city'],
    '$defs': {'days': {'type': 'integer', 'minimum': 1, 'maximum': 7}}}}},
         {'type': 'function', 'function': {'name': 'now', 'description': 'The time'}}]
PARIS = '{"city": "Paris\\n{[\\"", "days": 2}'
FORMS = [  # form, its mark in templates, a text with a call, and one with two
    ('hermes', '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>',
     'Let me <see>.\n<tool_call>\n{"name": "weather", "arguments": ' + PARIS + '}\n</tool_call>',
     '<tool_call>\n{"name": "weather", "arguments": ' + PARIS + '}\n</tool_call>\n<tool_call>\n{"arguments": {}, "name": "now"}\n</tool_call>'),
    ('llama', 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.',
     '{"name": "weather", "parameters": ' + PARIS + '}', '{"name": "weather", "parameters": ' + PARIS + '}; {"name": "now", "parameters": {}}'),
    ('mistral list', '"[TOOL_CALLS][" }}', '[TOOL_CALLS][{"name": "weather", "arguments": ' + PARIS + '}]',
     '[TOOL_CALLS][{"name": "weather", "arguments": ' + PARIS + ', "id": "abc}"}, {"name": "now", "arguments": {}}]'),
    ('mistral', "'[TOOL_CALLS]' + name + '[ARGS]' + arguments", '[TOOL_CALLS]weather[ARGS]' + PARIS, '[TOOL_CALLS]weather[ARGS]' + PARIS + '[TOOL_CALLS]now[ARGS]{}'),
    ('functionary', "{{ '<function=' + tool_call['function']['name'] + '>' + x", 'So: <function=weather>' + PARIS + '</function>',
     '<function=weather>' + PARIS + '</function><function=now>{}</function>'),
    ('nemotron', '<TOOLCALL>[{"name"', '<TOOLCALL>[{"name": "weather", "arguments": ' + PARIS + '}]</TOOLCALL>',
     '<TOOLCALL>[{"name": "weather", "arguments": ' + PARIS + '}, {"name": "now", "arguments": {}}]</TOOLCALL>'),
    ('granite', "'<|tool_call|>'", '<|tool_call|>[{"name": "weather", "arguments": ' + PARIS + '}]',
     '<|tool_call|>[{"name": "weather", "arguments": ' + PARIS + '}, {"name": "now", "arguments": {}}]'),
    ('firefunction', ' functools[', 'functools[{"name": "weather", "arguments": ' + PARIS + '}]',
     'functools[{"name": "weather", "arguments": ' + PARIS + '}, {"name": "now", "arguments": {}}]'),
]
NO_CALLS = ['Just a text.', 'a < b, <tool', '[1, 2]', '{"a": 1}', 'x {"name": "no"} <tool_cal', '<function [TOOL_', '']


def form(walker, name, mark, one, two):
    answer = walker.ask(template=mark, tools=TOOLS, several=True, seeds=range(30), texts=[one, two] + NO_CALLS)
    if answer.get('format') != name:
        return str(answer)
    text, calls = answer['parsed'][0]
    if [(called, json.loads(arguments)) for called, arguments in calls] != [('weather', json.loads(PARIS))] or one.split('{')[0].startswith(text) is False:
        return f'{one!r} was read as {answer["parsed"][0]}'
    if [(called, json.loads(arguments)) for called, arguments in answer['parsed'][1][1]] != [('weather', json.loads(PARIS)), ('now', {})]:
        return f'{two!r} was read as {answer["parsed"][1]}'
    for text, parsed in zip(NO_CALLS, answer['parsed'][2:]):
        if parsed != [text, []]:
            return f'{text!r} was read as {parsed}'
    walks = list(filter(None, answer['walks']))
    read = walker.ask(template=mark, tools=TOOLS, several=True, texts=walks)
    for text, accepted, (rest, calls) in zip(walks, read['accepted'], read['parsed']):
        if not accepted or rest.strip() or not calls:
            return f'{text!r} was walked, and read as {calls} and {rest!r}'
        for called, arguments in calls:
            schema = next(tool['function'] for tool in TOOLS if tool['function']['name'] == called).get('parameters', {})
            if not isinstance(json.loads(arguments), dict) or (jsonschema and not fits(schema, json.loads(arguments))):
                return f'{text!r}: {arguments} does not fit'
    named = walker.ask(template=mark, tools=TOOLS, name='now', seeds=range(10))
    read = walker.ask(template=mark, tools=TOOLS, texts=list(filter(None, named['walks'])))
    wrong = [found for found in read['parsed'] if [called for called, _ in found[1]] != ['now']]
    return f'not one call of "now": {wrong}' if wrong else ''


def tools(walker):
    for name, mark, one, two in FORMS:
        report(f'calls: {name}', form(walker, name, mark, one, two))
    mark = FORMS[0][1]
    for what, more, wanted in (('a name that no tool has', {'tools': TOOLS, 'name': 'x'}, "'x'"), ('no tools', {'tools': []}, 'no tools'),
                               ('a tool without a name', {'tools': [{}]}, 'tool 0'),
                               ('a schema', {'tools': [{'function': {'name': 'f', 'parameters': {'type': 'object', 'not': {}}}}]}, "f's parameters: 'not'")):
        message = walker.ask(template=mark, **more).get('error', 'it is not refused')
        report(f'calls refused: {what}', '' if wanted in message else message)


def main():
    walker = Walker()
    for name, schema, good, bad in CASES:
        answer = walker.ask(schema, texts=good + bad, seeds=range(5))
        wanted = [True] * len(good) + [False] * len(bad)
        wrong = answer.get('error') or [text for text, got, want in zip(good + bad, answer['accepted'], wanted) if got != want]
        report(name, f'wrong about {wrong}' if wrong else '')
        if jsonschema and not wrong:
            report(f'{name}: walks', next((text for text in filter(None, answer['walks']) if not fits(schema, json.loads(text))), ''))
    for schema, words in REFUSALS:
        message = walker.ask(schema).get('error', 'it is not refused')
        report(f'refused: {json.dumps(schema)[:80]}', '' if any(word in message for word in words) and '\n' not in message else message)
    report('any object', objects(walker))
    tools(walker)
    skip = '' if jsonschema else "Debian's python3-jsonschema is not here"
    report('random schemas', '' if skip else random_schemas(walker, 250), skip)
    report('spoiled values', '' if skip else spoiled(walker, 150), skip)
    walker.process.stdin.close()
    report('the walker ends well', '' if walker.process.wait(30) == 0 else 'it does not')
    print(f'1..{len(results)}')
    sys.exit(not all(results))


main()
