/* Large files over HTTP and HTTPS: they arrive complete, or not at all.
 *
 * A file grows in `PATH.part`; `PATH.part.from` notes its URL and entity tag. It becomes PATH by a rename
 * once its size and SHA-256 are right. After a cut, or a killed process, a download resumes where it stopped
 * (Range with If-Range). Redirects are followed here, one request each, so that a token never leaves the
 * origin it is meant for. Blocking; any number of threads may download different paths. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/sha256.h"

struct download_options {
    const char *token;        /* bearer token; NULL: none */
    const char *token_origin; /* a URL: the token is sent to its scheme, host and port alone */
    const char *token_name;   /* how a person sets the token ("HF_TOKEN"), for messages; NULL: no hint */
    const char *sha256;       /* 64 hexadecimal digits; NULL: not known, and not checked */
    uint64_t size;            /* bytes the file must have; 0: not known */
    uint64_t limit;           /* bytes; more is ERROR_TOO_LARGE */
    int retries;              /* after a transient failure; any progress resets the count */
    /* Bytes of the file so far, and in all (0: not known); NULL: no reports. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

/* GET `url` into the file `path`. ret_sha256 gets the SHA-256 of what was written. ERROR_NOT_FOUND,
 * ERROR_UNAUTHORIZED and ERROR_FORBIDDEN as the server says; ERROR_UPSTREAM for a wrong hash or size and for
 * a server that fails; ERROR_UNAVAILABLE without a network; ERROR_TIMEOUT when nothing arrives for 30 s;
 * ERROR_IO for the disk. */
bool download_file(const char *url, const char *path, const struct download_options *options,
                   char ret_sha256[SHA256_TEXT_BYTES], struct error *error);

/* GET a body of at most options->limit bytes into `body` (empty before). *ret_next: the URL in `Link: <…>;
 * rel="next"`, free(), or NULL. options->sha256, size and progress are ignored. */
bool download_text(const char *url, const struct download_options *options, struct buffer *body,
                   char **ret_next, struct error *error);
