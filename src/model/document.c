#include "model/document.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"

struct document_layout {
    const char *comma, *colon;
    void (*write_probability)(struct buffer *text, double value);
    void (*write_milliseconds)(struct buffer *text, double value);
};

struct document_writer {
    const struct document_layout *layout;
    struct buffer *text;
};

static void write_rounded(struct buffer *text, double value, double scale) {
    json_t *json = json_real(round(value * scale) / scale);
    cleanup(freep) char *number = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    json_decref(json);
    buffer_append_string(text, number ? number : "null");
}

static void write_6_decimals(struct buffer *text, double value) {
    write_rounded(text, value, 1e6);
}

static void write_3_decimals(struct buffer *text, double value) {
    write_rounded(text, value, 1e3);
}

static void write_6_digits(struct buffer *text, double value) {
    buffer_printf(text, "%.6g", value);
}

static void write_3_decimals_padded(struct buffer *text, double value) {
    buffer_printf(text, "%.3f", value);
}

static const struct document_layout line_layout = {
    .comma = ",",
    .colon = ":",
    .write_probability = write_6_decimals,
    .write_milliseconds = write_3_decimals,
};

static const struct document_layout body_layout = {
    .comma = ", ",
    .colon = ": ",
    .write_probability = write_6_digits,
    .write_milliseconds = write_3_decimals_padded,
};

/* The name of a member of an object, after a comma where it is not the first. */
static void write_name(const struct document_writer *writer, const char *name) {
    const struct buffer *text = writer->text;
    if (text->size && text->bytes[text->size - 1] != '{')
        buffer_append_string(writer->text, writer->layout->comma);
    buffer_printf(writer->text, "\"%s\"%s", name, writer->layout->colon);
}

static void write_string(const struct document_writer *writer, const char *name, const char *value) {
    write_name(writer, name);
    json_append_string(writer->text, value);
}

static void write_milliseconds(const struct document_writer *writer, const char *name, double value) {
    write_name(writer, name);
    writer->layout->write_milliseconds(writer->text, value);
}

static void write_category(const struct document_writer *writer, const struct prediction_document *document) {
    write_string(writer, "category",
                 model_label(document->model, document->predictions[0].index, document->language));
}

/* Only where the model's folder has a rule for it. */
static void write_known(const struct document_writer *writer, const struct prediction_document *document) {
    const char *known = model_knows_name(document->predictions[0].knows);
    if (known)
        write_string(writer, "known", known);
}

static void write_predictions(const struct document_writer *writer,
                              const struct prediction_document *document) {
    write_name(writer, "predictions");
    buffer_append_string(writer->text, "[");

    for (int i = 0; i < document->count; i++) {
        const struct prediction *prediction = &document->predictions[i];
        buffer_append_string(writer->text, i ? writer->layout->comma : "");
        buffer_append_string(writer->text, "{");
        write_name(writer, "index");
        buffer_printf(writer->text, "%d", prediction->index);
        write_string(writer, "label", model_label(document->model, prediction->index, document->language));
        write_name(writer, "probability");
        writer->layout->write_probability(writer->text, prediction->probability);
        buffer_append_string(writer->text, "}");
    }

    buffer_append_string(writer->text, "]");
}

static void write_timing(const struct document_writer *writer, const struct prediction_document *document,
                         bool with_queue) {
    const struct timing *timing = &document->timing;
    write_name(writer, "timing_ms");
    buffer_append_string(writer->text, "{");
    write_milliseconds(writer, "fetch", timing->fetch);
    write_milliseconds(writer, "decode", timing->decode);
    write_milliseconds(writer, "preprocess", timing->preprocess);
    if (with_queue)
        write_milliseconds(writer, "queue", document->queue_ms);
    write_milliseconds(writer, "infer", timing->infer);
    buffer_append_string(writer->text, "}");
}

void prediction_document_write_line(const struct prediction_document *document, struct buffer *text) {
    const struct document_writer writer = {&line_layout, text};
    buffer_append_string(text, "{");
    if (document->image)
        write_string(&writer, "image", document->image);
    write_string(&writer, "model", document->name);
    write_category(&writer, document);
    write_known(&writer, document);
    write_predictions(&writer, document);
    write_timing(&writer, document, false);
    buffer_append_string(text, "}");
}

void prediction_document_write_body(const struct prediction_document *document, struct buffer *text) {
    const struct document_writer writer = {&body_layout, text};
    buffer_append_string(text, "{");
    write_category(&writer, document);
    write_string(&writer, "model", document->name);
    if (document->image)
        write_string(&writer, "image", document->image);
    write_known(&writer, document);
    write_predictions(&writer, document);
    write_timing(&writer, document, true);

    write_name(&writer, "batch");
    buffer_printf(text, "%d", document->batch);
    write_string(&writer, "precision", engine_precision_used(model_engine(document->model)));
    buffer_append_string(text, "}\n");
}
