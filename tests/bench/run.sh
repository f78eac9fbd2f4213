#!/bin/sh
# Measure guichet beside ONNX Runtime and write docs/benchmarks.md and docs/benchmarks.svg. What it takes from outside: Debian
# packages and onnxruntime-node from npm. About 40 minutes on two processors that do nothing else.
#   QUICK=1     two small networks, one short round: to see that it works; nothing in docs/ changes
#   BENCH="…"   words for tests/bench/bench.py: --models, --rounds, --seconds, --threads, --parts
set -eu
cd "$(dirname "$0")/../.."
tools/setup bench
[ -f build/build.ninja ] || meson setup build
ninja --quiet -C build guichet
if [ -n "${QUICK:-}" ]; then
    BENCH="--models resnet50,mobilenet_v2 --rounds 1 --seconds 0.3 --no-write ${BENCH:-}"
fi
python=/usr/bin/python3 # Debian's, which has Debian's torch
[ -x "$python" ] || python=python3
# shellcheck disable=SC2086
exec "$python" tests/bench/bench.py build/guichet ${BENCH:-}
