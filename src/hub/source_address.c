/* Addresses of Hugging Face's pages, as a browser shows them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "hub/source_private.h"

/* What follows the hub's own address and a slash; NULL where `text` is elsewhere. */
static const char *page_path(const char *text, const char *endpoint) {
    const char *const hubs[] = {endpoint,        "https://huggingface.co", "https://www.huggingface.co",
                                "https://hf.co", "http://huggingface.co",  "huggingface.co",
                                "hf.co"};

    for (size_t i = 0; i < sizeof hubs / sizeof *hubs; i++) {
        size_t length = strlen(hubs[i]);
        while (length && hubs[i][length - 1] == '/')
            length--;
        if (length && strncasecmp(text, hubs[i], length) == 0 && text[length] == '/')
            return text + length + 1;
    }
    return NULL;
}

/* Moves *at past the next part of a path; its length. */
static size_t next_part(const char **at, const char **ret) {
    *ret = *at;
    size_t length = strcspn(*at, "/?#");
    *at += length + ((*at)[length] == '/');
    return length;
}

bool source_is_page(const char *text, const char *endpoint) {
    const char *path = page_path(text, endpoint), *part;
    if (!path)
        return false;

    next_part(&path, &part);
    size_t name = next_part(&path, &part);
    bool is_file = strncmp(path, "resolve/", 8) == 0 ||
                   (name > 5 &&
                    (!strncasecmp(part + name - 5, ".onnx", 5) || !strncasecmp(part + name - 5, ".gguf", 5)));
    return name && !is_file;
}

static bool refuse(const char *text, struct error *error) {
    return error_set(error, ERROR_INVALID,
                     "%s: not the page of a model: that is https://huggingface.co/OWNER/REPO, perhaps with "
                     "/tree/REVISION or /blob/REVISION/FILE behind it",
                     text);
}

bool source_read_page(const char *text, const char *endpoint, char **ret_repository, char **ret_file,
                      struct error *error) {
    const char *at = page_path(text, endpoint), *owner, *name, *verb, *revision;
    size_t owner_size = next_part(&at, &owner), name_size = next_part(&at, &name),
           verb_size = next_part(&at, &verb), revision_size = next_part(&at, &revision),
           file_size = strcspn(at, "?#");
    bool tree = verb_size == 4 && strncmp(verb, "tree", 4) == 0,
         blob = verb_size == 4 && strncmp(verb, "blob", 4) == 0;
    if (!owner_size || !name_size || (verb_size && !tree && !blob) || ((tree || blob) && !revision_size) ||
        (blob && !file_size))
        return refuse(text, error);

    cleanup(freep) char *file = blob ? strndup(at, file_size) : NULL;
    char *repository = NULL;
    if ((blob && !file) || asprintf(&repository, "%.*s/%.*s%s%.*s", (int)owner_size, owner, (int)name_size,
                                    name, revision_size ? "@" : "", (int)revision_size, revision) < 0)
        return error_set(error, ERROR_MEMORY, "no memory");

    *ret_repository = repository;
    *ret_file = steal_pointer(&file);
    return true;
}
