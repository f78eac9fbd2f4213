/* Files over HTTP and HTTPS, for models: hundreds of megabytes that arrive whole or not at all.
 *
 * A file grows in `PATH.part`, beside `PATH.part.from` (where it comes from), and becomes PATH by a rename
 * once its size and SHA-256 are right; a cut or a killed process resumes where it stopped (Range with
 * If-Range). Redirects are followed here, hop by hop, so that a token never leaves the origin it was meant
 * for. Blocking; any number of threads may download different paths. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

#define DOWNLOAD_SHA256_TEXT 65 /* 64 hexadecimal digits and a NUL */

struct download_options {
    const char *token;        /* bearer token; NULL: none */
    const char *token_origin; /* an address whose scheme, host and port alone may see the token */
    const char
        *sha256;   /* 64 hexadecimal digits; NULL: not known, the download is then as good as its transport */
    uint64_t size; /* bytes the file must have; 0: not known */
    uint64_t limit; /* bytes; more is ERROR_TOO_LARGE */
    int retries;    /* after a failure that may pass, without any byte won since the last one */
    void (*progress)(void *context, uint64_t done,
                     uint64_t total); /* total 0: not known; NULL: nobody looks */
    void *context;
};

/* GET `url` into the file `path`. ret_sha256 gets the SHA-256 of what was written. ERROR_NOT_FOUND,
 * ERROR_UNAUTHORIZED, ERROR_FORBIDDEN as the server says; ERROR_UPSTREAM for a wrong hash or size and for a
 * server that fails; ERROR_UNAVAILABLE without a network; ERROR_TIMEOUT when nothing moves for 30 s; ERROR_IO
 * for the disk. */
bool download_file(const char *url, const char *path, const struct download_options *options,
                   char ret_sha256[DOWNLOAD_SHA256_TEXT], struct error *error);

/* GET a body of at most options->limit bytes into `body` (empty before). *ret_next: the address in `Link:
 * <…>; rel="next"`, free(), or NULL. options->sha256, size and progress are not looked at. */
bool download_text(const char *url, const struct download_options *options, struct buffer *body,
                   char **ret_next, struct error *error);

/* The SHA-256 of a file as hexadecimal digits. */
bool download_hash_file(const char *path, char ret_sha256[DOWNLOAD_SHA256_TEXT], struct error *error);

/* Same scheme, host and port. False where either is no absolute http(s) address. */
bool download_same_origin(const char *a, const char *b);
