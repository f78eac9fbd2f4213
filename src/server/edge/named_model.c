/* The model that a request names in its query or in its JSON body: see enum model_source. */
#include <jansson.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/url.h"
#include "http/inflate.h"
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

enum {
    PROMPT_BEGINNING = 512, /* bytes that tell prompts apart */
    BYTES_OF_TOKEN = 4,     /* about */
};

static uint64_t hash_json(uint64_t hash, const json_t *value) {
    const json_t *part;
    size_t i;
    if (json_is_string(value))
        return hash_bytes(hash, json_string_value(value), json_string_length(value));

    json_array_foreach(value, i, part) hash =
        hash_json(hash, json_is_object(part) ? json_object_get(part, "text") : part);
    return hash;
}

/* What a conversation begins with, up to the first words of the user: turns that follow have the same. */
static uint64_t find_affinity(const json_t *body) {
    const json_t *prompt = json_object_get(body, "prompt"), *message;
    uint64_t hash = HASH_START;
    size_t i, length = json_string_length(prompt);
    if (json_is_string(prompt))
        return hash_bytes(hash, json_string_value(prompt),
                          length < PROMPT_BEGINNING ? length : PROMPT_BEGINNING);

    const json_t *messages = json_object_get(body, "messages");
    json_array_foreach(messages, i, message) {
        const char *role = json_string_value(json_object_get(message, "role"));
        hash = hash_json(hash, json_object_get(message, "content"));
        if (role && strcmp(role, "user") == 0)
            break;
    }
    return json_is_array(messages) ? hash : 0;
}

/* The member "model" of the body, and what is told of its work. */
static bool read_body(const struct http_request *request, char ret[MODEL_NAME_BYTES], struct error *error) {
    struct context *context = context_of(request);
    const struct http_body *body = request->body;
    struct memory_charge charge = {0};
    if (!http_request_check_plain(request, error))
        return false;
    json_t *json = json_parse(body->bytes ? body->bytes : "", body->size, NULL, &charge, error);
    if (!json) {
        memory_charge_release(&charge);
        return false;
    }

    const json_t *member = json_object_get(json, "model");
    const char *model = json_string_value(member);
    bool good = model && model_name_valid(model, json_string_length(member));
    if (good) {
        strcpy(ret, model);
        context->affinity = find_affinity(json);
        context->weight = (int64_t)body->size / BYTES_OF_TOKEN + 1;
    } else {
        error_set(error, ERROR_INVALID, "\"model\" is missing, or is not the name of a model");
    }

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
