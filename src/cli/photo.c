#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"
#include "cli/cli.h"
#include "http/fetch.h"

static bool read_stdin(struct buffer *ret, struct error *error) {
    char block[65536];
    ssize_t got;
    ret->limit = LIMIT_IMAGE_BYTES;

    while ((got = read(STDIN_FILENO, block, sizeof block)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(error, ERROR_IO, errno, "standard input");
        if (!buffer_append(ret, block, (size_t)got))
            return error_set(error, ERROR_TOO_LARGE, "standard input: more than %u MB",
                             LIMIT_IMAGE_BYTES >> 20);
    }

    return true;
}

bool photo_is_url(const char *name) {
    return strncmp(name, "http://", 7) == 0 || strncmp(name, "https://", 8) == 0;
}

/* The command line may fetch from the user's own servers: private addresses are allowed. */
static bool read_url(const char *url, struct buffer *ret, struct error *error) {
    const struct fetch_options options = {.limit = LIMIT_IMAGE_BYTES, .allow_private = true};
    struct http_body *body = fetch_url(url, &options, error);
    if (!body)
        return false;

    bool done = buffer_append(ret, body->bytes, body->size) ||
                error_set(error, ERROR_MEMORY, "%s: not enough memory for the photo", url);
    http_body_release(body);
    return done;
}

bool photo_read(const char *name, struct buffer *ret, double *fetch_ms, struct error *error) {
    if (strcmp(name, "-") == 0)
        return read_stdin(ret, error);
    if (photo_is_url(name)) {
        double start = clock_ms();
        bool done = read_url(name, ret, error);
        *fetch_ms += clock_ms() - start;
        return done;
    }

    size_t size;
    char *bytes = file_read(name, LIMIT_IMAGE_BYTES, &size, error);
    if (!bytes)
        return false;

    *ret = (struct buffer){.bytes = bytes, .size = size, .capacity = size + 1};
    return true;
}
