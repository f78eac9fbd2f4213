/* Text that comes in pieces which end anywhere, as the tokens of a language model do: what is written ends
 * with a whole character. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* {.file = …} is an empty one. */
struct text_stream {
    FILE *file;
    /* For terminals: no control characters but line breaks and tabs, which could move the cursor or worse. */
    bool is_plain;
    unsigned char held[4]; /* the start of a character */
    size_t held_count;
};

/* Write, and flush. What is no UTF-8 is written as U+FFFD. */
void text_stream_write(struct text_stream *stream, const char *bytes, size_t size);
/* No more comes: what is held is no character. */
void text_stream_end(struct text_stream *stream);
