/* load and unload: passed on to who keeps the models' processes, and answered when they are done. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "server/edge/context.h"
#include "server/edge/respond.h"
#include "server/gateway/handlers.h"
#include "server/gateway/private.h"

/* A body may have {"parameters": {…}}; `known`: the one parameter that may stand there (NULL: none). False:
 * has replied. */
static bool check_parameters(struct http_request *request, const char *known) {
    const struct http_body *body = request->body;
    struct error error = {0};
    const char *name;
    json_t *value;
    if (!body->size)
        return true;

    struct memory_charge charge = {0};
    json_t *json = json_parse(body->bytes, body->size, NULL, &charge, &error);
    json_t *parameters = json_object_get(json, "parameters");
    if (json && (!json_is_object(json) || (parameters && !json_is_object(parameters))))
        error_set(&error, ERROR_INVALID, "the body is not {\"parameters\": {…}}");
    json_object_foreach(parameters, name, value) {
        if (!known || strcmp(name, known) != 0)
            error_set(&error, ERROR_INVALID, "the parameter \"%.60s\" is not supported", name);
    }

    json_release(json, &charge);
    if (error.code != ERROR_NONE)
        respond_error(request, &error);
    return error.code == ERROR_NONE;
}

/* On the request's loop. V2 has one status for a model that could not be loaded. */
static void respond_change(void *context) {
    struct gateway_change *change = context;
    struct gateway *gateway = change->gateway;

    if (change->outcome.code == ERROR_LOAD)
        change->outcome.code = ERROR_INVALID;
    if (change->outcome.code == ERROR_NONE)
        respond_text(change->request, 200, "{}");
    else
        respond_error(change->request, &change->outcome);
    free(change);

    gateway_count_kept(gateway, -1);
}

void gateway_change_finish(struct gateway_change *change, const struct error *error) {
    change->outcome = error ? *error : (struct error){0};
    while (!http_loop_post(change->request->loop, respond_change, change))
        usleep(10000); /* out of memory */
}

static void start_change(struct gateway *gateway, struct http_request *request, bool load) {
    const struct gateway_supervisor *supervisor = gateway_supervisor(gateway);
    struct context *context = context_of(request);
    struct error error;

    context->model_known = gateway_check_model(gateway, context->model, &error);
    if (!context->model_known && (!load || !supervisor)) {
        respond_error(request, &error);
        return;
    }
    if (!supervisor) {
        error_set(&error, ERROR_INVALID, "this gateway does not start or stop its backends");
        respond_error(request, &error);
        return;
    }

    struct gateway_change *change = calloc(1, sizeof *change);
    if (!change) {
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return;
    }
    strcpy(change->model, context->model);
    change->load = load;
    change->asked_ns = clock_ns();
    change->deadline_ns = change->asked_ns + gateway_options(gateway)->timeout_ms * 1000000ll;
    change->gateway = gateway;
    change->request = request;

    gateway_count_kept(gateway, 1);
    supervisor->change(supervisor->context, change);
}

void gateway_load(struct gateway *gateway, struct http_request *request) {
    if (check_parameters(request, NULL))
        start_change(gateway, request, true);
}

void gateway_unload(struct gateway *gateway, struct http_request *request) {
    if (check_parameters(request, "unload_dependents"))
        start_change(gateway, request, false);
}
