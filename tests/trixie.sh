#!/bin/bash
# Build guichet on Debian 13, whose oneDNN is of another generation, and run the test suites there, in a container. TAP; what
# the suites say is in build-trixie/meson-logs/testlog.json, which tests/run counts.
#   tests/trixie.sh [SUITE...]      (unit conformance http ...; most suites by default)
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/containers.bash
. tests/containers.bash
trap 'rm -rf "$scratch"' EXIT
require_containers trixie

image=localhost/guichet-test:trixie
cat >"$scratch/Containerfile" <<END
FROM $debian
COPY tools/setup /opt/guichet/tools/setup
RUN /opt/guichet/tools/setup build && apt-get install -y --no-install-recommends libonnx-testdata curl openssl nodejs \
 python3 python3-jinja2 python3-jsonschema python3-numpy python3-onnx python3-pil python3-yaml && rm -rf /var/lib/apt/lists/*
END
check 'Debian 13 with the build packages' buildah bud --layers -q -t "$image" -f "$scratch/Containerfile" .
[ $failed = 0 ] || finish

# The build folder is kept from run to run. ONNX Runtime, to compare with, is there where the tests of this machine have had it.
copy_tree "$scratch/source"
mkdir -p build-trixie
shared=$(realpath -m "${GUICHET_SHARED:-../shared}")
mounts=(-v "$scratch/source:/opt/guichet/source" -v "$PWD/build-trixie:/opt/guichet/source/build")
[ ! -d .cache/peer ] || mounts+=(-v "$PWD/.cache/peer:/opt/guichet/source/.cache/peer:ro")
[ ! -d "$shared" ] || mounts+=(-v "$shared:/opt/guichet/shared:ro")
inside() {
    podman run --rm --network=none --security-opt seccomp=unconfined "${mounts[@]}" \
        --env GUICHET_SHARED=/opt/guichet/shared --workdir /opt/guichet/source "$image" "$@"
}
inside dpkg-query -W -f '# ${Package} ${Version}\n' libdnnl-dev gcc meson
check 'configures' inside sh -c 'test -f build/build.ninja || meson setup build'
check 'compiles' inside ninja -C build
[ $failed = 0 ] || finish

suites=()
for suite in "$@"; do suites+=(--suite "$suite"); done
# By default what other versions of libraries may change: not what reads our own files and texts.
[ $# -gt 0 ] || suites=(--no-suite browser --no-suite style --no-suite torture --no-suite chat --no-suite deploy)
inside meson test -C build --no-rebuild --print-errorlogs --timeout-multiplier 3 "${suites[@]}" 2>&1 | sed 's/^/# /'
[ "${PIPESTATUS[0]}" = 0 ] || failed=1
finish
