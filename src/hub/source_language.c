/* Which GGUF files of a repository are a language model's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "hub/source_private.h"

/* Of a folder and name that begin alike: the same file, or another part of it. */
static bool is_part_of(const char *path, const char *first) {
    size_t stem, other, folder = (size_t)(source_base_name(first) - first);
    const char *name = language_file_stem(first, &stem), *own = language_file_stem(path, &other);
    if (strncmp(path, first, folder) != 0 || own != path + folder || strlen(path) != strlen(first))
        return false;
    if (stem == strlen(name) - strlen(".gguf")) /* it has no parts */
        return strcmp(path, first) == 0;
    return stem == other && strncmp(name, own, stem) == 0 && strcmp(own + stem + 6, name + stem + 6) == 0;
}

static const struct language_file *choose(const struct pull_source *source, const struct language_files *list,
                                          const char *wanted, struct error *error) {
    char names[240];
    const struct language_file *file = NULL;
    if (wanted) {
        for (size_t i = 0; i < list->count && !file; i++)
            file = is_part_of(wanted, list->files[i].path) ? &list->files[i] : NULL;
        if (!file)
            error_set(error, ERROR_NOT_FOUND, "%s: has no file %s", source->origin, wanted);
        return file;
    }

    file = source->variant[0] ? language_files_find(list, source->variant) : language_files_default(list);
    language_files_name(list, names, sizeof names);
    if (!file && list->count)
        error_set(error, ERROR_NOT_FOUND, "%s: has no %s; there is %s", source->origin, source->variant,
                  names);
    else if (!file)
        error_set(error, ERROR_NOT_FOUND, "%s: has no GGUF file", source->origin);
    return file;
}

static bool add_parts(struct pull_source *source, const struct huggingface *hub,
                      const struct language_file *file, const struct huggingface_listing *listing,
                      struct error *error) {
    for (size_t i = 0; i < listing->count; i++) {
        const char *path = listing->files[i].path;
        if (is_part_of(path, file->path) &&
            !source_add_listed(source, hub, &listing->files[i], source_base_name(path), LIMIT_GGUF_BYTES,
                               error))
            return false;
    }

    if (source->count == file->parts)
        return true;
    return error_set(error, ERROR_NOT_FOUND, "%s: has %d of the %d parts of %s", source->origin,
                     source->count, file->parts, file->path);
}

bool source_add_language(struct pull_source *source, const struct huggingface *hub, const char *wanted,
                         const struct huggingface_listing *listing, struct error *error) {
    struct language_files list = {0};
    bool done = true;
    for (size_t i = 0; done && i < listing->count; i++)
        done = language_files_add(&list, listing->files[i].path, listing->files[i].size) ||
               error_set(error, ERROR_MEMORY, "no memory");
    language_files_settle(&list);

    const struct language_file *file = done ? choose(source, &list, wanted, error) : NULL;
    done = file && add_parts(source, hub, file, listing, error);
    if (done) {
        source->is_language = true;
        text_copy(source->variant, sizeof source->variant, file->variant);
    }
    language_files_release(&list);
    return done;
}

bool source_add_language_url(struct pull_source *source, const char *url, const char *name,
                             const char *sha256, struct error *error) {
    struct language_files list = {0};
    if (!language_files_add(&list, name, 0))
        return error_set(error, ERROR_MEMORY, "no memory");

    bool whole = list.count == 1 && list.files[0].parts == 1;
    if (whole)
        text_copy(source->variant, sizeof source->variant, list.files[0].variant);
    language_files_release(&list);
    return whole ? source_add_file(source, strdup(url), name, 0, sha256, LIMIT_GGUF_BYTES, error)
                 : error_set(error, ERROR_INVALID, "%s: not a whole model: pull it as hf:OWNER/REPO", url);
}
