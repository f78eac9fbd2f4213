/* Forms with files in them: multipart/form-data (RFC 7578). Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define MULTIPART_PARTS 64 /* parts looked at in one body */

/* One field: runs of bytes within the body. */
struct multipart_part {
    const char *bytes;
    size_t size;
    char type[128]; /* its Content-Type; "" if it has none */
};

bool multipart_is_form(const char *content_type); /* NULL is welcome */
/* The first part of the form named `field`. ERROR_INVALID: the body is malformed; ERROR_NOT_FOUND: it has no
 * such field. */
bool multipart_find(const char *content_type, const char *body, size_t size, const char *field,
                    struct multipart_part *ret, struct error *error);
