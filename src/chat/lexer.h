/* The text of a template -> tokens, as Jinja's lexer makes them with trim_blocks and lstrip_blocks: a line
 * break behind a block's tag and the blanks before one that begins its line are not part of the text. */
#pragma once
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum jinja_token_type {
    TOKEN_DATA, /* text outside of tags */
    TOKEN_VARIABLE_BEGIN,
    TOKEN_VARIABLE_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING, /* unescaped */
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR, /* one or two characters */
    TOKEN_END,
};

struct jinja_token {
    enum jinja_token_type type;
    int line;
    const char *text;
    size_t length;
    union {
        int64_t integer;
        double real;
    };
};

struct jinja_tokens {
    struct jinja_token *items; /* the last one is TOKEN_END */
    size_t count, capacity;
};

/* Of valid UTF-8; tokens and their texts are the arena's. False with ERROR_MODEL, whose message names the
 * line. */
bool jinja_tokenize(struct arena *arena, const char *text, size_t size, struct jinja_tokens *ret,
                    struct error *error);
