/* The report as a page without scripts or external resources, in light and dark. */
#include <math.h>
#include <string.h>

#include "quant/report.h"

static const char style[] =
    ":root{color-scheme:light "
    "dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2429;--soft:#5d6a72;--line:#e0ddd5;--a:#8a97a0;--b:#0b7a6b;"
    "--bad:#c2452d}"
    "@media(prefers-color-scheme:dark){:root{--paper:#14181b;--card:#1c2226;--ink:#e8e6e1;--soft:#9aa7ae;--"
    "line:#323b41;--a:#7d8a92;"
    "--b:#3fc2ac;--bad:#f0836c}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 "
    "system-ui,sans-serif}"
    "main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem "
    "4rem}h1{font-size:1.7rem;line-height:1.25;margin:0 0 .25rem}"
    "h2{font-size:1.15rem;margin:2.5rem 0 .5rem}p{margin:.4rem 0 .8rem}.soft{color:var(--soft)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin:1.5rem 0}"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem}"
    ".tile b{display:block;font-size:1.7rem;line-height:1.2}.tile span{color:var(--soft);font-size:.88rem}"
    "figure{margin:.6rem 0;background:var(--card);border:1px solid "
    "var(--line);border-radius:.6rem;padding:1rem;overflow-x:auto}"
    "svg{display:block;width:100%;min-width:34rem;height:auto;font:13px system-ui,sans-serif}svg "
    "text{fill:var(--ink)}"
    "svg .soft{fill:var(--soft)}svg .a{fill:var(--a)}svg .b{fill:var(--b)}svg .bad{fill:var(--bad)}svg "
    ".axis{stroke:var(--line)}"
    "table{border-collapse:collapse;width:100%;font-size:.92rem}th,td{text-align:left;padding:.35rem "
    ".6rem;border-bottom:1px solid "
    "var(--line);overflow-wrap:anywhere}th{color:var(--soft);font-weight:600}td.n{text-align:right;white-"
    "space:nowrap;"
    "font-variant-numeric:tabular-nums}.wide{overflow-x:auto}";

static void put_text(struct buffer *out, const char *text) {
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

static void put_tile(struct buffer *out, const char *figure, const char *words) {
    buffer_append_string(out, "<div class=\"tile\"><b>");
    put_text(out, figure);
    buffer_append_string(out, "</b><span>");
    put_text(out, words);
    buffer_append_string(out, "</span></div>\n");
}

static double percent(int part, int whole) {
    return whole ? 100.0 * part / whole : 0;
}

static void put_tiles(struct buffer *out, const struct report *report) {
    const struct report_side *a = &report->sides[0], *b = &report->sides[1];
    char figure[64], words[160];
    buffer_append_string(out, "<div class=\"tiles\">\n");
    snprintf(figure, sizeof figure, "%.2f×", (double)b->bytes / (double)(a->bytes ? a->bytes : 1));
    snprintf(words, sizeof words, "the size: %.2f MB instead of %.2f MB", (double)b->bytes / 1e6,
             (double)a->bytes / 1e6);
    put_tile(out, figure, words);
    snprintf(figure, sizeof figure, "%.2f×", a->milliseconds / b->milliseconds);
    snprintf(words, sizeof words, "the speed: %.2f ms a photo instead of %.2f ms", b->milliseconds,
             a->milliseconds);
    put_tile(out, figure, words);
    snprintf(figure, sizeof figure, "%.1f %%", percent(report->agreement.same, report->agreement.count));
    snprintf(words, sizeof words, "same prediction, on %d photos", report->count);
    put_tile(out, figure, words);

    if (a->hits.count) {
        snprintf(figure, sizeof figure, "%+.1f",
                 percent(b->hits.first, b->hits.count) - percent(a->hits.first, a->hits.count));
        snprintf(words, sizeof words, "points of top-1: %.1f %% instead of %.1f %%",
                 percent(b->hits.first, b->hits.count), percent(a->hits.first, a->hits.count));
        put_tile(out, figure, words);
    }

    buffer_append_string(out, "</div>\n");
}

struct bar {
    const char *label, *style_class;
    double value;
    char text[48];
};

/* The last `most` bytes of a name, from the start of a UTF-8 character. */
static const char *label_end(const char *label, int most) {
    int length = (int)strlen(label);
    const char *at = label + (length > most ? length - most : 0);
    while ((*at & 0xc0) == 0x80)
        at++;
    return at;
}

/* Horizontal bars: label, bar, number. */
static void put_bars(struct buffer *out, const char *title, const struct bar *bars, int count) {
    enum { LEFT = 230, RIGHT = 580, LINE = 26, LABEL = 30 };
    double most = 0;
    for (int i = 0; i < count; i++)
        most = fmax(most, bars[i].value);

    buffer_printf(out, "<figure><svg viewBox=\"0 0 760 %d\" role=\"img\" aria-label=\"", count * LINE + 8);
    put_text(out, title);
    buffer_append_string(out, "\">\n");

    for (int i = 0; i < count; i++) {
        double width = most > 0 ? (RIGHT - LEFT) * bars[i].value / most : 0;
        int y = 4 + i * LINE, length = (int)strlen(bars[i].label);
        buffer_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 8, y + 17);
        if (length > LABEL)
            buffer_append_string(out, "…");
        put_text(out, label_end(bars[i].label, LABEL));
        buffer_printf(out,
                      "</text><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"18\" rx=\"3\"/>",
                      bars[i].style_class, LEFT, y + 3, fmax(width, 1.5));
        buffer_printf(out, "<text class=\"soft\" x=\"%.1f\" y=\"%d\">", LEFT + fmax(width, 1.5) + 6, y + 17);
        put_text(out, bars[i].text);
        buffer_append_string(out, "</text>\n");
    }

    buffer_append_string(out, "</svg></figure>\n");
}

static void put_size_and_speed(struct buffer *out, const struct report *report) {
    struct bar bars[3];
    buffer_append_string(out, "<h2>Size</h2>\n");

    for (int i = 0; i < 2; i++) {
        const struct report_side *side = &report->sides[i];
        bars[i] = (struct bar){model_name(side->model), i ? "b" : "a", (double)side->bytes, ""};
        snprintf(bars[i].text, sizeof bars[i].text, "%.2f MB", (double)side->bytes / 1e6);
    }

    put_bars(out, "Size of the files", bars, 2);
    buffer_append_string(out, "<h2>Speed</h2>\n<p class=\"soft\">Median of one photo through the network "
                              "(decoding not counted), batch 1, ");
    buffer_printf(out, "%d thread%s, in turns, on ", report->threads, report->threads == 1 ? "" : "s");
    put_text(out, report->processor);
    buffer_append_string(out, ".</p>\n");
    int count = 0;
    char names[3][120];

    for (int i = 0; i < 3; i++) {
        int side = i == 2 ? 1 : 0;
        double time = i == 1 ? report->fast_milliseconds : report->sides[side].milliseconds;
        if (i == 1 && !report->fast)
            continue;
        snprintf(names[count], sizeof names[count], "%.90s, %s", model_name(report->sides[side].model),
                 i == 1 ? "bf16" : engine_precision_used(model_engine(report->sides[side].model)));
        bars[count] = (struct bar){names[count], i == 2 ? "b" : "a", time, ""};
        snprintf(bars[count].text, sizeof bars[count].text, "%.2f ms (%.0f a second)", time, 1000 / time);
        count++;
    }

    put_bars(out, "Time of one photo", bars, count);
}

static void put_accuracy(struct buffer *out, const struct report *report) {
    if (!report->sides[0].hits.count)
        return;

    struct bar bars[4];
    char names[4][120];

    for (int i = 0; i < 4; i++) {
        const struct report_side *side = &report->sides[i % 2];
        int hits = i < 2 ? side->hits.first : side->hits.five;
        snprintf(names[i], sizeof names[i], "%s, %.90s", i < 2 ? "top-1" : "top-5", model_name(side->model));
        bars[i] = (struct bar){names[i], i % 2 ? "b" : "a", percent(hits, side->hits.count), ""};
        snprintf(bars[i].text, sizeof bars[i].text, "%.2f %% (%d of %d)", bars[i].value, hits,
                 side->hits.count);
    }

    buffer_append_string(out,
                         "<h2>Accuracy</h2>\n<p class=\"soft\">By the given labels: the best prediction is "
                         "right, and the right class is among the best five.</p>\n");
    put_bars(out, "Accuracy", bars, 4);
}

/* The photos by divergence, in powers of ten. */
static void put_divergences(struct buffer *out, const struct report *report) {
    enum { CLASSES = 7 };
    static const char *const names[CLASSES] = {"below 0.00001", "0.00001 to 0.0001", "0.0001 to 0.001",
                                               "0.001 to 0.01", "0.01 to 0.1",       "0.1 to 1",
                                               "1 and more"};
    struct bar bars[CLASSES];
    int counts[CLASSES] = {0};

    for (int i = 0; i < report->count; i++) {
        double power = report->divergences[i] > 0 ? floor(log10(report->divergences[i])) : -9;
        int at = (int)power + 6;
        counts[at < 0 ? 0 : at >= CLASSES ? CLASSES - 1 : at]++;
    }

    for (int i = 0; i < CLASSES; i++) {
        bars[i] = (struct bar){names[i], i >= 5 ? "bad" : "b", counts[i], ""};
        snprintf(bars[i].text, sizeof bars[i].text, "%d photo%s", counts[i], counts[i] == 1 ? "" : "s");
    }

    buffer_printf(
        out,
        "<h2>How far the predictions moved</h2>\n<p class=\"soft\">Kullback-Leibler divergence of "
        "the second model's probabilities from the first's, for each photo: 0 is the same, below 0.01 "
        "is hardly noticeable, above 0.1 the order of the predictions may change. Mean %.5f, worst "
        "%.4f (",
        report->agreement.mean, report->agreement.worst);
    put_text(out, report->sides[0].set->photos[report->samples[report->agreement.worst_at]].name);
    buffer_append_string(out, ").</p>\n");
    put_bars(out, "Photos by divergence", bars, CLASSES);
}

static void put_layers(struct buffer *out, const struct report *report) {
    enum { WORST = 10 };
    const struct quant_layer *worst[WORST];
    struct bar bars[WORST];
    int count = report_worst_layers(report, worst, WORST);
    if (!count)
        return;

    for (int i = 0; i < count; i++) {
        bars[i] = (struct bar){worst[i]->name, worst[i]->active ? "b" : "bad", worst[i]->damage, ""};
        snprintf(bars[i].text, sizeof bars[i].text, "%.2g%s", worst[i]->damage,
                 worst[i]->active ? "" : ", kept in float");
    }

    buffer_append_string(out, "<h2>The most damaging layers</h2>\n<p class=\"soft\">Divergence of the "
                              "predictions when only this layer is quantised.</p>\n");
    put_bars(out, "The most damaging layers", bars, count);
}

static void put_float_layers(struct buffer *out, const struct report *report) {
    const struct quant_result *quant = report->quant;
    if (!quant)
        return;

    buffer_printf(out,
                  "<h2>What stayed in float</h2>\n<p>%d of %d convolutions and matrix products run in 8-bit "
                  "integers.</p>\n",
                  quant->quantized_count, quant->layer_count);
    if (quant->quantized_count == quant->layer_count)
        return;

    buffer_append_string(
        out,
        "<div class=\"wide\"><table><tr><th>Layer</th><th>Operator</th><th>Weights</th><th>Why</th></tr>\n");

    for (int i = 0; i < quant->layer_count; i++) {
        const struct quant_layer *layer = &quant->layers[i];
        if (layer->active)
            continue;
        buffer_append_string(out, "<tr><td>");
        put_text(out, layer->name);
        buffer_append_string(out, "</td><td>");
        put_text(out, layer->op_type);
        buffer_printf(out, "</td><td class=\"n\">%lld</td><td>", (long long)layer->weights);
        put_text(out, layer->reason ? layer->reason : "");
        buffer_append_string(out, "</td></tr>\n");
    }

    buffer_append_string(out, "</table></div>\n");
}

static void put_changes(struct buffer *out, const struct report *report) {
    enum { MOST = 50 };
    if (!report->change_count)
        return;

    buffer_printf(out,
                  "<h2>Photos with another prediction</h2>\n<p class=\"soft\">%d of %d%s.</p>\n<div "
                  "class=\"wide\"><table><tr>"
                  "<th>Photo</th>",
                  report->change_count, report->count,
                  report->change_count > MOST ? "; the first 50 are shown" : "");

    for (int side = 0; side < 2; side++) {
        buffer_append_string(out, "<th>");
        put_text(out, model_name(report->sides[side].model));
        buffer_append_string(out, "</th>");
    }

    buffer_append_string(out, "</tr>\n");
    for (int i = 0; i < report->change_count && i < MOST; i++) {
        const struct report_change *change = &report->changes[i];
        buffer_append_string(out, "<tr><td>");
        put_text(out, report->sides[0].set->photos[change->photo].name);
        for (int side = 0; side < 2; side++) {
            buffer_append_string(out, "</td><td>");
            put_text(out, report_label(&report->sides[side], change->best[side]));
            buffer_printf(out, " <span class=\"soft\">%.0f %%</span>",
                          100 * (double)change->probability[side]);
        }
        buffer_append_string(out, "</td></tr>\n");
    }

    buffer_append_string(out, "</table></div>\n");
}

static void put_method(struct buffer *out, const struct report *report) {
    const struct quant_result *quant = report->quant;
    const struct quant_options *options = report->options;
    if (!quant)
        return;

    buffer_printf(
        out,
        "<h2>How it was made</h2>\n<p>Calibrated on %d photos, measured on %d others. Ranges by %s; "
        "%s activations; weights in int8, "
        "%s; biases in int32.",
        quant->calibrated, quant->held_out, quant_method_name(quant->method),
        options->activations == DTYPE_I8 ? "int8" : "uint8",
        options->per_tensor ? "one scale per tensor" : "one scale per channel");
    buffer_append_string(out, quant->corrected ? " Biases were corrected."
                                               : " Correcting the biases did not help and was left out.");
    if (quant->equalized)
        buffer_printf(out, " %d pairs of layers were equalised.", quant->pairs);
    buffer_printf(out, " %d layers were kept in float to stay within %.2g points of agreement: %s.</p>\n",
                  quant->search.kept, options->max_loss,
                  quant->search.met ? "the target is met" : "the target is not met");
}

bool report_html(const struct report *report, struct buffer *ret) {
    struct buffer out = {0};
    buffer_append_string(
        &out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
              "content=\"width=device-width,initial-scale=1\">\n<title>");
    put_text(&out, model_name(report->sides[1].model));
    buffer_append_string(&out, " compared with ");
    put_text(&out, model_name(report->sides[0].model));
    buffer_printf(&out, "</title>\n<style>%s</style></head>\n<body><main>\n<h1>", style);
    put_text(&out, model_name(report->sides[1].model));
    buffer_append_string(&out, " compared with ");
    put_text(&out, model_name(report->sides[0].model));
    buffer_append_string(
        &out,
        "</h1>\n<p class=\"soft\">What it gains, and what it loses. Measured by guichet " GUICHET_VERSION
        ".</p>\n");
    put_tiles(&out, report);
    put_size_and_speed(&out, report);
    put_accuracy(&out, report);
    put_divergences(&out, report);
    put_layers(&out, report);
    put_float_layers(&out, report);
    put_changes(&out, report);
    put_method(&out, report);
    buffer_append_string(&out, "</main></body></html>\n");
    if (out.failed) {
        buffer_release(&out);
        return false;
    }

    *ret = out;
    return true;
}
