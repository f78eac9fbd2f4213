#!/usr/bin/env python3
"""Collect the shared libraries that guichet is linked with into a root file system, and list them as SPDX.

    collect_runtime.py MESON_BUILD ROOTFS

What is linked is what MESON_BUILD's dependencies say. Runs in the build base, where dpkg knows which package each file comes from. The list is ROOTFS/usr/share/sbom/runtime.spdx.json."""
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

USER = 65532


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def libraries(meson_build):
    """Names for the linker: of each dependency by pkg-config, of each library that the compiler looks for itself."""
    with open(meson_build, encoding='utf-8') as file:
        text = file.read()
    names = {'c', 'm', 'gomp', 'gcc_s', *re.findall(r"find_library\('([\w+-]+)'", text)}
    for package in re.findall(r"dependency\('([\w.+-]+)'", text):
        found = subprocess.run(['pkg-config', '--libs-only-l', package], capture_output=True, text=True)
        names.update(word[2:] for word in found.stdout.split() if word.startswith('-l'))
    return sorted(names)


def soname_path(name):
    """The library as the dynamic linker finds it: libc.so is a linker script, so ask for the real file's soname."""
    for candidate in (f'lib{name}.so', f'lib{name}.so.1', f'lib{name}.so.6'):
        path = output('gcc', f'-print-file-name={candidate}').strip()
        if os.path.isabs(path) or os.path.exists(path):
            break
    else:
        return None
    path = os.path.realpath(path)
    with open(path, 'rb') as file:
        if file.read(4) != b'\x7fELF':
            return None
    found = re.search(r'SONAME\s+(\S+)', output('objdump', '-p', path))
    return os.path.join(os.path.dirname(path), found[1]) if found else path


def closure(paths):
    """Every file that the dynamic linker would load for these, the linker itself included."""
    files = set(paths)
    for path in paths:
        for line in output('ldd', path).splitlines():
            found = re.search(r'=> (/\S+)', line) or re.match(r'\s*(/\S+)', line)
            if found:
                files.add(found[1])
    return sorted(files)


def copy(path, root):
    """Copy a library under the name it is loaded by, and its true file, into the merged /usr of the root."""
    true = os.path.realpath(path)
    target = os.path.join(root, true.lstrip('/'))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        shutil.copy2(true, target)
    link = os.path.join(os.path.dirname(target), os.path.basename(path))
    if os.path.basename(path) != os.path.basename(true) and not os.path.lexists(link):
        os.symlink(os.path.basename(true), link)
    return true


def owner(path):
    """The package of a file; dpkg may know it by its name from before /usr was merged."""
    for name in (path, path.removeprefix('/usr')):
        found = subprocess.run(['dpkg', '-S', name], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.split(': ')[0].split(',')[0]
    raise SystemExit(f'{path}: no package owns it')


def system_files(root):
    """What an ordinary program expects of a system: a user, names, certificates, /tmp."""
    for folder in ('etc/ssl/certs', 'usr/bin', 'usr/lib', 'usr/lib64', 'models', 'run', 'var'):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    os.makedirs(os.path.join(root, 'tmp'), exist_ok=True)
    os.chmod(os.path.join(root, 'tmp'), 0o1777)
    for link in ('bin', 'lib', 'lib64'):
        os.symlink(f'usr/{link}', os.path.join(root, link))
    texts = {
        'etc/passwd': f'root:x:0:0:root:/:/sbin/nologin\nguichet:x:{USER}:{USER}:guichet:/tmp:/sbin/nologin\n',
        'etc/group': f'root:x:0:\nguichet:x:{USER}:\n',
        'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
    }
    for path, text in texts.items():
        with open(os.path.join(root, path), 'w', encoding='ascii') as file:
            file.write(text)
    shutil.copy('/etc/ssl/certs/ca-certificates.crt', os.path.join(root, 'etc/ssl/certs/'))
    shutil.copy('/etc/os-release', os.path.join(root, 'etc/os-release'))


def spdx(packages, files):
    distribution = dict(re.findall(r'^(\w+)="?([^"\n]*)', open('/etc/os-release', encoding='utf-8').read(), re.M))
    listed = []
    for package in sorted(packages):
        name, version, architecture, source = output(
            'dpkg-query', '-W', '-f', '${Package}\t${Version}\t${Architecture}\t${source:Package}', package).split('\t')
        listed.append({
            'SPDXID': 'SPDXRef-Package-' + re.sub(r'[^A-Za-z0-9.-]', '-', name),
            'name': name, 'versionInfo': version, 'supplier': 'Organization: Debian',
            'downloadLocation': 'NOASSERTION', 'licenseConcluded': 'NOASSERTION', 'licenseDeclared': 'NOASSERTION',
            'copyrightText': 'NOASSERTION', 'filesAnalyzed': False, 'sourceInfo': f'built from {source}',
            'comment': 'files: ' + ', '.join(sorted(files[package])) if files[package] else 'data files only',
            'externalRefs': [{
                'referenceCategory': 'PACKAGE-MANAGER', 'referenceType': 'purl',
                'referenceLocator': f'pkg:deb/debian/{name}@{version.replace("+", "%2B").replace(":", "%3A")}'
                                    f'?arch={architecture}&distro=debian-{distribution.get("VERSION_ID", "")}'}]})
    digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    epoch = int(os.environ.get('SOURCE_DATE_EPOCH') or 0)
    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc) if epoch else datetime.datetime.now(datetime.timezone.utc)
    return {
        'spdxVersion': 'SPDX-2.3', 'dataLicense': 'CC0-1.0', 'SPDXID': 'SPDXRef-DOCUMENT', 'name': 'guichet-runtime',
        'documentNamespace': f'https://spdx.org/spdxdocs/guichet-runtime-{digest[:32]}',
        'creationInfo': {'created': created.strftime('%Y-%m-%dT%H:%M:%SZ'), 'creators': ['Tool: guichet-collect-runtime']},
        'packages': listed,
        'relationships': [{'spdxElementId': 'SPDXRef-DOCUMENT', 'relationshipType': 'DESCRIBES',
                           'relatedSpdxElement': package['SPDXID']} for package in listed]}


def main(meson_build, root):
    system_files(root)
    wanted = [path for path in map(soname_path, libraries(meson_build)) if path]
    files = {}
    for path in closure(wanted):
        true = copy(path, root)
        files.setdefault(owner(true), []).append(true)
    interpreter = re.search(r'interpreter: (\S+)\]', output('readelf', '-l', '/bin/sh'))[1]
    placed = os.path.join(root, os.path.realpath(os.path.dirname(interpreter)).lstrip('/'), os.path.basename(interpreter))
    if not os.path.lexists(placed):
        os.makedirs(os.path.dirname(placed), exist_ok=True)
        os.symlink(os.path.realpath(interpreter), placed)
    files['ca-certificates'] = []
    for package in files:
        name = package.split(':')[0]
        target = os.path.join(root, 'usr/share/doc', name)
        os.makedirs(target, exist_ok=True)
        shutil.copy(os.path.realpath(f'/usr/share/doc/{name}/copyright'), target)
    sbom = os.path.join(root, 'usr/share/sbom')
    os.makedirs(sbom)
    with open(os.path.join(sbom, 'runtime.spdx.json'), 'w', encoding='utf-8') as file:
        json.dump(spdx(files, files), file, indent=1)
    print(f'{len(files)} packages, {sum(len(paths) for paths in files.values())} libraries')


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2])
