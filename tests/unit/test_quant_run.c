/* quant/: measures, a complete run on a small network, and its report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "quant/report.h"
#include "small_network.h"

/* --- Measures --- */

/* Predictions for two photos, from what the network gives. */
static struct predictions predict(const float *values, int count, int classes) {
    struct tensor output = {DTYPE_F32, {2, {count, classes}}, (void *)values};
    struct predictions predictions;
    struct error error;
    assert_true(predictions_create(count, classes, HEAD_BY_VALUES, &predictions, &error));
    for (int i = 0; i < count; i++)
        assert_true(predictions_set(&predictions, i, &output, i, &error));
    return predictions;
}

static void predictions_are_compared(void **state) {
    const float a[] = {0.7f, 0.2f, 0.1f, 0.1f, 0.6f, 0.3f}, b[] = {0.7f, 0.2f, 0.1f, 0.1f, 0.4f, 0.5f},
                logits[] = {1, 2, 3};
    struct predictions first = predict(a, 2, 3), second = predict(b, 2, 3), one = predict(logits, 1, 3);
    struct agreement same = predictions_compare(&first, &first), other = predictions_compare(&first, &second);

    assert_true(same.same == 2 && same.mean == 0 && same.worst == 0);
    assert_int_equal(other.same, 1);
    assert_int_equal(other.worst_at, 1);
    assert_float_equal(other.worst, 0.6 * log(0.6 / 0.4) + 0.3 * log(0.3 / 0.5), 1e-6);

    assert_true(first.probabilities[0] == 0.7f); /* probabilities already */
    assert_float_equal(one.probabilities[0] + one.probabilities[1] + one.probabilities[2], 1, 1e-6);
    assert_int_equal(one.best[0], 2);
    predictions_release(&first);
    predictions_release(&second);
    predictions_release(&one);

    const float gone[] = {1, 0}, sure[] = {0, 1};
    struct predictions low = predict(gone, 1, 2), high = predict(sure, 1, 2);
    assert_true(isfinite(predictions_divergence(&low, &high, 0)));
    predictions_release(&low);
    predictions_release(&high);
}

static void scores_that_are_not_finite_are_refused(void **state) {
    const float values[] = {1, NAN, 2};
    const struct tensor output = {DTYPE_F32, {2, {1, 3}}, (void *)values};
    struct predictions predictions;
    struct error error;
    assert_true(predictions_create(1, 3, HEAD_BY_VALUES, &predictions, &error));
    assert_false(predictions_set(&predictions, 0, &output, 0, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    predictions_release(&predictions);
}

static void few_photos_are_told(void **state) {
    assert_int_equal(search_allowed(1000, 0.5), 5);
    assert_int_equal(search_allowed(30, 0.5), 1);
    assert_int_equal(search_allowed(30, 0), 0);
    assert_true(quant_photos_wanted(20, 0.5) > 20);
    assert_int_equal(quant_photos_wanted(5000, 0.5), 0);
}

/* --- Files --- */

static char *make_folder(void) {
    char *folder = strdup("/tmp/guichet-quant-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return folder;
}

static void remove_folder(char *folder) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    free(folder);
}

struct stop {
    const char *stage;
    uint64_t after, first; /* first: what the stage began with, the last time */
    bool seen;
};

static bool stop_at(void *context, const char *stage, uint64_t done, uint64_t total) {
    struct stop *stop = context;
    if (strcmp(stage, stop->stage) != 0)
        return true;

    if (!stop->seen)
        stop->first = done;
    stop->seen = true;
    return done < stop->after;
}

static struct model *load_float(const char *network) {
    const struct model_options options = {.engine = {.precision = PRECISION_F32, .threads = 1}};
    struct error error;
    struct model *model = model_load(network, &options, &error);

    if (!model)
        fail_msg("%s", error.message);
    return model;
}

static void a_complete_run(void **state) {
    struct error error = {0};
    struct photo_set set;
    struct quant_result result;
    char *folder = make_folder(), network[256], output[256], unfinished[256];

    snprintf(network, sizeof network, "%s/model.onnx", folder);
    snprintf(output, sizeof output, "%s/model_int8.onnx", folder);
    snprintf(unfinished, sizeof unfinished, "%s/.calibration", folder);

    make_photos(60, &set);
    cleanup(graph_freep) struct graph *graph = small_network(13);
    assert_true(onnx_graph_write(graph, network, &error));
    struct model *model = load_float(network);

    struct stop stop = {.stage = "calibrating", .after = 9};
    struct quant_options options = {.max_loss = 5,
                                    .threads = 1,
                                    .activations = DTYPE_U8,
                                    .state_path = unfinished,
                                    .progress = stop_at,
                                    .context = &stop};

    /* Interrupted: no model, but what was calibrated is kept, and used. */
    assert_false(quant_run(model, &set, output, &options, &result, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
    assert_int_equal(access(output, F_OK), -1);
    assert_int_equal(access(unfinished, F_OK), 0);

    stop = (struct stop){.stage = "calibrating", .after = UINT64_MAX};
    if (!quant_run(model, &set, output, &options, &result, &error))
        fail_msg("%s", error.message);
    assert_true(stop.first > 9);
    assert_int_equal(access(unfinished, F_OK), -1);

    assert_int_equal(result.layer_count, 4);
    assert_int_equal(result.calibrated + result.choosing + result.held_out, 60);
    assert_true(result.search.met && result.layers[0].damage >= 0);
    assert_true(result.search.after.same >= result.search.after.count - result.search.allowed);
    quant_result_release(&result);

    /* What was written is quantised, and is not quantised again. */
    assert_false(quant_network_check(output, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    struct model *quantized = load_float(output);
    assert_false(quant_run(quantized, &set, network, &options, &result, &error));
    assert_non_null(strstr(error.message, "already quantised"));

    model_free(quantized);
    model_free(model);
    photo_set_release(&set);
    remove_folder(folder);
}

static void the_report_holds_what_was_measured(void **state) {
    static const char labels[] = "{\"id2label\": [\"<cat>\", \"dog\", \"ox\", \"bee\", \"fly\"]}";
    struct error error = {0};
    struct photo_set set;
    int samples[12];
    char *folder = make_folder(), network[256];

    snprintf(network, sizeof network, "%s/a & b", folder);
    assert_int_equal(mkdir(network, 0777), 0);
    strcat(network, "/config.json");
    assert_true(file_write(network, labels, sizeof labels - 1, &error));
    snprintf(network, sizeof network, "%s/a & b/model.onnx", folder);

    make_photos(12, &set);
    for (int i = 0; i < 12; i++) {
        samples[i] = i;
        set.photos[i].class_index = 1;
    }

    cleanup(graph_freep) struct graph *graph = small_network(13);
    assert_true(onnx_graph_write(graph, network, &error));
    struct model *model = load_float(network);

    struct report_side side = {.model = model, .set = &set};
    struct report report = {.sides = {side, side}};
    assert_true(report_measure(&report, samples, 12, 0.05, NULL, NULL, &error));
    assert_true(report.agreement.same == 12 && report.agreement.worst == 0 && report.change_count == 0);
    assert_true(report.sides[0].bytes > 1000 && report.sides[1].milliseconds > 0 &&
                report.sides[0].hits.count == 12);

    report.changes[report.change_count++] = (struct report_change){3, {0, 1}, {0.6f, 0.5f}};
    json_t *json = report_json(&report);
    assert_non_null(json);
    assert_float_equal(json_number_value(json_object_get(json, "agreement")), 1, 1e-9);
    assert_int_equal(json_array_size(json_object_get(json, "changed")), 1);

    struct buffer page = {0};
    assert_true(report_html(&report, &page));
    assert_non_null(strstr(page.bytes, "&lt;cat&gt;"));
    assert_non_null(strstr(page.bytes, "a &amp; b"));
    assert_null(strstr(page.bytes, "<script"));

    buffer_release(&page);
    json_decref(json);
    report_release(&report);
    model_free(model);
    photo_set_release(&set);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predictions_are_compared),
        cmocka_unit_test(scores_that_are_not_finite_are_refused),
        cmocka_unit_test(few_photos_are_told),
        cmocka_unit_test(a_complete_run),
        cmocka_unit_test(the_report_holds_what_was_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
