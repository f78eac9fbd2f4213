#include "chat/lexer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chat/text.h"

struct lexer {
    struct arena *arena;
    const char *at, *end;
    int line;
    bool line_starting; /* nothing but what was cut stands before `at` on its line */
    char closers[200];  /* of the brackets that are open */
    int open;
    struct jinja_tokens *tokens;
    struct error *error;
};

static bool lexer_fail(struct lexer *lexer, const char *message) {
    return error_set(lexer->error, ERROR_MODEL, "line %d: %s", lexer->line, message);
}

static bool out_of_memory(struct lexer *lexer) {
    return error_set(lexer->error, ERROR_MEMORY, "out of memory");
}

static struct jinja_token *add_token(struct lexer *lexer, enum jinja_token_type type, const char *text,
                                     size_t length) {
    struct jinja_tokens *tokens = lexer->tokens;
    if (tokens->count == tokens->capacity) {
        size_t capacity = tokens->capacity ? 2 * tokens->capacity : 256;
        struct jinja_token *items = arena_allocate_array(lexer->arena, capacity, sizeof *items);
        if (!items) {
            out_of_memory(lexer);
            return NULL;
        }
        if (tokens->count)
            memcpy(items, tokens->items, tokens->count * sizeof *items);
        tokens->items = items;
        tokens->capacity = capacity;
    }

    struct jinja_token *token = &tokens->items[tokens->count++];
    *token = (struct jinja_token){.type = type, .line = lexer->line, .text = text, .length = length};
    return token;
}

static size_t remaining(const struct lexer *lexer) {
    return (size_t)(lexer->end - lexer->at);
}

static bool looks_at(const struct lexer *lexer, const char *text) {
    size_t length = strlen(text);
    return remaining(lexer) >= length && memcmp(lexer->at, text, length) == 0;
}

static void advance(struct lexer *lexer, size_t length) {
    for (const char *stop = lexer->at + length; lexer->at < stop; lexer->at++)
        lexer->line += *lexer->at == '\n';
}

static void skip_space(struct lexer *lexer) {
    advance(lexer, jinja_space_before(lexer->at, remaining(lexer)));
}

/* The text before a tag, without what the tag's sign and lstrip_blocks take away. */
static bool add_data(struct lexer *lexer, size_t length, char sign, bool is_variable) {
    const char *text = lexer->at;
    size_t kept = length;

    if (sign == '-') {
        kept -= jinja_space_behind(text, length);
    } else if (sign != '+' && !is_variable) {
        const char *newline = memrchr(text, '\n', length);
        size_t line_start = newline ? (size_t)(newline + 1 - text) : 0;
        if ((newline || lexer->line_starting) &&
            jinja_space_before(text + line_start, length - line_start) == length - line_start)
            kept = line_start;
    }

    if (kept && !add_token(lexer, TOKEN_DATA, text, kept))
        return false;
    advance(lexer, length);
    return true;
}

/* Behind the end of a tag: `sign` is what stood before it. */
static void end_tag(struct lexer *lexer, char sign, bool is_variable) {
    const char *start = lexer->at;

    if (sign == '-')
        skip_space(lexer);
    else if (sign != '+' && !is_variable && looks_at(lexer, "\n"))
        advance(lexer, 1);
    lexer->line_starting = lexer->at > start && lexer->at[-1] == '\n';
}

static bool skip_comment(struct lexer *lexer) {
    const char *stop = memmem(lexer->at, remaining(lexer), "#}", 2);
    if (!stop)
        return lexer_fail(lexer, "a comment has no end: #} is missing");

    char sign = stop > lexer->at && (stop[-1] == '-' || stop[-1] == '+') ? stop[-1] : 0;
    advance(lexer, (size_t)(stop + 2 - lexer->at));
    end_tag(lexer, sign, false);
    return true;
}

/* Is this `{% NAME %}`, behind its `{%` and sign? Then the bytes up to its `%}`, and the sign before that. */
static bool tag_is(const struct lexer *lexer, const char *at, const char *name, const char **ret_stop,
                   char *ret_sign) {
    size_t length = strlen(name);
    at += jinja_space_before(at, (size_t)(lexer->end - at));
    if ((size_t)(lexer->end - at) < length || memcmp(at, name, length))
        return false;
    at += length;
    at += jinja_space_before(at, (size_t)(lexer->end - at));

    char sign = at < lexer->end && (*at == '-' || *at == '+') ? *at : 0;
    at += sign != 0;
    if (lexer->end - at < 2 || at[0] != '%' || at[1] != '}')
        return false;

    *ret_stop = at + 2;
    *ret_sign = sign;
    return true;
}

/* From behind `{% raw %}` to behind `{% endraw %}`. */
static bool take_raw(struct lexer *lexer) {
    for (const char *at = lexer->at; (at = memmem(at, (size_t)(lexer->end - at), "{%", 2)); at += 2) {
        const char *inside = at + 2, *stop;
        char sign = inside < lexer->end && (*inside == '-' || *inside == '+') ? *inside : 0, last;
        if (!tag_is(lexer, inside + (sign != 0), "endraw", &stop, &last))
            continue;
        if (!add_data(lexer, (size_t)(at - lexer->at), sign, false))
            return false;
        advance(lexer, (size_t)(stop - lexer->at));
        end_tag(lexer, last, false);
        return true;
    }

    return lexer_fail(lexer, "a raw block has no end: {% endraw %} is missing");
}

static bool is_name_start(const struct lexer *lexer) {
    unsigned char c = (unsigned char)*lexer->at;
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool is_digit(const struct lexer *lexer, const char *at) {
    return at < lexer->end && *at >= '0' && *at <= '9';
}

static bool take_name(struct lexer *lexer) {
    const char *start = lexer->at;
    while (lexer->at < lexer->end && (is_name_start(lexer) || is_digit(lexer, lexer->at)))
        lexer->at++;
    return add_token(lexer, TOKEN_NAME, start, (size_t)(lexer->at - start)) != NULL;
}

/* Digits, which single underscores may part. */
static const char *skip_digits(const struct lexer *lexer, const char *at) {
    while (is_digit(lexer, at) || (at < lexer->end && *at == '_' && is_digit(lexer, at + 1)))
        at++;
    return at;
}

static const char *skip_exponent(const struct lexer *lexer, const char *at) {
    const char *digits = at;
    if (at == lexer->end || (*at != 'e' && *at != 'E'))
        return at;
    digits++;
    if (digits < lexer->end && (*digits == '+' || *digits == '-'))
        digits++;
    return is_digit(lexer, digits) ? skip_digits(lexer, digits) : at;
}

/* The end of digits of a prefix like 0x; NULL where this is none. */
static const char *skip_prefixed(const struct lexer *lexer, int *ret_base) {
    static const struct {
        char letter;
        int base;
        const char *digits;
    } prefixes[] = {{'x', 16, "0123456789abcdefABCDEF_"}, {'o', 8, "01234567_"}, {'b', 2, "01_"}};
    const char *at = lexer->at;

    if (lexer->end - at < 3 || at[0] != '0')
        return NULL;
    for (int i = 0; i < 3; i++)
        if ((at[1] | 0x20) == prefixes[i].letter) {
            at += 2;
            while (at < lexer->end && *at && strchr(prefixes[i].digits, *at))
                at++;
            *ret_base = prefixes[i].base;
            return at > lexer->at + 2 ? at : NULL;
        }
    return NULL;
}

static bool take_number(struct lexer *lexer) {
    int base = 10;
    const char *start = lexer->at, *stop = skip_prefixed(lexer, &base);
    bool is_float = false;

    if (!stop) {
        stop = skip_digits(lexer, start);
        bool behind_dot = lexer->tokens->count && start[-1] == '.'; /* `a.0.1` has two integers */
        const char *more = stop;
        if (!behind_dot && more < lexer->end && *more == '.' && is_digit(lexer, more + 1))
            more = skip_digits(lexer, more + 1);
        if (!behind_dot)
            more = skip_exponent(lexer, more);
        is_float = more != stop;
        stop = more;
    }

    char digits[64], *rest;
    size_t length = 0;
    for (const char *at = base == 10 ? start : start + 2; at < stop; at++)
        if (*at != '_') {
            if (length == sizeof digits - 1)
                return lexer_fail(lexer, "a number is too long");
            digits[length++] = *at;
        }
    digits[length] = 0;
    lexer->at = stop;

    struct jinja_token *token =
        add_token(lexer, is_float ? TOKEN_FLOAT : TOKEN_INTEGER, start, (size_t)(stop - start));
    if (!token)
        return false;
    errno = 0;
    if (is_float)
        token->real = strtod(digits, &rest);
    else
        token->integer = strtoll(digits, &rest, base);
    if (!is_float && errno)
        return lexer_fail(lexer, "a number does not fit into 64 bits");
    return true;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* \xNN, \uNNNN, \UNNNNNNNN behind the letter. */
static bool unescape_code(struct lexer *lexer, const char **at, const char *stop, int digits, char **out) {
    uint32_t code = 0;
    for (int i = 0; i < digits; i++) {
        int digit = *at < stop ? hex_digit(**at) : -1;
        if (digit < 0)
            return lexer_fail(lexer, "an escape in a string has too few hexadecimal digits");
        code = code << 4 | (uint32_t)digit;
        ++*at;
    }

    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return lexer_fail(lexer, "an escape in a string is not a Unicode character");
    *out += jinja_utf8_write(code, *out);
    return true;
}

/* One escape behind its backslash; what it stands for is never longer than its own text. */
static bool unescape(struct lexer *lexer, const char **at, const char *stop, char **out) {
    static const char letters[] = "abfnrtv\\'\"", meanings[] = "\a\b\f\n\r\t\v\\'\"";
    char c = *(*at)++;
    const char *found = c ? strchr(letters, c) : NULL;

    if (found) {
        *(*out)++ = meanings[found - letters];
    } else if (c == 'x') {
        return unescape_code(lexer, at, stop, 2, out);
    } else if (c == 'u') {
        return unescape_code(lexer, at, stop, 4, out);
    } else if (c == 'U') {
        return unescape_code(lexer, at, stop, 8, out);
    } else if (c == 'N') {
        return lexer_fail(lexer, "\\N{…} in a string is not supported: write the character itself");
    } else if (c >= '0' && c <= '7') {
        uint32_t code = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *at < stop && **at >= '0' && **at <= '7'; i++)
            code = code * 8 + (uint32_t)(*(*at)++ - '0');
        *out += jinja_utf8_write(code, *out);
    } else if (c != '\n') { /* an escaped line break is nothing; an unknown escape is itself */
        *(*out)++ = '\\';
        *(*out)++ = c;
    }
    return true;
}

static bool take_string(struct lexer *lexer) {
    char quote = *lexer->at;
    const char *at = lexer->at + 1, *stop = at;
    while (stop < lexer->end && *stop != quote)
        stop += *stop == '\\' ? 2 : 1;
    if (stop >= lexer->end)
        return lexer_fail(lexer, "a string has no end: its closing quote is missing");

    char *text = arena_allocate(lexer->arena, (size_t)(stop - at) + 1), *out = text;
    if (!text)
        return out_of_memory(lexer);
    while (at < stop) {
        if (*at != '\\')
            *out++ = *at++;
        else if (at++, !unescape(lexer, &at, stop, &out))
            return false;
    }

    if (!add_token(lexer, TOKEN_STRING, text, (size_t)(out - text)))
        return false;
    advance(lexer, (size_t)(stop + 1 - lexer->at));
    return true;
}

/* Brackets are counted, so that `}}` within a dict does not end the tag. */
static bool count_bracket(struct lexer *lexer, char c) {
    const char *kinds = "()[]{}", *found = strchr(kinds, c);
    if (!found)
        return true;

    if ((found - kinds) % 2 == 0) {
        if (lexer->open == sizeof lexer->closers)
            return lexer_fail(lexer, "brackets are nested too deeply");
        lexer->closers[lexer->open++] = found[1];
    } else if (!lexer->open || lexer->closers[--lexer->open] != c) {
        return error_set(lexer->error, ERROR_MODEL, "line %d: unexpected '%c'", lexer->line, c);
    }
    return true;
}

static bool take_operator(struct lexer *lexer) {
    static const char *pairs[] = {"//", "**", "==", "!=", ">=", "<="};
    size_t length = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (looks_at(lexer, pairs[i]))
            length = 2;

    if (length == 1 && !strchr("+-/*%~[](){}><=.:|,;", *lexer->at))
        return error_set(lexer->error, ERROR_MODEL, "line %d: unexpected character '%c'", lexer->line,
                         *lexer->at >= 0x20 && *lexer->at < 0x7f ? *lexer->at : '?');
    if (length == 1 && !count_bracket(lexer, *lexer->at))
        return false;

    const char *text = lexer->at;
    lexer->at += length;
    return add_token(lexer, TOKEN_OPERATOR, text, length) != NULL;
}

/* The end of the tag here, if it is one. */
static bool at_end_of_tag(const struct lexer *lexer, bool is_variable, char *ret_sign) {
    const char *ending = is_variable ? "}}" : "%}";
    size_t skip = looks_at(lexer, "-") || (!is_variable && looks_at(lexer, "+"));
    if (lexer->open || remaining(lexer) < skip + 2 || memcmp(lexer->at + skip, ending, 2))
        return false;

    *ret_sign = skip ? *lexer->at : 0;
    return true;
}

static bool take_tag(struct lexer *lexer, bool is_variable) {
    char sign;
    lexer->open = 0;

    for (skip_space(lexer); lexer->at < lexer->end; skip_space(lexer)) {
        if (at_end_of_tag(lexer, is_variable, &sign)) {
            if (!add_token(lexer, is_variable ? TOKEN_VARIABLE_END : TOKEN_BLOCK_END, lexer->at, 2))
                return false;
            advance(lexer, 2u + (sign != 0));
            end_tag(lexer, sign, is_variable);
            return true;
        }

        bool done = is_digit(lexer, lexer->at)                ? take_number(lexer)
                    : is_name_start(lexer)                    ? take_name(lexer)
                    : *lexer->at == '\'' || *lexer->at == '"' ? take_string(lexer)
                                                              : take_operator(lexer);
        if (!done)
            return false;
    }

    return lexer_fail(lexer,
                      is_variable ? "a tag has no end: }} is missing" : "a tag has no end: %} is missing");
}

/* The next `{{`, `{%` or `{#`; the end where there is none. */
static const char *find_tag(const struct lexer *lexer) {
    const char *at = lexer->at;
    while ((at = memchr(at, '{', (size_t)(lexer->end - at))) && lexer->end - at >= 2 &&
           !strchr("{%#", at[1] ? at[1] : '.'))
        at++;
    return at && lexer->end - at >= 2 ? at : lexer->end;
}

static bool take_text_and_tag(struct lexer *lexer) {
    const char *tag = find_tag(lexer), *stop;
    if (tag == lexer->end) {
        if (!add_token(lexer, TOKEN_DATA, lexer->at, remaining(lexer)))
            return false;
        lexer->at = lexer->end;
        return true;
    }

    char kind = tag[1], last, sign = lexer->end - tag > 2 && (tag[2] == '-' || tag[2] == '+') ? tag[2] : 0;
    if (!add_data(lexer, (size_t)(tag - lexer->at), sign, kind == '{'))
        return false;
    lexer->at += 2u + (sign != 0);

    if (kind == '#')
        return skip_comment(lexer);
    if (kind == '%' && tag_is(lexer, lexer->at, "raw", &stop, &last) && last != '+') {
        advance(lexer, (size_t)(stop - lexer->at));
        lexer->line_starting = false;
        if (last == '-')
            end_tag(lexer, last, false);
        return take_raw(lexer);
    }
    return add_token(lexer, kind == '{' ? TOKEN_VARIABLE_BEGIN : TOKEN_BLOCK_BEGIN, tag, 2) &&
           take_tag(lexer, kind == '{');
}

/* A copy with \n for every kind of line break, and without the last one. */
static char *normalize_newlines(struct arena *arena, const char *text, size_t size, size_t *ret_size) {
    char *copy = arena_allocate(arena, size + 1), *out = copy;
    if (!copy)
        return NULL;

    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\r' && i + 1 < size && text[i + 1] == '\n')
            i++;
        *out++ = text[i] == '\r' ? '\n' : text[i];
    }
    if (out > copy && out[-1] == '\n')
        out--;

    *ret_size = (size_t)(out - copy);
    return copy;
}

bool jinja_tokenize(struct arena *arena, const char *text, size_t size, struct jinja_tokens *ret,
                    struct error *error) {
    struct lexer lexer = {.arena = arena, .line = 1, .line_starting = true, .tokens = ret, .error = error};
    lexer.at = normalize_newlines(arena, text, size, &size);
    if (!lexer.at)
        return out_of_memory(&lexer);

    lexer.end = lexer.at + size;
    while (lexer.at < lexer.end)
        if (!take_text_and_tag(&lexer))
            return false;
    return add_token(&lexer, TOKEN_END, lexer.at, 0) != NULL;
}
