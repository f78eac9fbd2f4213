#include "server/gateway/backend_list.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"

static bool list_append(struct backend_list *list, const char *model, size_t model_length,
                        const struct url *url) {
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
        if (!model_name_valid(*model, *model_length))
            return error_set(error, ERROR_INVALID,
                             "\"%.*s\" is not a model's name: " MODEL_NAME_RULE
                             ", optionally followed by ':' and a variant of the same form",
                             (int)*model_length, *model);
        length -= (size_t)(equals + 1 - word);
        word = equals + 1;
    }

    if (!*model)
        return error_set(error, ERROR_INVALID, "\"%.*s\" is not NAME=URL", (int)length, word);

    char text[LIMIT_URL_BYTES + 1];
    struct url url;

    if (length >= sizeof text)
        return error_set(error, ERROR_INVALID, "a URL is longer than %d bytes", LIMIT_URL_BYTES);

    memcpy(text, word, length);
    text[length] = 0;
    if (!url_parse_base(text, &url, error))
        return false;

    if (list->count >= LIMIT_BACKENDS)
        return error_set(error, ERROR_TOO_LARGE, "more than %d backends", LIMIT_BACKENDS);
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
