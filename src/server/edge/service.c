#include "server/edge/service.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/edge/context.h"
#include "server/edge/forwarding.h"
#include "server/edge/metrics.h"
#include "server/edge/respond.h"
#include "server/edge/server.h"

void service_hello(const struct service *service, struct http_request *request) {
    respond_text(request, 200, "\"Hello!\"");
}

void service_live(const struct service *service, struct http_request *request) {
    respond_text(request, 200, "{\"live\":true}");
}

void service_ready(const struct service *service, struct http_request *request) {
    bool ready = service->is_ready(service->context);
    const char *text = ready ? "{\"ready\":true}" : "{\"ready\":false}";
    if (!service->find_load || !http_request_header(request, HEADER_ASK_RUN)) {
        respond_text(request, ready ? 200 : 503, text);
        return;
    }

    struct service_load load = {.kind = ""};
    char tokens[24];
    service->find_load(service->context, &load);
    snprintf(tokens, sizeof tokens, "%lld", (long long)load.queued_tokens);
    const struct http_header headers[] = {
        {"Content-Type", "application/json"}, {HEADER_KIND, load.kind}, {HEADER_QUEUED_TOKENS, tokens}};
    respond(request, ready ? 200 : 503, headers, 3, http_body_create(text, strlen(text)));
}

void service_metrics(const struct service *service, struct http_request *request) {
    static const struct http_header header = {"Content-Type", METRICS_CONTENT_TYPE};
    struct buffer text = {.limit = LIMIT_METRICS_BYTES};
    size_t count = 0;
    struct model_status *models =
        service->list_models ? service->list_models(service->context, request, false, &count) : NULL;

    for (size_t i = 0; i < count && models && i < LIMIT_PREPARED_MODELS; i++)
        server_prepare_metrics(context_of(request)->server, models[i].name);
    free(models);

    bool written = service->write_metrics(service->context, &text);
    server_write_metrics(context_of(request)->server, &text);
    if (written && !text.failed)
        respond(request, 200, &header, 1, http_body_create(text.bytes, text.size));
    else
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
    buffer_release(&text);
}

/* ---- Listings ---- */

static json_t *describe_name(const struct model_status *status) {
    return json_string(status->name);
}

static void add_meaning(json_t *entry, const struct model_meaning *meaning) {
    if (meaning->kind[0])
        json_object_set_new(entry, "kind", json_string(meaning->kind));
    if (meaning->title[0])
        json_object_set_new(entry, "title", json_string(meaning->title));
    if (meaning->description[0])
        json_object_set_new(entry, "description", json_string(meaning->description));
    if (!meaning->head[0])
        return;
    json_object_set_new(entry, "head", json_string(meaning->head));
    json_object_set_new(entry, "independent", json_boolean(meaning->independent));
    json_object_set_new(entry, "sources",
                        json_pack("{s:s, s:s, s:s}", "preprocessing", meaning->preprocessing, "labels",
                                  meaning->labels, "head", meaning->head_source));
}

static void copy_string(const json_t *value, char *ret, size_t size) {
    text_copy(ret, size, json_is_string(value) ? json_string_value(value) : "");
}

void model_meaning_read(const json_t *entry, struct model_meaning *ret) {
    const json_t *sources = json_object_get(entry, "sources");
    copy_string(json_object_get(entry, "kind"), ret->kind, sizeof ret->kind);
    copy_string(json_object_get(entry, "head"), ret->head, sizeof ret->head);
    copy_string(json_object_get(sources, "head"), ret->head_source, sizeof ret->head_source);
    copy_string(json_object_get(sources, "preprocessing"), ret->preprocessing, sizeof ret->preprocessing);
    copy_string(json_object_get(sources, "labels"), ret->labels, sizeof ret->labels);
    copy_string(json_object_get(entry, "title"), ret->title, sizeof ret->title);
    copy_string(json_object_get(entry, "description"), ret->description, sizeof ret->description);
    ret->independent = json_is_true(json_object_get(entry, "independent"));
}

static json_t *describe_details(const struct model_status *status) {
    json_t *entry = json_pack("{s:s, s:s}", "name", status->name, "state", status->state);
    if (status->bytes > 0)
        json_object_set_new(entry, "bytes", json_integer(status->bytes));
    if (status->precision[0])
        json_object_set_new(entry, "precision", json_string(status->precision));
    if (status->typical_ms > 0)
        json_object_set_new(entry, "typical_ms", json_real(status->typical_ms));
    add_meaning(entry, &status->meaning);
    if (status->reason[0])
        json_object_set_new(entry, "reason", json_string(status->reason));

    return entry;
}

/* An entry of V2's repository index. */
static json_t *describe_index(const struct model_status *status) {
    const char *state = strcmp(status->state, "ready") == 0      ? "READY"
                        : strcmp(status->state, "starting") == 0 ? "LOADING"
                                                                 : "UNAVAILABLE";
    bool unloaded = strcmp(status->state, "unloaded") == 0;
    bool asleep = strcmp(status->state, "stopped") == 0 && !status->reason[0];
    return json_pack("{s:s, s:s, s:s, s:s}", "name", status->name, "version", "1", "state", state, "reason",
                     unloaded ? "unloaded"
                     : asleep ? "not loaded; it starts on first use"
                              : status->reason);
}

/* An array of what `describe` says of each model; NULL when memory is out. `ready_only`: of those alone. */
static json_t *list_models(const struct service *service, const struct http_request *request,
                           json_t *(*describe)(const struct model_status *), bool ready_only) {
    size_t count;
    struct model_status *models =
        service->list_models(service->context, request, describe != describe_name, &count);
    json_t *array = models ? json_array() : NULL;

    for (size_t i = 0; array && i < count; i++)
        if (!ready_only || strcmp(models[i].state, "ready") == 0)
            json_array_append_new(array, describe(&models[i]));
    free(models);
    return array;
}

void service_models(const struct service *service, struct http_request *request) {
    char value[8];
    bool details = http_request_query(request, "details", value, sizeof value) && strcmp(value, "1") == 0;
    respond_json(request, 200,
                 list_models(service, request, details ? describe_details : describe_name, false));
}

/* Language models alone: others cannot be asked as OpenAI's are. */
void service_openai_models(const struct service *service, struct http_request *request) {
    size_t count;
    struct model_status *models = service->list_models(service->context, request, true, &count);
    json_t *list = models ? json_array() : NULL;

    for (size_t i = 0; list && i < count; i++)
        if (strcmp(models[i].meaning.kind, "language") == 0)
            json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s}", "id", models[i].name, "object",
                                                  "model", "created", 0, "owned_by", "guichet"));
    free(models);
    respond_json(request, 200, list ? json_pack("{s:s, s:o}", "object", "list", "data", list) : NULL);
}

void service_v2(const struct service *service, struct http_request *request) {
    respond_json(request, 200,
                 json_pack("{s:s, s:s, s:[s, s, s]}", "name", "guichet", "version", GUICHET_VERSION,
                           "extensions", "binary_tensor_data", "classification", "model_repository"));
}

void service_v2_models(const struct service *service, struct http_request *request) {
    json_t *models = list_models(service, request, describe_name, false);
    respond_json(request, 200, models ? json_pack("{s:o}", "models", models) : NULL);
}

/* {"ready": true} or nothing. */
static bool read_index_options(const struct http_body *body, bool *ret_ready_only, struct error *error) {
    *ret_ready_only = false;
    if (!body->size)
        return true;

    struct memory_charge charge = {0};
    json_t *options = json_parse(body->bytes, body->size, NULL, &charge, error);
    const json_t *ready = json_object_get(options, "ready");
    bool good = json_is_object(options) && (!ready || json_is_boolean(ready));
    if (options && !good)
        error_set(error, ERROR_INVALID, "the body is not {\"ready\": true or false}");
    *ret_ready_only = json_is_true(ready);
    json_release(options, &charge);

    return good;
}

void service_v2_index(const struct service *service, struct http_request *request) {
    struct error error;
    bool ready_only;

    if (!read_index_options(request->body, &ready_only, &error)) {
        respond_error(request, &error);
        return;
    }
    respond_json(request, 200, list_models(service, request, describe_index, ready_only));
}
