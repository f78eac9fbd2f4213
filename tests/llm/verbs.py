#!/usr/bin/env python3
"""The verbs for language models: one way to name a model, and what each says. With a model that always says the same."""
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time

import decoder
import gguf
import parrot

PROGRAM = os.path.abspath(sys.argv[1])
HOME = tempfile.TemporaryDirectory()
MODELS = os.path.join(HOME.name, 'models')
ENVIRONMENT = dict(os.environ, GUICHET_MODELS=MODELS, HOME=HOME.name, LC_ALL='C.UTF-8', OMP_NUM_THREADS='2')
SAID = ' Good day. Café?'
results = []


class Done:
    def __init__(self, *arguments, stdin=b'', **environment):
        run = subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=120, cwd=HOME.name,
                             env=dict(ENVIRONMENT, **environment), check=False)
        self.code, self.out, self.err = run.returncode, run.stdout.decode(), run.stderr.decode()

    def __str__(self):
        return f'exit {self.code}\n{self.out}{self.err}'


def check(name, good, why=''):
    results.append(good)
    print(f'{"ok" if good else "not ok"} {len(results)} - {name}', flush=True)
    if not good:
        print('# ' + str(why).replace('\n', '\n# '), flush=True)


def fails(name, part, *arguments, **options):
    """Exit status 1, with one line on standard error that says what is wrong."""
    done = Done(*arguments, **options)
    check(name, done.code == 1 and part in done.err and done.err.count('\n') == 1 and done.out == '', done)


def path(name):
    return os.path.join(HOME.name, name)


def write_file(name, text):
    os.makedirs(os.path.dirname(path(name)), exist_ok=True)
    with open(path(name), 'w', encoding='utf-8') as file:
        file.write(text)
    return path(name)


def write_models():
    os.makedirs(os.path.join(MODELS, 'tales'))
    os.makedirs(os.path.join(MODELS, 'parts'))
    parrot.write(path('models/tales/tales-F16.gguf'), ['▁Half', '</s>'], template='', kind='F16')
    parrot.write(path('models/tales/tales-q4_k_m.gguf'))
    parrot.write(path('models/parts/parts.gguf'), split=2)
    parrot.write(path('bare.gguf'))


def test_names():
    ids = [Done('tokenize', name, write_file('a.txt', 'Good')).out for name in ('tales', 'tales:Q4_K_M', 'tales:q4_k_m', 'bare.gguf')]
    check('a folder, a variant and a file are the same model', len(set(ids)) == 1 and ids[0].strip(), ids)
    done = Done('tokenize', 'parts', path('a.txt'))
    check('a split model is one', done.code == 0 and done.out == ids[0], done)
    done = Done('logits', 'tales:F16', '--tokens', '1,2', '--output', path('x.f32'))
    check('another variant is another file', done.out.startswith('2x264'), done)
    for verb in (['complete', 'x'], ['tokenize', 'a.txt'], ['perplexity', 'a.txt'], ['logits', '--tokens', '1', '--output', 'x']):
        fails(f'{verb[0]} lists the variants', 'it contains no Q8_0; there is F16, Q4_K_M', verb[0], 'tales:Q8_0', *verb[1:])
    fails('an unknown name', "unknown model 'lynx'", 'complete', 'lynx', 'x')
    fails('a folder without any model', 'no model.onnx, and no .gguf file', 'complete', './models', 'x')


def test_kinds():
    animals = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), 'models', 'animals')
    fails('a network is no language model', 'is no language model: try guichet classify', 'complete', animals, 'x')
    fails('there is nothing to bake', 'runs from its file as it is: there is nothing to bake', 'bake', 'tales')
    for verb in ('evaluate --model tales --data .', 'run tales a b --shape 1'):
        fails(f'{verb.split()[0]} of a language model', 'is a language model: try guichet', *verb.split())
    fails('a photo for a language model', 'is a language model: try guichet', 'classify', '--model', 'tales',
          os.path.join(animals, 'model.onnx'))


def test_complete():
    done = Done('complete', 'tales', 'Once', '--temperature', '0')
    check('a text goes on, to the end of the turn', done.out == SAID + '\n' and done.code == 0, done)
    fails('more than the context holds', 'with 5000 to come', 'complete', 'tales', 'Once', '--tokens', '5000')
    parrot.write(path('odd.gguf'), [b'\xf0', b'\x9f', '▁x', b'\x1b', b'[', b'\xc3', '</s>'])
    done = Done('complete', 'odd.gguf', 'Once', '--temperature', '0')
    check('what is no character becomes U+FFFD', done.out == '\ufffd x\x1b[\ufffd\n', done)


def chat(text, *arguments):
    return Done('chat', *arguments, '--temperature', '0', stdin=text.encode())


def test_chat():
    answer = SAID.strip() + '\n'
    done = chat('Hello\n\nhow are\\\nyou\n/again\n//slash\n/system be brief\nx\n/temperature 1\n/new\ny\n/quit\nz\n')
    check('a line is a message; commands are obeyed', done.out == answer * 6 and done.code == 0 and not done.err, done)
    done = chat('Hello', 'tales')
    check('the last line needs no end', done.out == answer, done)
    done = chat('/again\n/foo\n/temperature x\nHello\n')
    check('what is wrong is told, and the conversation goes on', done.code == 1 and done.out == answer
          and all(part in done.err for part in ('nothing was said yet', '/foo is no command', 'a number from 0')), done)
    check('/help', '/system TEXT' in chat('/help\n').out)
    done = chat('Hello\n', '--context', '15')
    check('an answer ends where the context is full', done.code == 0 and 0 < len(done.out) < len(answer), done)
    done = chat('Hello' * 10 + '\n', '--context', '20')
    check('what does not fit is refused with the numbers', done.code == 1 and 'room for 20' in done.err, done)
    done = chat('Hello\n', '--tokens', '2')
    check('--tokens', done.out == 'Good day\n', done)
    parrot.write(path('echo.gguf'), template='{{ messages | tojson }}<|assistant|>')
    done = chat('A\nB\n', 'echo.gguf', '--context', '100')
    check('all that was said counts', done.code == 1 and done.out == answer and 'room for 100' in done.err, done)
    fails('chat with a model without a template', 'has no chat template', 'chat', 'tales:F16')
    parrot.write(path('bad.gguf'), template='{{ raise_exception("no") }}')
    fails('chat with a template that cannot be used', 'no', 'chat', 'bad.gguf')
    fails('a name that is none', "unknown model 'lynx'", 'chat', 'lynx')
    thoughts = ['▁Hm', '.', '</think>', '▁Good', '<|end|>']
    parrot.write(path('thinks.gguf'), thoughts, special=['<think>', '</think>'],
                 template=parrot.TEMPLATE + '{# <think> #}')
    done = chat('Hello\n', 'thinks.gguf')
    check('thoughts are shown', 'Hm.' in done.out and 'Good' in done.out, done)


def test_what_stays():
    """Keys and values of an earlier turn are those that a new conversation would compute."""
    model = decoder.Model(decoder.FAMILIES['llama3'], 5)
    template = '{% for message in messages %}[{{ message.content }}]{% endfor %}'
    gguf.write(path('random.gguf'), model.keys() | {'tokenizer.chat_template': template}, model.tensors)
    options = ('random.gguf', '--precision', 'f32', '--tokens', '12')
    first, once = chat('Hello\n', *options), chat('Other words\n', *options)
    check('a random model says something', first.code == 0 and len(first.out) > 5 and first.out != once.out, first)
    done = chat('Hello\n/again\n', *options)
    check('the same again', done.out == first.out * 2, (first, done))
    done = chat('Other words\n/new\nHello\n', *options)
    check('nothing of another conversation is left', done.out == once.out + first.out, (once, first, done))


class Terminal:
    """`guichet chat` on a terminal."""

    def __init__(self, *arguments):
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.chdir(HOME.name)
            os.execve(PROGRAM, [PROGRAM, 'chat', *arguments], ENVIRONMENT)
        self.text = ''

    def type(self, text):
        os.write(self.file, text.encode())

    def wait_for(self, part, seconds=30):
        end = time.monotonic() + seconds
        while part not in self.text:
            ready, _, _ = select.select([self.file], [], [], max(0, end - time.monotonic()))
            assert ready, f'waited {seconds} s for {part!r}; there was {self.text[-2000:]!r}'
            try:
                self.text += os.read(self.file, 4096).decode(errors='replace')
            except OSError:
                assert part in self.text, f'it ended without {part!r}: {self.text[-2000:]!r}'
        self.text = self.text[self.text.index(part) + len(part):]

    def end(self):
        """The exit status; killed where it does not end by itself."""
        for _ in range(300):
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                os.close(self.file)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.1)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        return 'killed'


def test_terminal():
    # A chain that comes back to its start never ends by itself.
    parrot.write(path('long.gguf'), ['▁la', b'\x1b', '▁li', '▁la'], context=100000)
    terminal = Terminal('long.gguf', '--context', '100000', '--temperature', '0')
    problem = ''
    try:
        terminal.wait_for('> ')
        terminal.type('Hello\n')
        terminal.wait_for('la\ufffd li la\ufffd li la')
        terminal.type('\x03')
        terminal.wait_for('(stopped)')
        terminal.wait_for('> ')
        terminal.type('\x03')
        terminal.wait_for('ends)')
        terminal.type('Again\n')
        terminal.wait_for('la\ufffd li la')
        terminal.type('\x03')
        terminal.wait_for('(stopped)')
        terminal.type('/quit\n')
    except AssertionError as error:
        problem = str(error)
        terminal.type('\x03\n/quit\n')
    status = terminal.end()
    check('Ctrl-C stops an answer, not the program; nothing reaches the terminal but text', not problem and status == 0,
          problem or status)


def test_template():
    conversation = {'messages': [{'role': 'user', 'content': 'Hi'}], 'add_generation_prompt': True}
    file = write_file('hi.json', json.dumps(conversation))
    done = Done('template', 'tales', file)
    check('the template of a model', done.out == '<|user|>Hi<|end|><|assistant|>', done)
    parrot.write(path('tokens.gguf'), template='{{ bos_token }}|{{ eos_token }}')
    done = Done('template', 'tokens.gguf', file)
    check('its own tokens', done.out == '<s>|</s>', done)
    done = Done('template', 'tokens.gguf', write_file('own.json', json.dumps(conversation | {'bos_token': 'X'})))
    check('unless the conversation has others', done.out == 'X|</s>', done)
    fails('a model without a template', 'has no chat template', 'template', 'tales:F16', file)
    done = Done('template', write_file('own.jinja', '{{ messages[0].content }}'), file)
    check('a file of its own', done.out == 'Hi', done)


def test_models():
    done = Done('models', '--models', MODELS, '--json')
    found = {model['name']: model for model in json.loads(done.out)['models']}
    tales = found.get('tales', {})
    check('models tells the kind and the variants', tales.get('kind') == 'language' and tales.get('variants') == ['F16', 'Q4_K_M']
          and tales.get('usual') == 'Q4_K_M' and found['parts']['variants'] == [] and found['resnet50']['kind'] == 'network', done)
    sizes = [os.path.getsize(os.path.join(MODELS, 'parts', name)) for name in os.listdir(os.path.join(MODELS, 'parts'))]
    check('a split model is as large as its parts', found['parts']['bytes'] == sum(sizes), (found['parts'], sizes))
    done = Done('models', '--models', MODELS)
    line = next((line for line in done.out.splitlines() if 'tales:Q4_K_M' in line), '')
    check('models says which one a name means', 'the name alone' in line and 'language' in done.out, done)


def test_inspect():
    done = Done('inspect', 'tales')
    for part in ('llama: Parrot', 'F32 ', 'context     256 tokens', 'vocabulary  268 tokens', 'template    yes',
                 'MB of weights', 'kv bf16'):
        check(f'inspect tells: {part}', part in done.out, done)
    told = json.loads(Done('inspect', 'parts', '--json').out)
    check('inspect --json', told['architecture'] == 'llama' and told['types'] == {'F32': {'tensors': 12, 'bytes': told['weight_bytes']}}
          and told['parameters'] * 4 == told['weight_bytes'] and told['runs'] and told['chat_template']
          and told['cache_bytes_per_1000_tokens']['bf16'] == 1000 * 2 * 16 * 2, told)
    gguf.write(path('odd.gguf'), {'general.architecture': 'mamba', 'general.name': b'\xff'}, {})
    done = Done('inspect', 'odd.gguf', '--json')
    check('inspect tells why a model cannot run', "'mamba', which is not supported" in json.loads(done.out)['problem'], done)
    fails('a file that is no model', 'is not a GGUF file', 'inspect', write_file('bad.gguf', 'GGU'))


def main():
    write_models()
    tests = [test_names, test_kinds, test_complete, test_chat, test_what_stays, test_terminal, test_template, test_models, test_inspect]
    for test in tests:
        test()
    print(f'1..{len(results)}')
    sys.exit(not all(results))


main()
