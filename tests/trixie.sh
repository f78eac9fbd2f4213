#!/bin/bash
# Build guichet on Debian 13, whose oneDNN is of another generation, and run the test suites there, in a container.
#   tests/trixie.sh [SUITE...]      (unit conformance http ... ; every suite that needs no browser by default)
set -u
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
. tests/containers.bash
require_containers podman buildah runc mmdebstrap

debian=$(debian_image trixie) || exit 1
image=localhost/guichet-test:trixie
cat >"$scratch/Containerfile" <<END
FROM $debian
COPY tools/setup /opt/guichet/tools/setup
RUN /opt/guichet/tools/setup build && apt-get install -y --no-install-recommends python3 libonnx-testdata \
 && rm -rf /var/lib/apt/lists/*
END
check 'Debian 13 with the build packages' buildah bud --layers -q -t "$image" -f "$scratch/Containerfile" .
[ $failed = 0 ] || finish

# The source is read-only, and what builds there stays there; a build folder is kept from run to run.
mkdir -p build-trixie
shared=$(realpath -m "${GUICHET_SHARED:-../shared}")
mounts=(-v "$PWD:/opt/guichet/source:ro" -v "$PWD/build-trixie:/opt/guichet/build")
[ ! -d "$shared" ] || mounts+=(-v "$shared:/opt/guichet/shared:ro")
inside() {
    podman run --rm --network=none --security-opt seccomp=unconfined "${mounts[@]}" \
        --env GUICHET_SHARED=/opt/guichet/shared --workdir /opt/guichet/source "$image" "$@"
}
inside sh -c 'dpkg-query -W -f "with \${Package} \${Version}\n" libdnnl-dev gcc meson'
check 'configures' inside sh -c 'test -f ../build/build.ninja || meson setup ../build .'
check 'compiles' inside ninja -C ../build
[ $failed = 0 ] || finish

suites=()
for suite in "$@"; do suites+=(--suite "$suite"); done
[ $# -gt 0 ] || suites=(--no-suite browser --no-suite style)
inside meson test -C ../build --no-rebuild --print-errorlogs "${suites[@]}" >"$scratch/log" 2>&1
tail -n 400 "$scratch/log"
# Meson's closing lines count programs.
count() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" "$scratch/log" | tail -n 1; }
passed=$((passed + $(count Ok) + 0)) skipped=$((skipped + $(count Skipped) + 0))
failed=$((failed + $(count Fail) + $(count Timeout) + 0))
grep -q '^Ok:' "$scratch/log" || failed=$((failed + 1))
finish
