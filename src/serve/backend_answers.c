/* Answers that need no model run: listings, health, metadata, metrics; and what is written of every request.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "serve/backend_private.h"

/* ---- Metrics ---- */

static struct metric *metric_of(struct backend *backend, enum metric_kind kind, const char *name,
                                const char *help) {
    return metrics_get(backend->metrics.registry, kind, name, help, backend->labels);
}

/* The names that dashboards for other servers of this protocol look for. */
static void create_protocol_metrics(struct backend *backend) {
    struct backend_metrics *metrics = &backend->metrics;
    metrics->success =
        metric_of(backend, METRIC_COUNTER, "nv_inference_request_success", "Inference requests answered.");
    metrics->failure =
        metric_of(backend, METRIC_COUNTER, "nv_inference_request_failure", "Inference requests that failed.");
    metrics->inferences =
        metric_of(backend, METRIC_COUNTER, "nv_inference_count", "Inferences, each of a batch counted.");
    metrics->executions = metric_of(backend, METRIC_COUNTER, "nv_inference_exec_count",
                                    "Runs of the model, a batch counted once.");
    metrics->request_us = metric_of(backend, METRIC_COUNTER, "nv_inference_request_duration_us",
                                    "Time of requests, microseconds.");
    metrics->queue_us = metric_of(backend, METRIC_COUNTER, "nv_inference_queue_duration_us",
                                  "Time in the queue, microseconds.");
    metrics->input_us = metric_of(backend, METRIC_COUNTER, "nv_inference_compute_input_duration_us",
                                  "Time of decoding and preprocessing, microseconds.");
    metrics->infer_us = metric_of(backend, METRIC_COUNTER, "nv_inference_compute_infer_duration_us",
                                  "Time in the model, microseconds.");
    metrics->output_us = metric_of(backend, METRIC_COUNTER, "nv_inference_compute_output_duration_us",
                                   "Time between the model's end and the answer, microseconds.");
}

bool backend_metrics_create(struct backend *backend) {
    struct backend_metrics *metrics = &backend->metrics;
    metrics->registry = metrics_create();
    if (!metrics->registry)
        return false;
    metrics_label(backend->labels, sizeof backend->labels, "model", backend->name);
    metrics_label(backend->labels, sizeof backend->labels, "version", BACKEND_VERSION);
    metrics->fetch =
        metric_of(backend, METRIC_SECONDS, "guichet_fetch_seconds", "Fetching a photo's address.");
    metrics->queue = metric_of(backend, METRIC_SECONDS, "guichet_queue_seconds", "Waiting for the model.");
    metrics->decode = metric_of(backend, METRIC_SECONDS, "guichet_decode_seconds", "Decoding a photo.");
    metrics->preprocess =
        metric_of(backend, METRIC_SECONDS, "guichet_preprocess_seconds", "Resizing and normalising a photo.");
    metrics->infer = metric_of(backend, METRIC_SECONDS, "guichet_infer_seconds",
                               "The run of the model that a request was in.");
    metrics->total = metric_of(backend, METRIC_SECONDS, "guichet_prediction_seconds",
                               "A prediction, from its first byte to its answer.");
    metrics->batch =
        metric_of(backend, METRIC_SIZES, "guichet_batch_size", "Requests in one run of the model.");
    metrics->length =
        metric_of(backend, METRIC_GAUGE, "guichet_queue_length", "Requests waiting for the model.");
    metrics->pending =
        metric_of(backend, METRIC_GAUGE, "guichet_predictions_pending", "Predictions under way.");
    metrics->ready =
        metric_of(backend, METRIC_GAUGE, "guichet_model_ready", "1 once the model has answered.");
    metrics->loads =
        metric_of(backend, METRIC_COUNTER, "guichet_model_loads_total", "Times the model was loaded.");
    metrics->load_seconds =
        metric_of(backend, METRIC_GAUGE, "guichet_model_load_seconds", "Loading and the first run.");
    create_protocol_metrics(backend);
    return true;
}

void job_measure(const struct job *job, bool good) {
    const struct backend_metrics *metrics = &job->backend->metrics;
    const struct timing *timing = &job->timing;
    int64_t now = clock_ns();
    double total = (double)(now - job->request->started_ns);
    metric_add(good ? metrics->success : metrics->failure, 1);
    metric_observe(metrics->total, total / 1e9);
    metric_add(metrics->request_us, total / 1e3);
    if (job->address && timing->fetch > 0)
        metric_observe(metrics->fetch, timing->fetch / 1e3);
    if (timing->decode > 0) {
        metric_observe(metrics->decode, timing->decode / 1e3);
        metric_observe(metrics->preprocess, timing->preprocess / 1e3);
        metric_add(metrics->input_us, (timing->decode + timing->preprocess) * 1e3);
    }
    if (!job->item.begun_ns)
        return;
    double queue = (double)(job->item.begun_ns - job->item.queued_ns);
    metric_observe(metrics->queue, queue / 1e9);
    metric_observe(metrics->infer, timing->infer / 1e3);
    metric_add(metrics->queue_us, queue / 1e3);
    metric_add(metrics->infer_us, timing->infer * 1e3);
    metric_add(metrics->output_us, (double)(now - job->item.begun_ns) / 1e3 - timing->infer * 1e3);
    if (good)
        metric_add(metrics->inferences, 1);
}

void backend_answer_metrics(struct backend *backend, struct http_request *request) {
    struct buffer text = {0};
    metric_set(backend->metrics.length, backend->batcher ? batcher_length(backend->batcher) : 0);
    metric_set(backend->metrics.pending, atomic_load(&backend->pending));
    metrics_write(backend->metrics.registry, &text);
    metrics_write_process(&text);
    http_reply_bytes(request, 200, METRICS_CONTENT_TYPE, text.bytes, text.size);
    buffer_release(&text);
}

/* ---- Every request ---- */

static void write_log(const struct backend *backend, const struct http_request *request, int status,
                      size_t bytes, bool gone) {
    struct trace trace;
    trace_read(&trace, request);
    const struct access_entry entry = {
        .trace = &trace,
        .tier = "backend",
        .client = request->peer,
        .model = backend->name,
        .upstream = "",
        .total_ms = request->started_ns ? (double)(clock_ns() - request->started_ns) / 1e6 : 0,
        .status = status,
        .bytes = bytes,
        .gone = gone,
    };
    access_log_write(backend->options.log, request, &entry);
}

void backend_done(void *context, const struct http_request *request, int status, size_t body_bytes,
                  bool gone) {
    struct backend *backend = context;
    char labels[256] = "", digits[12];
    snprintf(digits, sizeof digits, "%d", gone ? 499 : status);
    metrics_label(labels, sizeof labels, "model", backend->name);
    metrics_label(labels, sizeof labels, "route", request && request->user ? request->user : "other");
    metrics_label(labels, sizeof labels, "status", digits);
    metric_add(metrics_get(backend->metrics.registry, METRIC_COUNTER, "guichet_requests_total",
                           "Requests by model, route and status; 499: the client left.", labels),
               1);
    if (request && backend->options.log != ACCESS_LOG_OFF)
        write_log(backend, request, status, body_bytes, gone);
}

/* ---- Listings and metadata ---- */

void backend_answer_models(struct backend *backend, struct http_request *request) {
    char value[8];
    if (!http_request_query(request, "details", value, sizeof value)) {
        json_reply(request, 200, json_pack("[s]", backend->name));
        return;
    }
    bool ready = atomic_load(&backend->ready);
    json_t *entry = json_pack("{s:s, s:s}", "name", backend->name, "state", ready ? "ready" : "starting");
    if (entry && ready)
        json_object_set_new(entry, "precision",
                            json_string(engine_precision_used(model_engine(backend->model))));
    json_reply(request, 200, json_pack("[o]", entry));
}

void backend_answer_ready(struct backend *backend, struct http_request *request) {
    struct error error;
    if (atomic_load(&backend->ready)) {
        static const char text[] = "{\"status\": \"ready\"}\n";
        http_reply_bytes(request, 200, "application/json", text, sizeof text - 1);
        return;
    }
    error_set(&error, ERROR_UNAVAILABLE, "the model %s is still being loaded", backend->name);
    http_reply_error(request, &error);
}

/* What a file leaves open of the output that classifies, the labels say: there is one for each of its values.
 */
static struct engine_port output_of(const struct backend *backend, int index) {
    struct engine_port port = *engine_output(model_engine(backend->model), index);
    if (index == model_output(backend->model) && port.shape.rank == 2 && port.shape.dims[1] < 0)
        port.shape.dims[1] = model_class_count(backend->model);
    return port;
}

static json_t *describe_port(const struct engine_port *port) {
    json_t *shape = json_array();
    for (int i = 0; i < port->shape.rank; i++)
        json_array_append_new(shape, json_integer(port->shape.dims[i]));
    const char *type = inference_type_name(port->dtype);
    return json_pack("{s:s, s:s, s:o}", "name", port->name, "datatype", type ? type : "BYTES", "shape",
                     shape);
}

/* The same as TensorFlow's TensorInfo, which writes numbers as texts. */
static json_t *describe_tensor(const struct engine_port *port) {
    static const char *const names[][2] = {
        {"BOOL", "DT_BOOL"},     {"UINT8", "DT_UINT8"}, {"UINT16", "DT_UINT16"}, {"UINT32", "DT_UINT32"},
        {"UINT64", "DT_UINT64"}, {"INT8", "DT_INT8"},   {"INT16", "DT_INT16"},   {"INT32", "DT_INT32"},
        {"INT64", "DT_INT64"},   {"FP16", "DT_HALF"},   {"BF16", "DT_BFLOAT16"}, {"FP32", "DT_FLOAT"},
        {"FP64", "DT_DOUBLE"}};
    const char *ours = inference_type_name(port->dtype), *type = "DT_STRING";
    for (size_t i = 0; ours && i < sizeof names / sizeof names[0]; i++)
        type = strcmp(ours, names[i][0]) == 0 ? names[i][1] : type;
    json_t *dims = json_array();
    for (int i = 0; i < port->shape.rank; i++) {
        char digits[24];
        snprintf(digits, sizeof digits, "%lld", (long long)port->shape.dims[i]);
        json_array_append_new(dims, json_pack("{s:s, s:s}", "size", digits, "name", ""));
    }
    return json_pack("{s:s, s:{s:o, s:b}, s:s}", "dtype", type, "tensor_shape", "dim", dims, "unknown_rank",
                     0, "name", port->name);
}

/* TensorFlow Serving's metadata. */
static json_t *describe_signature(const struct backend *backend) {
    const struct engine *engine = model_engine(backend->model);
    json_t *inputs = json_object(), *outputs = json_object();
    for (int i = 0; i < engine_input_count(engine); i++)
        json_object_set_new(inputs, engine_input(engine, i)->name, describe_tensor(engine_input(engine, i)));
    for (int i = 0; i < engine_output_count(engine); i++) {
        struct engine_port port = output_of(backend, i);
        json_object_set_new(outputs, port.name, describe_tensor(&port));
    }
    return json_pack("{s:{s:s, s:s, s:s}, s:{s:{s:{s:{s:o, s:o, s:s}}}}}", "model_spec", "name",
                     backend->name, "signature_name", "", "version", BACKEND_VERSION, "metadata",
                     "signature_def", "signature_def", "serving_default", "inputs", inputs, "outputs",
                     outputs, "method_name", "tensorflow/serving/predict");
}

static json_t *describe_model(const struct backend *backend) {
    const struct engine *engine = model_engine(backend->model);
    json_t *inputs = json_array(), *outputs = json_array();
    for (int i = 0; i < engine_input_count(engine); i++)
        json_array_append_new(inputs, describe_port(engine_input(engine, i)));
    for (int i = 0; i < engine_output_count(engine); i++) {
        struct engine_port port = output_of(backend, i);
        json_array_append_new(outputs, describe_port(&port));
    }
    return json_pack("{s:s, s:[s], s:s, s:o, s:o}", "name", backend->name, "versions", BACKEND_VERSION,
                     "platform", "onnx_onnxv1", "inputs", inputs, "outputs", outputs);
}

void backend_answer_protocol(struct backend *backend, struct http_request *request, const char *what) {
    bool ready = atomic_load(&backend->ready);
    json_t *answer = NULL;
    int status = 200;
    if (!strcmp(what, "server")) {
        answer = json_pack("{s:s, s:s, s:[s, s, s]}", "name", "guichet", "version", GUICHET_VERSION,
                           "extensions", "binary_tensor_data", "classification", "model_repository");
    } else if (!strcmp(what, "ready")) {
        answer = json_pack("{s:b}", "ready", ready);
        status = ready ? 200 : 503;
    } else if (!strcmp(what, "models")) {
        answer = json_pack("{s:[s]}", "models", backend->name);
    } else if (!strcmp(what, "index")) {
        answer = json_pack("[{s:s, s:s, s:s, s:s}]", "name", backend->name, "version", BACKEND_VERSION,
                           "state", ready ? "READY" : "LOADING", "reason", "");
    } else if (!strcmp(what, "tensorflow")) {
        answer = json_pack("{s:[{s:s, s:s, s:{s:s, s:s}}]}", "model_version_status", "version",
                           BACKEND_VERSION, "state", ready ? "AVAILABLE" : "LOADING", "status", "error_code",
                           "OK", "error_message", "");
    } else if (ready) {
        answer = !strcmp(what, "signature") ? describe_signature(backend) : describe_model(backend);
    } else {
        backend_answer_ready(backend, request);
        return;
    }
    json_reply(request, status, answer);
}
