/* A line on the terminal with the progress of a long job. Writes nothing where standard error is not a
 * terminal. One thread at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Told how far a stage of a long job is; false: stop, as the user asked. */
typedef bool (*progress_report)(void *context, const char *stage, uint64_t done, uint64_t total);

struct progress {
    const char *label, *unit;
    uint64_t total, first; /* first: units that were done before (a resumed download) */
    int64_t began, shown;  /* clock_ns() of the start and of the last drawing */
    bool active;
};

/* `unit`: what is counted ("photos"), or NULL for bytes. `total` 0: not known. `first`: units already done.
 * The strings must outlive the struct. */
void progress_begin(struct progress *progress, const char *label, const char *unit, uint64_t total,
                    uint64_t first);
/* May be called often: it draws at most ten times a second. */
void progress_update(struct progress *progress, uint64_t done);
/* Clear the line for what is printed next. Safe to call twice. */
void progress_end(struct progress *progress);

/* Whether escape sequences for colour may be written to a stream: a terminal, NO_COLOR (https://no-color.org)
 * not set, TERM not "dumb". */
bool terminal_has_color(FILE *stream);
/* Whether the locale writes UTF-8; bars are then made of blocks. */
bool terminal_has_utf8(void);
/* Draw a bar of `width` characters (at most 60) with `share` (0 to 1) of it filled, in eighths where the
 * locale has UTF-8. Returns `text`. */
#define PROGRESS_BAR_TEXT 256
const char *progress_bar(double share, int width, char text[PROGRESS_BAR_TEXT]);
