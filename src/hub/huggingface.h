/* Hugging Face's protocol: list and fetch the files of a repository. Blocking; any thread.
 *
 * GET {endpoint}/api/models/{repository}/tree/{revision}?recursive=true lists, a page at a time;
 * GET {endpoint}/{repository}/resolve/{revision}/{path} fetches. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sha256.h"

struct huggingface {
    const char *endpoint; /* "https://huggingface.co"; slashes at its end are ignored */
    const char *token;    /* sent to the endpoint's origin alone; NULL: none */
    int retries;
};

struct huggingface_file {
    char *path;                     /* relative; huggingface_path_is_safe */
    uint64_t size;                  /* bytes */
    char sha256[SHA256_TEXT_BYTES]; /* of large files; "" where the listing has none */
};

struct huggingface_listing {
    struct huggingface_file *files; /* [count] */
    size_t count;
};

/* "OWNER/REPO". */
bool huggingface_repository_is_valid(const char *repository);
/* A path that stays in its folder: relative, no "", "." or ".." between slashes, no control character or
 * backslash. */
bool huggingface_path_is_safe(const char *path);

/* Files whose path is not safe are left out. Errors: those of download_text, and ERROR_UPSTREAM where the
 * response is not a listing. */
bool huggingface_list(const struct huggingface *hub, const char *repository, const char *revision,
                      struct huggingface_listing *ret, struct error *error);
void huggingface_listing_release(struct huggingface_listing *listing);
/* NULL if there is no such file. */
const struct huggingface_file *huggingface_listing_find(const struct huggingface_listing *listing,
                                                        const char *path);

/* The URL of a file; malloc'ed, NULL when out of memory. */
char *huggingface_file_url(const struct huggingface *hub, const char *repository, const char *revision,
                           const char *path);
/* The URL of the file `name` beside the one at `url`, which has no query; malloc'ed, NULL when out of memory.
 */
char *huggingface_neighbour_url(const char *url, const char *name);
