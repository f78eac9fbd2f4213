#!/bin/bash
# The images for real, without a Docker daemon: built twice and after an edit, started as three tiers from the Kubernetes files,
# asked for an answer from outside, and one replica killed. TAP. Needs root and Debian's container tools (tools/setup images).
#   tests/images.sh [build] [run]      both parts, or one: `run` takes the images that are there
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/containers.bash
. tests/containers.bash
network=guichet-test
pods='frontend-pod-0 frontend-pod-1 gateway-pod-0 gateway-pod-1 backend-pod-0 backend-pod-1'
trap 'tear_down; rm -rf "$scratch"' EXIT

tear_down() {
    local pod
    for pod in $pods; do podman pod rm -f -t 1 "$pod"; done >/dev/null 2>&1
    podman rm -f -t 1 guichet-test-alone >/dev/null 2>&1
    podman network rm -f "$network" >/dev/null 2>&1
    podman secret rm guichet-session >/dev/null 2>&1
}

# ---- Building -----------------------------------------------------------------------------------------------------------

build_all() { # LOG [ENGINE]
    (cd "$scratch/tree" && time deploy/build.sh --engine "${2:-buildah}" --debian-image "$debian" --sbom "$scratch/sbom") \
        >"$scratch/$1" 2>&1 || { tail -n 30 "$scratch/$1"; false; }
}

# The steps of a build that did not come from the cache.
built_steps() { # LOG
    awk '/STEP [0-9]+\/[0-9]+:/ { step = $0; sub(/.*STEP [0-9]+\/[0-9]+: /, "", step); next }
         /Using cache/ { step = "" ; next }
         /^-->|^\[.*COMMIT|^COMMIT|^STEP/ { if (step != "" && step !~ /^FROM/) print step; step = "" }' "$scratch/$1"
}

nothing_built() { # LOG
    built_steps "$1" | tee "$scratch/steps"
    [ ! -s "$scratch/steps" ]
}

only_code_built() { # LOG: every step that ran comes after the sources; the bases and the models' layers stood
    built_steps "$1" | tee "$scratch/steps"
    grep -q '^COPY src src' "$scratch/steps" && grep -q '^COPY --from=compile' "$scratch/steps" || return 1
    ! grep -E 'tools/setup|collect_runtime|rootfs|from=model|from=pulled|_model.sh|COPY meson|COPY web' "$scratch/steps"
}

edit_source() {
    cat >>"$scratch/tree/src/base/error.c" <<END
const char *error_edited(void);
const char *error_edited(void) {
    return "$(date +%s%N)";
}
END
}

part_build() {
    copy_tree "$scratch/tree"
    check 'every image builds' build_all first.log
    [ $failed = 0 ] || finish
    check 'an unchanged tree builds' build_all second.log
    check 'an unchanged tree builds nothing anew' nothing_built second.log
    edit_source
    check 'an edited tree builds' build_all third.log
    check 'after an edit only code is built: bases and models stay' only_code_built third.log
    cp src/base/error.c "$scratch/tree/src/base/"
    check 'podman builds the tree as it was' build_all fourth.log podman
    check 'from the layers that buildah made' nothing_built fourth.log
    for log in first second third; do sed -n "s/^real\t/# $log build: /p" "$scratch/$log.log"; done
    check 'the lists of software name every library' mounted guichet-gateway libraries_are_listed
}

# ---- What is in them ----------------------------------------------------------------------------------------------------

mounted() { # IMAGE COMMAND...: with the image's file system as the last argument
    local container root status=0
    container=$(buildah from --pull-never "localhost/$1:latest") || return 1
    root=$(buildah mount "$container")
    shift
    "$@" "$root" || status=$?
    buildah rm "$container" >/dev/null
    return "$status"
}

small_enough() { # MEGABYTES ROOT
    local megabytes
    megabytes=$(du -s --apparent-size --block-size=1000000 "$2" | cut -f1)
    echo "$megabytes MB"
    [ "$megabytes" -le "$1" ]
}

no_shell() { # ROOT
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

labelled() { # NAME
    podman image inspect "localhost/$1:latest" --format '{{json .Labels}} {{.Config.User}} {{json .Config.Healthcheck}}' |
        tee /dev/stderr | grep -qE '"org.opencontainers.image.title":"guichet.*65532.*guichet.*health'
}

check_contents() {
    local name
    for name in guichet-gateway guichet-frontend; do
        check "$name is at most 120 MB unpacked" mounted $name small_enough 120
    done
    check 'there is no shell or other program in them' mounted guichet-backend-animals no_shell
    for name in guichet-gateway guichet-frontend guichet-backend-animals guichet; do
        check "$name has its labels, an ordinary user and a health check" labelled $name
    done
}

# ---- The three tiers, from the Kubernetes files ---------------------------------------------------------------------------

play() { # FILE ALIAS: replicas answer to the alias as they would to a headless Service's name
    podman kube play --network "$network:alias=$2" "deploy/kubernetes/$1"
}

address() { # CONTAINER
    podman inspect "$1" --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
}

pod_address() { # POD
    address "$(podman pod inspect "$1" --format '{{.InfraContainerID}}')"
}

answers() { # URL: within a minute, of which a ready machine needs a second
    for _ in $(seq 300); do
        if curl -s -f -o /dev/null -m 2 "$1"; then return 0; fi
        sleep 0.2
    done
    echo "$1 does not answer"
    podman ps -a --format '{{.Names}} {{.Status}}'
    return 1
}

draw_photo() {
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
    curl -s -m 30 -H 'Content-Type: image/png' --data-binary "@$scratch/photo.png" -w '\n%{http_code}\n' "$1" >"$scratch/answer"
    cat "$scratch/answer"
    grep -q '"category"' "$scratch/answer" && tail -n 1 "$scratch/answer" | grep -q '^200$'
}

classified_often() { # URL COUNT
    for _ in $(seq "$2"); do classified "$1" >/dev/null || { cat "$scratch/answer"; return 1; }; done
}

said() { # CONTAINER WORDS: in its log
    podman logs "$1" 2>&1 | tee /dev/stderr | grep -q "$2"
}

limited() { # CONTAINER: as the Kubernetes file says
    podman inspect "$1" --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}}' |
        tee /dev/stderr | grep -q "^65532:65532 true 536870912\$"
}

check_tiers() {
    local pod gateway frontend
    podman network create "$network" >/dev/null
    printf '{"key":"%s"}' "$(head -c 40 /dev/urandom | base64 -w0 | base64 -w0)" |
        podman secret create guichet-session - >/dev/null
    check 'two backends start from the Kubernetes file' play backend/backend.yaml backend-animals
    check 'two gateways start from the Kubernetes file' play gateway.yaml gateway
    check 'two frontends start from the Kubernetes file' play frontend.yaml frontend
    for pod in $pods; do check "$pod is ready" answers "http://$(pod_address "$pod"):8080/readyz"; done
    check 'backends start from what the image has baked' said backend-pod-1-backend 'from its baked file'
    gateway=http://$(pod_address gateway-pod-0):8080 frontend=http://$(pod_address frontend-pod-0):8080
    check 'a photo through the gateway' classified "$gateway/model/animals/predict"
    check 'a photo through frontend and gateway' classified "$frontend/predict"
    check 'the page is there' curl -s -f -o /dev/null "$frontend/"
    check 'backends run read-only, as an ordinary user, within 512 MB' limited backend-pod-0-backend
    podman kill --signal KILL backend-pod-0-backend >/dev/null 2>&1
    check 'one backend killed: the answers still come' classified_often "$gateway/model/animals/predict" 20
    podman pod rm -f -t 1 backend-pod-0 >/dev/null 2>&1
    check 'one backend gone: the answers still come' classified_often "$frontend/predict" 20
}

# ---- All in one, and endings ------------------------------------------------------------------------------------------------

start_alone() {
    podman run -d --name guichet-test-alone --network "$network" --read-only --memory 512m --cap-drop all \
        localhost/guichet:latest
}

ends_in_time() { # KIND NAME CONTAINER: a pod's containers start again when they end, unless the pod is stopped
    local before=$SECONDS
    if [ "$1" = pod ]; then podman pod stop -t 20 "$2"; else podman stop -t 20 "$2"; fi
    echo "after $((SECONDS - before)) s, status $(podman inspect "$3" --format '{{.State.ExitCode}}')"
    [ $((SECONDS - before)) -le 15 ] && [ "$(podman inspect "$3" --format '{{.State.ExitCode}}')" = 0 ]
}

check_alone_and_endings() {
    local alone pod
    check 'all in one starts read-only in 512 MB' start_alone
    alone=http://$(address guichet-test-alone):8080
    check 'all in one is ready' answers "$alone/readyz"
    check 'all in one says so itself' podman exec guichet-test-alone /usr/bin/guichet health
    check 'a photo to all in one' classified "$alone/predict"
    check 'SIGTERM ends all in one in time, without a complaint' ends_in_time container guichet-test-alone guichet-test-alone
    for pod in frontend gateway backend; do
        check "SIGTERM ends a $pod in time, without a complaint" ends_in_time pod $pod-pod-1 $pod-pod-1-$pod
    done
}

require_containers bookworm python3 curl
tear_down
[ $# -gt 0 ] || set -- build run
for part in "$@"; do
    case $part in
    build) part_build ;;
    run)
        draw_photo
        check_contents
        check_tiers
        check_alone_and_endings
        ;;
    *) echo "images.sh: build or run, not $part" >&2; exit 2 ;;
    esac
done
finish
