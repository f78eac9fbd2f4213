#include <math.h>

#include "quant/report.h"

static json_t *real(double value, int digits) {
    double scale = pow(10, digits);
    return isfinite(value) ? json_real(round(value * scale) / scale) : json_null();
}

static json_t *share(int part, int whole) {
    return whole ? real((double)part / whole, 6) : json_null();
}

static json_t *side_json(const struct report_side *side) {
    return json_pack("{s:s, s:I, s:s, s:o, s:o, s:o, s:o}", "name", model_name(side->model), "bytes",
                     (json_int_t)side->bytes, "precision", engine_precision_used(model_engine(side->model)),
                     "median_ms", real(side->milliseconds, 3), "images_per_s",
                     real(1000 / side->milliseconds, 1), "top1", share(side->hits.first, side->hits.count),
                     "top5", share(side->hits.five, side->hits.count));
}

static json_t *layers_json(const struct quant_result *quant) {
    json_t *layers = json_array();
    for (int i = 0; layers && i < quant->layer_count; i++) {
        const struct quant_layer *layer = &quant->layers[i];
        json_t *entry =
            json_pack("{s:s, s:s, s:b, s:I, s:o}", "name", layer->name, "operator", layer->op_type, "int8",
                      layer->active, "weights", (json_int_t)layer->weights, "divergence_alone",
                      layer->damage >= 0 ? real(layer->damage, 8) : json_null());
        if (entry && layer->reason)
            json_object_set_new(entry, "float_because", json_string(layer->reason));
        json_array_append_new(layers, entry);
    }

    return layers;
}

static json_t *quant_json(const struct report *report) {
    const struct quant_result *quant = report->quant;
    const struct quant_options *options = report->options;
    return json_pack(
        "{s:s, s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:o, s:b, s:i, s:i, s:i, s:o}", "method",
        quant_method_name(quant->method), "activations", options->activations == DTYPE_I8 ? "int8" : "uint8",
        "per_channel", !options->per_tensor, "bias_correction", quant->corrected, "equalised_pairs",
        quant->equalized ? quant->pairs : 0, "calibration_photos", quant->calibrated, "choosing_photos",
        quant->choosing, "held_out_photos", quant->held_out, "max_loss_points", real(options->max_loss, 3),
        "target_met", report_target_is_met(report), "layers_int8", quant->quantized_count, "layers_float",
        quant->layer_count - quant->quantized_count, "kept_in_float", quant->search.kept, "layers",
        layers_json(quant));
}

static json_t *changes_json(const struct report *report) {
    json_t *changes = json_array();
    for (int i = 0; changes && i < report->change_count; i++) {
        const struct report_change *change = &report->changes[i];
        json_t *entry = json_pack("{s:s}", "photo", report->sides[0].set->photos[change->photo].name);
        for (int side = 0; entry && side < 2; side++)
            json_object_set_new(entry, side ? "b" : "a",
                                json_pack("{s:s, s:o}", "category",
                                          report_label(&report->sides[side], change->best[side]),
                                          "probability", real(change->probability[side], 6)));
        json_array_append_new(changes, entry);
    }

    return changes;
}

static json_t *skipped_json(const struct photo_set *set) {
    json_t *skipped = json_array();
    for (int i = 0; skipped && i < set->skipped_count; i++)
        json_array_append_new(skipped, json_string(set->skipped[i]));
    return skipped;
}

json_t *report_json(const struct report *report) {
    const struct report_side *a = &report->sides[0], *b = &report->sides[1];
    const struct agreement *agreement = &report->agreement;
    json_t *root = json_pack("{s:s, s:s, s:i, s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o}",
                             "guichet", GUICHET_VERSION, "processor", report->processor, "threads",
                             report->threads, "a", side_json(a), "b", side_json(b), "photos", report->count,
                             "agreement", share(agreement->same, agreement->count), "kl_mean",
                             real(agreement->mean, 8), "kl_worst", real(agreement->worst, 8), "size_ratio",
                             real((double)b->bytes / (double)(a->bytes ? a->bytes : 1), 4), "worst_photo",
                             a->set->photos[report->samples[agreement->worst_at]].name, "speedup",
                             real(a->milliseconds / b->milliseconds, 3), "changed", changes_json(report),
                             "skipped", skipped_json(a->set));
    if (root && report->fast)
        json_object_set_new(root, "a_bf16_median_ms", real(report->fast_milliseconds, 3));
    json_t *measures =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "agreement", estimate_json(report->same), "kl_mean",
                  estimate_json(report->divergence), "size_ratio",
                  estimate_json(estimate_exact((double)b->bytes / (double)(a->bytes ? a->bytes : 1))),
                  "speedup", estimate_json(report->speedup), "a_ms",
                  estimate_json(report->fast ? report->fast_time : a->time), "b_ms", estimate_json(b->time));
    char english[300], french[300];
    const char *verdict = report_judge(report, english, french, sizeof english);
    if (root && measures) {
        json_object_set_new(root, "measures", measures);
        json_object_set_new(root, "verdict", json_string(verdict));
        json_object_set_new(root, "advice", json_pack("{s:s, s:s}", "en", english, "fr", french));
    }
    if (root && report->quant)
        json_object_set_new(root, "quantisation", quant_json(report));

    return root;
}
