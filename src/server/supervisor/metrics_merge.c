#include "server/supervisor/metrics_merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

#define SLOTS 4096

struct sample {
    const void *source;
    double before, now; /* counted by ended processes; by the running one */
    bool shown;
    struct sample *next;  /* of the family */
    struct sample *chain; /* of the slot */
    char key[];           /* name{labels}, as it was read */
};

struct merged_family {
    char *name, *help, *type;
    struct sample *first, *last;
    struct merged_family *next;
};

struct metrics_merge {
    struct merged_family *first, *last;
    struct sample *slots[SLOTS];
    int sample_count, family_count;
};

/* A run of bytes in a text. */
struct word {
    const char *bytes;
    size_t size;
};

struct metrics_merge *metrics_merge_create(void) {
    return calloc(1, sizeof(struct metrics_merge));
}

void metrics_merge_free(struct metrics_merge *merge) {
    if (!merge)
        return;

    for (struct merged_family *family = merge->first, *next; family; family = next) {
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
    free(merge);
}

/* ---- Finding ---- */

static bool word_is(struct word word, const char *text) {
    return strlen(text) == word.size && memcmp(word.bytes, text, word.size) == 0;
}

static struct merged_family *family_find(const struct metrics_merge *merge, struct word name) {
    struct merged_family *family = merge->first;
    while (family && !word_is(name, family->name))
        family = family->next;
    return family;
}

static struct merged_family *family_make(struct metrics_merge *merge, struct word name) {
    struct merged_family *family = family_find(merge, name);
    if (family || merge->family_count == LIMIT_METRIC_FAMILIES || !(family = calloc(1, sizeof *family)))
        return family;

    family->name = strndup(name.bytes, name.size);
    if (!family->name) {
        free(family);
        return NULL;
    }

    *(merge->last ? &merge->last->next : &merge->first) = family;
    merge->last = family;
    merge->family_count++;
    return family;
}

static size_t slot_of(struct word key) {
    unsigned value = 2166136261u;
    for (size_t i = 0; i < key.size; i++)
        value = (value ^ (unsigned char)key.bytes[i]) * 16777619u;
    return value % SLOTS;
}

static struct sample *sample_get(struct metrics_merge *merge, struct merged_family *family,
                                 const void *source, struct word key) {
    size_t slot = slot_of(key);
    struct sample *sample = merge->slots[slot];
    while (sample && (sample->source != source || !word_is(key, sample->key)))
        sample = sample->chain;
    if (sample || merge->sample_count == LIMIT_MERGED_SAMPLES ||
        !(sample = calloc(1, sizeof *sample + key.size + 1)))
        return sample;

    memcpy(sample->key, key.bytes, key.size);
    sample->source = source;
    sample->chain = merge->slots[slot];
    merge->slots[slot] = sample;

    *(family->last ? &family->last->next : &family->first) = sample;
    family->last = sample;
    merge->sample_count++;
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
static struct merged_family *header_read(struct metrics_merge *merge, const char *at, const char *end,
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

    struct merged_family *family = family_make(merge, name);
    char **field = !family ? NULL : help ? &family->help : &family->type;
    if (field && !*field)
        *field = strndup(at + 1, (size_t)(end - at - 1));
    return family;
}

/* The end of a sample's name and labels; `end` if it is malformed. Quoted values may contain any byte. */
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

/* Whether a sample's name is the family's, with or without a histogram's suffix. */
static bool belongs(const struct merged_family *family, struct word key) {
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

static void sample_read(struct metrics_merge *merge, struct merged_family *family, const void *source,
                        const char *at, const char *end) {
    char number[40];
    const char *rest_of_line = key_end(at, end);
    struct word key = {at, (size_t)(rest_of_line - at)}, value = word_take(&rest_of_line, end);
    if (key.size == 0 || key.size > LIMIT_SAMPLE_KEY_BYTES || !belongs(family, key) || value.size == 0 ||
        value.size >= sizeof number)
        return;

    memcpy(number, value.bytes, value.size);
    number[value.size] = 0;
    char *rest;
    double now = strtod(number, &rest);
    struct sample *sample = *rest || !isfinite(now) ? NULL : sample_get(merge, family, source, key);
    if (sample) {
        sample->now = now;
        sample->shown = true;
    }
}

void metrics_merge_read(struct metrics_merge *merge, const void *source, const char *text, size_t size,
                        const char *const *left_out) {
    struct merged_family *family = NULL;
    const char *end = text + size;

    for (const char *at = text, *line; at < end; at = line + 1) {
        line = memchr(at, '\n', (size_t)(end - at));
        if (!line)
            return; /* truncated: a partial number would be wrong */
        if (memchr(at, 0, (size_t)(line - at)))
            continue; /* names and labels are kept as strings */

        if (*at == '#')
            family = header_read(merge, at, line, left_out);
        else if (family)
            sample_read(merge, family, source, at, line);
    }
}

/* ---- Processes that end ---- */

static bool is_gauge(const struct merged_family *family) {
    return !family->type || strcmp(family->type, "gauge") == 0;
}

void metrics_merge_close(struct metrics_merge *merge, const void *source) {
    for (struct merged_family *family = merge->first; family; family = family->next)
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

static void unchain(struct metrics_merge *merge, struct sample *sample) {
    struct sample **at = &merge->slots[slot_of((struct word){sample->key, strlen(sample->key)})];
    while (*at != sample)
        at = &(*at)->chain;
    *at = sample->chain;
}

void metrics_merge_forget(struct metrics_merge *merge, const void *source) {
    for (struct merged_family *family = merge->first; family; family = family->next) {
        family->last = NULL;
        for (struct sample **at = &family->first; *at;) {
            struct sample *sample = *at;
            if (sample->source != source) {
                family->last = sample;
                at = &sample->next;
                continue;
            }

            *at = sample->next;
            unchain(merge, sample);
            free(sample);
            merge->sample_count--;
        }
    }
}

/* ---- Writing ---- */

bool metrics_merge_write(const struct metrics_merge *merge, struct buffer *text) {
    for (const struct merged_family *family = merge->first; family; family = family->next) {
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
