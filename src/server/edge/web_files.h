/* The page, as it was when the program was built: every file of web/, by the path that a browser asks for.
 *
 * Immutable and in the program itself; safe from any thread. */
#pragma once
#include <stddef.h>

struct web_file {
    const char *path;         /* "/", "/docs", "/openapi.json", "/assets/app.js" */
    const char *content_type; /* "text/html; charset=utf-8" */
    const char *etag;         /* quoted, from the content: "\"3f…\"" */
    const unsigned char *bytes;
    size_t size;
};

/* NULL if there is no such file. `path` is decoded and has no query. */
const struct web_file *web_file_find(const char *path);
