/* Shared by the files of pull_source. */
#pragma once
#include <string.h>

#include "hub/huggingface.h"
#include "hub/source.h"
#include "model/language_files.h"

/* What follows the last '/'. */
static inline const char *source_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Takes `url`, also on failure; `sha256` may be NULL or "". */
bool source_add_file(struct pull_source *source, char *url, const char *name, uint64_t size,
                     const char *sha256, uint64_t limit, struct error *error);
bool source_add_listed(struct pull_source *source, const struct huggingface *hub,
                       const struct huggingface_file *file, const char *name, uint64_t limit,
                       struct error *error);

/* source_language.c: all parts of one GGUF file of a repository: the one that is `wanted` (a path), else
 * source->variant, else the usual one (model/language_files.h). */
bool source_add_language(struct pull_source *source, const struct huggingface *hub, const char *wanted,
                         const struct huggingface_listing *listing, struct error *error);
/* The GGUF file at a URL, which is called `name`. */
bool source_add_language_url(struct pull_source *source, const char *url, const char *name,
                             const char *sha256, struct error *error);
/* source_address.c: is `text` the address of a page of the hub? Then *ret_repository is
 * OWNER/REPO[@REVISION], and *ret_file the file that the page shows, or NULL; malloc'ed. ERROR_INVALID where
 * the page is of something else. */
bool source_is_page(const char *text, const char *endpoint);
bool source_read_page(const char *text, const char *endpoint, char **ret_repository, char **ret_file,
                      struct error *error);
/* source_foreign.c: the repository has no network and no language model: say what it has, and who has one. */
bool source_refuse_foreign(const struct pull_source *source, const struct pull_options *options,
                           struct error *error);
