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
#include "chat/tool_parser.h"

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

struct found {
    struct buffer text;
    struct {
        char name[64];
        struct buffer arguments;
    } calls[1000];
    size_t count;
};

static void add_text(void *data, const char *text, size_t size) {
    struct found *found = data;
    buffer_append(&found->text, text, size);
}

static void add_call(void *data, size_t index, const char *name) {
    struct found *found = data;
    must(index == found->count && index < 1000, "calls are not in order, or many");
    snprintf(found->calls[found->count++].name, sizeof found->calls->name, "%s", name);
}

static void add_arguments(void *data, size_t index, const char *text, size_t size) {
    struct found *found = data;
    must(index + 1 == found->count, "arguments are not of the last call");
    buffer_append(&found->calls[index].arguments, text, size);
}

static json_t *take(struct buffer *buffer) {
    json_t *text = json_stringn(buffer->bytes ? buffer->bytes : "", buffer->size);
    buffer_release(buffer);
    return text;
}

static json_t *parse(const struct tool_format *format, const char *text, size_t size, size_t piece) {
    struct found *found = calloc(1, sizeof *found);
    const struct tool_events events = {found, add_text, add_call, add_arguments};
    struct tool_parser *parser = tool_parser_create(format, &events);
    must(found && parser, "no parser");
    for (size_t i = 0; i < size; i += piece)
        must(tool_parser_feed(parser, text + i, size - i < piece ? size - i : piece), "the parser gave up");
    must(tool_parser_finish(parser), "the parser did not finish");
    must(tool_parser_calls(parser) == found->count, "calls are not counted right");
    tool_parser_free(parser);

    json_t *calls = json_array();
    for (size_t i = 0; i < found->count; i++)
        json_array_append_new(calls,
                              json_pack("[s,o]", found->calls[i].name, take(&found->calls[i].arguments)));
    json_t *ret = json_pack("[o,o]", take(&found->text), calls);
    free(found);
    return ret;
}

/* In pieces of every size it must be the same. */
static json_t *parse_all(const struct tool_format *format, json_t *texts) {
    json_t *all = json_array(), *text;
    size_t i;
    json_array_foreach(texts, i, text) {
        json_t *found = parse(format, json_string_value(text), json_string_length(text), SIZE_MAX / 2);
        for (size_t piece = 1; piece <= 7; piece++) {
            json_t *again = parse(format, json_string_value(text), json_string_length(text), piece);
            must(json_equal(again, found), "pieces make a difference");
            json_decref(again);
        }
        json_array_append_new(all, found);
    }
    return all;
}

static struct constraint *make(json_t *line, const struct tool_format *format, struct error *error) {
    if (format)
        return constraint_create_tools(format, json_object_get(line, "tools"),
                                       json_string_value(json_object_get(line, "name")),
                                       json_is_true(json_object_get(line, "several")), error);
    if (!json_object_get(line, "schema"))
        return constraint_create_object(error);
    char *schema = json_dumps(json_object_get(line, "schema"), JSON_COMPACT | JSON_ENCODE_ANY);
    struct constraint *constraint = constraint_create(schema, strlen(schema), error);
    free(schema);
    return constraint;
}

static void answer(json_t *line) {
    struct error error;
    const char *chat = json_string_value(json_object_get(line, "template"));
    const struct tool_format *format = chat ? tool_format_find(chat, strlen(chat)) : NULL;
    struct constraint *constraint = make(line, format, &error);
    json_t *out = json_object(), *walks = json_array(), *accepted = json_array(), *item;
    size_t i;

    if (constraint) {
        json_array_foreach(json_object_get(line, "seeds"), i, item)
            json_array_append_new(walks, walk(constraint, (uint64_t)json_integer_value(item)));
        json_array_foreach(json_object_get(line, "texts"), i, item) json_array_append_new(
            accepted, json_boolean(accepts(constraint, json_string_value(item), json_string_length(item))));
        json_object_set(out, "walks", walks);
        json_object_set(out, "accepted", accepted);
        if (format) {
            json_object_set_new(out, "format", json_string(format->name));
            json_object_set_new(out, "parsed", parse_all(format, json_object_get(line, "texts")));
        }
    } else {
        json_object_set_new(out, "error", json_string(error.message));
    }
    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(walks);
    json_decref(accepted);
    json_decref(out);
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
