/* Characters of UTF-8 text and what they are, by the tables of libutf8proc. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character at `text`, which has `size` > 0 bytes; *ret_size: its bytes. A byte that begins no
 * well-formed sequence is one character, -1. */
int32_t character_at(const char *text, size_t size, size_t *ret_size);
/* Write a character as UTF-8; returns its bytes, at most 4. */
size_t character_write(int32_t character, char *ret);

bool character_is_letter(int32_t character); /* \p{L} */
bool character_is_mark(int32_t character);   /* \p{M} */
bool character_is_number(int32_t character); /* \p{N} */
bool character_is_space(int32_t character);  /* White_Space */
/* For BERT: \p{P} and ASCII's symbols. */
bool character_is_punctuation(int32_t character);
bool character_is_control(int32_t character);   /* Cc, Cf, Cn, Co, but for tab and line ends */
bool character_is_ideograph(int32_t character); /* CJK, as BERT counts them */

/* NFD and lower case, without non-spacing marks: [at most 18] characters; returns how many. */
int character_fold(int32_t character, int32_t *ret);
