#include "onnx/foreign.h"

#include <string.h>

#include "base/limits.h"

static const struct {
    size_t at; /* where the mark stands */
    const char *mark, *what;
} kinds[] = {
    {0, "version https://git-lfs",
     "a Git LFS pointer: fetch the network itself with `git lfs pull`, or with `guichet pull`"},
    {0, "<!DOCTYPE", "a web page: download the file itself"},
    {0, "<!doctype", "a web page: download the file itself"},
    {0, "<html", "a web page: download the file itself"},
    {0, "<?xml", "an XML file: download the network itself"},
    {0, "PK\3\4", "a zip archive, as PyTorch's checkpoints are: export the network to ONNX"},
    {0, "GGUF", "a GGUF language model: give it a name that ends in .gguf"},
    {4, "TFL3", "a TensorFlow Lite network: convert it to ONNX with tf2onnx"},
    {4, "ORTM", "a network in ONNX Runtime's own format: use the ONNX file that it was made from"},
    {8, "{\"", "a safetensors file, which has weights and no network: export the model to ONNX"},
    {0, "\x89HDF", "an HDF5 file, as Keras writes: convert it to ONNX with tf2onnx"},
    {0, "\x80\2", "a Python pickle, as PyTorch's checkpoints are: export the network to ONNX"},
    {0, "\x1f\x8b", "compressed with gzip: unpack it"},
};

/* NULL for what may be ONNX. */
static const char *foreign_kind(const uint8_t *bytes, size_t size) {
    if (size == 0)
        return "empty";

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].mark);
        if (size >= kinds[i].at + length && memcmp(bytes + kinds[i].at, kinds[i].mark, length) == 0)
            return kinds[i].what;
    }
    return NULL;
}

bool onnx_map_open(const char *path, struct file_map *ret, struct error *error) {
    struct file_map map;
    if (!file_map_open(path, LIMIT_MODEL_BYTES, &map, error))
        return false;

    const char *kind = foreign_kind(map.bytes, map.size);
    if (kind) {
        file_map_close(&map);
        return error_set(error, ERROR_MODEL, "%s is no ONNX file: it is %s", path, kind);
    }
    *ret = map;
    return true;
}
