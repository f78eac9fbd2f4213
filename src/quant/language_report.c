#include "quant/language_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/language_continue.h"
#include "quant/page.h"

enum { SENTENCE = 300 };

/* --- JSON ----------------------------------------------------------------------------------------------- */

static json_t *sides_json(const struct language_comparison *c) {
    json_t *sides = json_array();
    for (int i = 0; i < 2; i++)
        json_array_append_new(
            sides, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "name", c->sides[i].name, "bytes",
                             estimate_json(estimate_exact((double)c->sides[i].bytes)), "memory_bytes",
                             estimate_json(estimate_exact((double)c->sides[i].memory)), "perplexity",
                             estimate_json(c->sides[i].perplexity), "prompt_tokens_per_s",
                             estimate_json(c->sides[i].prompt_rate), "decode_tokens_per_s",
                             estimate_json(c->sides[i].step_rate)));
    return sides;
}

static json_t *tensors_json(const struct language_result *result) {
    json_t *tensors = json_array();
    for (size_t i = 0; i < result->tensor_count; i++) {
        const struct language_tensor *tensor = &result->tensors[i];
        json_t *entry = json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", tensor->name, "from",
                                  block_type_name(tensor->from), "type", block_type_name(tensor->to),
                                  "weights", (json_int_t)tensor->weights, "bytes", (json_int_t)tensor->bytes);
        if (entry && tensor->why)
            json_object_set_new(entry, "why", json_string(tensor->why));
        json_array_append_new(tensors, entry);
    }
    return tensors;
}

static json_t *continuations_json(const struct language_comparison *c) {
    json_t *all = json_array();
    for (int i = 0; i < c->continuation_count; i++)
        json_array_append_new(all,
                              json_pack("{s:s, s:s, s:s}", "beginning", c->continuations[i].beginning, "a",
                                        c->continuations[i].texts[0], "b", c->continuations[i].texts[1]));
    return all;
}

json_t *language_report_json(const struct language_report *report) {
    const struct language_comparison *c = report->comparison;
    char english[SENTENCE], french[SENTENCE];
    enum language_verdict verdict = language_judge(c, english, french, sizeof english);
    double part = (double)c->sides[1].bytes / (double)(c->sides[0].bytes ? c->sides[0].bytes : 1);
    json_t *measures = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "size_ratio", estimate_json(estimate_exact(part)),
        "kl_mean", estimate_json(c->divergence), "kl_99", estimate_json(c->divergence_99), "kl_largest",
        estimate_json(c->divergence_most), "same_first_token", estimate_json(c->same_first),
        "perplexity_ratio", estimate_json(c->ratio), "prompt_speedup", estimate_json(c->prompt_speedup),
        "decode_speedup", estimate_json(c->step_speedup));
    json_t *root = json_pack(
        "{s:s, s:s, s:i, s:s, s:{s:s, s:s}, s:o, s:o, s:i, s:I, s:s, s:o}", "guichet", GUICHET_VERSION,
        "processor", c->processor, "threads", c->threads, "verdict", language_verdict_name(verdict), "advice",
        "en", english, "fr", french, "models", sides_json(c), "measures", measures, "judged_windows",
        c->windows, "judged_tokens", (json_int_t)c->tokens, "text",
        c->is_sampled ? "written by the model" : "given", "continuations", continuations_json(c));
    if (root && report->result) {
        json_object_set_new(root, "type", json_string(report->target));
        json_object_set_new(root, "chosen_by_windows", json_integer(report->choosers));
        json_object_set_new(root, "tensors", tensors_json(report->result));
    }
    return root;
}

/* --- The page ------------------------------------------------------------------------------------------- */

static void put_verdict(struct buffer *out, const struct language_comparison *c) {
    char english[SENTENCE], french[SENTENCE];
    enum language_verdict verdict = language_judge(c, english, french, sizeof english);
    buffer_printf(out, "<div class=\"verdict %s\"><b>", language_verdict_name(verdict));
    page_say(out, english, french);
    buffer_append_string(out, "</b></div>\n");
}

static const char *megabytes(double bytes, char text[32]) {
    snprintf(text, 32, bytes < 1e9 ? "%.2f MB" : "%.2f GB", bytes < 1e9 ? bytes / 1e6 : bytes / 1e9);
    return text;
}

static void put_tiles(struct buffer *out, const struct language_comparison *c) {
    const struct language_side *a = &c->sides[0], *b = &c->sides[1];
    char figure[64], english[240], french[240], first[32], second[32];
    page_tiles_begin(out);
    snprintf(figure, sizeof figure, "%.2f×", (double)b->bytes / (double)(a->bytes ? a->bytes : 1));
    megabytes((double)a->bytes, first);
    megabytes((double)b->bytes, second);
    snprintf(english, sizeof english, "the size: %s instead of %s", second, first);
    snprintf(french, sizeof french, "la taille : %s au lieu de %s", second, first);
    page_tile(out, figure, english, french);

    snprintf(figure, sizeof figure, "%.2f×", c->step_speedup.value);
    snprintf(english, sizeof english, "the speed of writing (%.2f to %.2f)", c->step_speedup.low,
             c->step_speedup.high);
    snprintf(french, sizeof french, "la vitesse d’écriture (%.2f à %.2f)", c->step_speedup.low,
             c->step_speedup.high);
    page_tile(out, figure, english, french);

    snprintf(figure, sizeof figure, "%.1f %%", 100 * c->same_first.value);
    snprintf(english, sizeof english, "the same first token (%.1f to %.1f %%)", 100 * c->same_first.low,
             100 * c->same_first.high);
    snprintf(french, sizeof french, "le même premier jeton (%.1f à %.1f %%)", 100 * c->same_first.low,
             100 * c->same_first.high);
    page_tile(out, figure, english, french);

    snprintf(figure, sizeof figure, "%.4f", c->divergence.value);
    snprintf(english, sizeof english, "mean divergence (%.4f to %.4f)", c->divergence.low,
             c->divergence.high);
    snprintf(french, sizeof french, "divergence moyenne (%.4f à %.4f)", c->divergence.low,
             c->divergence.high);
    page_tile(out, figure, english, french);
    page_tiles_end(out);
}

static void put_row(struct buffer *out, const char *english, const char *french, struct estimate a,
                    struct estimate b, int digits) {
    const struct estimate both[] = {a, b};
    buffer_append_string(out, "<tr><td>");
    page_say(out, english, french);
    for (int i = 0; i < 2; i++) {
        buffer_printf(out, "</td><td class=\"n\">%.*f", digits, both[i].value);
        if (both[i].high > both[i].low)
            buffer_printf(out, " <span class=\"soft\">%.*f – %.*f</span>", digits, both[i].low, digits,
                          both[i].high);
    }
    buffer_append_string(out, "</td></tr>\n");
}

static void put_sides(struct buffer *out, const struct language_comparison *c) {
    const struct language_side *a = &c->sides[0], *b = &c->sides[1];
    page_heading(out, "Before and after", "Avant et après");
    buffer_append_string(out, "<div class=\"wide\"><table><tr><th></th>");
    for (int i = 0; i < 2; i++) {
        buffer_append_string(out, "<th>");
        page_text(out, c->sides[i].name);
        buffer_append_string(out, "</th>");
    }
    buffer_append_string(out, "</tr>\n");
    put_row(out, "size, MB", "taille, Mo", estimate_exact((double)a->bytes / 1e6),
            estimate_exact((double)b->bytes / 1e6), 2);
    put_row(out, "memory with one conversation, MB", "mémoire avec une conversation, Mo",
            estimate_exact((double)a->memory / 1e6), estimate_exact((double)b->memory / 1e6), 1);
    put_row(out, "reading a prompt, tokens/s", "lecture d’une question, jetons/s", a->prompt_rate,
            b->prompt_rate, 0);
    put_row(out, "writing, tokens/s", "écriture, jetons/s", a->step_rate, b->step_rate, 1);
    put_row(out, "perplexity", "perplexité", a->perplexity, b->perplexity, 3);
    buffer_append_string(out, "</table></div>\n<p class=\"soft\">");
    page_say(
        out,
        "Small figures are intervals that hold with 95 % confidence. Speeds were measured in turns, with ",
        "Les petits chiffres sont des intervalles de confiance à 95 %. Les vitesses ont été mesurées "
        "tour à tour, sur ");
    buffer_printf(out, "%d ", c->threads);
    page_say(out, "threads on ", "fils d’exécution, sur ");
    page_text(out, c->processor);
    buffer_append_string(out, ".</p>\n");
}

static void put_distance(struct buffer *out, const struct language_report *report) {
    const struct language_comparison *c = report->comparison;
    const struct {
        const char *name;
        struct estimate estimate;
    } rows[] = {{"mean · moyenne", c->divergence},
                {"99 %", c->divergence_99},
                {"largest · maximum", c->divergence_most}};
    struct page_bar bars[3];

    page_heading(out, "How far its predictions moved", "De combien ses prédictions ont bougé");
    buffer_append_string(out, "<p class=\"soft\">");
    page_say(out,
             "Kullback-Leibler divergence of the next token's probabilities from the original's: 0 is the "
             "same; below "
             "0.05 is hardly noticeable, above 0.15 is. ",
             "Divergence de Kullback-Leibler entre les probabilités du jeton suivant et celles de l’original "
             ": 0, c’est "
             "pareil ; sous 0,05, à peine sensible ; au-dessus de 0,15, sensible. ");
    char english[240], french[240];
    snprintf(english, sizeof english,
             "Measured at %zu tokens in %d windows of %s, which chose nothing. Perplexity grew %.3f times "
             "(%.3f to %.3f).",
             c->tokens, c->windows, c->is_sampled ? "a text that the model wrote" : "the text",
             c->ratio.value, c->ratio.low, c->ratio.high);
    snprintf(french, sizeof french,
             "Mesuré sur %zu jetons de %d fenêtres %s, qui n’ont rien choisi. Perplexité multipliée par %.3f "
             "(%.3f à %.3f).",
             c->tokens, c->windows, c->is_sampled ? "d’un texte écrit par le modèle" : "du texte",
             c->ratio.value, c->ratio.low, c->ratio.high);
    page_say(out, english, french);
    buffer_append_string(out, "</p>\n");
    for (int i = 0; i < 3; i++) {
        struct estimate e = rows[i].estimate;
        bars[i] = (struct page_bar){rows[i].name, i == 2 ? "bad" : "b", e.value, e.low, e.high, ""};
        snprintf(bars[i].text, sizeof bars[i].text, "%.4f", e.value);
    }
    page_bars(out, "Divergence", bars, 3);
}

/* A text with the words marked that differ. */
static void put_marked(struct buffer *out, const char *text, const bool *differ) {
    int word = -1;
    bool inside = false;
    for (const char *at = text; *at; at++) {
        bool space = *at == ' ' || *at == '\n' || *at == '\t' || *at == '\r';
        char one[2] = {*at, 0};
        if (!space && !inside && ++word < 200 && differ[word])
            buffer_append_string(out, "<mark>");
        if (space && inside && word < 200 && differ[word])
            buffer_append_string(out, "</mark>");
        inside = !space;
        page_text(out, one);
    }
    if (inside && word >= 0 && word < 200 && differ[word])
        buffer_append_string(out, "</mark>");
}

static bool put_continuations(struct buffer *out, const struct language_comparison *c) {
    struct error ignored;
    page_heading(out, "The same beginnings, continued by both", "Les mêmes débuts, continués par les deux");
    buffer_append_string(out, "<p class=\"soft\">");
    page_say(out, "Always the likeliest token; words that differ are marked.",
             "Toujours le jeton le plus probable ; les mots qui diffèrent sont surlignés.");
    buffer_append_string(out, "</p>\n");
    for (int i = 0; i < c->continuation_count; i++) {
        const struct language_continuation *continuation = &c->continuations[i];
        bool *differ[2];
        if (!language_words_differ(continuation->texts[0], continuation->texts[1], &differ[0], &differ[1],
                                   &ignored))
            return false;
        buffer_append_string(out, "<p><b>");
        page_text(out, continuation->beginning);
        buffer_append_string(out, "</b> …</p>\n<div class=\"pair\">");
        for (int side = 0; side < 2; side++) {
            buffer_append_string(out, "<div><small>");
            page_text(out, c->sides[side].name);
            buffer_append_string(out, "</small>");
            put_marked(out, continuation->texts[side], differ[side]);
            buffer_append_string(out, "</div>");
            free(differ[side]);
        }
        buffer_append_string(out, "</div>\n");
    }
    return true;
}

/* Why a tensor has another type than most. */
static const char *in_french(const char *why) {
    static const char *const known[][2] = {
        {"small, and kept as it is", "petit, gardé tel quel"},
        {"the output: each word depends on it", "la sortie : chaque mot en dépend"},
        {"more bits by the mix: it is sensitive", "plus de bits par le mélange : il est sensible"},
        {"rows are no multiple of 256", "lignes non multiples de 256"},
        {"rows are no multiple of 32", "lignes non multiples de 32"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(why, known[i][0]) == 0)
            return known[i][1];
    return why;
}

static void put_tensors(struct buffer *out, const struct language_report *report) {
    const struct language_result *result = report->result;
    if (!result)
        return;

    page_heading(out, "Which tensor got which type", "Le type de chaque tenseur");
    buffer_append_string(out, "<p class=\"soft\">");
    if (report->choosers) {
        char english[160], french[160];
        snprintf(english, sizeof english, "Rounded by %d windows of text (second-order rounding).",
                 report->choosers);
        snprintf(french, sizeof french, "Arrondi selon %d fenêtres de texte (arrondi du second ordre).",
                 report->choosers);
        page_say(out, english, french);
    } else {
        page_say(out, "Each weight was rounded by itself.", "Chaque poids a été arrondi séparément.");
    }
    buffer_append_string(out, "</p>\n<div class=\"wide\"><table><tr><th>");
    page_say(out, "Tensor", "Tenseur");
    buffer_append_string(out, "</th><th>");
    page_say(out, "Type", "Type");
    buffer_append_string(out, "</th><th>MB</th><th>");
    page_say(out, "Why", "Pourquoi");
    buffer_append_string(out, "</th></tr>\n");
    for (size_t i = 0; i < result->tensor_count; i++) {
        const struct language_tensor *tensor = &result->tensors[i];
        if (tensor->from == tensor->to)
            continue;
        buffer_append_string(out, "<tr><td>");
        page_text(out, tensor->name);
        buffer_printf(out, "</td><td>%s → %s</td><td class=\"n\">%.2f</td><td>",
                      block_type_name(tensor->from), block_type_name(tensor->to),
                      (double)tensor->bytes / 1e6);
        if (tensor->why)
            page_say(out, tensor->why, in_french(tensor->why));
        buffer_append_string(out, "</td></tr>\n");
    }
    buffer_append_string(out, "</table></div>\n");
}

bool language_report_html(const struct language_report *report, struct buffer *ret) {
    const struct language_comparison *c = report->comparison;
    struct buffer out = {0};
    page_begin(&out, c->sides[1].name);
    buffer_append_string(&out, "<h1>");
    page_text(&out, c->sides[1].name);
    buffer_append_string(&out, "</h1>\n<p class=\"soft\">");
    page_say(&out, "What it gains and loses against ", "Ce qu’il gagne et perd face à ");
    page_text(&out, c->sides[0].name);
    page_say(&out, ", measured by guichet " GUICHET_VERSION ".", ", mesuré par guichet " GUICHET_VERSION ".");
    buffer_append_string(&out, "</p>\n");
    put_verdict(&out, c);
    put_tiles(&out, c);
    put_sides(&out, c);
    put_distance(&out, report);
    bool done = put_continuations(&out, c);
    put_tensors(&out, report);
    page_end(&out);
    if (!done || out.failed) {
        buffer_release(&out);
        return false;
    }
    *ret = out;
    return true;
}
