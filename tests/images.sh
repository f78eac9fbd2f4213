#!/bin/bash
# The images for real, without a Docker daemon: built twice and after an edit, started as three tiers from the Kubernetes files,
# asked for an answer from outside, and one replica killed. Needs root and Debian's container tools (tools/setup images).
set -u
cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d)
. tests/containers.bash
network=guichet-test
trap 'tear_down; rm -rf "$scratch"' EXIT

tear_down() {
    local pod
    for pod in frontend-pod-0 frontend-pod-1 gateway-pod-0 gateway-pod-1 backend-animals-pod-0 backend-animals-pod-1; do
        podman pod rm -f "$pod"
    done >/dev/null 2>&1
    podman rm -f guichet-test-alone >/dev/null 2>&1
    podman network rm -f "$network" >/dev/null 2>&1
    podman secret rm guichet-session >/dev/null 2>&1
}

require_containers buildah podman runc mmdebstrap python3 curl
tear_down
debian=$(debian_image bookworm) || exit 1

# ---- Building -----------------------------------------------------------------------------------------------------------

# A copy of the tree, so that an edit is nobody's.
mkdir "$scratch/tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --no-dereference -t "$scratch/tree"

build_all() { # LOG
    (cd "$scratch/tree" && time deploy/build.sh --engine buildah --debian-image "$debian" --sbom "$scratch/sbom") \
        >"$scratch/$1" 2>&1
}

# The steps of a build that did not come from the cache.
built_steps() { # LOG
    awk '/STEP [0-9]+\/[0-9]+:/ { step = $0; sub(/.*STEP [0-9]+\/[0-9]+: /, "", step); next }
         /Using cache/ { step = "" ; next }
         /^-->|^\[.*COMMIT|^COMMIT|^STEP/ { if (step != "" && step !~ /^FROM/) print step; step = "" }' "$scratch/$1"
}

nothing_built() {
    built_steps "$1" | tee "$scratch/steps"
    [ ! -s "$scratch/steps" ]
}

only_code_built() { # every step that ran comes after the sources: the bases and the models' layers stood
    built_steps "$1" | tee "$scratch/steps"
    grep -q '^COPY src src' "$scratch/steps" && grep -q '^COPY --from=compile' "$scratch/steps" || return 1
    ! grep -E 'tools/setup|collect_runtime|rootfs|from=model|from=pulled|_model.sh|COPY meson|COPY web' "$scratch/steps"
}

check 'every image builds' build_all first.log
[ $failed = 0 ] || { tail -n 30 "$scratch/first.log"; finish; }
check 'an unchanged tree builds' build_all second.log
check 'an unchanged tree builds nothing anew' nothing_built second.log
cat >>"$scratch/tree/src/base/error.c" <<END
const char *error_edited(void);
const char *error_edited(void) {
    return "$(date +%s%N)";
}
END
check 'an edited tree builds' build_all third.log
check 'after an edit only code is built: bases and models stay' only_code_built third.log
for log in first second third; do sed -n "s/^real\t/# $log build: /p" "$scratch/$log.log"; done

# ---- What is in them ----------------------------------------------------------------------------------------------------

mounted() { # IMAGE COMMAND...: with $root, the image's file system
    local container root status=0
    container=$(buildah from --pull-never "localhost/$1:latest") || return 1
    root=$(buildah mount "$container")
    shift
    "$@" "$root" || status=$?
    buildah rm "$container" >/dev/null
    return $status
}

small_enough() { # MOST ROOT
    local megabytes
    megabytes=$(du -s --apparent-size --block-size=1000000 "$2" | cut -f1)
    echo "$megabytes MB"
    [ "$megabytes" -le "$1" ]
}

no_shell() {
    ! find "$1" -xdev -type f -perm /111 ! -name '*.so*' ! -path '*/usr/bin/guichet' | grep .
}

libraries_are_listed() { # ROOT: every library belongs to a package of the list, and its copyright is there
    python3 - "$scratch/sbom" "$1" <<'END'
import json, os, sys
folder, root = sys.argv[1:]
for name in ('guichet-gateway', 'guichet-frontend', 'guichet-backend-animals', 'guichet'):
    with open(os.path.join(folder, name + '.spdx.json')) as file:
        document = json.load(file)
    assert document['spdxVersion'] == 'SPDX-2.3' and document['name'] == name, document['name']
    packages = {package['name']: package for package in document['packages']}
    assert any(package.startswith('libdnnl') for package in packages), packages
    listed = ' '.join(package.get('comment', '') for package in packages.values())
    for place, _, files in os.walk(os.path.join(root, 'usr/lib')):
        for file in files:
            if not os.path.islink(os.path.join(place, file)):
                assert f'/{file}' in listed, f'{file} is of no listed package'
    for package in packages:
        assert package == name or os.path.exists(os.path.join(root, 'usr/share/doc', package, 'copyright')), package
END
}

labelled() {
    podman image inspect "$1" --format '{{json .Labels}} {{.Config.User}} {{json .Config.Healthcheck}}' |
        grep -E 'image.title":"guichet.*65532.*guichet.*health'
}

for name in guichet-gateway guichet-frontend; do
    check "$name is at most 120 MB unpacked" mounted $name small_enough 120
done
check 'there is no shell or other program in them' mounted guichet-backend-animals no_shell
check 'the lists of software name every library' mounted guichet-gateway libraries_are_listed
for name in guichet-gateway guichet-frontend guichet-backend-animals guichet; do
    check "$name has its labels, an ordinary user and a health check" labelled $name
done

# ---- The three tiers, from the Kubernetes files ---------------------------------------------------------------------------

podman network create "$network" >/dev/null
printf '{"key":"%s"}' "$(head -c 40 /dev/urandom | base64 -w0 | base64 -w0)" | podman secret create guichet-session - >/dev/null

play() { # FILE ALIAS: replicas answer to the alias as they would to a headless Service's name
    quietly podman kube play --network "$network:alias=$2" "deploy/kubernetes/$1"
}

address() { # POD
    podman inspect "$(podman pod inspect "$1" --format '{{.InfraContainerID}}')" \
        --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
}

answers() { # URL...: within 20 s
    local url
    for url in "$@"; do
        for _ in $(seq 100); do
            if curl -s -f -o /dev/null -m 2 "$url"; then continue 2; fi
            sleep 0.2
        done
        echo "$url does not answer"
        podman ps -a --format '{{.Names}} {{.Status}}'
        return 1
    done
}

photo() { # A photo of a kind: 240x180, drawn.
    python3 - "$scratch/photo.png" <<'END'
import struct, sys, zlib
def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
rows = b''.join(b'\0' + bytes(v for x in range(240) for v in (x, 255 - y, (x * y) % 256)) for y in range(180))
with open(sys.argv[1], 'wb') as file:
    file.write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 240, 180, 8, 2, 0, 0, 0)) +
               chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
END
}

classified() { # URL
    curl -s -m 10 -H 'Content-Type: image/png' --data-binary "@$scratch/photo.png" -w '\n%{http_code}\n' "$1" >"$scratch/answer"
    cat "$scratch/answer"
    grep -q '"category"' "$scratch/answer" && tail -n 1 "$scratch/answer" | grep -q '^200$'
}

classified_often() { # URL COUNT
    for _ in $(seq "$2"); do classified "$1" >/dev/null || { cat "$scratch/answer"; return 1; }; done
}

limited() { # CONTAINER: as the Kubernetes file says
    podman inspect "$1" --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}}' |
        tee /dev/stderr | grep -q "^65532:65532 true 536870912\$"
}

photo
check 'two backends start from the Kubernetes file' play backend/backend.yaml backend-animals
check 'two gateways start from the Kubernetes file' play gateway.yaml gateway
check 'two frontends start from the Kubernetes file' play frontend.yaml frontend
for pod in backend-animals-pod-0 backend-animals-pod-1 gateway-pod-0 gateway-pod-1 frontend-pod-0 frontend-pod-1; do
    check "$pod is ready" answers "http://$(address $pod):8080/readyz"
done
gateway=$(address gateway-pod-0) frontend=$(address frontend-pod-0)
check 'a photo through the gateway' classified "http://$gateway:8080/model/animals/predict"
check 'a photo through frontend and gateway' classified "http://$frontend:8080/predict"
check 'the page is there' curl -s -f -o /dev/null "http://$frontend:8080/"
check 'backends run read-only, as an ordinary user, within 512 MB' limited backend-animals-pod-0-backend
podman kill --signal KILL backend-animals-pod-0-backend >/dev/null
check 'one backend killed: the answers still come' classified_often "http://$gateway:8080/model/animals/predict" 20
podman pod rm -f backend-animals-pod-0 >/dev/null 2>&1
check 'one backend gone: the answers still come' classified_often "http://$frontend:8080/predict" 20

# ---- All in one -----------------------------------------------------------------------------------------------------------

stops_in_time() { # CONTAINER
    local before=$SECONDS
    podman kill --signal TERM "$1" >/dev/null
    podman wait "$1" | tee "$scratch/status"
    grep -q '^0$' "$scratch/status" && [ $((SECONDS - before)) -le 5 ]
}

start_alone() {
    quietly podman run -d --name guichet-test-alone --network "$network" --read-only --memory 512m --cap-drop all localhost/guichet:latest
}

check 'all in one starts read-only in 512 MB' start_alone
alone=$(podman inspect guichet-test-alone --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')
check 'all in one is ready' answers "http://$alone:8080/readyz"
check 'all in one says so itself' podman exec guichet-test-alone /usr/bin/guichet health
check 'a photo to all in one' classified "http://$alone:8080/predict"
check 'SIGTERM ends it in time, without a complaint' stops_in_time guichet-test-alone
check 'SIGTERM ends a gateway in time' stops_in_time gateway-pod-1-gateway
check 'SIGTERM ends a frontend in time' stops_in_time frontend-pod-1-frontend
check 'SIGTERM ends a backend in time' stops_in_time backend-animals-pod-1-backend

finish
