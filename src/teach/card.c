/* The card of a taught model, for people (README.md) and for programs (taught.json). */
#include <math.h>
#include <string.h>

#include "base/buffer.h"
#include "teach/folder.h"

enum { MATRIX_MOST = 20 }; /* classes; larger matrices are in taught.json alone */

/* A name within a Markdown table. */
static void append_name(struct buffer *text, const char *name) {
    for (; *name; name++) {
        if (strchr("|\\`*_<>[]", *name))
            buffer_append(text, "\\", 1);
        buffer_append(text, (unsigned char)*name < ' ' ? " " : name, 1);
    }
}

static void append_classes(struct buffer *text, const struct teach_result *result) {
    int classes = result->classes.count;
    buffer_append_string(text, "\n| class | photos | recognised |\n| --- | --- | --- |\n");
    for (int i = 0; i < classes; i++) {
        buffer_append_string(text, "| ");
        append_name(text, result->classes.names[i]);
        buffer_printf(text, " | %d | %d |\n", result->classes.photos[i],
                      result->score.confusion[i * classes + i]);
    }
}

static void append_matrix(struct buffer *text, const struct teach_result *result) {
    int classes = result->classes.count;
    buffer_append_string(
        text, "\n## What is taken for what\n\nA row for each class, a column for each answer.\n\n|  |");
    for (int i = 0; i < classes; i++) {
        buffer_append_string(text, " ");
        append_name(text, result->classes.names[i]);
        buffer_append_string(text, " |");
    }
    buffer_append_string(text, "\n| --- |");
    for (int i = 0; i < classes; i++)
        buffer_append_string(text, " --- |");
    for (int i = 0; i < classes; i++) {
        buffer_append_string(text, "\n| ");
        append_name(text, result->classes.names[i]);
        buffer_append_string(text, " |");
        for (int j = 0; j < classes; j++)
            buffer_printf(text, " %d |", result->score.confusion[i * classes + j]);
    }
    buffer_append_string(text, "\n");
}

static void append_tuning(struct buffer *text, const struct teach_tuning *tuning) {
    buffer_printf(
        text,
        "\nThat is the network before tuning. All of its layers were then tuned on %d of the photos (%lld "
        "steps). Of the %d others it recognises %d, where the layer alone, made from the same photos, "
        "recognises %d.\n",
        tuning->trained, (long long)tuning->steps, tuning->held_out, tuning->right, tuning->head_right);
}

char *teach_card(const struct model *base, const struct teach_options *options,
                 const struct teach_result *result) {
    const struct teach_score *score = &result->score;
    const char *slash = strrchr(options->output, '/');
    int count = result->features.count;
    struct buffer text = {0};

    buffer_printf(&text,
                  "# %s\n\nA classifier of %d classes, taught by guichet from %d photos: the network of %s, "
                  "with a last layer of its own (ridge regression on its %d features).\n\n",
                  slash && slash[1] ? slash + 1 : options->output, result->classes.count, count,
                  model_name(base), result->features.width);
    buffer_printf(
        &text,
        "Of the photos, %d (%.1f %%; with 95 %% confidence between %.1f and %.1f %%) are recognised "
        "by a layer that was made without them (leave-one-out). That holds for photos like these, "
        "taken in the same way; for others it may be worse. Probabilities are off by %.1f points "
        "on average.\n",
        score->right, 100.0 * score->right / count, 100 * score->low, 100 * score->high,
        100 * score->calibration_error);
    if (result->tuning.kept)
        append_tuning(&text, &result->tuning);
    append_classes(&text, result);
    if (result->classes.count <= MATRIX_MOST)
        append_matrix(&text, result);
    if (options->none) {
        buffer_append_string(&text, "\nWhat resembles none of the photos it was taught is called \"");
        append_name(&text, options->none);
        buffer_append_string(&text, "\", and so are about three in a hundred of its own.");
    } else {
        buffer_append_string(&text,
                             "\nIt knows these classes and nothing else: any other photo gets the class "
                             "that it resembles most.");
    }
    buffer_append_string(&text, " taught.json has the same for programs.\n");

    if (text.failed) {
        buffer_release(&text);
        return NULL;
    }
    return text.bytes;
}

static json_t *rounded(double value) {
    return json_real(round(value * 1e6) / 1e6);
}

static json_t *class_reports(const struct teach_result *result) {
    json_t *list = json_array();
    int classes = result->classes.count;
    for (int i = 0; list && i < classes; i++)
        json_array_append_new(list, json_pack("{s:s, s:i, s:i}", "name", result->classes.names[i], "photos",
                                              result->classes.photos[i], "recognised",
                                              result->score.confusion[i * classes + i]));
    return list;
}

static json_t *confusion_report(const struct teach_result *result) {
    json_t *rows = json_array();
    int classes = result->classes.count;
    for (int i = 0; rows && i < classes; i++) {
        json_t *row = json_array();
        for (int j = 0; row && j < classes; j++)
            json_array_append_new(row, json_integer(result->score.confusion[i * classes + j]));
        json_array_append_new(rows, row);
    }
    return rows;
}

/* Photos that are taken for another class, so that somebody may look whether they are in the right folder. */
static json_t *mistake_report(const struct teach_result *result) {
    json_t *list = json_array();
    int classes = result->classes.count;
    for (int i = 0; list && i < result->features.count; i++) {
        const float *probabilities = result->head.left_out + (int64_t)i * classes;
        int best = 0;
        for (int c = 1; c < classes; c++)
            if (probabilities[c] > probabilities[best])
                best = c;
        if (best != result->features.classes[i])
            json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "photo",
                                                  result->list.files[result->features.photos[i]].name,
                                                  "taken_for", result->classes.names[best], "probability",
                                                  rounded(probabilities[best])));
    }
    return list;
}

static json_t *tuning_report(const struct teach_tuning *tuning) {
    return tuning->steps
               ? json_pack("{s:I, s:i, s:i, s:i, s:o, s:i, s:o, s:b}", "steps", (json_int_t)tuning->steps,
                           "trained", tuning->trained, "held_out", tuning->held_out, "head_right",
                           tuning->head_right, "head_loss", rounded(tuning->head_loss), "tuned_right",
                           tuning->right, "tuned_loss", rounded(tuning->loss), "kept", tuning->kept)
               : json_null();
}

static json_t *skipped_report(const struct teach_result *result) {
    json_t *list = json_array();
    for (int i = 0; list && i < result->features.skipped_count; i++)
        json_array_append_new(list, json_string(result->features.skipped[i]));
    return list;
}

json_t *teach_report(const struct model *base, const struct teach_options *options,
                     const struct teach_result *result) {
    const struct teach_score *score = &result->score;
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:{s:i, s:o, s:o, s:o, s:o}, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "guichet", GUICHET_VERSION, "base", model_name(base), "output", options->output, "photos",
        result->features.count, "features", result->features.width, "left_out", "right", score->right,
        "accuracy", rounded((double)score->right / result->features.count), "low", rounded(score->low),
        "high", rounded(score->high), "calibration_error", rounded(score->calibration_error), "penalty",
        rounded(result->head.penalty), "temperature", rounded(result->head.temperature), "classes",
        class_reports(result), "confusion", confusion_report(result), "mistaken", mistake_report(result),
        "none", options->none ? json_string(options->none) : json_null(), "tuning",
        tuning_report(&result->tuning), "skipped", skipped_report(result));
}
