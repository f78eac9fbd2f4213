#!/usr/bin/python3
"""Language models over HTTP: OpenAI's routes of a backend, before a model whose text is known beforehand (tests/llm/chain.py)
and one with random weights. Real processes, real sockets, TAP."""
import base64
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'llm'))
import chain  # noqa: E402
import decoder  # noqa: E402
import encoder  # noqa: E402
import gguf  # noqa: E402
from tiers import GUICHET, Process, ask, backend, gateway, run_tests, until  # noqa: E402

FOLDER = tempfile.mkdtemp()
CHAT, COMPLETION = '/v1/chat/completions', '/v1/completions'
HELLO = [{'role': 'user', 'content': 'Hello'}]
servers = contextlib.ExitStack()
# The sanitizer does not see how OpenMP's threads wait for each other.
ONE_THREAD = ['--threads', '1'] if 'thread' in os.environ.get('SANITIZER', '') else []


def model(name, **options):
    path = os.path.join(FOLDER, f'{name}.gguf')
    if not os.path.exists(path):
        chain.write(path, **options)
    return path


def random_model():
    path = os.path.join(FOLDER, 'random.gguf')
    if not os.path.exists(path):
        decoder.Model(decoder.FAMILIES['llama2'], 1).write(path)
    return path


class Service:
    """One backend."""

    def __init__(self, path, *arguments):
        self.process = backend('--access-log', 'json', *ONE_THREAD, *arguments, model=path)
        self.port, self.name = self.process.port, os.path.basename(path).removesuffix('.gguf')

    def post(self, target, headers=None, **fields):
        body = json.dumps({'model': self.name} | fields)
        return ask(self.port, 'POST', target, body, Content_Type='application/json', **(headers or {}))

    def good(self, target, **fields):
        reply = self.post(target, **fields)
        assert reply.status == 200, (reply.status, reply.body)
        return reply.json()

    def chat(self, messages=None, **fields):
        return self.good(CHAT, messages=messages or HELLO, **fields)

    def complete(self, prompt='x', **fields):
        return self.good(COMPLETION, prompt=prompt, **fields)

    def text(self, prompt='x', **fields):
        return self.complete(prompt, **fields)['choices'][0]['text']

    def refused(self, part, target=COMPLETION, status=400, **fields):
        reply = self.post(target, **({'messages': HELLO} if target == CHAT else {'prompt': 'x'}) | fields)
        assert reply.status == status, (fields, reply.status, reply.body)
        error = reply.json()['error']
        assert set(error) == {'message', 'type', 'param', 'code'} and part in error['message'], (part, error)
        return error

    def events(self, target, **fields):
        """Every event of a stream; the last is [DONE]."""
        reply = self.post(target, stream=True, **fields)
        assert reply.status == 200 and reply.header('Content-Type') == 'text/event-stream', (reply.status, reply.body)
        lines = reply.body.decode().split('\n\n')
        assert lines[-1] == '' and lines[-2] == 'data: [DONE]', lines[-3:]
        return [json.loads(line.removeprefix('data: ')) for line in lines[:-2] if line.startswith('data: ')]

    def metric(self, name):
        text = ask(self.port, 'GET', '/metrics').body.decode()
        return next(float(line.rsplit(' ', 1)[1]) for line in text.split('\n') if line.startswith(name + '{'))

    def stream(self, **fields):
        """A socket that a stream comes from."""
        body = json.dumps({'model': self.name, 'stream': True, 'prompt': 'x', 'ignore_eos': True} | fields).encode()
        one = socket.create_connection(('127.0.0.1', self.port), timeout=30)
        one.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
        return one


def shared(path, *arguments, made={}):
    """A backend that several tests ask."""
    if (path, arguments) not in made:
        made[path, arguments] = Service(path, *arguments)
        servers.callback(made[path, arguments].process.end_well)
    return made[path, arguments]


def service():
    return shared(model('chain'))


def test_completion():
    """a completion: text, reason, usage"""
    answer = service().complete('x', temperature=0, max_tokens=40)
    choice = answer['choices'][0]
    assert choice['text'] == chain.TEXT and choice['finish_reason'] == 'stop' and choice['logprobs'] is None, choice
    assert answer['object'] == 'text_completion' and answer['model'] == 'chain' and answer['id'].startswith('cmpl-')
    assert answer['usage']['prompt_tokens'] == 2 and answer['usage']['completion_tokens'] == 7, answer['usage']
    assert answer['usage']['total_tokens'] == 9
    short = service().complete('x', temperature=0, max_tokens=2)
    assert short['choices'][0]['text'] == ' one two' and short['choices'][0]['finish_reason'] == 'length'
    assert service().complete('x', temperature=0, ignore_eos=True)['usage']['completion_tokens'] == 16  # OpenAI's default


def test_prompts():
    """several prompts, as texts and as tokens, and several answers to each"""
    answer = service().complete(['x', 'y'], n=2, temperature=0, max_tokens=3)
    assert [choice['index'] for choice in answer['choices']] == [0, 1, 2, 3]
    assert {choice['text'] for choice in answer['choices']} == {' one two three'} and answer['usage']['completion_tokens'] == 12
    assert service().text([chain.FIRST], temperature=0, max_tokens=2) == ' two three'
    texts = service().complete([[chain.FIRST], [chain.FIRST + 1]], temperature=0, max_tokens=1)['choices']
    assert [choice['text'] for choice in texts] == [' two', ' three']


def test_chat():
    """a chat: the template's prompt, its end of a turn, contents in parts"""
    answer = service().chat(temperature=0)
    message = answer['choices'][0]['message']
    assert message == {'role': 'assistant', 'content': chain.TEXT, 'refusal': None}, message
    assert answer['choices'][0]['finish_reason'] == 'stop' and answer['object'] == 'chat.completion'
    parts = [{'role': 'developer', 'content': 'Be short.'},
             {'role': 'user', 'content': [{'type': 'text', 'text': 'Hel'}, {'type': 'text', 'text': 'lo'}]}]
    assert service().chat(parts, temperature=0, max_completion_tokens=1)['choices'][0]['message']['content'] == ' one'
    prompt = service().good('/apply-template', messages=parts)['prompt']
    assert prompt == '<|system|>Be short.<|end|><|user|>Hello<|end|><|assistant|>', prompt


def test_special_tokens():
    """what a person writes is never a special token"""
    count = service().chat(max_tokens=1)['usage']['prompt_tokens']
    assert count == 1 + 1 + 5 + 1 + 1, count  # BOS <|user|> Hello <|end|> <|assistant|>
    content = 'Hello<|end|><|assistant|>'
    count = service().chat([{'role': 'user', 'content': content}], max_tokens=1)['usage']['prompt_tokens']
    assert count == 1 + 1 + len(content) + 1 + 1, count
    assert service().complete(content, max_tokens=1)['usage']['prompt_tokens'] == 1 + len(content)
    role = [{'role': '<|end|>', 'content': 'x'}]
    assert service().chat(role, max_tokens=1)['usage']['prompt_tokens'] == 1 + len('<|<|end|>|>x') + 1 + 1


def test_stream():
    """streams: one event a step, the role first, the reason last, usage where it is asked for"""
    events = service().events(CHAT, messages=HELLO, temperature=0, stream_options={'include_usage': True})
    assert events[0]['choices'][0]['delta'] == {'role': 'assistant', 'content': ''}, events[0]
    assert ''.join(event['choices'][0]['delta'].get('content', '') for event in events[:-1]) == chain.TEXT
    reasons = [event['choices'][0]['finish_reason'] for event in events[:-1]]
    assert reasons[-1] == 'stop' and set(reasons[:-1]) == {None}, reasons
    assert events[-1]['choices'] == [] and events[-1]['usage']['completion_tokens'] == 7, events[-1]
    assert {event['object'] for event in events} == {'chat.completion.chunk'} and len({event['id'] for event in events}) == 1

    events = service().events(COMPLETION, prompt='x', temperature=0, max_tokens=40, n=2)
    for index in range(2):
        own = [event['choices'][0] for event in events if event['choices'][0]['index'] == index]
        assert ''.join(choice['text'] for choice in own) == chain.TEXT and own[-1]['finish_reason'] == 'stop', own
    assert all('usage' not in event for event in events)


def test_characters():
    """a character of several tokens is told whole; bytes that are none become U+FFFD"""
    texts = [event['choices'][0]['text'] for event in service().events(COMPLETION, prompt='x', temperature=0, max_tokens=40)]
    assert 'é' in ''.join(texts) and all('\ufffd' not in text for text in texts), texts
    assert service().text('x', temperature=0, max_tokens=4) == ' one two three\ufffd'
    forced = {str(chain.BYTES + 0xFF): 100}
    assert service().text('x', temperature=0, max_tokens=3, logit_bias=forced) == '\ufffd' * 3


def test_stop():
    """stop strings, across the borders of tokens, whole or in a stream"""
    for stop, text in [('two', ' one '), (['é', 'zzz'], ' one two three'), ('e tw', ' on'), ('e t', ' on'), ('none', chain.TEXT)]:
        for stream in (False, True):
            fields = {'temperature': 0, 'max_tokens': 40, 'stop': stop}
            if stream:
                events = service().events(COMPLETION, prompt='x', **fields)
                got, reason = ''.join(event['choices'][0]['text'] for event in events), events[-1]['choices'][0]['finish_reason']
            else:
                choice = service().complete(**fields)['choices'][0]
                got, reason = choice['text'], choice['finish_reason']
            assert got == text and reason == 'stop', (stop, stream, got, reason)


def test_logprobs():
    """logarithms of probabilities, with alternatives, of both routes, whole and in streams"""
    choice = service().complete(temperature=0, max_tokens=3, logprobs=2)['choices'][0]['logprobs']
    assert choice['tokens'] == [' one', ' two', ' three'] and choice['text_offset'] == [0, 4, 8], choice
    assert all(-0.01 < number <= 0 for number in choice['token_logprobs']) and [len(top) for top in choice['top_logprobs']] == [2] * 3
    content = service().chat(temperature=0, max_tokens=2, logprobs=True, top_logprobs=3)['choices'][0]['logprobs']['content']
    assert [entry['token'] for entry in content] == [' one', ' two'] and content[0]['bytes'] == list(b' one'), content
    assert [len(entry['top_logprobs']) for entry in content] == [3, 3] and content[0]['top_logprobs'][0]['token'] == ' one'
    assert service().chat(temperature=0, max_tokens=1, logprobs=True)['choices'][0]['logprobs']['content'][0]['top_logprobs'] == []
    events = service().events(CHAT, messages=HELLO, temperature=0, max_tokens=6, logprobs=True)
    tokens = [entry['token'] for event in events for entry in (event['choices'][0]['logprobs'] or {}).get('content', [])]
    assert len(tokens) == 6, tokens


def test_sampling():
    """seeds, penalties, biases and limits do what they say"""
    random = shared(random_model())
    fields = {'max_tokens': 24, 'temperature': 1, 'top_k': 0, 'top_p': 1, 'min_p': 0, 'ignore_eos': True, 'seed': 7}
    text = random.text('abc', **fields)
    assert random.text('abc', **fields) == text and random.text('abc', **fields | {'seed': 8}) != text
    both = random.complete('abc', n=2, **fields)['choices']
    assert both[0]['text'] == text and both[1]['text'] == random.text('abc', **fields | {'seed': 8})
    greedy = random.text('abc', **fields | {'temperature': 0})
    assert random.text('abc', **fields | {'top_k': 1}) == greedy == random.text('abc', **fields | {'min_p': 1})
    assert random.text('abc', **fields | {'top_p': 0}) == greedy
    biased = {'temperature': 0, 'max_tokens': 6, 'logit_bias': {str(chain.FIRST): 50}, 'ignore_eos': True}
    assert service().text(**biased) == ' one' * 6
    assert service().text(**biased | {'frequency_penalty': 2, 'presence_penalty': 2}) == ' one' * 6
    assert len(set(service().text(**biased | {'repeat_penalty': 100}).split())) > 1


def test_refusals():
    """what is not known, not supported or out of range is refused by name; what changes nothing is ignored"""
    one = service()
    for field, value in [('foo', 1), ('best_of', 2), ('suffix', 'x'), ('echo', True), ('n', 0), ('n', 1000), ('max_tokens', 0),
                         ('temperature', -1), ('temperature', 'hot'), ('top_p', 2), ('min_p', -1), ('top_k', 1.5),
                         ('presence_penalty', 3), ('frequency_penalty', '1'), ('repeat_penalty', 0), ('seed', 1.5),
                         ('stop', ['a', 'b', 'c', 'd', 'e']), ('stop', ''), ('logit_bias', {'x': 1}), ('logit_bias', {'99999': 1}),
                         ('logprobs', True), ('logprobs', 21), ('stream', 'yes'), ('cache_prompt', 1), ('prompt', 7), ('prompt', []),
                         ('prompt', [99999]), ('prompt', ['x', 1]), ('user', 1)]:
        one.refused(f'"{field}"', **{field: value})
    one.refused('"stream_options"', stream=True, stream_options={'foo': True})
    for target in (CHAT, COMPLETION, '/tokenize'):
        one.refused('uncompressed', target, status=415, headers={'Content_Encoding': 'gzip'})
    one.refused('there is no "prompt"', prompt=None)
    for field, value in [('top_logprobs', 3), ('tools', [{}]), ('tool_choice', 'required'), ('parallel_tool_calls', 1), ('response_format', {'type': 'xml'}),
                         ('response_format', {'type': 'json_schema'}),
                         ('functions', [{}]), ('modalities', ['audio']), ('prompt', 'x'), ('logprobs', 1), ('messages', []),
                         ('messages', 'x'), ('chat_template_kwargs', 1)]:
        one.refused(f'"{field}"', CHAT, **{field: value})
    for message, part in [({'content': 'x'}, 'no "role"'), ({'role': 'user'}, 'no "content"'), (7, 'not an object'),
                          ({'role': 'user', 'content': [{'type': 'image_url', 'image_url': {}}]}, 'image_url')]:
        one.refused(part, CHAT, messages=[message])
    harmless = {'user': 'me', 'metadata': {'a': 'b'}, 'store': False, 'service_tier': 'auto', 'tools': [], 'tool_choice': 'none',
                'response_format': {'type': 'text'}, 'parallel_tool_calls': True, 'stop': None, 'seed': None, 'foo': None}
    assert one.chat(temperature=0, **harmless)['choices'][0]['message']['content'] == chain.TEXT


def test_formats():
    """response_format: what a random model writes is JSON that fits, whole and in a stream; what is not supported is refused"""
    one = shared(random_chat())
    schema = {'type': 'object', 'properties': {'name': {'type': 'string', 'maxLength': 8}, 'age': {'type': 'integer', 'minimum': 0,
              'maximum': 150}, 'kind': {'enum': ['cat', 'dog']}}, 'required': ['name', 'age', 'kind'], 'additionalProperties': False}
    fields = {'temperature': 1, 'response_format': {'type': 'json_schema', 'json_schema': {'name': 'pet', 'schema': schema}}}
    for seed in range(4):
        choice = one.chat(seed=seed, **fields)['choices'][0]
        pet = json.loads(choice['message']['content'])
        assert choice['finish_reason'] == 'stop' and set(pet) == {'name', 'age', 'kind'}, pet
        assert len(pet['name']) <= 8 and 0 <= pet['age'] <= 150 and pet['kind'] in ('cat', 'dog'), pet
    events = one.events(CHAT, messages=HELLO, seed=1, **fields)
    assert json.loads(''.join(event['choices'][0]['delta'].get('content', '') for event in events)) == \
        json.loads(one.chat(seed=1, **fields)['choices'][0]['message']['content'])
    choice = one.chat(seed=3, response_format={'type': 'json_object'}, max_tokens=100)['choices'][0]
    assert choice['message']['content'].lstrip()[0] == '{'
    if choice['finish_reason'] == 'stop':
        assert isinstance(json.loads(choice['message']['content']), dict)
    wrong = {'type': 'json_schema', 'json_schema': {'name': 'x', 'schema': {'type': 'integer', 'multipleOf': 3}}}
    one.refused('multipleOf', CHAT, response_format=wrong)
    text = one.text('x', seed=5, max_tokens=100, response_format=fields['response_format'])
    assert json.loads(text)['kind'] in ('cat', 'dog'), text


TOOLS = [{'type': 'function', 'function': {'name': name, 'description': 'Adds.', 'parameters': {
    'type': 'object', 'properties': {'a': {'type': 'integer', 'minimum': 0, 'maximum': 9}}, 'required': ['a'],
    'additionalProperties': False}}} for name in ('add', 'take')]
HERMES = chain.TEMPLATE + '{# <tool_call>\\n{"name": #}{% if tools %}{# tools #}{% endif %}'
HERMES = HERMES.replace('"name":', '"name": ')


def test_tools():
    """calls of tools: found in what a model writes, whole and in a stream; tool_choice keeps or forbids them"""
    words = [' so', '<tool_call>', '\n{"name": "add", "arguments": ', '{"a": ', '7}}', '\n</tool_call>']
    first = chain.COUNT
    steps = {chain.ASSISTANT: first} | {first + i: first + i + 1 for i in range(5)} | {first + 5: chain.END}
    one = shared(model('calls', template=HERMES, words=words, chain=steps, kinds={first + 1: 4}))
    choice = one.chat(temperature=0, tools=TOOLS)['choices'][0]
    assert choice['finish_reason'] == 'tool_calls' and choice['message']['content'].strip() == 'so', choice
    call = choice['message']['tool_calls'][0]
    assert call['id'].startswith('call_') and call['type'] == 'function' and call['function']['name'] == 'add', call
    assert json.loads(call['function']['arguments']) == {'a': 7} and len(choice['message']['tool_calls']) == 1

    events = one.events(CHAT, messages=HELLO, temperature=0, tools=TOOLS)
    pieces = [piece for event in events for piece in event['choices'][0]['delta'].get('tool_calls', [])]
    assert pieces[0]['function']['name'] == 'add' and {piece['index'] for piece in pieces} == {0}, pieces
    assert json.loads(''.join(piece['function']['arguments'] for piece in pieces)) == {'a': 7}, pieces
    assert events[-1]['choices'][0]['finish_reason'] == 'tool_calls'
    plain = one.chat(temperature=0, tools=TOOLS, tool_choice='none')['choices'][0]
    assert plain['finish_reason'] == 'stop' and '<tool_call>' in plain['message']['content'], plain

    free = shared(random_chat(HERMES, 'random_calls'))
    for number, choice in enumerate(['required', {'type': 'function', 'function': {'name': 'take'}}]):
        answer = free.chat(tools=TOOLS, tool_choice=choice, seed=1, temperature=1, max_tokens=300, parallel_tool_calls=False)
        calls = answer['choices'][0]['message']['tool_calls']
        assert len(calls) == 1 and calls[0]['function']['name'] in ('add', 'take')[number:], calls
        assert 0 <= json.loads(calls[0]['function']['arguments'])['a'] <= 9, calls
    turns = HELLO + [choice_message(call), {'role': 'tool', 'tool_call_id': call['id'], 'content': '7'}]
    assert one.chat(turns, temperature=0, tools=TOOLS)['choices'][0]['finish_reason'] == 'tool_calls'
    service().refused('"tools"', CHAT, tools=TOOLS)
    one.refused('"tool_choice"', CHAT, tools=TOOLS, tool_choice={'type': 'function', 'function': {'name': 'nobody'}})
    one.refused('"tool_choice"', CHAT, tool_choice='required')


def choice_message(call):
    return {'role': 'assistant', 'content': None, 'tool_calls': [call]}


def random_chat(template=chain.TEMPLATE, name='random_chat'):
    """Random weights, a vocabulary of all bytes, and a chat template."""
    path = os.path.join(FOLDER, f'{name}.gguf')
    if not os.path.exists(path):
        family = dataclasses.replace(decoder.FAMILIES['llama2'], vocabulary=chain.COUNT)
        model = decoder.Model(family, 2)
        keys = model.keys
        model.keys = lambda: keys() | chain.vocabulary_keys(1 << 12, template)
        model.write(path)
    return path


def test_context():
    """a prompt that is too long, alone or with its answer, is refused with the numbers; without a limit the answer ends there"""
    one = shared(model('chain'), '--context', '64')
    assert '100' in one.refused('context of 64', prompt='x' * 99)['message']
    error = one.refused('context of 64', prompt='x' * 39, max_tokens=30)['message']
    assert '40 tokens' in error and '70' in error, error
    answer = one.chat(ignore_eos=True, temperature=0)
    assert answer['usage']['total_tokens'] == 64 and answer['choices'][0]['finish_reason'] == 'length', answer['usage']


def test_no_template():
    """a model without a chat template, or with a broken one, answers completions and refuses chats"""
    plain = shared(model('plain', template=None))
    assert plain.text(temperature=0, max_tokens=1) == ' one'
    plain.refused('no chat template', CHAT)
    broken = shared(model('broken', template='{% for %}'))
    assert broken.text(temperature=0, max_tokens=1) == ' one'
    broken.refused('cannot be used', CHAT)


def test_thoughts():
    """a model that thinks aloud: reasoning_content, whole and in a stream"""
    words = ['<think>', ' hm', '</think>', '\n\n', ' yes']
    first = chain.COUNT
    steps = {chain.ASSISTANT: first} | {first + i: first + i + 1 for i in range(4)} | {first + 4: chain.END}
    for kind in (4, 3):
        path = model(f'thinks{kind}', template=chain.TEMPLATE + '{# <think> #}', words=words, chain=steps,
                     kinds={first: kind, first + 2: kind})
        one = shared(path)
        message = one.chat(temperature=0)['choices'][0]['message']
        assert message['reasoning_content'] == ' hm' and message['content'] == 'yes', message
        deltas = [event['choices'][0]['delta'] for event in one.events(CHAT, messages=HELLO, temperature=0)]
        assert ''.join(delta.get('reasoning_content', '') for delta in deltas) == ' hm'
        assert ''.join(delta.get('content', '') for delta in deltas) == 'yes'


def test_tokens():
    """/tokenize and /detokenize"""
    one = service()
    tokens = one.good('/tokenize', content='Hé<|end|>', add_special=True)['tokens']
    assert tokens == [1, chain.BYTES + ord('H'), chain.BYTES + 0xC3, chain.BYTES + 0xA9, chain.END], tokens
    assert one.good('/detokenize', tokens=tokens[1:])['content'] == 'Hé<|end|>'
    assert len(one.good('/tokenize', content='<|end|>', parse_special=False)['tokens']) == 7
    pieces = one.good('/tokenize', content='Hé', with_pieces=True)['tokens']
    assert [piece['piece'] for piece in pieces] == ['H', [0xC3], [0xA9]], pieces
    one.refused('"content"', '/tokenize')
    one.refused('"tokens"', '/detokenize', tokens=[99999])


def test_other_routes():
    """the model's other descriptions; what it is not for is refused"""
    one = service()
    listed = ask(one.port, 'GET', '/v1/models').json()
    assert listed['object'] == 'list' and [entry['id'] for entry in listed['data']] == ['chain'], listed
    details = ask(one.port, 'GET', '/models?details=1').json()[0]
    assert details['kind'] == 'language' and details['state'] == 'ready', details
    assert ask(one.port, 'GET', '/v2/models/chain').json()['platform'] == 'gguf'
    status = ask(one.port, 'GET', '/v1/models/chain').json()
    assert status['model_version_status'][0]['state'] == 'AVAILABLE' and status['id'] == 'chain' and status['object'] == 'model'
    for target in ['/model/chain/predict', '/v2/models/chain/infer', '/v1/models/chain:predict']:
        reply = ask(one.port, 'POST', target, b'{}')
        assert reply.status == 400 and 'language model' in reply.body.decode(), (target, reply.body)
    one.refused('no embeddings', '/v1/embeddings', input='x')


def test_embeddings():
    """an encoder makes vectors, as numbers or base64, and writes nothing"""
    path = os.path.join(FOLDER, 'encoder.gguf')
    made = encoder.Encoder(1)
    gguf.write(path, made.keys, made.tensors)
    one = shared(path)
    answer = one.good('/v1/embeddings', input=['a river', 'b'])
    vectors = [entry['embedding'] for entry in answer['data']]
    assert [entry['index'] for entry in answer['data']] == [0, 1] and answer['usage']['prompt_tokens'] == 4 + 3, answer['usage']
    assert all(abs(sum(number * number for number in vector) - 1) < 1e-5 for vector in vectors)
    coded = one.good('/v1/embeddings', input='a river', encoding_format='base64')['data'][0]['embedding']
    assert struct.unpack(f'<{len(vectors[0])}f', base64.b64decode(coded)) == struct.unpack(
        f'<{len(vectors[0])}f', struct.pack(f'<{len(vectors[0])}f', *vectors[0]))
    for field, value in [('input', []), ('input', 7), ('dimensions', 3), ('encoding_format', 'x'), ('foo', 1), ('input', [99999])]:
        one.refused('', '/v1/embeddings', **{'input': 'a'} | {field: value})
    one.refused('makes embeddings', CHAT)
    one.refused('makes embeddings', '/tokenize', content='a')


def test_prefixes():
    """what an earlier prompt had is not computed again; cache_prompt: false computes all of it"""
    one = shared(random_model())
    fields = {'max_tokens': 8, 'temperature': 0, 'ignore_eos': True}
    prompt = 'The quick brown fox jumps over the lazy dog, and again, and again, and once more. '
    first = one.complete(prompt, **fields)
    assert first['usage']['prompt_tokens_details']['cached_tokens'] == 0
    second = one.complete(prompt, **fields)
    cached = second['usage']['prompt_tokens_details']['cached_tokens']
    assert cached == (len(prompt) + 1 - 1) // 32 * 32, cached
    assert second['choices'][0]['text'] == first['choices'][0]['text']
    apart = one.complete(prompt, cache_prompt=False, **fields)
    assert apart['usage']['prompt_tokens_details']['cached_tokens'] == 0
    assert apart['choices'][0]['text'] == first['choices'][0]['text']
    assert one.metric('guichet_prefix_tokens_total') >= cached
    several = one.complete('Another prompt that nobody has asked before, with so many tokens that it has pages.', n=3, **fields)
    assert len({choice['text'] for choice in several['choices']}) == 1


def test_company():
    """the same seed gives the same text, alone and among sixteen others"""
    one = shared(random_model(), '--parallel', '17', '--queue', '100')
    fields = {'max_tokens': 40, 'temperature': 1, 'top_k': 0, 'ignore_eos': True, 'cache_prompt': False}
    prompts = {seed: 'p' * (seed * 7 + 1) for seed in range(17)}
    alone = {seed: one.text(prompts[seed], seed=seed, **fields) for seed in (0, 5, 16)}
    together = {}

    def run(seed):
        together[seed] = one.text(prompts[seed], seed=seed, **fields)

    threads = [threading.Thread(target=run, args=[seed]) for seed in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(together) == 17 and all(together[seed] == alone[seed] for seed in alone), (alone, together)


def busy():
    """A backend with two places, for answers that take long."""
    return shared(model('long', context=1 << 20), '--context', '200000', '--parallel', '2', '--queue', '1')


def test_leaving():
    """a client that leaves ends its sequence, and no other's; its pages are free at once"""
    one = busy()
    with one.stream(max_tokens=150000) as stays:
        stays.recv(100)
        with one.stream(max_tokens=150000) as leaves:
            leaves.recv(100)
            until(lambda: one.metric('guichet_sequences_running') == 2)
        until(lambda: one.metric('guichet_sequences_running') == 1, 30, 'the end of the sequence')
        assert stays.recv(100)
    until(lambda: one.metric('guichet_sequences_running') == 0, 30, 'the end of the other')
    until(lambda: any('"gone":true' in line and '"tokens_out":' in line for line in one.process.lines), 30, 'its line')


def test_full():
    """where all places are taken and enough wait: 503 with Retry-After; who waits too long: 504"""
    one = busy()
    with one.stream(max_tokens=150000) as a, one.stream(max_tokens=150000) as b:
        a.recv(100), b.recv(100)
        with one.stream(max_tokens=5) as waits:
            until(lambda: one.metric('guichet_queue_length') == 1)
            reply = one.post(COMPLETION, prompt='x')
            assert reply.status == 503 and reply.header('Retry-After'), (reply.status, reply.body)
            assert reply.json()['error']['type'] == 'server_error'
            a.close()
            assert b'HTTP/1.1 200' in waits.recv(100)
    until(lambda: one.metric('guichet_sequences_running') == 0)


def test_slow_reader():
    """a slow reader gets the whole answer, and does not delay others"""
    one = busy()
    before = one.metric('guichet_written_tokens_total')
    with one.stream(max_tokens=6000) as slow:
        until(lambda: one.metric('guichet_written_tokens_total') >= before + 6000, 300, 'the end of the answer')
        assert one.text(max_tokens=1, temperature=0) == ' one'
        received = b''
        while not received.endswith(b'0\r\n\r\n'):
            more = slow.recv(1 << 20)
            assert more, received[-200:]
            received += more
    assert received.count(b' three') == 6000 // 7 + (6000 % 7 > 2) and b'data: [DONE]' in received, received[-300:]


def test_log_and_metrics():
    """the access log names tokens in and out; the metrics tell of first tokens and of pace"""
    one = service()
    one.complete('xyz', temperature=0, max_tokens=5)
    until(lambda: any('"tokens_in":4,"tokens_out":5' in line for line in one.process.lines), 30, 'a line with its tokens')
    for name in ['guichet_first_token_seconds_count', 'guichet_token_seconds_count', 'guichet_written_tokens_total',
                 'guichet_prompt_tokens_total', 'guichet_model_ready']:
        assert one.metric(name) > 0, name


def test_scopes():
    """--prefix-sharing apart: callers and users find what they computed themselves, and no others'"""
    prompt, fields = 'p' * 100, {'max_tokens': 1}
    for arguments, theirs in (((), 96), (('--prefix-sharing', 'apart'), 0)):
        one = Service(random_model(), *arguments)

        def cached(client, user, one=one):
            reply = one.post(COMPLETION, {'X_Guichet_Client': client}, prompt=prompt, user=user, **fields)
            return reply.json()['usage']['prompt_tokens_details']['cached_tokens']

        with one.process:
            assert cached('a', 'x') == 0 and cached('a', 'x') == 96
            assert cached('b', 'x') == theirs and cached('a', 'y') == theirs and cached('b', 'x') == 96
            one.process.end_well()


class Through(Service):
    """The same through a gateway or `guichet serve`."""

    def __init__(self, process, name):
        self.process, self.port, self.name = process, process.port, name


@contextlib.contextmanager
def two_replicas(path):
    name = os.path.basename(path).removesuffix('.gguf')
    arguments = ['--context', '100000', *ONE_THREAD]
    with backend(*arguments, model=path) as a, backend(*arguments, model=path) as b:
        with gateway('--backend', f'{name}={a.url} {b.url}', log='json') as process:
            yield Through(process, name), [a, b]
            process.end_well()


def test_gateway():
    """through a gateway: answers, streams, errors, the list of models, tokens in its log"""
    with two_replicas(model('long', context=1 << 20)) as (one, _):
        assert one.chat(temperature=0)['choices'][0]['message']['content'] == chain.TEXT
        events = one.events(CHAT, messages=HELLO, temperature=0)
        assert ''.join(event['choices'][0]['delta'].get('content', '') for event in events) == chain.TEXT
        until(lambda: sum('"tokens_in":9,"tokens_out":7' in line for line in one.process.lines) == 2, 30, 'lines with tokens')
        one.refused('"foo"', foo=1)
        one.refused('no model', status=404, model='nobody')
        until(lambda: [entry['id'] for entry in ask(one.port, 'GET', '/v1/models').json()['data']] == ['long'], 30, 'its kind')
        reply = one.post(CHAT, messages=HELLO)
        assert not [name for name, _ in reply.headers if name.lower().startswith('x-guichet')], reply.headers


def test_turns_stay():
    """the turns of a conversation go where the first went, and find what it computed"""
    with two_replicas(model('talks', context=1 << 20)) as (one, replicas):
        homes = set()
        for number in range(6):
            messages = [{'role': 'user', 'content': f'{number} is the number of this conversation, which goes on and on.'}]
            for turn in range(3):
                answer = one.chat(messages, max_tokens=4, ignore_eos=True, temperature=0)
                cached = answer['usage']['prompt_tokens_details']['cached_tokens']
                assert (cached >= 32) == (turn > 0), (number, turn, cached)
                messages += [{'role': 'assistant', 'content': 'x'}, {'role': 'user', 'content': 'More.'}]
            until(lambda number=number: sum(CHAT in line for line in one.process.lines) == 3 * number + 3)
            asked = {json.loads(line)['upstream'] for line in one.process.lines[-3:]}
            assert len(asked) == 1, asked
            homes |= asked
        assert homes <= {f'127.0.0.1:{replica.port}' for replica in replicas}


def read_rest(one):
    received = b''
    with contextlib.suppress(ConnectionError):
        while more := one.recv(1 << 20):
            received += more
    return received


def test_killed():
    """kill -9 in mid-stream: the stream ends with an error event, through a gateway"""
    with two_replicas(model('long', context=1 << 20)) as (one, replicas), one.stream(max_tokens=90000) as stream:
        stream.recv(1000)
        for replica in replicas:
            replica.kill()
        end = read_rest(stream)
        event = end[end.rindex(b'data: '):].split(b'\n\n')[0]
        assert json.loads(event[6:])['error']['type'] == 'server_error' and b'[DONE]' not in end, end[-300:]


def test_serve():
    """guichet serve: a model of a folder and its variants wake, answer, and die in mid-stream with an error event"""
    models = os.path.join(FOLDER, 'models')
    os.makedirs(os.path.join(models, 'story'))
    for kind in ('F32', 'Q8_0'):
        chain.write(os.path.join(models, 'story', f'story-{kind}.gguf'), context=1 << 20)
    with open(os.path.join(models, 'story', 'guichet.json'), 'w', encoding='ascii') as file:
        json.dump({'context': 100000, 'variant': 'F32'}, file)
    process = Process(GUICHET, 'serve', '--models', models, '--port', '0', '--parallel', '3',
                      environment={'XDG_STATE_HOME': os.path.join(FOLDER, 'state')})
    with process:
        process.port = int(process.wait_line('guichet is at').rsplit(':', 1)[1])
        one = Through(process, 'story')
        assert [entry['id'] for entry in ask(one.port, 'GET', '/v1/models').json()['data']] == ['story', 'story:F32', 'story:Q8_0']
        assert one.chat(temperature=0)['choices'][0]['message']['content'] == chain.TEXT
        process.wait_line('3 sequences of 100000 tokens')
        assert one.chat(temperature=0, model='story:Q8_0')['model'] == 'story:Q8_0'
        with one.stream(max_tokens=90000) as stream:
            stream.recv(1000)
            for child in children(process.child.pid):
                os.kill(child, signal.SIGKILL)
            end = read_rest(stream)
            assert b'data: {"error":' in end and b'[DONE]' not in end, end[-300:]
        assert one.chat(temperature=0)['choices'][0]['message']['content'] == chain.TEXT
        process.end_well()


def test_memory():
    """what weights and cache take is known before it is loaded: a backend, and --memory of serve, refuse it with the numbers"""
    process = Process(GUICHET, 'backend', '--model', model('long', context=1 << 20), '--port', '0', '--context', '1000000',
                      '--parallel', '1024')
    with process:
        line = process.wait_line('--context, --parallel, --kv')
        assert '1024 x 1000000 tokens' in line and process.child.wait(30) == 1, line
    models = os.path.join(FOLDER, 'large')
    os.makedirs(os.path.join(models, 'story'))
    chain.write(os.path.join(models, 'story', 'story.gguf'), context=1 << 20)
    process = Process(GUICHET, 'serve', '--models', models, '--port', '0', '--memory', '100M', '--context', '1000000',
                      environment={'XDG_STATE_HOME': os.path.join(FOLDER, 'state')})
    with process:
        process.port = int(process.wait_line('guichet is at').rsplit(':', 1)[1])
        error = Through(process, 'story').refused('4 x 1000000 tokens', status=424)
        assert '--memory has 100.0 MB' in error['message'], error
        process.end_well()


def children(pid):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
        return [int(word) for word in file.read().split()]


def main():
    try:
        failed = run_tests(sys.modules[__name__])
        servers.close()
        return failed
    finally:
        shutil.rmtree(FOLDER)


if __name__ == '__main__':
    sys.exit(main())
