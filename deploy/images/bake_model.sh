#!/bin/sh
# Make the models of a folder ready for this processor: the optimised graph and the packed weights, beside the network, which
# stays for other processors. A language model (GGUF) runs from its file as it is. bake_model.sh FOLDER
set -eu

if [ -n "$(find "$1" -name '*.onnx' -print -quit)" ]; then
    /out/usr/bin/guichet bake "$1"
fi
# The same model gives the same layer, whenever it is made.
find "$1" -exec touch --date=@0 {} +
chmod -R a+rX "$1"
