/* A line on a terminal that says how far a long job is. Where standard error is no terminal, nothing is
 * written. One thread at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    const char *label, *unit;
    uint64_t total, first; /* first: what was done before we began (a resumed download) */
    int64_t began, shown;  /* clock_ns */
    bool active;
};

/* `unit`: what is counted ("photos"), or NULL for bytes. `total` 0: not known. `first`: already done. Strings
 * are kept. */
void progress_begin(struct progress *progress, const char *label, const char *unit, uint64_t total,
                    uint64_t first);
/* As often as one likes: it draws ten times a second at the most. */
void progress_update(struct progress *progress, uint64_t done);
/* Wipes the line, so that what is printed next begins on a clean one. Safe to call twice. */
void progress_end(struct progress *progress);

/* May we write escape sequences for colour to it? A terminal, NO_COLOR (https://no-color.org) not set, TERM
 * not "dumb". */
bool terminal_has_colour(FILE *stream);
/* Does the locale write UTF-8 (bars then are made of blocks)? */
bool terminal_has_utf8(void);
/* A bar of `width` characters, of which `share` (0 to 1) is filled, in eighths where UTF-8 allows. Returns
 * `text`. */
#define PROGRESS_BAR_TEXT 256
const char *progress_bar(double share, int width, char text[PROGRESS_BAR_TEXT]);
