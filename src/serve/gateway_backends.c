#include "serve/gateway_backends.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "serve/session.h"

#define BACKENDS_MOST 4096

static bool port_parse(const char *text, size_t length, uint16_t *ret) {
    unsigned port = 0;
    if (length == 0 || length > 5)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port == 0 || port > 65535)
        return false;
    *ret = (uint16_t)port;
    return true;
}

static bool host_copy(char ret[BACKEND_HOST_BYTES], const char *text, size_t length, bool address) {
    if (length == 0 || length >= BACKEND_HOST_BYTES)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                    c == '-' || c == '_';
        if (!word && !(address && c == ':'))
            return false;
    }
    memcpy(ret, text, length);
    ret[length] = 0;
    return true;
}

/* "host", "host:port", "[::1]", "[::1]:port" */
static bool authority_parse(const char *text, size_t length, struct backend_url *url) {
    const char *after;
    size_t host;
    bool bracketed = length > 0 && text[0] == '[';
    if (bracketed) {
        const char *end = memchr(text, ']', length);
        if (!end)
            return false;
        host = (size_t)(end - text) - 1;
        after = end + 1;
        text++;
    } else {
        const char *colon = memchr(text, ':', length);
        host = colon ? (size_t)(colon - text) : length;
        after = text + host;
    }
    size_t rest = (size_t)(text - bracketed + length - after);
    if (!host_copy(url->host, text, host, bracketed))
        return false;
    return rest == 0 || (after[0] == ':' && port_parse(after + 1, rest - 1, &url->port));
}

static bool base_parse(const char *text, size_t length, struct backend_url *url) {
    while (length > 0 && text[length - 1] == '/')
        length--;
    if (length >= BACKEND_BASE_BYTES)
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] >= 127 || strchr("?#\"<>\\", text[i]))
            return false;
    memcpy(url->base, text, length);
    url->base[length] = 0;
    return true;
}

bool backend_url_parse(const char *text, size_t length, struct backend_url *ret, struct error *error) {
    struct backend_url url = {.port = 80};
    const char *at = text;
    size_t left = length;
    if (length > 7 && strncasecmp(text, "http://", 7) == 0) {
        at += 7;
    } else if (length > 8 && strncasecmp(text, "https://", 8) == 0) {
        at += 8;
        url.tls = true;
        url.port = 443;
    } else {
        return error_set(error, ERROR_INVALID,
                         "\"%.*s\" is not an address that begins with http:// or https://", (int)length,
                         text);
    }
    left -= (size_t)(at - text);
    const char *slash = memchr(at, '/', left);
    size_t authority = slash ? (size_t)(slash - at) : left;
    if (!authority_parse(at, authority, &url))
        return error_set(error, ERROR_INVALID, "\"%.*s\": the host or port is not one", (int)length, text);
    if (slash && !base_parse(slash, left - authority, &url))
        return error_set(error, ERROR_INVALID, "\"%.*s\": the path is not one", (int)length, text);
    *ret = url;
    return true;
}

static bool list_append(struct backend_list *list, const char *model, size_t model_length,
                        const struct backend_url *url) {
    struct backend_entry *entries = realloc(list->entries, (list->count + 1) * sizeof *entries);
    if (!entries)
        return false;
    list->entries = entries;
    struct backend_entry *entry = &entries[list->count++];
    memset(entry, 0, sizeof *entry);
    memcpy(entry->model, model, model_length);
    entry->url = *url;
    return true;
}

/* One word, "NAME=URL" or "URL"; *model is the name that holds for a lone URL. */
static bool word_parse(struct backend_list *list, const char *word, size_t length, const char **model,
                       size_t *model_length, struct error *error) {
    const char *equals = memchr(word, '=', length);
    if (equals) {
        *model = word;
        *model_length = (size_t)(equals - word);
        if (!session_model_valid(*model, *model_length))
            return error_set(error, ERROR_INVALID,
                             "\"%.*s\" is no model's name (letters, digits, \".\", \"_\", \"-\", \":\")",
                             (int)*model_length, *model);
        length -= (size_t)(equals + 1 - word);
        word = equals + 1;
    }
    if (!*model)
        return error_set(error, ERROR_INVALID, "\"%.*s\" is not NAME=URL", (int)length, word);
    struct backend_url url;
    if (!backend_url_parse(word, length, &url, error))
        return false;
    if (list->count >= BACKENDS_MOST)
        return error_set(error, ERROR_TOO_LARGE, "more than %d backends", BACKENDS_MOST);
    if (!list_append(list, *model, *model_length, &url))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return true;
}

bool backend_list_parse(struct backend_list *list, const char *text, const char *origin,
                        struct error *error) {
    size_t before = list->count, model_length = 0;
    const char *model = NULL;
    int line = 1;
    for (const char *at = text; *at;) {
        if (*at == '#')
            at += strcspn(at, "\n");
        size_t length = strcspn(at, " \t\r\n,#");
        if (length > 0 && !word_parse(list, at, length, &model, &model_length, error)) {
            list->count = before;
            return line > 1 ? error_prefix(error, "%s:%d", origin, line) : error_prefix(error, "%s", origin);
        }
        at += length;
        if (*at && *at != '#') {
            line += *at == '\n';
            at++;
        }
    }
    return true;
}

void backend_list_release(struct backend_list *list) {
    free(list->entries);
    *list = (struct backend_list){0};
}
