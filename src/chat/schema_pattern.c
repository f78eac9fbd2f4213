/* Regular expressions of JSON Schema: a parser to a tree, and from the tree, end first, nodes. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "chat/schema_parts.h"

enum pattern_kind { PATTERN_EMPTY, PATTERN_CHAR, PATTERN_BYTES, PATTERN_BOTH, PATTERN_EITHER, PATTERN_TIMES };

struct pattern {
    enum pattern_kind kind;
    struct byte_set set; /* of ASCII */
    bool others;         /* and all beyond ASCII */
    const char *bytes;   /* [size]: one character beyond ASCII */
    size_t size;
    struct pattern *left, *right; /* of two; `left` that is repeated */
    int least, most;              /* -1: any number */
};

struct pattern_parser {
    struct arena *arena;
    const char *at;
    int depth;
    struct error *error;
};

/* Constants that a schema may nest and repeat. */
enum { PATTERN_DEPTH = 32, PATTERN_REPEAT = 256 };

static struct pattern *fail(struct pattern_parser *parser, const char *what) {
    error_set(parser->error, ERROR_INVALID, "'pattern' has %s, which is not supported", what);
    return NULL;
}

/* Can a string of JSON have one of these, other than as \\u and digits? */
static bool is_writable(const struct pattern *pattern) {
    for (int i = 0; i < 128; i++)
        if (byte_set_has(&pattern->set, (uint8_t)i) && (i >= ' ' || (i >= '\b' && i <= '\r' && i != '\v')))
            return true;
    return pattern->others;
}

static struct pattern *make(struct pattern_parser *parser, struct pattern pattern) {
    if (pattern.kind == PATTERN_CHAR && !is_writable(&pattern))
        return fail(parser, "an empty class, or control characters only");

    struct pattern *made = arena_allocate(parser->arena, sizeof *made);
    if (made)
        *made = pattern;
    else
        error_set(parser->error, ERROR_MEMORY, "not enough memory for a pattern");
    return made;
}

static struct byte_set both(struct byte_set a, struct byte_set b) {
    for (int i = 0; i < 4; i++)
        a.bits[i] |= b.bits[i];
    return a;
}

/* Of ASCII. */
static struct byte_set all_but(struct byte_set set) {
    for (int i = 0; i < 2; i++)
        set.bits[i] = ~set.bits[i];
    return set;
}

static struct byte_set word_set(void) {
    return both(both(byte_set_range('a', 'z'), byte_set_range('A', 'Z')),
                both(byte_set_range('0', '9'), byte_set_range('_', '_')));
}

static struct byte_set class_of(char letter) {
    struct byte_set set = letter == 'd' || letter == 'D' ? byte_set_range('0', '9')
                          : letter == 'w' || letter == 'W'
                              ? word_set()
                              : both(byte_set_range('\t', '\r'), byte_set_range(' ', ' '));
    return letter < 'a' ? all_but(set) : set;
}

static int hex_number(const char *text, int digits) {
    int number = 0;
    for (int i = 0; i < digits; i++) {
        const char *found = text[i] ? strchr("0123456789abcdef", text[i] | 0x20) : NULL;
        if (!found)
            return -1;
        number = 16 * number + (int)(found - "0123456789abcdef");
    }
    return number;
}

/* What follows a backslash, at parser->at: a set. False with an error. Beyond ASCII, classes match nothing:
 * readers of patterns do not agree on them. */
static bool parse_escape(struct pattern_parser *parser, struct byte_set *ret) {
    char c = *parser->at++;
    static const char named[] = "tnrfv0", values[] = "\t\n\r\f\v";
    const char *found = c ? strchr(named, c) : NULL;

    if (c && strchr("dDwWsS", c)) {
        *ret = class_of(c);
        return true;
    }
    if (c == 'x' || c == 'u') {
        int digits = c == 'x' ? 2 : 4, number = hex_number(parser->at, digits);
        if (number < 0 || number >= 0x80)
            return fail(parser, "an escape of a character beyond ASCII");
        parser->at += digits;
        *ret = byte_set_range((unsigned)number, (unsigned)number);
        return true;
    }
    if (found && *found != '0') {
        *ret = byte_set_range((uint8_t)values[found - named], (uint8_t)values[found - named]);
        return true;
    }
    if (!c || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        (uint8_t)c >= 0x80)
        return fail(parser, "an escape other than \\d \\w \\s \\t \\n \\r and of signs");
    *ret = byte_set_range((uint8_t)c, (uint8_t)c);
    return true;
}

/* One end of a range, or a class. */
static bool parse_class_item(struct pattern_parser *parser, struct byte_set *ret, int *ret_single) {
    uint8_t c = (uint8_t)*parser->at;
    if (c >= 0x80)
        return fail(parser, "a class with characters beyond ASCII");
    parser->at++;
    *ret = byte_set_range(c, c);
    if (c == '\\' && !parse_escape(parser, ret))
        return false;

    int count = 0;
    for (int i = 0; i < 128; i++)
        if (byte_set_has(ret, (uint8_t)i)) {
            *ret_single = i;
            count++;
        }
    if (count != 1)
        *ret_single = -1;
    return true;
}

static struct pattern *parse_class(struct pattern_parser *parser) {
    struct byte_set set = {0}, item;
    bool negated = *parser->at == '^', letters = false;

    parser->at += negated;
    while (*parser->at != ']') {
        int from, to;
        if (!*parser->at)
            return fail(parser, "a class that does not end");
        if (!parse_class_item(parser, &item, &from))
            return NULL;
        letters |= from < 0;
        if (from >= 0 && parser->at[0] == '-' && parser->at[1] != ']') {
            parser->at++;
            if (!parse_class_item(parser, &item, &to))
                return NULL;
            if (to < from)
                return fail(parser, "a range that ends before it begins");
            item = byte_set_range((unsigned)from, (unsigned)to);
        }
        set = both(set, item);
    }
    parser->at++;
    return make(parser, (struct pattern){.kind = PATTERN_CHAR,
                                         .set = negated ? all_but(set) : set,
                                         .others = negated && !letters});
}

static struct pattern *parse_either(struct pattern_parser *parser);

static struct pattern *parse_group(struct pattern_parser *parser) {
    if (parser->at[0] == '?') {
        if (parser->at[1] != ':')
            return fail(parser, "a group that looks around or has a name");
        parser->at += 2;
    }
    if (++parser->depth > PATTERN_DEPTH)
        return fail(parser, "groups deep within groups");

    struct pattern *inner = parse_either(parser);
    parser->depth--;
    if (inner && *parser->at != ')')
        return fail(parser, "a group that does not end");
    parser->at++;
    return inner;
}

static struct pattern *parse_atom(struct pattern_parser *parser) {
    struct pattern single = {.kind = PATTERN_CHAR};
    uint8_t c = (uint8_t)*parser->at++;

    if (c == '(')
        return parse_group(parser);
    if (c == '[')
        return parse_class(parser);
    if (c == '^' || c == '$')
        return fail(parser, "^ or $ within");
    if (c == '*' || c == '+' || c == '?' || c == '{')
        return fail(parser, "a repetition of nothing");
    if (c == '\\')
        return parse_escape(parser, &single.set) ? make(parser, single) : NULL;
    if (c == '.') {
        single.set = all_but(both(byte_set_range('\n', '\n'), byte_set_range('\r', '\r')));
        single.others = true;
        return make(parser, single);
    }
    if (c < 0x80) {
        single.set = byte_set_range(c, c);
        return make(parser, single);
    }

    const char *start = parser->at - 1;
    while (((uint8_t)*parser->at & 0xc0) == 0x80)
        parser->at++;
    return make(parser, (struct pattern){
                            .kind = PATTERN_BYTES, .bytes = start, .size = (size_t)(parser->at - start)});
}

/* {m}, {m,} or {m,n} behind the brace. */
static bool parse_counts(struct pattern_parser *parser, int *least, int *most) {
    char *end;
    if (*parser->at < '0' || *parser->at > '9')
        return fail(parser, "a brace that counts nothing");
    long low = strtol(parser->at, &end, 10), high = low;

    if (*end == ',') {
        const char *second = ++end;
        high = *second == '}' ? -1 : *second >= '0' && *second <= '9' ? strtol(second, &end, 10) : -2;
    }
    if (*end != '}' || high == -2 || (high >= 0 && high < low) || low > PATTERN_REPEAT ||
        high > PATTERN_REPEAT)
        return fail(parser, "counts that are not {m}, {m,} or {m,n} up to 256");
    parser->at = end + 1;
    *least = (int)low;
    *most = (int)high;
    return true;
}

static struct pattern *parse_times(struct pattern_parser *parser) {
    struct pattern *atom = parse_atom(parser);
    int least = 1, most = 1;
    if (!atom)
        return NULL;

    char c = *parser->at;
    if (c == '*' || c == '+' || c == '?') {
        least = c == '+';
        most = c == '?' ? 1 : -1;
        parser->at++;
    } else if (c == '{') {
        parser->at++;
        if (!parse_counts(parser, &least, &most))
            return NULL;
    } else {
        return atom;
    }
    if (*parser->at == '?') /* it takes as little as it can: the same strings */
        parser->at++;
    return make(parser, (struct pattern){.kind = PATTERN_TIMES, .left = atom, .least = least, .most = most});
}

static struct pattern *parse_either(struct pattern_parser *parser) {
    struct pattern *all = NULL;

    do {
        parser->at += all != NULL; /* the bar */
        struct pattern *sequence = make(parser, (struct pattern){.kind = PATTERN_EMPTY});
        while (sequence && *parser->at && *parser->at != '|' && *parser->at != ')') {
            struct pattern *next = parse_times(parser);
            sequence =
                next ? make(parser, (struct pattern){.kind = PATTERN_BOTH, .left = sequence, .right = next})
                     : NULL;
        }
        if (!sequence)
            return NULL;
        all = all ? make(parser, (struct pattern){.kind = PATTERN_EITHER, .left = all, .right = sequence})
                  : sequence;
    } while (all && *parser->at == '|');
    return all;
}

/* --- Nodes ------------------------------------------------------------------------------------------------
 */

static uint32_t char_node(struct automaton *automaton, struct byte_set set, bool others, uint32_t next) {
    uint32_t bytes = automaton_bytes(automaton, set, NO_NODE); /* keeps the set */
    if (!bytes)
        return NO_NODE;
    return automaton_node(automaton, NODE_CHAR, next, automaton->nodes[bytes].a, others);
}

static uint32_t build(struct automaton *automaton, const struct pattern *pattern, uint32_t next);

static uint32_t build_times(struct automaton *automaton, const struct pattern *pattern, uint32_t next) {
    uint32_t start = next;

    if (pattern->most < 0) {
        uint32_t loop = automaton_node(automaton, NODE_JUMP, NO_NODE, 0, 0);
        uint32_t ways[] = {next, build(automaton, pattern->left, loop)};
        uint32_t split = automaton_split(automaton, ways, 2);
        if (!automaton->failed)
            automaton->nodes[loop].next = split;
        start = loop;
    }
    for (int i = pattern->least; i < pattern->most && !automaton->failed; i++) {
        uint32_t ways[] = {next, build(automaton, pattern->left, start)};
        start = automaton_split(automaton, ways, 2);
    }
    for (int i = 0; i < pattern->least && !automaton->failed; i++)
        start = build(automaton, pattern->left, start);
    return start;
}

static uint32_t build(struct automaton *automaton, const struct pattern *pattern, uint32_t next) {
    while (pattern->kind == PATTERN_BOTH && !automaton->failed) {
        next = build(automaton, pattern->right, next);
        pattern = pattern->left;
    }
    switch (pattern->kind) {
    case PATTERN_CHAR:
        return char_node(automaton, pattern->set, pattern->others, next);
    case PATTERN_BYTES:
        return automaton_literal(automaton, pattern->bytes, pattern->size, next);
    case PATTERN_TIMES:
        return build_times(automaton, pattern, next);
    case PATTERN_EITHER: {
        uint32_t ways[] = {build(automaton, pattern->left, next), build(automaton, pattern->right, next)};
        return automaton_split(automaton, ways, 2);
    }
    default:
        return next;
    }
}

/* Any characters. */
static uint32_t build_any(struct automaton *automaton, uint32_t next) {
    struct pattern any = {.kind = PATTERN_CHAR, .set = byte_set_range(0, 127), .others = true},
                   times = {.kind = PATTERN_TIMES, .left = &any, .most = -1};
    return build_times(automaton, &times, next);
}

/* Is there a | outside of all groups? ^ and $ would belong to one side of it. */
static bool is_choice(const struct pattern *pattern) {
    return pattern->kind == PATTERN_EITHER;
}

uint32_t schema_pattern(struct automaton *automaton, const char *pattern, uint32_t next,
                        struct error *error) {
    size_t size = strlen(pattern);
    cleanup(arena_freep) struct arena *arena = arena_create();
    char *text = arena ? arena_copy_string(arena, pattern, size) : NULL;
    if (size > LIMIT_PATTERN_BYTES) {
        error_set(error, ERROR_INVALID, "'pattern' is longer than %d bytes", LIMIT_PATTERN_BYTES);
        return NO_NODE;
    }
    if (!text) {
        error_set(error, ERROR_MEMORY, "not enough memory for a pattern");
        return NO_NODE;
    }

    bool from_start = text[0] == '^', to_end = false;
    size_t slashes = 0;
    if (size > from_start && text[size - 1] == '$') {
        while (slashes + 1 < size && text[size - 2 - slashes] == '\\')
            slashes++;
        to_end = slashes % 2 == 0;
        text[size - to_end] = 0;
    }

    struct pattern_parser parser = {.arena = arena, .at = text + from_start, .error = error};
    struct pattern *tree = parse_either(&parser);
    if (tree && *parser.at)
        tree = fail(&parser, "a ) without its group");
    if (tree && is_choice(tree) && (from_start || to_end))
        tree = fail(&parser, "^ or $ beside a | outside of all groups");
    if (!tree)
        return NO_NODE;

    next = automaton_byte(automaton, '"', next);
    next = build(automaton, tree, to_end ? next : build_any(automaton, next));
    next = from_start ? next : build_any(automaton, next);
    if (!next)
        error_set(error, ERROR_MEMORY, "not enough memory, or states, for a pattern");
    return next;
}

/* The 29th of February is left out: it is not in every year. */
#define DATE                                                                                      \
    "[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" \
    "02-(0[1-9]|1[0-9]|2[0-8]))"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

const char *schema_format(const char *name) {
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(name, formats[i].name) == 0)
            return formats[i].pattern;
    return NULL;
}
