"""The files of a source tree, as the checks want them."""
import functools
import os
import re
import subprocess

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)
# Comments, literals and include lines: what a rule about identifiers does not look at.
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#[ \t]*include[^\n]*', re.S | re.M)


class Tree:
    def __init__(self, root):
        self.root = root

    def path(self, name):
        return os.path.join(self.root, name)

    @functools.cache
    def read(self, name):
        with open(self.path(name), encoding='utf-8') as file:
            return file.read()

    @functools.cache
    def code(self, name):
        """The text without comments, literals and include lines; its lines keep their numbers."""
        return NOT_CODE.sub(lambda match: ' ' + '\n' * match.group().count('\n'), self.read(name))

    @functools.cache
    def tracked(self, *patterns):
        """Files of the repository that match, sorted; None where there is no git."""
        command = ['git', '-C', self.root, 'ls-files', '--cached', '--others', '--exclude-standard', '--', *patterns]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split('\n')
        except (OSError, subprocess.CalledProcessError):
            return None
        return sorted(name for name in set(listed) if name and os.path.isfile(self.path(name)))

    def sources(self, *folders):
        """C files and headers below these folders."""
        return self.tracked(*(f'{folder}/*.{end}' for folder in folders for end in 'ch'))

    @functools.cache
    def includes(self, name):
        """What a C file includes, as it writes it."""
        return tuple(INCLUDE.findall(self.read(name)))

    @functools.cache
    def headers_seen(self, name):
        """Every header of src/ that a C file includes, directly or through others."""
        seen, waiting = set(), [name]
        while waiting:
            for include in self.includes(waiting.pop()):
                header = f'src/{include}'
                if header not in seen and os.path.isfile(self.path(header)):
                    seen.add(header)
                    waiting.append(header)
        return frozenset(seen)
