#include "quant/page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2429;--soft:#5d6a72;--line:#e0ddd5;"
    "--a:#8a97a0;--b:#0b7a6b;--bad:#c2452d;--mark:#fbe3b4}"
    "@media(prefers-color-scheme:dark){:root{--paper:#14181b;--card:#1c2226;--ink:#e8e6e1;--soft:#9aa7ae;"
    "--line:#323b41;--a:#7d8a92;--b:#3fc2ac;--bad:#f0836c;--mark:#5b4513}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 "
    "system-ui,sans-serif}"
    "main{max-width:60rem;margin:0 auto;padding:1.25rem 1.25rem 4rem}"
    "h1{font-size:1.7rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}"
    "h2{font-size:1.15rem;margin:2.5rem 0 .5rem}p{margin:.4rem 0 .8rem}.soft{color:var(--soft)}"
    ".tongue{position:absolute;opacity:0}.tongues{max-width:60rem;margin:0 auto;padding:1rem 1.25rem "
    "0;text-align:right}"
    ".tongues label{color:var(--soft);padding:.2rem .5rem;border-radius:.4rem;cursor:pointer}"
    "#english:checked~.tongues label[for=english],#french:checked~.tongues "
    "label[for=french]{color:var(--ink);"
    "background:var(--card);box-shadow:0 0 0 1px var(--line)}"
    ".tongue:focus-visible~.tongues{outline:2px solid var(--b)}"
    "#english:checked~main :lang(fr),#french:checked~main .en{display:none}"
    ".verdict{border-left:.4rem solid var(--b);background:var(--card);border-radius:.4rem;padding:.9rem "
    "1.1rem;margin:1.2rem 0}.verdict b{font-size:1.2rem}.maybe{border-color:var(--a)}.leave{border-color:var("
    "--bad)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin:1.5rem 0}"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem}"
    ".tile b{display:block;font-size:1.7rem;line-height:1.2}.tile span{color:var(--soft);font-size:.88rem}"
    "figure{margin:.6rem 0;background:var(--card);border:1px solid var(--line);border-radius:.6rem;"
    "padding:1rem;overflow-x:auto}"
    "svg{display:block;width:100%;min-width:34rem;height:auto;font:13px system-ui,sans-serif}svg "
    "text{fill:var(--ink)}svg .soft{fill:var(--soft)}svg .a{fill:var(--a)}svg .b{fill:var(--b)}svg "
    ".bad{fill:var(--bad)}svg .axis{stroke:var(--ink);stroke-width:1.5}"
    "table{border-collapse:collapse;width:100%;font-size:.92rem}th,td{text-align:left;padding:.35rem "
    ".6rem;border-bottom:1px solid var(--line);overflow-wrap:break-word;vertical-align:top}"
    "th{color:var(--soft);font-weight:600}td.n{text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}td.n "
    ".soft{display:block}td:first-child{min-width:7rem}.wide{overflow-x:auto}mark{background:var(--mark);"
    "color:inherit;"
    "border-radius:.2rem}"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:.8rem;margin:.4rem 0 "
    "1rem}.pair div{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.7rem "
    ".9rem;overflow-wrap:anywhere}.pair "
    "small{display:block;color:var(--soft)}img{max-width:100%;border-radius:"
    ".3rem;display:block}";

void page_text(struct buffer *out, const char *text) {
    for (; *text; text++) {
        const char *safe = *text == '<'   ? "&lt;"
                           : *text == '>' ? "&gt;"
                           : *text == '&' ? "&amp;"
                           : *text == '"' ? "&quot;"
                                          : NULL;
        if (safe)
            buffer_append_string(out, safe);
        else
            buffer_append(out, text, 1);
    }
}

void page_say(struct buffer *out, const char *english, const char *french) {
    buffer_printf(out, "<span class=\"en\">%s</span><span lang=\"fr\">%s</span>", english, french);
}

void page_heading(struct buffer *out, const char *english, const char *french) {
    buffer_append_string(out, "<h2>");
    page_say(out, english, french);
    buffer_append_string(out, "</h2>\n");
}

/* The page opens in the language of the locale; a switch changes it. */
static bool prefers_french(void) {
    static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return strncmp(value, "fr", 2) == 0;
    }
    return false;
}

void page_begin(struct buffer *out, const char *title) {
    bool french = prefers_french();
    buffer_append_string(
        out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
             "content=\"width=device-width,initial-scale=1\">\n<title>");
    page_text(out, title);
    buffer_printf(out,
                  "</title>\n<style>%s</style></head>\n<body>\n<input class=\"tongue\" type=\"radio\" "
                  "name=\"tongue\" id=\"english\"%s><input class=\"tongue\" type=\"radio\" name=\"tongue\" "
                  "id=\"french\"%s>\n<div class=\"tongues\"><label for=\"english\">English</label> <label "
                  "for=\"french\">Français</label></div>\n<main>\n",
                  style, french ? "" : " checked", french ? " checked" : "");
}

void page_end(struct buffer *out) {
    buffer_append_string(out, "</main></body></html>\n");
}

void page_tiles_begin(struct buffer *out) {
    buffer_append_string(out, "<div class=\"tiles\">\n");
}

void page_tile(struct buffer *out, const char *figure, const char *english, const char *french) {
    buffer_append_string(out, "<div class=\"tile\"><b>");
    page_text(out, figure);
    buffer_append_string(out, "</b>");
    page_say(out, english, french);
    buffer_append_string(out, "</div>\n");
}

void page_tiles_end(struct buffer *out) {
    buffer_append_string(out, "</div>\n");
}

/* --- Bars ----------------------------------------------------------------------------------------------- */

enum { LEFT = 230, RIGHT = 560, LINE = 26, LABEL = 30 };

/* The byte at which character `index` of a text begins. */
static size_t character_at(const char *text, int index) {
    size_t at = 0;
    while (text[at] && index > 0) {
        at++;
        while ((text[at] & 0xc0) == 0x80)
            at++;
        index--;
    }
    return at;
}

/* At most `most` characters of a name: of a longer one its beginning, which says what it is, and its end,
 * which tells it from others. */
static void put_label(struct buffer *out, const char *label, int most) {
    char text[256];
    int characters = 0, first = most / 3;
    for (const char *at = label; *at; at++)
        characters += (*at & 0xc0) != 0x80;
    if (characters <= most) {
        page_text(out, label);
        return;
    }
    snprintf(text, sizeof text, "%.*s…%.120s", (int)character_at(label, first), label,
             label + character_at(label, characters - (most - first - 1)));
    page_text(out, text);
}

static void put_bar(struct buffer *out, const struct page_bar *bar, int y, double most) {
    double scale = most > 0 ? (RIGHT - LEFT) / most : 0, width = fmax(scale * bar->value, 1.5), end = width;
    buffer_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 8, y + 17);
    put_label(out, bar->label, LABEL);
    buffer_printf(out, "</text><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"18\" rx=\"3\"/>",
                  bar->style_class, LEFT, y + 3, width);
    if (bar->high > bar->low) {
        end = fmax(end, scale * bar->high);
        buffer_printf(out, "<path class=\"axis\" d=\"M%.1f %dH%.1f\"/>", LEFT + scale * fmax(bar->low, 0),
                      y + 12, LEFT + scale * bar->high);
    }
    buffer_printf(out, "<text class=\"soft\" x=\"%.1f\" y=\"%d\">", LEFT + end + 6, y + 17);
    page_text(out, bar->text);
    buffer_append_string(out, "</text>\n");
}

void page_bars(struct buffer *out, const char *title, const struct page_bar *bars, int count) {
    double most = 0;
    for (int i = 0; i < count; i++)
        most = fmax(most, fmax(bars[i].value, isfinite(bars[i].high) ? bars[i].high : 0));

    buffer_printf(out, "<figure><svg viewBox=\"0 0 760 %d\" role=\"img\" aria-label=\"", count * LINE + 8);
    page_text(out, title);
    buffer_append_string(out, "\">\n");
    for (int i = 0; i < count; i++)
        put_bar(out, &bars[i], 4 + i * LINE, most);
    buffer_append_string(out, "</svg></figure>\n");
}
