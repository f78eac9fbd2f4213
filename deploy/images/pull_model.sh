#!/bin/sh
# Put a model under /models/NAME: a folder of the build context, else what guichet pull knows. pull_model.sh CONTEXT MODEL NAME
set -eu
context=$1 model=$2 name=$3

mkdir -p /models
if [ -d "$context/$model" ]; then
    cp -R "$context/$model" "/models/$name"
else
    GUICHET_MODELS=/models /out/usr/bin/guichet pull --quiet --name "$name" "$model"
fi
