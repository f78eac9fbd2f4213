/* What V2's extensions tell of a model: its configuration, and what was counted. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "server/backend/handlers.h"
#include "server/backend/private.h"
#include "server/backend/protocol/inference.h"
#include "server/edge/respond.h"

static json_t *ports_json(const struct engine *engine, bool inputs) {
    json_t *list = json_array();
    int count = inputs ? engine_input_count(engine) : engine_output_count(engine);
    for (int i = 0; i < count; i++) {
        const struct engine_port *port = inputs ? engine_input(engine, i) : engine_output(engine, i);
        const char *name = inference_type_name(port->dtype);
        char type[32];
        json_t *dims = json_array();
        for (int d = 0; d < port->shape.rank; d++)
            json_array_append_new(dims, json_integer(port->shape.dims[d]));
        snprintf(type, sizeof type, "TYPE_%s", name ? name : "STRING");
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o}", "name", port->name, "data_type", type, "dims", dims));
    }
    return list;
}

static json_t *no_ports(void) {
    return json_array();
}

/* max_batch_size 0 says that the dimensions are all of them, the first included. */
void backend_configuration(struct backend *backend, struct http_request *request) {
    if (!backend_check_loaded(backend, request))
        return;

    const struct model *model = backend_model(backend);
    const struct engine *engine = model ? model_engine(model) : NULL;
    respond_json(request, 200,
                 json_pack("{s:s, s:s, s:s, s:{s:{s:i}}, s:i, s:o, s:o, s:[{s:s, s:i, s:s}]}", "name",
                           backend_name(backend), "platform", engine ? "onnx_onnxv1" : "gguf", "backend",
                           "guichet", "version_policy", "latest", "num_versions", 1, "max_batch_size", 0,
                           "input", engine ? ports_json(engine, true) : no_ports(), "output",
                           engine ? ports_json(engine, false) : no_ports(), "instance_group", "name",
                           backend_name(backend), "count", 1, "kind", "KIND_CPU"));
}

static json_t *count_json(double count, double microseconds) {
    return json_pack("{s:I, s:I}", "count", (json_int_t)count, "ns", (json_int_t)(microseconds * 1e3));
}

/* Times of failed requests are not kept apart: they are in those of all. */
static json_t *statistics_json(const struct backend *backend) {
    const struct backend_counts *counts = &backend->counts;
    double good = metric_value(counts->success), inferences = metric_value(counts->inferences);
    json_t *times = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "success",
                              count_json(good, metric_value(counts->request_us)), "fail",
                              count_json(metric_value(counts->failure), 0), "queue",
                              count_json(inferences, metric_value(counts->queue_us)), "compute_input",
                              count_json(inferences, metric_value(counts->input_us)), "compute_infer",
                              count_json(inferences, metric_value(counts->infer_us)), "compute_output",
                              count_json(inferences, metric_value(counts->output_us)));
    return json_pack("{s:s, s:s, s:I, s:I, s:o, s:[]}", "name", backend_name(backend), "version", "1",
                     "inference_count", (json_int_t)inferences, "execution_count",
                     (json_int_t)metric_value(counts->executions), "inference_stats", times, "batch_stats");
}

void backend_statistics(struct backend *backend, struct http_request *request) {
    if (backend_check_loaded(backend, request))
        respond_json(request, 200, json_pack("{s:[o]}", "model_stats", statistics_json(backend)));
}
