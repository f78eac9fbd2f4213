/* Repositories with another program's files only. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "hub/source_private.h"

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcasecmp(text + length - tail, end);
}

static bool has_kind(const struct huggingface_listing *listing, const char *ending) {
    for (size_t i = 0; i < listing->count; i++)
        if (ends_with(listing->files[i].path, ending))
            return true;
    return false;
}

/* What the repository has instead; NULL: nothing that is known. */
static const char *name_kind(const struct huggingface_listing *listing) {
    static const struct {
        const char *ending, *what;
    } kinds[] = {{".safetensors", "weights in safetensors"},
                 {".bin", "weights of PyTorch"},
                 {".pt", "a checkpoint of PyTorch"},
                 {".pth", "a checkpoint of PyTorch"},
                 {".h5", "a Keras file"},
                 {".keras", "a Keras file"},
                 {".tflite", "a TensorFlow Lite network"},
                 {".pb", "a TensorFlow graph"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (has_kind(listing, kinds[i].ending))
            return kinds[i].what;
    return NULL;
}

/* A repository under the usual names of conversions that has a network or a language model. */
static bool find_conversion(const struct pull_source *source, const struct pull_options *options, char *ret,
                            size_t size) {
    static const char *const patterns[] = {"onnx-community/%s", "onnx-community/%s-ONNX", "Xenova/%s"};
    const struct huggingface hub = {options->endpoint, options->token, 0};
    const char *name = source_base_name(source->repository);

    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct huggingface_listing listing = {0};
        struct error ignored = {0};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(ret, size, patterns[i], name);
#pragma GCC diagnostic pop
        if (strcmp(ret, source->repository) == 0 || !huggingface_list(&hub, ret, "main", &listing, &ignored))
            continue;
        bool good = has_kind(&listing, ".onnx");
        huggingface_listing_release(&listing);
        if (good)
            return true;
    }
    return false;
}

bool source_refuse_foreign(const struct pull_source *source, const struct pull_options *options,
                           struct error *error) {
    const char *what = name_kind(&source->listing);
    char conversion[2 * LIMIT_REPOSITORY_BYTES];
    if (!what)
        return error_set(error, ERROR_NOT_FOUND, "%s: has no ONNX file, and no GGUF file", source->origin);
    if (find_conversion(source, options, conversion, sizeof conversion))
        return error_set(error, ERROR_NOT_FOUND,
                         "%s: has no ONNX file, and no GGUF file, only %s: guichet pull hf:%s has the ONNX",
                         source->origin, what, conversion);
    return error_set(
        error, ERROR_NOT_FOUND,
        "%s: has no ONNX file, and no GGUF file, only %s: export it with 'optimum-cli export onnx "
        "--model %s FOLDER', then copy FOLDER into the model directory",
        source->origin, what, source->repository);
}
