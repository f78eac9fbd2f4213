/* Where the backends are, as a person writes it: "NAME=URL", with more URLs of the same model behind it
 * ("NAME=URL URL") or in further pairs. Words are separated by blanks, commas or line ends; '#' begins a
 * comment. The option --backend, GUICHET_BACKENDS and the file of --backends are all read by this one parser.
 * Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define BACKEND_NAME_BYTES 128 /* a model's name with its NUL */
#define BACKEND_HOST_BYTES 256
#define BACKEND_BASE_BYTES 128

struct backend_url {
    bool tls;                      /* https */
    uint16_t port;                 /* 80 or 443 where the text has none */
    char host[BACKEND_HOST_BYTES]; /* a name or an address, without the brackets of an IPv6 one */
    char base[BACKEND_BASE_BYTES]; /* "" or "/path" before every route, without a slash at the end */
};

struct backend_entry {
    char model[BACKEND_NAME_BYTES];
    struct backend_url url;
};

/* A zeroed struct is an empty list. */
struct backend_list {
    struct backend_entry *entries;
    size_t count;
};

/* "http://host[:port][/base]" or "https://…". */
bool backend_url_parse(const char *text, size_t length, struct backend_url *ret, struct error *error);
/* Appends what `text` says to `list`; `origin` ("--backend", a file's path) stands before every error. On
 * failure the list is as it was. */
bool backend_list_parse(struct backend_list *list, const char *text, const char *origin, struct error *error);
void backend_list_release(struct backend_list *list);
