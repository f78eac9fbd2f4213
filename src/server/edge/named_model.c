/* The model that a request names in its query or in its JSON body: see enum model_source. */
#include <jansson.h>
#include <string.h>

#include "base/json.h"
#include "base/url.h"
#include "server/edge/links.h"
#include "server/edge/respond.h"

/* ?model=NAME; "" if there is no such parameter. */
static bool read_query(const struct http_request *request, char ret[MODEL_NAME_BYTES], struct error *error) {
    ret[0] = 0;
    if (!url_query_has(request->query, "model"))
        return true;
    return (http_request_query(request, "model", ret, MODEL_NAME_BYTES) &&
            model_name_valid(ret, strlen(ret))) ||
           error_set(error, ERROR_INVALID, "?model= is not the name of a model");
}

/* The member "model" of the body. */
static bool read_body(const struct http_request *request, char ret[MODEL_NAME_BYTES], struct error *error) {
    const struct http_body *body = request->body;
    struct memory_charge charge = {0};
    json_t *json = json_parse(body->bytes ? body->bytes : "", body->size, NULL, &charge, error);
    if (!json) {
        memory_charge_release(&charge);
        return false;
    }

    const json_t *member = json_object_get(json, "model");
    const char *model = json_string_value(member);
    bool good = model && model_name_valid(model, json_string_length(member));
    if (good)
        strcpy(ret, model);
    else
        error_set(error, ERROR_INVALID, "\"model\" is missing, or is not the name of a model");

    json_release(json, &charge);
    return good;
}

bool link_find_model(struct http_request *request,
                     bool (*check)(void *service, const char *name, struct error *error), void *service) {
    struct context *context = context_of(request);
    enum model_source source = context->endpoint->model;
    char model[MODEL_NAME_BYTES];
    struct error error;

    if (source == MODEL_IN_PATH)
        return true;
    if (!(source == MODEL_IN_QUERY ? read_query : read_body)(request, model, &error)) {
        respond_error(request, &error);
        return false;
    }
    if (!model[0])
        return true;

    strcpy(context->model, model);
    context->model_known = check(service, model, &error);
    if (!context->model_known) {
        respond_error(request, &error); /* ends the request and its context */
        return false;
    }

    return auth_allow_model(request, model);
}
