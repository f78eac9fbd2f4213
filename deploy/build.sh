#!/bin/sh
# Build guichet's images with docker, podman or buildah, whichever is there: deploy/build.sh --help
set -eu
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
Usage: deploy/build.sh [OPTION...] [COMPONENT...]

COMPONENT: gateway, frontend, backend, guichet (all in one); all four by default.

  --model MODEL[=NAME]  the model of the backend: a folder of this repository (models/animals), a name of the catalogue
                        (resnet152) or hf:OWNER/REPO[:VARIANT]; may come several times. Default: models/animals
  --prefix PREFIX       put before every image's name, with its slash: registry.example/project/ (localhost/)
  --tag TAG             of the images (latest)
  --debian RELEASE      bookworm or trixie (bookworm)
  --debian-image IMAGE  the Debian image to start from (docker.io/library/debian:RELEASE-slim)
  --engine ENGINE       docker, podman or buildah (the first that is there)
  --pull                fetch the bases and the last images first, and use their layers as cache
  --push                push the images when they are built (podman and buildah: and layers, to PREFIXguichet-cache)
  --sbom DIR            write what is in each image there, as SPDX JSON (build-images/)
END
}

fail() {
    echo "build.sh: $*" >&2
    exit 2
}

engine='' prefix=localhost/ tag=latest debian=bookworm debian_image='' pull='' push='' sbom=build-images
models='' components=''
while [ $# -gt 0 ]; do
    case $1 in
    --model) models="$models ${2:?--model needs a value}"; shift ;;
    --prefix) prefix=${2?--prefix needs a value}; shift ;;
    --tag) tag=${2:?--tag needs a value}; shift ;;
    --debian) debian=${2:?--debian needs a value}; shift ;;
    --debian-image) debian_image=${2:?--debian-image needs a value}; shift ;;
    --engine) engine=${2:?--engine needs a value}; shift ;;
    --sbom) sbom=${2:?--sbom needs a value}; shift ;;
    --pull) pull=yes ;;
    --push) push=yes ;;
    --help | -h) usage; exit 0 ;;
    gateway | frontend | backend | guichet) components="$components $1" ;;
    *) usage >&2; fail "what is $1?" ;;
    esac
    shift
done
[ "$debian" = bookworm ] || [ "$debian" = trixie ] || fail "--debian $debian: bookworm or trixie"
usable() { # ENGINE: installed, and docker's daemon runs
    command -v "$1" >/dev/null && { [ "$1" != docker ] || docker info >/dev/null 2>&1; }
}
[ -n "$engine" ] || for engine in docker podman buildah none; do
    if usable "$engine"; then break; fi
done
[ "$engine" != none ] || fail "none of docker (with its daemon), podman and buildah is here"
: "${models:=models/animals}" "${components:=gateway frontend backend guichet}"
: "${debian_image:=docker.io/library/debian:$debian-slim}"
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
version=$(sed -n "s/^ *version: '\(.*\)'.*/\1/p" meson.build | head -n 1)

image() { # NAME: the full name of one of ours
    case $1 in
    *-base | *-compile | *-puller | *-baker-*) echo "$prefix$1:$debian" ;;
    *) echo "$prefix$1:$tag" ;;
    esac
}

fetch() { # NAME: have the last version's layers at hand
    [ -n "$pull" ] || return 0
    "$engine" pull -q "$(image "$1")" >/dev/null 2>&1 || echo "build.sh: no $(image "$1") to pull yet"
}

build() { # NAME FILE ARGUMENT...
    name=$(image "$1") file=deploy/images/$2.Containerfile
    fetch "$1"
    shift 2
    cached=''
    case $engine in
    docker)
        [ -z "$pull$push" ] || cached="--cache-from $name --build-arg BUILDKIT_INLINE_CACHE=1"
        # shellcheck disable=SC2086
        docker build $cached "$@" -t "$name" -f "$file" .
        ;;
    podman | buildah) # their cache from afar is a repository of layers
        [ -z "$pull" ] || cached="--cache-from ${prefix}guichet-cache"
        [ -z "$push" ] || cached="$cached --cache-to ${prefix}guichet-cache"
        # shellcheck disable=SC2086
        "$engine" build --format docker --layers $cached "$@" -t "$name" -f "$file" .
        ;;
    *) fail "--engine $engine: docker, podman or buildah" ;;
    esac
    if [ -n "$push" ]; then "$engine" push "$name"; fi
}

copy_out() { # IMAGE PATH FILE: a file of an image, without running it
    if [ "$engine" = buildah ]; then
        container=$(buildah from --pull-never "$1")
        cp "$(buildah mount "$container")$2" "$3"
        buildah umount "$container" >/dev/null
        buildah rm "$container" >/dev/null
    else
        container=$("$engine" create "$1" nothing) # the bases have no command, and none is run
        "$engine" cp "$container:$2" "$3"
        "$engine" rm "$container" >/dev/null
    fi
}

# The image that bakes: the compiled program, kept under a checksum of the sources that decide what is baked, so that a change
# elsewhere leaves the models' layers as they are. The image that pulls is kept for good: what it pulls is checked.
keep() { # NAME: the compiled program under another name, unless there is one
    fetch "$1"
    if ! "$engine" inspect "$(image "$1")" >/dev/null 2>&1; then
        "$engine" tag "$(image guichet-compile)" "$(image "$1")"
        if [ -n "$push" ]; then "$engine" push "$(image "$1")"; fi
    fi
}

build guichet-build-base build-base --build-arg "DEBIAN_IMAGE=$debian_image"
build guichet-runtime-base runtime-base --build-arg "BUILD_BASE=$(image guichet-build-base)"
build guichet-compile compile --build-arg "BUILD_BASE=$(image guichet-build-base)"
baker=guichet-baker-$(deploy/images/baked_by.sh)
keep guichet-puller
keep "$baker"
mkdir -p "$sbom"
copy_out "$(image guichet-runtime-base)" /usr/share/sbom/runtime.spdx.json "$sbom/runtime.spdx.json"

component() { # NAME FILE ARGUMENT...
    component_name=$1 component_file=$2
    shift 2
    build "$component_name" "$component_file" --build-arg "RUNTIME_BASE=$(image guichet-runtime-base)" \
        --build-arg "COMPILE=$(image guichet-compile)" --build-arg "VERSION=$version" \
        --build-arg "REVISION=$revision" "$@"
    deploy/images/sbom.sh "$component_name" "$version" "$sbom/runtime.spdx.json" >"$sbom/$component_name.spdx.json"
}

for part in $components; do
    case $part in
    backend)
        for model in $models; do
            name=${model#*=} model=${model%%=*}
            [ "$name" != "$model" ] || name=$(basename "$model" | tr '@:' '--')
            component "guichet-backend-$(echo "$name" | tr 'A-Z_' 'a-z-')" backend --build-arg "BAKER=$(image "$baker")" \
                --build-arg "PULLER=$(image guichet-puller)" --build-arg "MODEL=$model" \
                --build-arg "NAME=$name"
        done
        ;;
    guichet) component guichet guichet --build-arg "BAKER=$(image "$baker")" ;;
    *) component "guichet-$part" "$part" ;;
    esac
done
