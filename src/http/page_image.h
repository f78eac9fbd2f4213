/* The picture that stands for a web page: what its <meta property="og:image"> (or twitter:image) says. A pure
 * function: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/limits.h"

/* Do these bytes begin as HTML does? */
bool page_is_html(const char *bytes, size_t size);

/* `address`: of the page, which relative ones go by. Only the first 256 KB are looked at. False: there is
 * none, or it is neither http nor https. */
bool page_find_image(const char *bytes, size_t size, const char *address, char ret[LIMIT_URL_BYTES]);
