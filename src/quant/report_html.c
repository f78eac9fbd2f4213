/* The report as a page without scripts or external resources, in light and dark. */
#include <math.h>
#include <string.h>

#include "quant/page.h"
#include "quant/report.h"

static double percent(int part, int whole) {
    return whole ? 100.0 * part / whole : 0;
}

static void put_verdict(struct buffer *out, const struct report *report) {
    char english[300], french[300];
    const char *verdict = report_judge(report, english, french, sizeof english);
    buffer_printf(out, "<div class=\"verdict %s\"><b>", verdict);
    page_say(out, english, french);
    buffer_append_string(out, "</b></div>\n");
}

static void put_tiles(struct buffer *out, const struct report *report) {
    const struct report_side *a = &report->sides[0], *b = &report->sides[1];
    char figure[64], english[200], french[200];
    page_tiles_begin(out);
    snprintf(figure, sizeof figure, "%.2f×", (double)b->bytes / (double)(a->bytes ? a->bytes : 1));
    snprintf(english, sizeof english, "the size: %.2f MB instead of %.2f MB", (double)b->bytes / 1e6,
             (double)a->bytes / 1e6);
    snprintf(french, sizeof french, "la taille : %.2f Mo au lieu de %.2f Mo", (double)b->bytes / 1e6,
             (double)a->bytes / 1e6);
    page_tile(out, figure, english, french);
    snprintf(figure, sizeof figure, "%.2f×", report->speedup.value);
    snprintf(english, sizeof english, "the speed of the original as it runs today (%.2f to %.2f)",
             report->speedup.low, report->speedup.high);
    snprintf(french, sizeof french, "la vitesse de l’original tel qu’il tourne aujourd’hui (%.2f à %.2f)",
             report->speedup.low, report->speedup.high);
    page_tile(out, figure, english, french);
    snprintf(figure, sizeof figure, "%.1f %%", 100 * report->same.value);
    snprintf(english, sizeof english, "same prediction, on %d photos (%.1f to %.1f %%)", report->count,
             100 * report->same.low, 100 * report->same.high);
    snprintf(french, sizeof french, "la même prédiction, sur %d photos (%.1f à %.1f %%)", report->count,
             100 * report->same.low, 100 * report->same.high);
    page_tile(out, figure, english, french);

    if (a->hits.count) {
        double before = percent(a->hits.first, a->hits.count), after = percent(b->hits.first, b->hits.count);
        snprintf(figure, sizeof figure, "%+.1f", after - before);
        snprintf(english, sizeof english, "points of top-1: %.1f %% instead of %.1f %%", after, before);
        snprintf(french, sizeof french, "points de top-1 : %.1f %% au lieu de %.1f %%", after, before);
        page_tile(out, figure, english, french);
    }
    page_tiles_end(out);
}

static void put_size_and_speed(struct buffer *out, const struct report *report) {
    struct page_bar bars[3];
    page_heading(out, "Size", "Taille");

    for (int i = 0; i < 2; i++) {
        const struct report_side *side = &report->sides[i];
        bars[i] = (struct page_bar){
            .label = model_name(side->model), .style_class = i ? "b" : "a", .value = (double)side->bytes};
        snprintf(bars[i].text, sizeof bars[i].text, "%.2f MB", (double)side->bytes / 1e6);
    }

    page_bars(out, "Size of the files", bars, 2);
    page_heading(out, "Speed", "Vitesse");
    buffer_append_string(out, "<p class=\"soft\">");
    page_say(
        out,
        "Median of one photo through the network (decoding not counted), one at a time, in turns. Threads: ",
        "Médiane d’une photo à travers le réseau (sans le décodage), une à la fois, tour à tour. Fils "
        "d’exécution : ");
    buffer_printf(out, "%d, ", report->threads);
    page_text(out, report->processor);
    buffer_append_string(out, ".</p>\n");
    int count = 0;
    char names[3][120];

    for (int i = 0; i < 3; i++) {
        int side = i == 2 ? 1 : 0;
        const struct estimate *interval = i == 1 ? &report->fast_time : &report->sides[side].time;
        double time = i == 1 ? report->fast_milliseconds : report->sides[side].milliseconds;
        if (i == 1 && !report->fast)
            continue;
        snprintf(names[count], sizeof names[count], "%.90s, %s", model_name(report->sides[side].model),
                 i == 1 ? "bf16" : engine_precision_used(model_engine(report->sides[side].model)));
        bars[count] =
            (struct page_bar){names[count], i == 2 ? "b" : "a", time, interval->low, interval->high, ""};
        snprintf(bars[count].text, sizeof bars[count].text, "%.2f ms (%.0f a second)", time, 1000 / time);
        count++;
    }

    page_bars(out, "Time of one photo", bars, count);
}

static void put_accuracy(struct buffer *out, const struct report *report) {
    if (!report->sides[0].hits.count)
        return;

    struct page_bar bars[4];
    char names[4][120];

    for (int i = 0; i < 4; i++) {
        const struct report_side *side = &report->sides[i % 2];
        int hits = i < 2 ? side->hits.first : side->hits.five;
        snprintf(names[i], sizeof names[i], "%s, %.90s", i < 2 ? "top-1" : "top-5", model_name(side->model));
        bars[i] = (struct page_bar){
            .label = names[i], .style_class = i % 2 ? "b" : "a", .value = percent(hits, side->hits.count)};
        snprintf(bars[i].text, sizeof bars[i].text, "%.2f %% (%d of %d)", bars[i].value, hits,
                 side->hits.count);
    }

    page_heading(out, "Accuracy", "Justesse");
    buffer_append_string(out, "<p class=\"soft\">");
    page_say(out,
             "By the given labels: the best prediction is right, and the right class is among the best five.",
             "Selon les étiquettes données : la meilleure prédiction est juste ; la bonne classe est parmi "
             "les cinq meilleures.");
    buffer_append_string(out, "</p>\n");
    page_bars(out, "Accuracy", bars, 4);
}

/* The photos by divergence, in powers of ten. */
static void put_divergences(struct buffer *out, const struct report *report) {
    enum { CLASSES = 7 };
    static const char *const names[CLASSES] = {"below 0.00001", "0.00001 to 0.0001", "0.0001 to 0.001",
                                               "0.001 to 0.01", "0.01 to 0.1",       "0.1 to 1",
                                               "1 and more"};
    struct page_bar bars[CLASSES];
    int counts[CLASSES] = {0};

    for (int i = 0; i < report->count; i++) {
        double power = report->divergences[i] > 0 ? floor(log10(report->divergences[i])) : -9;
        int at = (int)power + 6;
        counts[at < 0 ? 0 : at >= CLASSES ? CLASSES - 1 : at]++;
    }

    for (int i = 0; i < CLASSES; i++) {
        bars[i] =
            (struct page_bar){.label = names[i], .style_class = i >= 5 ? "bad" : "b", .value = counts[i]};
        snprintf(bars[i].text, sizeof bars[i].text, "%d photo%s", counts[i], counts[i] == 1 ? "" : "s");
    }

    page_heading(out, "How far the predictions moved", "De combien les prédictions ont bougé");
    buffer_append_string(out, "<p class=\"soft\">");
    page_say(out,
             "Kullback-Leibler divergence of the second model's probabilities from the first's, for each "
             "photo: 0 is the "
             "same, below 0.01 is hardly noticeable, above 0.1 the order of the predictions may change.",
             "Divergence de Kullback-Leibler entre les probabilités du second modèle et celles du premier, "
             "pour chaque photo : "
             "0, c’est pareil ; sous 0,01, à peine sensible ; au-dessus de 0,1, l’ordre des prédictions peut "
             "changer.");
    buffer_printf(out, " %.5f (%.5f – %.5f); max. %.4f (", report->divergence.value, report->divergence.low,
                  report->divergence.high, report->agreement.worst);
    page_text(out, report->sides[0].set->photos[report->samples[report->agreement.worst_at]].name);
    buffer_append_string(out, ").</p>\n");
    page_bars(out, "Photos by divergence", bars, CLASSES);
}

static void put_layers(struct buffer *out, const struct report *report) {
    enum { WORST = 10 };
    const struct quant_layer *worst[WORST];
    struct page_bar bars[WORST];
    int count = report_worst_layers(report, worst, WORST);
    if (!count)
        return;

    for (int i = 0; i < count; i++) {
        bars[i] = (struct page_bar){.label = worst[i]->name,
                                    .style_class = worst[i]->active ? "b" : "bad",
                                    .value = worst[i]->damage};
        snprintf(bars[i].text, sizeof bars[i].text, "%.2g%s", worst[i]->damage,
                 worst[i]->active ? "" : ", kept in float");
    }

    page_heading(out, "The most damaging layers", "Les couches les plus coûteuses");
    buffer_append_string(out, "<p class=\"soft\">");
    page_say(out, "Divergence of the predictions when only this layer is quantised.",
             "Divergence des prédictions quand cette couche seule est quantifiée.");
    buffer_append_string(out, "</p>\n");
    page_bars(out, "The most damaging layers", bars, count);
}

static void put_float_layers(struct buffer *out, const struct report *report) {
    const struct quant_result *quant = report->quant;
    if (!quant)
        return;

    char english[160], french[160];
    page_heading(out, "What stayed in float", "Ce qui est resté en flottants");
    snprintf(english, sizeof english, "%d of %d convolutions and matrix products run in 8-bit integers.",
             quant->quantized_count, quant->layer_count);
    snprintf(french, sizeof french,
             "%d convolutions et produits de matrices sur %d se calculent en entiers de 8 bits.",
             quant->quantized_count, quant->layer_count);
    buffer_append_string(out, "<p>");
    page_say(out, english, french);
    buffer_append_string(out, "</p>\n");
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
        page_text(out, layer->name);
        buffer_append_string(out, "</td><td>");
        page_text(out, layer->op_type);
        buffer_printf(out, "</td><td class=\"n\">%lld</td><td>", (long long)layer->weights);
        page_text(out, layer->reason ? layer->reason : "");
        buffer_append_string(out, "</td></tr>\n");
    }

    buffer_append_string(out, "</table></div>\n");
}

static void put_changes(struct buffer *out, const struct report *report) {
    enum { MOST = 50 };
    if (!report->change_count)
        return;

    page_heading(out, "Photos with another prediction", "Photos dont la prédiction change");
    buffer_printf(out, "<p class=\"soft\">%d / %d", report->change_count, report->count);
    if (report->change_count > MOST)
        page_say(out, "; the first 50 are shown", " ; voici les 50 premières");
    buffer_append_string(out, "</p>\n<div class=\"wide\"><table><tr><th>Photo</th>");
    for (int side = 0; side < 2; side++) {
        buffer_append_string(out, "<th>");
        page_text(out, model_name(report->sides[side].model));
        buffer_append_string(out, "</th>");
    }

    buffer_append_string(out, "</tr>\n");
    for (int i = 0; i < report->change_count && i < MOST; i++) {
        const struct report_change *change = &report->changes[i];
        buffer_append_string(out, "<tr><td>");
        page_text(out, report->sides[0].set->photos[change->photo].name);
        for (int side = 0; side < 2; side++) {
            buffer_append_string(out, "</td><td>");
            page_text(out, report_label(&report->sides[side], change->best[side]));
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

    char english[600], french[600];
    const char *method = quant_method_name(quant->method);
    bool is_signed = options->activations == DTYPE_I8, met = report_target_is_met(report);
    snprintf(
        english, sizeof english,
        "Calibrated on %d photos; %d others chose between ways to do it, and the report is on %d that did "
        "neither. "
        "Ranges by %s; %s activations; weights in int8, one scale per %s; biases in int32%s. %d pairs of "
        "layers "
        "were equalised, %d layers kept in float. At most %.2g points of agreement may be lost: this is %s.",
        quant->calibrated, quant->choosing, quant->held_out, method, is_signed ? "int8" : "uint8",
        options->per_tensor ? "tensor" : "channel", quant->corrected ? ", corrected" : "",
        quant->equalized ? quant->pairs : 0, quant->search.kept, options->max_loss,
        met ? "certain (95 %)" : "not certain");
    snprintf(french, sizeof french,
             "Calibré sur %d photos ; %d autres ont choisi entre les façons de faire, et le rapport porte "
             "sur %d qui n’ont "
             "fait ni l’un ni l’autre. Étendues par %s ; activations %s ; poids en int8, une échelle par %s "
             "; biais en "
             "int32%s. %d paires de couches égalisées, %d couches gardées en flottants. Au plus %.2g points "
             "d’accord "
             "peuvent être perdus : c’est %s.",
             quant->calibrated, quant->choosing, quant->held_out, method, is_signed ? "int8" : "uint8",
             options->per_tensor ? "tenseur" : "canal", quant->corrected ? ", corrigés" : "",
             quant->equalized ? quant->pairs : 0, quant->search.kept, options->max_loss,
             met ? "certain (95 %)" : "incertain");
    page_heading(out, "How it was made", "Comment il a été fait");
    buffer_append_string(out, "<p>");
    page_say(out, english, french);
    buffer_append_string(out, "</p>\n");
}

bool report_html(const struct report *report, struct buffer *ret) {
    struct buffer out = {0};
    page_begin(&out, model_name(report->sides[1].model));
    buffer_append_string(&out, "<h1>");
    page_text(&out, model_name(report->sides[1].model));
    buffer_append_string(&out, "</h1>\n<p class=\"soft\">");
    page_say(&out, "What it gains and loses against ", "Ce qu’il gagne et perd face à ");
    page_text(&out, model_name(report->sides[0].model));
    page_say(&out, ", measured by guichet " GUICHET_VERSION ".", ", mesuré par guichet " GUICHET_VERSION ".");
    buffer_append_string(&out, "</p>\n");
    put_verdict(&out, report);
    put_tiles(&out, report);
    put_size_and_speed(&out, report);
    put_accuracy(&out, report);
    put_divergences(&out, report);
    put_layers(&out, report);
    put_float_layers(&out, report);
    put_changes(&out, report);
    put_method(&out, report);
    page_end(&out);
    if (out.failed) {
        buffer_release(&out);
        return false;
    }

    *ret = out;
    return true;
}
