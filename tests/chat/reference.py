"""What chat templates are rendered with elsewhere: jinja2 as Hugging Face's library sets it up; and our own program."""
import datetime
import json
import os
import subprocess

TODAY = datetime.datetime(2024, 7, 26)


def environment():
    """None where jinja2 is not installed."""
    try:
        import jinja2.ext
        import jinja2.sandbox
    except ImportError:
        return None

    class Generation(jinja2.ext.Extension):
        tags = {'generation'}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(['name:endgeneration'], drop_needle=True)

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=['jinja2.ext.loopcontrols', Generation])
    made.filters['tojson'] = tojson
    made.globals.update(raise_exception=raise_exception, strftime_now=TODAY.strftime)
    return made


def render(made, text, variables):
    """-> the prompt, or the exception."""
    try:
        return made.from_string(text).render(**variables)
    except Exception as error:  # noqa: BLE001: whatever it raises is what we compare with
        return error


def run(guichet, folder, text, variables, *options):
    """Our program on the same -> exit status, standard output, standard error."""
    paths = os.path.join(folder, 'template.jinja'), os.path.join(folder, 'conversation.json')
    with open(paths[0], 'w', encoding='utf-8', newline='') as file:
        file.write(text)
    with open(paths[1], 'w', encoding='utf-8') as file:
        json.dump(variables, file)
    process = subprocess.run([guichet, 'template', *paths, '--today', f'{TODAY:%Y-%m-%d}', *options], stdin=subprocess.DEVNULL,
                             capture_output=True, timeout=60, check=False)
    return process.returncode, process.stdout.decode(), process.stderr.decode()


def difference(wanted, got):
    """'' where our program did what jinja2 did: the same bytes, or an error of one line where it raises."""
    code, out, err = got
    if isinstance(wanted, Exception):
        fine = code == 1 and err.startswith('guichet: ') and err.count('\n') == 1 and not out
        return '' if fine else f'jinja2 raises {wanted!r}; exit {code}, {out!r} {err!r}'
    if code == 0 and out == wanted:
        return ''
    return f'wanted {wanted!r}\ngot    {out!r} (exit {code}) {err!r}'


def report(results):
    """Write TAP for [(name, fault or '')]; the exit status."""
    print(f'1..{len(results)}')
    for number, (name, fault) in enumerate(results, 1):
        print(f'{"not ok" if fault else "ok"} {number} - {name}')
        if fault:
            print('# ' + fault.replace('\n', '\n# '))
    return any(fault for _, fault in results)
