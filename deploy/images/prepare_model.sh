#!/bin/sh
# Put a model under /models/NAME, made ready for this processor: prepare_model.sh CONTEXT MODEL NAME
set -eu
context=$1 model=$2 name=$3

mkdir -p /models
if [ -e "$context/$model/model.onnx" ] || [ -e "$context/$model/onnx/model.onnx" ]; then
    cp -R "$context/$model" "/models/$name"
else
    guichet=/out/usr/bin/guichet
    GUICHET_MODELS=/models "$guichet" pull --quiet --name "$name" "$model"
fi
# A program that bakes leaves the optimised graph and the packed weights beside the network.
if /out/usr/bin/guichet bake --help >/dev/null 2>&1; then
    /out/usr/bin/guichet bake "/models/$name"
fi
chmod -R a+rX /models
