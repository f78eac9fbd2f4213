#!/bin/sh
# A checksum of the sources that decide what a baked model looks like.
set -eu
cd "$(dirname "$0")/../.."
for room in tensor graph onnx ops plan lowering passes engine; do
    find "src/$room" -name '*.[ch]'
done | LC_ALL=C sort | xargs cat | sha256sum | cut -c 1-12
