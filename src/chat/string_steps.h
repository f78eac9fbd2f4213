/* A JSON string byte by byte: UTF-8 and escapes. Pure functions: any thread. Used inside chat/ only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "chat/automaton.h"

/* Where in a character a text is. */
enum string_step {
    STRING_START, /* between two characters */
    STRING_LAST,  /* one byte of the character to come, */
    STRING_LAST2, /* two, */
    STRING_LAST3, /* three */
    STRING_E0,    /* what may follow this byte is less */
    STRING_ED,
    STRING_F0,
    STRING_F4,
    STRING_ESCAPE, /* behind a backslash */
    STRING_HEX1,   /* the digits of \uXXXX */
    STRING_HEX2,
    STRING_HEX3,
    STRING_HEX4,
    STRING_HEX_D, /* behind \ud */
    STRING_HIGH3, /* the last two digits of a high surrogate, and the low one that must follow */
    STRING_HIGH4,
    STRING_LOW_BACKSLASH,
    STRING_LOW_U,
    STRING_LOW1,
    STRING_LOW2,
    STRING_NONE = 255, /* the byte may not be here */
};

/* The step after a byte; STRING_START: a character is whole. Quotes that end a string are not for it. */
uint8_t string_step(uint8_t step, uint8_t byte);
/* The character of an escape of two bytes, by its second; 0: there is none. */
char string_escaped(uint8_t byte);
