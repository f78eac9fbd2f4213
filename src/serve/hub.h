/* Hugging Face's way to list and fetch the files of a repository. Blocking; any thread.
 *
 * GET {endpoint}/api/models/{repository}/tree/{revision}?recursive=true lists, a page at a time;
 * GET {endpoint}/{repository}/resolve/{revision}/{path} fetches. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "http/download.h"

struct hub {
    const char *endpoint; /* "https://huggingface.co"; a slash at the end does no harm */
    const char *token;    /* sent to the endpoint's origin alone; NULL: none */
    int retries;
};

struct hub_file {
    char *path;                        /* relative, without ".." and control characters */
    uint64_t size;                     /* bytes */
    char sha256[DOWNLOAD_SHA256_TEXT]; /* of large files; "" where the listing has none */
};

struct hub_listing {
    struct hub_file *files; /* [count] */
    size_t count;
};

/* "OWNER/REPO". */
bool hub_repository_valid(const char *repository);
/* A path that stays in its folder: relative, no "", "." or ".." between slashes, no control character or
 * backslash. */
bool hub_path_safe(const char *path);

/* Files whose path is not safe are left out. */
bool hub_list(const struct hub *hub, const char *repository, const char *revision, struct hub_listing *ret,
              struct error *error);
void hub_listing_release(struct hub_listing *listing);
const struct hub_file *hub_listing_find(const struct hub_listing *listing, const char *path);

/* The address of a file; malloc'ed, NULL when memory is out. */
char *hub_file_url(const struct hub *hub, const char *repository, const char *revision, const char *path);
