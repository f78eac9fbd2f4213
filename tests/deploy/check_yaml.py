#!/usr/bin/env python3
"""The files under deploy/ agree with each other and with the program. TAP; argument: the root of the source tree."""
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import yaml
except ImportError:
    print('1..0 # SKIP PyYAML is not installed')
    sys.exit(0)

ROOT = sys.argv[1]
DEPLOY = os.path.join(ROOT, 'deploy')
PATHS = {'/healthz', '/readyz', '/health/live', '/health/ready', '/v2/health/ready', '/v2/health/live'}


def load(*names):
    with open(os.path.join(DEPLOY, *names), encoding='utf-8') as file:
        return [document for document in yaml.safe_load_all(file) if document]


def patch(document, operations):
    """JSON Patch's `replace`, which is all that is used: the place must be there."""
    for operation in operations:
        assert operation['op'] == 'replace', operation
        *way, last = [part.replace('~1', '/').replace('~0', '~') for part in operation['path'].split('/')[1:]]
        place = document
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        last = int(last) if isinstance(place, list) else last
        assert isinstance(place, list) or last in place, f'{operation["path"]} is not there'
        place[last] = operation['value']


def kustomize(folder):
    """What kubectl apply -k would send, as far as the features used here go."""
    settings = load('kubernetes', folder, 'kustomization.yaml')[0]
    documents = []
    for name in settings['resources']:
        path = os.path.normpath(os.path.join(folder, name))
        documents += kustomize(path) if os.path.isdir(os.path.join(DEPLOY, 'kubernetes', path)) else load('kubernetes', path)
    documents = copy.deepcopy(documents)
    for change in settings.get('patches', []):
        found = [document for document in documents if document['kind'] == change['target']['kind']]
        assert len(found) == 1, f'{folder}: {change["target"]} names {len(found)}'
        patch(found[0], yaml.safe_load(change['patch']))
    for document in documents:
        for labels in settings.get('labels', []):
            label(document, labels['pairs'])
        rename(document, settings.get('nameSuffix', ''))
        if 'namespace' in settings and document['kind'] != 'Namespace':
            document['metadata']['namespace'] = settings['namespace']
    for image in settings.get('images', []):
        for document in documents:
            for container in containers(document):
                if container['image'].split(':')[0] == image['name']:
                    tag = image.get('newTag') or container['image'].split(':')[1]
                    container['image'] = image.get('newName', image['name']) + ':' + tag
    return documents


def label(document, pairs):
    """Labels with includeSelectors: on the document, on what it selects, on its pods."""
    places = [document['metadata'].setdefault('labels', {})]
    spec = document['spec']
    if document['kind'] == 'Service':
        places.append(spec['selector'])
    if document['kind'] in ('Deployment', 'PodDisruptionBudget'):
        places.append(spec['selector']['matchLabels'])
    if document['kind'] == 'Deployment':
        places.append(spec['template']['metadata']['labels'])
    for place in places:
        place.update(pairs)


def rename(document, suffix):
    document['metadata']['name'] += suffix
    if document['kind'] == 'HorizontalPodAutoscaler':
        document['spec']['scaleTargetRef']['name'] += suffix


def containers(document):
    return document.get('spec', {}).get('template', {}).get('spec', {}).get('containers', []) \
        if document['kind'] == 'Deployment' else []


def of_kind(documents, kind):
    return {document['metadata']['name']: document for document in documents if document['kind'] == kind}


def fits(selector, labels):
    return all(labels.get(name) == value for name, value in selector.items())


def check_set(documents):
    """Selectors meet the pods they mean, budgets and scalers their deployments, probes and ports what is served."""
    deployments = of_kind(documents, 'Deployment')
    pods = {name: item['spec']['template'] for name, item in deployments.items()}
    for name, item in deployments.items():
        assert fits(item['spec']['selector']['matchLabels'], pods[name]['metadata']['labels']), name
        security = pods[name]['spec']['securityContext']
        assert security['runAsNonRoot'] and security['runAsUser'] > 0, name
        for container in containers(item):
            assert container['securityContext']['readOnlyRootFilesystem'], name
            assert container['securityContext']['capabilities']['drop'] == ['ALL'], name
            assert 'memory' in container['resources']['limits'] and 'requests' in container['resources'], name
            for probe in ('startupProbe', 'readinessProbe', 'livenessProbe'):
                assert container[probe]['httpGet']['path'] in PATHS, (name, probe)
    for kind, selector in (('Service', lambda item: item['spec']['selector']),
                           ('PodDisruptionBudget', lambda item: item['spec']['selector']['matchLabels']),
                           ('NetworkPolicy', lambda item: item['spec']['podSelector']['matchLabels'])):
        for name, item in of_kind(documents, kind).items():
            met = [pod for pod in pods.values() if fits(selector(item), pod['metadata']['labels'])]
            assert met, f'{kind} {name} meets no pod'
            assert kind == 'NetworkPolicy' or len(met) == 1, f'{kind} {name} meets {len(met)} deployments'
    for name, item in of_kind(documents, 'HorizontalPodAutoscaler').items():
        assert item['spec']['scaleTargetRef']['name'] in deployments, name


def kubernetes_files_agree():
    documents = kustomize('.')
    check_set(documents)
    services = of_kind(documents, 'Service')
    backends = of_kind(documents, 'ConfigMap')['guichet-backends']['data']['backends']
    for model, service in re.findall(r'(\S+)=http://([\w-]+):8080', backends):
        assert service in services, f'{service} of {model} is no Service'
    frontend = containers(of_kind(documents, 'Deployment')['frontend'])[0]
    assert next(item['value'] for item in frontend['env'] if item['name'] == 'API_GATEWAY') == 'http://gateway:8080'
    assert services['backend-animals']['spec']['clusterIP'] == 'None'


def other_models_are_made_from_the_first():
    for folder, model in (('resnet152', 'resnet152'), ('convnext-base', 'convnext_base'), ('swin-b', 'swin_b'),
                          ('vgg16', 'vgg16')):
        documents = kustomize(folder)
        check_set(documents)
        assert 'animals' not in json.dumps(documents), f'{folder} still speaks of animals'
        deployment = of_kind(documents, 'Deployment')[f'backend-{folder}']
        assert containers(deployment)[0]['image'] == f'localhost/guichet-backend-{folder}:latest'
        assert deployment['spec']['selector']['matchLabels']['guichet/model'] == model
        assert f'backend-{folder}' in of_kind(documents, 'Service')


def kubectl_makes_the_same_of_them():
    """Every model at once, as docs/deploying.md says it is done."""
    if not shutil.which('kubectl'):
        return 'kubectl is not installed'
    with tempfile.TemporaryDirectory() as folder:
        all_models = shutil.copytree(os.path.join(DEPLOY, 'kubernetes'), os.path.join(folder, 'kubernetes'))
        path = os.path.join(all_models, 'kustomization.yaml')
        with open(path, encoding='utf-8') as file:
            text = re.sub(r'^  # - ', '  - ', file.read(), flags=re.M)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        done = subprocess.run(['kubectl', 'kustomize', all_models], capture_output=True, text=True)
        if 'unknown field' in done.stderr:
            return 'this kubectl is too old for labels in a kustomization'
        assert done.returncode == 0, done.stderr[:400]
        made = {(item['kind'], item['metadata']['name']): item for item in yaml.safe_load_all(done.stdout)}
        ours = {(item['kind'], item['metadata']['name']): item for item in kustomize(all_models)}
        assert set(made) == set(ours), set(made) ^ set(ours)
        for key, item in ours.items():
            assert made[key] == item, f'{key}: kubectl has {json.dumps(made[key])}, here is {json.dumps(item)}'


def systemd_takes_the_units():
    if not shutil.which('systemd-analyze'):
        return 'systemd-analyze is not installed'
    with tempfile.TemporaryDirectory() as folder:
        for name in ('guichet.service', 'guichet.socket'):
            with open(os.path.join(DEPLOY, 'systemd', name), encoding='utf-8') as file:
                text = file.read().replace('/usr/local/bin/guichet', '/bin/true')  # a program that is there
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
                file.write(text)
        done = subprocess.run(['systemd-analyze', 'verify', os.path.join(folder, 'guichet.socket'),
                               os.path.join(folder, 'guichet.service')], capture_output=True, text=True)
        complaints = [line for line in done.stderr.splitlines() if 'guichet' in line]
        assert done.returncode == 0 and not complaints, done.stderr


def metric_of_the_scaler_exists():
    metrics = {item['pods']['metric']['name'] for item in kustomize('.') if item['kind'] == 'HorizontalPodAutoscaler'
               for item in item['spec']['metrics'] if item['type'] == 'Pods'}
    sources = source_text()
    for name in metrics:
        assert f'"{name}"' in sources or f'{name}{{' in sources or f' {name} ' in sources, f'nobody writes {name}'


def source_text():
    text = []
    for folder, _, names in os.walk(os.path.join(ROOT, 'src', 'server')):
        for name in names:
            with open(os.path.join(folder, name), encoding='utf-8') as file:
                text.append(file.read())
    return '\n'.join(text)


def dashboard_shows_metrics_that_exist():
    with open(os.path.join(DEPLOY, 'grafana', 'guichet.json'), encoding='utf-8') as file:
        dashboard = json.load(file)
    sources = source_text()
    names = {name for panel in dashboard['panels'] for target in panel.get('targets', [])
             for name in re.findall(r'\b((?:guichet|nv|process)_\w+)', target['expr'])}
    assert len(names) > 8, names
    for name in names:
        stem = re.sub(r'_(bucket|sum|count)$', '', name)
        assert stem in sources or name in sources, f'nobody writes {name}'


def cloud_run_services_are_complete():
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([os.path.join(DEPLOY, 'cloudrun', 'deploy.sh'), '--dry-run', folder, 'my-project',
                               'europe-west1', 'animals', 'convnext_base'], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        services = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), encoding='utf-8') as file:
                service = yaml.safe_load(file)
            services[service['metadata']['name']] = service['spec']['template']['spec']
        assert set(services) == {'guichet-animals', 'guichet-convnext-base', 'guichet-gateway', 'guichet-frontend'}
        gateway = {item['name']: item.get('value') for item in services['guichet-gateway']['containers'][0]['env']}
        assert gateway['GUICHET_BACKENDS'] == 'animals=https://guichet-animals.invalid ' \
                                              'convnext_base=https://guichet-convnext-base.invalid', gateway
        assert gateway['GUICHET_UPSTREAM_AUTH'] == 'google'
        for name, service in services.items():
            for probe in ('startupProbe', 'livenessProbe'):
                path = service['containers'][0][probe]['httpGet']['path']
                assert path in PATHS and not path.endswith('z'), f'{name}: Cloud Run keeps paths that end in z'
        assert services['guichet-gateway']['containers'][0]['args'] == ['--check', '0'], 'checks keep services awake'
        unknown = subprocess.run([os.path.join(DEPLOY, 'cloudrun', 'deploy.sh'), '--dry-run', folder, 'p', 'r', 'nothing'],
                                 capture_output=True, text=True)
        assert unknown.returncode == 2 and 'models.tsv' in unknown.stderr, unknown


def cloud_build_steps_wait_for_what_they_use():
    build = load('cloudbuild.yaml')[0]
    steps = {step['id']: step for step in build['steps']}
    for step in steps.values():
        assert set(step.get('waitFor', [])) <= set(steps), step['id']
        command, *arguments = step['args'][1:]
        if command != 'backends':
            assert os.path.exists(os.path.join(DEPLOY, 'images', arguments[1] + '.Containerfile')), step['id']
    for name in ('gateway', 'frontend', 'guichet', 'backends'):
        assert set(steps[name]['waitFor']) == {'runtime-base', 'compile'}, name


def cloud_build_steps_use_what_is_there():
    """Every step, with a docker that only takes notes: nothing is built upon that no step has pushed before."""
    build, pushed = load('cloudbuild.yaml')[0], set()
    with tempfile.TemporaryDirectory() as folder:
        notes = os.path.join(folder, 'notes')
        with open(os.path.join(folder, 'docker'), 'w', encoding='utf-8') as file:
            file.write(f'#!/bin/sh\necho "$*" >>{notes}\n[ "$1" != pull ]\n')  # the first build: nothing to pull
        os.chmod(os.path.join(folder, 'docker'), 0o755)
        values = dict(build['substitutions'], _MODELS='animals=models/animals convnext_base=convnext_base')
        environment = dict(os.environ, PATH=f'{folder}:{os.environ["PATH"]}', PREFIX='r/', DEBIAN='bookworm', BUILD='7')
        for step in build['steps']:
            arguments = [re.sub(r'\$\{(\w+)\}', lambda found: values[found[1]], word) for word in step['args']]
            done = subprocess.run([step['entrypoint'], *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (step['id'], done.stderr)
            with open(notes, encoding='utf-8') as file:
                lines = file.read().splitlines()
            for line in lines:
                used = re.findall(r'--build-arg \w+=(r/\S+)', line) if line.startswith('build ') else []
                # The base is named to every base, and used by those above it.
                missing = [name for name in used if name not in pushed and name != 'r/guichet-build-base:bookworm']
                assert not missing, f'{step["id"]} builds on {missing}'
                if line.startswith('push '):
                    pushed.add(line.split()[-1])
            os.unlink(notes)
    for name in ('gateway', 'frontend', 'backend-animals', 'backend-convnext-base'):
        assert {f'r/guichet-{name}:7', f'r/guichet-{name}:latest'} <= pushed, (name, pushed)


def compose_names_its_own_services():
    compose = load('compose.yaml')[0]
    names = set(compose['services'])
    assert compose['services']['gateway']['environment']['GUICHET_BACKENDS'] == 'animals=http://animals:8080'
    for service in compose['services'].values():
        assert service['read_only'] and set(service.get('depends_on', [])) <= names


def kserve_examples_agree():
    runtime, service = load('kubernetes/kserve/runtime.yaml')[0], load('kubernetes/kserve/inference-service.yaml')[0]
    model = service['spec']['predictor']['model']
    assert model['runtime'] == runtime['metadata']['name'] and model['protocolVersion'] in runtime['spec']['protocolVersions']


CHECKS = [kubernetes_files_agree, other_models_are_made_from_the_first, kubectl_makes_the_same_of_them, systemd_takes_the_units,
          metric_of_the_scaler_exists, dashboard_shows_metrics_that_exist, cloud_run_services_are_complete,
          cloud_build_steps_wait_for_what_they_use, cloud_build_steps_use_what_is_there, compose_names_its_own_services,
          kserve_examples_agree]


def main():
    print(f'1..{len(CHECKS)}')
    failed = 0
    for number, check in enumerate(CHECKS, 1):
        try:
            reason = check()
            print(f'ok {number} - {check.__name__.replace("_", " ")}' + (f' # SKIP {reason}' if reason else ''))
        except Exception as error:
            failed += 1
            print(f'not ok {number} - {check.__name__.replace("_", " ")}\n#   {type(error).__name__}: {error}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
