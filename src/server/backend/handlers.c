/* Answers that need no run of the model: its description in each protocol's form. */
#include "server/backend/handlers.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "server/backend/language/language.h"
#include "server/backend/protocol/inference.h"
#include "server/edge/accept_language.h"
#include "server/edge/context.h"
#include "server/edge/respond.h"
#include "server/edge/service.h"

bool backend_check_loaded(const struct backend *backend, struct http_request *request) {
    struct error error;

    if (backend_is_ready(backend))
        return true;
    error_set(&error, ERROR_UNAVAILABLE, "the model %s is still being loaded: try again soon",
              backend_name(backend));
    respond_error(request, &error);
    return false;
}

void backend_confirm_model(struct backend *backend, struct http_request *request) {
    respond_json(request, 200, json_pack("{s:s}", "model", backend_name(backend)));
}

void backend_metrics(struct backend *backend, struct http_request *request) {
    service_metrics(backend_service(backend), request);
}

void backend_ready(struct backend *backend, struct http_request *request) {
    service_ready(backend_service(backend), request);
}

void backend_status_tensorflow(struct backend *backend, struct http_request *request) {
    json_t *status = json_pack("{s:[{s:s, s:s, s:{s:s, s:s}}]}", "model_version_status", "version", "1",
                               "state", backend_is_ready(backend) ? "AVAILABLE" : "LOADING", "status",
                               "error_code", "OK", "error_message", "");

    /* At the same path OpenAI's clients look for a model. */
    if (status && backend_language(backend))
        json_object_update_new(status, json_pack("{s:s, s:s, s:i, s:s}", "id", backend_name(backend),
                                                 "object", "model", "created", 0, "owned_by", "guichet"));
    respond_json(request, 200, status);
}

/* ---- What a classifier knows ---- */

static json_t *describe_class(const struct model *model, int index, const char *language) {
    char identity[24];
    const char *known = model_class_identity(model, index, identity);
    return json_pack("{s:i, s:o, s:s*}", "index", index, "label",
                     json_string(model_label(model, index, language)), "id", known);
}

void backend_classes(struct backend *backend, struct http_request *request) {
    const struct model *model;
    struct error error;
    char language[LANGUAGE_BYTES];
    if (!backend_check_loaded(backend, request))
        return;

    model = backend_language(backend) ? NULL : backend_model(backend);
    if (!model || !model_check_classifier(model, &error)) {
        if (!model)
            error_set(&error, ERROR_INVALID, "the model \"%s\" is a language model: it has no classes",
                      backend_name(backend));
        respond_error(request, &error);
        return;
    }

    request_find_language(request, language);
    json_t *classes = json_array();
    for (int i = 0; i < model_class_count(model); i++)
        json_array_append_new(classes, describe_class(model, i, language));
    respond_json(request, 200,
                 json_pack("{s:s, s:b, s:o, s:s*}", "model", backend_name(backend), "says_unknown",
                           model_has_rejection(model), "classes", classes, "card", model_card(model)));
}

/* ---- Language models ---- */

/* Have the service of the language model answer; a network has none. */
static void ask_language(struct backend *backend, struct http_request *request,
                         void (*answer)(struct language *language, struct http_request *request)) {
    struct error error;

    if (backend_language(backend)) {
        answer(backend_language(backend), request);
        return;
    }
    error_set(&error, ERROR_INVALID,
              "the model \"%s\" is not a language model: it takes photos, at POST /model/%s/predict",
              backend_name(backend), backend_name(backend));
    respond_error(request, &error);
}

void backend_chat(struct backend *backend, struct http_request *request) {
    ask_language(backend, request, language_chat);
}

void backend_complete(struct backend *backend, struct http_request *request) {
    ask_language(backend, request, language_complete);
}

void backend_embed(struct backend *backend, struct http_request *request) {
    ask_language(backend, request, language_embed);
}

void backend_tokenize(struct backend *backend, struct http_request *request) {
    ask_language(backend, request, language_tokenize);
}

void backend_detokenize(struct backend *backend, struct http_request *request) {
    ask_language(backend, request, language_detokenize);
}

void backend_apply_template(struct backend *backend, struct http_request *request) {
    ask_language(backend, request, language_apply_template);
}

void backend_refuse_photos(const struct backend *backend, struct http_request *request) {
    struct error error;
    error_set(&error, ERROR_INVALID,
              "the model \"%s\" is a language model: it takes texts, at POST /v1/chat/completions and "
              "/v1/completions",
              backend_name(backend));
    respond_error(request, &error);
}

/* ---- Inputs and outputs ---- */

/* If the file leaves the output's class dimension open, use the number of labels. */
static struct engine_port output_of(const struct model *model, int index) {
    struct engine_port port = *engine_output(model_engine(model), index);
    if (index == model_output(model) && port.shape.rank == 2 && port.shape.dims[1] < 0)
        port.shape.dims[1] = model_class_count(model);
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

/* The same as TensorFlow's TensorInfo, whose JSON writes int64 as strings. */
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
static json_t *describe_signature(const struct model *model, const char *name) {
    const struct engine *engine = model_engine(model);
    json_t *inputs = json_object(), *outputs = json_object();

    for (int i = 0; i < engine_input_count(engine); i++)
        json_object_set_new(inputs, engine_input(engine, i)->name, describe_tensor(engine_input(engine, i)));
    for (int i = 0; i < engine_output_count(engine); i++) {
        struct engine_port port = output_of(model, i);
        json_object_set_new(outputs, port.name, describe_tensor(&port));
    }

    return json_pack("{s:{s:s, s:s, s:s}, s:{s:{s:{s:{s:o, s:o, s:s}}}}}", "model_spec", "name", name,
                     "signature_name", "", "version", "1", "metadata", "signature_def", "signature_def",
                     "serving_default", "inputs", inputs, "outputs", outputs, "method_name",
                     "tensorflow/serving/predict");
}

static json_t *describe_model(const struct model *model, const char *name) {
    const struct engine *engine = model_engine(model);
    json_t *inputs = json_array(), *outputs = json_array();

    for (int i = 0; i < engine_input_count(engine); i++)
        json_array_append_new(inputs, describe_port(engine_input(engine, i)));
    for (int i = 0; i < engine_output_count(engine); i++) {
        struct engine_port port = output_of(model, i);
        json_array_append_new(outputs, describe_port(&port));
    }

    return json_pack("{s:s, s:[s], s:s, s:o, s:o}", "name", name, "versions", "1", "platform", "onnx_onnxv1",
                     "inputs", inputs, "outputs", outputs);
}

void backend_describe(struct backend *backend, struct http_request *request) {
    const char *name = backend_name(backend);
    if (!backend_check_loaded(backend, request))
        return;
    respond_json(request, 200,
                 backend_language(backend)
                     ? json_pack("{s:s, s:[s], s:s, s:[], s:[]}", "name", name, "versions", "1", "platform",
                                 "gguf", "inputs", "outputs")
                     : describe_model(backend_model(backend), name));
}

void backend_signature(struct backend *backend, struct http_request *request) {
    if (backend_language(backend))
        backend_refuse_photos(backend, request);
    else if (backend_check_loaded(backend, request))
        respond_json(request, 200, describe_signature(backend_model(backend), backend_name(backend)));
}
