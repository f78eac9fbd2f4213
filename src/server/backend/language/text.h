/* The text of an answer as its tokens come: what may be told already. Bytes that may become a character, or a
 * stop string, are held back; what is no UTF-8 becomes U+FFFD. Pure functions on the caller's structs. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

struct answer_text {
    char *const *stops; /* [stop_count], not empty; borrowed */
    int stop_count;
    struct buffer held;
};

/* The next bytes; what may be told is appended to `ret`. False: a stop string is there, and the text ends
 * before it. */
bool answer_text_add(struct answer_text *text, const char *bytes, size_t size, struct buffer *ret);
/* There are no more: tell the rest. */
void answer_text_end(struct answer_text *text, struct buffer *ret);
void answer_text_release(struct answer_text *text);

/* The answer of a model that thinks aloud, in two parts: <think>…</think>, and the rest. */
enum thought_state {
    THOUGHT_MAY_COME, /* nothing was said yet */
    THOUGHT_HERE,
    THOUGHT_OVER,
    THOUGHT_PAUSE, /* over, and only blank space since */
};

struct thought {
    enum thought_state state;
    struct buffer held; /* what may become a tag */
};

/* The next characters, to one of the parts. */
void thought_add(struct thought *thought, const char *bytes, size_t size, struct buffer *ret_thought,
                 struct buffer *ret_answer);
void thought_end(struct thought *thought, struct buffer *ret_thought, struct buffer *ret_answer);
void thought_release(struct thought *thought);
