#!/bin/sh
# One step of cloudbuild.yaml, in an image that has docker. Reads PREFIX, DEBIAN, BUILD and REVISION.
#   cloudbuild.sh base NAME FILE [ARGUMENT=VALUE...]   an image of deploy/images that others are built on
#   cloudbuild.sh component NAME FILE                   gateway, frontend or guichet
#   cloudbuild.sh backends "NAME=MODEL NAME=MODEL..."   a backend a model, side by side
set -eu

# Build NAME from FILE with the last build's layers as cache; push :BUILD and the tag that stays.
image() { # NAME FILE TAG ARGUMENT...
    name=$PREFIX$1 file=deploy/images/$2.Containerfile tag=$3
    shift 3
    docker pull -q "$name:$tag" || echo "$name:$tag is not there yet"
    for argument in "$@"; do
        set -- "$@" --build-arg "$argument"
        shift
    done
    docker build --cache-from "$name:$tag" --build-arg BUILDKIT_INLINE_CACHE=1 "$@" \
        -t "$name:$tag" -t "$name:$BUILD" -f "$file" .
    docker push -q "$name:$BUILD"
    docker push -q "$name:$tag"
}

component() { # NAME FILE ARGUMENT...
    component_name=$1 component_file=$2
    shift 2
    image "$component_name" "$component_file" latest "RUNTIME_BASE=${PREFIX}guichet-runtime-base:$DEBIAN" \
        "COMPILE=${PREFIX}guichet-compile:$DEBIAN" "REVISION=${REVISION:-unknown}" "VERSION=$BUILD" "$@"
}

# The compiled program under another name, unless there is one: the image that bakes changes with the sources that decide what is
# baked, the one that pulls never, and with them the models' layers.
keep() { # NAME
    name=${PREFIX}$1:$DEBIAN
    if ! docker pull -q "$name" >/dev/null 2>&1; then
        docker tag "${PREFIX}guichet-compile:$DEBIAN" "$name" && docker push -q "$name" >/dev/null
    fi
    echo "$name"
}

command=$1
shift
case $command in
base)
    name=$1 file=$2
    shift 2
    image "$name" "$file" "$DEBIAN" "BUILD_BASE=${PREFIX}guichet-build-base:$DEBIAN" "$@"
    ;;
component)
    if [ "$1" = guichet ]; then set -- "$@" "BAKER=$(keep "guichet-baker-$(deploy/images/baked_by.sh)")"; fi
    component "$@"
    ;;
backends)
    bakes=$(keep "guichet-baker-$(deploy/images/baked_by.sh)") pulls=$(keep guichet-puller) running=''
    for pair in $1; do
        component "guichet-backend-$(echo "${pair%%=*}" | tr 'A-Z_' 'a-z-')" backend "BAKER=$bakes" "PULLER=$pulls" \
            "MODEL=${pair#*=}" "NAME=${pair%%=*}" &
        running="$running $!"
    done
    for process in $running; do wait "$process"; done
    ;;
*)
    echo "cloudbuild.sh: base, component or backends, not $command" >&2
    exit 2
    ;;
esac
