#include "server/backend/counts.h"

#include "base/clock.h"
#include "model/name.h"

static struct metric *metric_of(const struct backend_counts *counts, const char *labels,
                                enum metric_kind kind, const char *name, const char *help) {
    return metrics_get(counts->registry, kind, name, help, labels);
}

static void create_protocol_counts(struct backend_counts *counts, const char *labels) {
    counts->success = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_request_success",
                                "Inference requests answered.");
    counts->failure = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_request_failure",
                                "Inference requests that failed.");
    counts->inferences = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_count",
                                   "Inferences, each of a batch counted.");
    counts->executions = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_exec_count",
                                   "Runs of the model, a batch counted once.");
    counts->request_us = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_request_duration_us",
                                   "Time of requests, microseconds.");
    counts->queue_us = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_queue_duration_us",
                                 "Time in the queue, microseconds.");
    counts->input_us = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_compute_input_duration_us",
                                 "Time of decoding and preprocessing, microseconds.");
    counts->infer_us = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_compute_infer_duration_us",
                                 "Time in the model, microseconds.");
    counts->output_us = metric_of(counts, labels, METRIC_COUNTER, "nv_inference_compute_output_duration_us",
                                  "Time between the model's end and the response, microseconds.");
}

void backend_counts_init(struct backend_counts *counts, struct metrics *metrics, const char *model) {
    char labels[MODEL_NAME_BYTES + 64] = "";

    counts->registry = metrics;
    metrics_label(labels, sizeof labels, "model", model);
    metrics_label(labels, sizeof labels, "version", "1");

    counts->fetch =
        metric_of(counts, labels, METRIC_SECONDS, "guichet_fetch_seconds", "Fetching a photo by URL.");
    counts->queue =
        metric_of(counts, labels, METRIC_SECONDS, "guichet_queue_seconds", "Waiting for the model.");
    counts->decode = metric_of(counts, labels, METRIC_SECONDS, "guichet_decode_seconds", "Decoding a photo.");
    counts->preprocess = metric_of(counts, labels, METRIC_SECONDS, "guichet_preprocess_seconds",
                                   "Resizing and normalising a photo.");
    counts->infer = metric_of(counts, labels, METRIC_SECONDS, "guichet_infer_seconds",
                              "The run of the model that a request was in.");
    counts->total = metric_of(counts, labels, METRIC_SECONDS, "guichet_prediction_seconds",
                              "A prediction, from its first byte to its response.");
    counts->batch =
        metric_of(counts, labels, METRIC_SIZES, "guichet_batch_size", "Requests in one run of the model.");

    counts->length =
        metric_of(counts, labels, METRIC_GAUGE, "guichet_queue_length", "Requests waiting for the model.");
    counts->pending =
        metric_of(counts, labels, METRIC_GAUGE, "guichet_predictions_pending", "Predictions under way.");
    counts->ready =
        metric_of(counts, labels, METRIC_GAUGE, "guichet_model_ready", "1 once the model has answered.");

    counts->loads =
        metric_of(counts, labels, METRIC_COUNTER, "guichet_model_loads_total", "Times the model was loaded.");
    counts->load_seconds =
        metric_of(counts, labels, METRIC_GAUGE, "guichet_model_load_seconds", "Loading and the first run.");

    create_protocol_counts(counts, labels);
}

void backend_counts_add(const struct backend_counts *counts, const struct job *job, bool good) {
    const struct timing *timing = &job->timing;
    int64_t now = clock_ns();
    double total = (double)(now - job->request->started_ns);

    metric_add(good ? counts->success : counts->failure, 1);
    metric_observe(counts->total, total / 1e9);
    metric_add(counts->request_us, total / 1e3);

    if (job->url && timing->fetch > 0)
        metric_observe(counts->fetch, timing->fetch / 1e3);
    if (timing->decode > 0) {
        metric_observe(counts->decode, timing->decode / 1e3);
        metric_observe(counts->preprocess, timing->preprocess / 1e3);
        metric_add(counts->input_us, (timing->decode + timing->preprocess) * 1e3);
    }

    if (!job->item.begun_ns)
        return;

    double queue = (double)(job->item.begun_ns - job->item.queued_ns);
    metric_observe(counts->queue, queue / 1e9);
    metric_observe(counts->infer, timing->infer / 1e3);
    metric_add(counts->queue_us, queue / 1e3);
    metric_add(counts->infer_us, timing->infer * 1e3);
    metric_add(counts->output_us, (double)(now - job->item.begun_ns) / 1e3 - timing->infer * 1e3);

    if (good)
        metric_add(counts->inferences, 1);
}

void backend_counts_refuse(const struct backend_counts *counts) {
    metric_add(counts->failure, 1);
}

void backend_counts_add_batch(const struct backend_counts *counts, int size) {
    metric_observe(counts->batch, size);
    metric_add(counts->executions, 1);
}

void backend_counts_set_ready(const struct backend_counts *counts, double seconds) {
    metric_add(counts->loads, 1);
    metric_set(counts->load_seconds, seconds);
    metric_set(counts->ready, 1);
}

void backend_counts_set_length(const struct backend_counts *counts, int length, int pending) {
    metric_set(counts->length, length);
    metric_set(counts->pending, pending);
}
