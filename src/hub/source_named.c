/* The files of weights that a network names, whatever they are called. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "hub/source_private.h"
#include "onnx/external_names.h"

/* Bytes of source->network up to its own name. */
static size_t folder_length(const struct pull_source *source) {
    return source->network ? (size_t)(source_base_name(source->network) - source->network) : 0;
}

bool pull_source_lists(const struct pull_source *source, const char *name, size_t length) {
    size_t folder = folder_length(source);
    for (size_t i = 0; source->network && i < source->listing.count; i++) {
        const char *path = source->listing.files[i].path;
        if (strncmp(path, source->network, folder) == 0 && strlen(path + folder) == length &&
            strncmp(path + folder, name, length) == 0)
            return true;
    }
    return false;
}

struct named_search {
    struct pull_source *source;
    struct huggingface hub;
    struct error *error;
};

/* A plain name, which none of the files has yet. */
static bool is_wanted(const struct pull_source *source, const char *name) {
    bool good = name[0] != '.' && !strchr(name, '/') && huggingface_path_is_safe(name);
    for (int i = 0; good && i < source->count; i++)
        good = strcmp(source->files[i].name, name) != 0;
    return good;
}

/* A file of the repository; one that is missing is left for the network's reader to name. */
static bool add_listed(struct named_search *search, const char *name) {
    struct pull_source *source = search->source;
    cleanup(freep) char *path = NULL;
    if (asprintf(&path, "%.*s%s", (int)folder_length(source), source->network, name) < 0) {
        path = NULL;
        return error_set(search->error, ERROR_MEMORY, "%s: no memory", source->origin);
    }

    const struct huggingface_file *file = huggingface_listing_find(&source->listing, path);
    return !file || source_add_listed(source, &search->hub, file, name, LIMIT_MODEL_BYTES, search->error);
}

static bool add_named(void *context, const char *name) {
    struct named_search *search = context;
    if (!is_wanted(search->source, name))
        return true;
    if (search->source->repository)
        return add_listed(search, name);
    return source_add_file(search->source, huggingface_neighbour_url(search->source->network, name), name, 0,
                           NULL, LIMIT_MODEL_BYTES, search->error);
}

bool pull_source_add_named(struct pull_source *source, const struct pull_options *options, const char *path,
                           struct error *error) {
    struct named_search search = {source, {options->endpoint, options->token, options->retries}, error};
    if (!source->network || onnx_external_names(path, add_named, &search, error))
        return true;
    return error->code == ERROR_MODEL; /* no network: its reader says so better */
}
