/* Where the backends are, as a person writes it: "NAME=URL", with more URLs of the same model behind it
 * ("NAME=URL URL") or in further pairs. Words are separated by blanks, commas or line ends; '#' begins a
 * comment. The option --backend, GUICHET_BACKENDS and the file of --backends are all read by this one parser.
 * Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/url.h"
#include "model/name.h"

struct backend_entry {
    char model[MODEL_NAME_BYTES];
    struct url url; /* a base URL (url_parse_base) */
};

/* A zeroed struct is an empty list. */
struct backend_list {
    struct backend_entry *entries;
    size_t count;
};

/* Appends what `text` says to `list`; `origin` ("--backend", a file's path) stands before every error. On
 * failure the list is as it was. */
bool backend_list_parse(struct backend_list *list, const char *text, const char *origin, struct error *error);
void backend_list_release(struct backend_list *list);
