/* Walks constraints for tests/chat/constraint.py: a line of JSON in, one out.
 *
 * {"schema": …, "seeds": […], "texts": […]} -> {"error": …} or {"walks": […], "accepted": […]}: for each seed
 * a text that was put together at random from allowed tokens (null: it grew too long), for each text whether
 * it is whole and allowed. At each step of a walk the mask must be what advancing token by token says. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "chat/constraint.h"

static const char *const pieces[] = {"\":",        "\": ",
                                     "\",",        "\"}",
                                     "{\"",        "ab",
                                     "\303\251",   "  ",
                                     "\n  ",       "true",
                                     "null",       "12",
                                     "0.5",        "\\u",
                                     "\\\"",       "\"a\"",
                                     "a\",\"",     "]}",
                                     "[[",         "\xc3",
                                     "\xa9",       "name",
                                     "},",         "x\":",
                                     "\303\251\"", "\360\237\230\200",
                                     "\360\237",   "aaaaaaaa"};
enum { BYTES = 256, PIECES = sizeof pieces / sizeof *pieces, END = BYTES + PIECES, TOKENS, LONGEST = 4000 };

static struct token_text tokens[TOKENS];
static char bytes[BYTES];
static struct token_trie *trie;

static uint64_t random_state;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % limit;
}

static void must(bool condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "constrained: %s\n", what);
        exit(2);
    }
}

static void make_vocabulary(void) {
    struct error error;
    for (int i = 0; i < BYTES; i++) {
        bytes[i] = (char)i;
        tokens[i] = (struct token_text){&bytes[i], 1};
    }
    for (int i = 0; i < PIECES; i++)
        tokens[BYTES + i] = (struct token_text){pieces[i], (uint32_t)strlen(pieces[i])};
    trie = token_trie_create(tokens, TOKENS, &error);
    must(trie, "no trie");
}

/* Does the mask say what advancing says? */
static void check_mask(const struct constraint_state *state, const float *logits) {
    for (int i = 0; i < END; i++) {
        struct constraint_state *copy = constraint_state_copy(state);
        bool advanced = constraint_advance(copy, tokens[i].bytes, tokens[i].size);
        if (advanced != isfinite(logits[i]))
            fprintf(stderr, "token %d: %d, %f\n", i, advanced, logits[i]);
        must(advanced == isfinite(logits[i]), "the mask differs from what may follow");
        constraint_state_free(copy);
    }
    must(constraint_can_end(state) == isfinite(logits[END]), "the mask of the end is wrong");
}

/* Something that brings a text to its end comes often; the longer the text, the more so. */
static int choose(const float *logits, size_t length) {
    int allowed[TOKENS], count = 0;
    if (isfinite(logits[END]) && (random_below(2) || length > LONGEST / 4))
        return END;
    if (random_below(3) == 0 || length > LONGEST / 4)
        for (const char *c = "\"]},:0123456789"; *c; c++)
            if (isfinite(logits[(uint8_t)*c]) && (random_below(2) || length > LONGEST / 4))
                return (uint8_t)*c;
    for (int i = 0; i < TOKENS; i++)
        if (isfinite(logits[i]))
            allowed[count++] = i;
    must(count > 0, "nothing is allowed");
    return allowed[random_below((uint32_t)count)];
}

static json_t *walk(const struct constraint *constraint, uint64_t seed) {
    struct constraint_state *state = constraint_state_create(constraint);
    struct buffer text = {0};
    json_t *ret = NULL;
    must(state, "no state");
    random_state = seed * 2654435761u + 1;

    while (text.size < LONGEST) {
        float logits[TOKENS] = {0};
        int32_t ends[] = {END};
        must(constraint_mask(state, trie, ends, 1, logits), "no token is left");
        if (random_below(8) == 0)
            check_mask(state, logits);
        int token = choose(logits, text.size);
        if (token == END) {
            ret = json_stringn(text.size ? text.bytes : "", text.size);
            must(ret, "the text is not UTF-8");
            break;
        }
        must(!constraint_must_end(state), "it must end, and goes on");
        must(constraint_advance(state, tokens[token].bytes, tokens[token].size), "an allowed token is not");
        buffer_append(&text, tokens[token].bytes, tokens[token].size);
    }
    constraint_state_free(state);
    buffer_release(&text);
    return ret ? ret : json_null();
}

static bool accepts(const struct constraint *constraint, const char *text, size_t size) {
    struct constraint_state *state = constraint_state_create(constraint);
    must(state, "no state");
    bool accepted = true;
    for (size_t i = 0; accepted && i < size; i += i + 1 < size && i % 3 == 0 ? 2 : 1)
        accepted = constraint_advance(state, text + i, i + 1 < size && i % 3 == 0 ? 2 : 1);
    accepted = accepted && constraint_can_end(state);
    constraint_state_free(state);
    return accepted;
}

static void answer(json_t *line) {
    struct error error;
    char *schema = json_dumps(json_object_get(line, "schema"), JSON_COMPACT | JSON_ENCODE_ANY);
    struct constraint *constraint = json_object_get(line, "schema")
                                        ? constraint_create(schema, strlen(schema), &error)
                                        : constraint_create_object(&error);
    json_t *out = json_object(), *walks = json_array(), *accepted = json_array(), *item;
    size_t i;

    if (constraint) {
        json_array_foreach(json_object_get(line, "seeds"), i, item)
            json_array_append_new(walks, walk(constraint, (uint64_t)json_integer_value(item)));
        json_array_foreach(json_object_get(line, "texts"), i, item) json_array_append_new(
            accepted, json_boolean(accepts(constraint, json_string_value(item), json_string_length(item))));
        json_object_set(out, "walks", walks);
        json_object_set(out, "accepted", accepted);
    } else {
        json_object_set_new(out, "error", json_string(error.message));
    }
    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(walks);
    json_decref(accepted);
    json_decref(out);
    free(schema);
    constraint_free(constraint);
}

int main(void) {
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size;

    make_vocabulary();
    while ((size = getline(&text, &capacity, stdin)) > 0) {
        json_t *line = json_loadb(text, (size_t)size, JSON_ALLOW_NUL, NULL);
        must(line, "a line is no JSON");
        answer(line);
        json_decref(line);
    }
    free(text);
    token_trie_free(trie);
    return 0;
}
