#include "serve/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 4096
#define KEY_MOST 1000     /* bytes of a sample's name and labels */
#define FAMILIES_MOST 512 /* no tier of ours has fifty */

struct sample {
    const void *source;
    double before, now; /* of the processes that ended; of the one that runs */
    bool shown;
    struct sample *next;  /* of the family */
    struct sample *chain; /* of the slot */
    char key[];           /* name{labels}, as it was read */
};

struct family {
    char *name, *help, *type;
    struct sample *first, *last;
    struct family *next;
};

struct figures {
    struct family *first, *last;
    struct sample *slots[SLOTS];
    int sample_count, family_count;
};

/* A run of bytes in a text. */
struct word {
    const char *bytes;
    size_t size;
};

struct figures *figures_create(void) {
    return calloc(1, sizeof(struct figures));
}

void figures_free(struct figures *figures) {
    if (!figures)
        return;
    for (struct family *family = figures->first, *next; family; family = next) {
        next = family->next;
        for (struct sample *sample = family->first, *after; sample; sample = after) {
            after = sample->next;
            free(sample);
        }
        free(family->name);
        free(family->help);
        free(family->type);
        free(family);
    }
    free(figures);
}

/* ---- Finding ---- */

static bool word_is(struct word word, const char *text) {
    return strlen(text) == word.size && memcmp(word.bytes, text, word.size) == 0;
}

static struct family *family_find(const struct figures *figures, struct word name) {
    struct family *family = figures->first;
    while (family && !word_is(name, family->name))
        family = family->next;
    return family;
}

static struct family *family_make(struct figures *figures, struct word name) {
    struct family *family = family_find(figures, name);
    if (family || figures->family_count == FAMILIES_MOST || !(family = calloc(1, sizeof *family)))
        return family;
    family->name = strndup(name.bytes, name.size);
    if (!family->name) {
        free(family);
        return NULL;
    }
    *(figures->last ? &figures->last->next : &figures->first) = family;
    figures->last = family;
    figures->family_count++;
    return family;
}

static size_t slot_of(struct word key) {
    unsigned value = 2166136261u;
    for (size_t i = 0; i < key.size; i++)
        value = (value ^ (unsigned char)key.bytes[i]) * 16777619u;
    return value % SLOTS;
}

static struct sample *sample_get(struct figures *figures, struct family *family, const void *source,
                                 struct word key) {
    size_t slot = slot_of(key);
    struct sample *sample = figures->slots[slot];
    while (sample && (sample->source != source || !word_is(key, sample->key)))
        sample = sample->chain;
    if (sample || figures->sample_count == FIGURES_MOST ||
        !(sample = calloc(1, sizeof *sample + key.size + 1)))
        return sample;
    memcpy(sample->key, key.bytes, key.size);
    sample->source = source;
    sample->chain = figures->slots[slot];
    figures->slots[slot] = sample;
    *(family->last ? &family->last->next : &family->first) = sample;
    family->last = sample;
    figures->sample_count++;
    return sample;
}

/* ---- Reading ---- */

static struct word word_take(const char **at, const char *end) {
    while (*at < end && **at == ' ')
        (*at)++;
    const char *start = *at;
    while (*at < end && **at != ' ')
        (*at)++;
    return (struct word){start, (size_t)(*at - start)};
}

/* "# HELP name text", "# TYPE name type": the family that the samples below belong to. */
static struct family *header_read(struct figures *figures, const char *at, const char *end,
                                  const char *const *left_out) {
    at++;
    struct word kind = word_take(&at, end), name = word_take(&at, end);
    bool help = word_is(kind, "HELP");
    if ((!help && !word_is(kind, "TYPE")) || name.size == 0 || at >= end ||
        word_is(name, "guichet_build_info") || (name.size > 8 && memcmp(name.bytes, "process_", 8) == 0))
        return NULL;
    for (; left_out && *left_out; left_out++)
        if (word_is(name, *left_out))
            return NULL;
    struct family *family = family_make(figures, name);
    char **place = !family ? NULL : help ? &family->help : &family->type;
    if (place && !*place)
        *place = strndup(at + 1, (size_t)(end - at - 1));
    return family;
}

/* Where the name and labels of a sample end; `end` where they do not. Quoted values may hold anything. */
static const char *key_end(const char *at, const char *end) {
    bool quoted = false, labels = false;
    for (; at < end; at++) {
        if (quoted && *at == '\\')
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && *at == '{')
            labels = true;
        else if (!quoted && *at == '}')
            return at + 1;
        else if (!labels && *at == ' ')
            return at;
    }
    return end;
}

/* Its name is the family's, or a histogram's part of it. */
static bool belongs(const struct family *family, struct word key) {
    static const char *const parts[] = {"", "_bucket", "_sum", "_count"};
    size_t length = strlen(family->name), size = 0;
    while (size < key.size && key.bytes[size] != '{')
        size++;
    if (size < length || memcmp(key.bytes, family->name, length) != 0)
        return false;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (word_is((struct word){key.bytes + length, size - length}, parts[i]))
            return true;
    return false;
}

static void sample_read(struct figures *figures, struct family *family, const void *source, const char *at,
                        const char *end) {
    char number[40];
    const char *behind = key_end(at, end);
    struct word key = {at, (size_t)(behind - at)}, value = word_take(&behind, end);
    if (key.size == 0 || key.size > KEY_MOST || !belongs(family, key) || value.size == 0 ||
        value.size >= sizeof number)
        return;
    memcpy(number, value.bytes, value.size);
    number[value.size] = 0;
    char *rest;
    double now = strtod(number, &rest);
    struct sample *sample = *rest || !isfinite(now) ? NULL : sample_get(figures, family, source, key);
    if (sample) {
        sample->now = now;
        sample->shown = true;
    }
}

void figures_take(struct figures *figures, const void *source, const char *text, size_t size,
                  const char *const *left_out) {
    struct family *family = NULL;
    const char *end = text + size;
    for (const char *at = text, *line; at < end; at = line + 1) {
        line = memchr(at, '\n', (size_t)(end - at));
        if (!line)
            return; /* cut off: half a number would be a wrong one */
        if (memchr(at, 0, (size_t)(line - at)))
            continue; /* names and labels are kept as strings */
        if (*at == '#')
            family = header_read(figures, at, line, left_out);
        else if (family)
            sample_read(figures, family, source, at, line);
    }
}

/* ---- Processes that end ---- */

static bool is_gauge(const struct family *family) {
    return !family->type || strcmp(family->type, "gauge") == 0;
}

void figures_close(struct figures *figures, const void *source) {
    for (struct family *family = figures->first; family; family = family->next)
        for (struct sample *sample = family->first; sample; sample = sample->next) {
            if (sample->source != source)
                continue;
            if (is_gauge(family))
                sample->shown = false;
            else
                sample->before += sample->now;
            sample->now = 0;
        }
}

static void unchain(struct figures *figures, struct sample *sample) {
    struct sample **at = &figures->slots[slot_of((struct word){sample->key, strlen(sample->key)})];
    while (*at != sample)
        at = &(*at)->chain;
    *at = sample->chain;
}

void figures_forget(struct figures *figures, const void *source) {
    for (struct family *family = figures->first; family; family = family->next) {
        family->last = NULL;
        for (struct sample **at = &family->first; *at;) {
            struct sample *sample = *at;
            if (sample->source != source) {
                family->last = sample;
                at = &sample->next;
                continue;
            }
            *at = sample->next;
            unchain(figures, sample);
            free(sample);
            figures->sample_count--;
        }
    }
}

/* ---- Writing ---- */

bool figures_write(const struct figures *figures, struct buffer *text) {
    for (const struct family *family = figures->first; family; family = family->next) {
        bool headed = false;
        for (const struct sample *sample = family->first; sample; sample = sample->next) {
            if (!sample->shown)
                continue;
            if (!headed && family->help)
                buffer_printf(text, "# HELP %s %s\n", family->name, family->help);
            if (!headed && family->type)
                buffer_printf(text, "# TYPE %s %s\n", family->name, family->type);
            headed = true;
            buffer_printf(text, "%s %.15g\n", sample->key, sample->before + sample->now);
        }
    }
    return !text->failed;
}
