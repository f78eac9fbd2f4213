/* Pages of reports: self-contained, without scripts, in light and dark, in English and French side by side,
 * of which a switch on the page shows one. One thread. */
#pragma once
#include "base/buffer.h"

/* Everything up to the heading; `title` is the same in both languages. */
void page_begin(struct buffer *out, const char *title);
void page_end(struct buffer *out);
/* Text of others: no mark-up. */
void page_text(struct buffer *out, const char *text);
/* The same in both languages; mark-up of our own. */
void page_say(struct buffer *out, const char *english, const char *french);
/* <h2> */
void page_heading(struct buffer *out, const char *english, const char *french);
void page_tiles_begin(struct buffer *out);
void page_tile(struct buffer *out, const char *figure, const char *english, const char *french);
void page_tiles_end(struct buffer *out);

struct page_bar {
    const char *label;
    const char *style_class; /* "a", "b" or "bad" */
    double value;
    double low, high; /* of an interval; both 0: none */
    char text[80];
};
/* Horizontal bars: label, bar, number. Labels that are too long are cut in the middle or at the end. */
void page_bars(struct buffer *out, const char *title, const struct page_bar *bars, int count);
