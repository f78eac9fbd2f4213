#include "server/gateway/handlers.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/text.h"
#include "server/edge/context.h"
#include "server/edge/links.h"
#include "server/edge/respond.h"
#include "server/gateway/proxy.h"

void gateway_forward(struct gateway *gateway, struct http_request *request) {
    proxy_start(gateway, request,
                &(struct proxy_options){
                    .model = context_of(request)->model,
                    .target = request->target,
                    .aim = PROXY_ASK,
                });
}

void gateway_look(struct gateway *gateway, struct http_request *request) {
    proxy_start(gateway, request,
                &(struct proxy_options){
                    .model = context_of(request)->model,
                    .target = request->target,
                    .aim = PROXY_LOOK,
                });
}

/* "/model/NAME/predict?…" of the request's query. */
static bool write_predict_target(const struct http_request *request, const char *model,
                                 char ret[LIMIT_HEADER_BYTES]) {
    int length = snprintf(ret, LIMIT_HEADER_BYTES, "/model/%s/predict%s%s", model, *request->query ? "?" : "",
                          request->query);
    return length < (int)LIMIT_HEADER_BYTES;
}

void gateway_predict_with(struct gateway *gateway, struct http_request *request, const char *choice) {
    const struct context *context = context_of(request);
    char model[MODEL_NAME_BYTES], target[LIMIT_HEADER_BYTES];
    struct error error;

    if (context->model[0]) {
        strcpy(model, context->model);
    } else if (choice && *choice && gateway_check_model(gateway, choice, &error)) {
        text_copy(model, sizeof model, choice);
    } else if (!gateway_default_model(gateway, request, model)) {
        error_set(&error, ERROR_NOT_FOUND, "no models are available yet");
        respond_error(request, &error);
        return;
    }

    if (!auth_allow_model(request, model))
        return;

    if (!write_predict_target(request, model, target)) {
        error_set(&error, ERROR_INVALID, "the query is too long");
        respond_error(request, &error);
        return;
    }

    proxy_start(gateway, request,
                &(struct proxy_options){.model = model, .target = target, .aim = PROXY_ASK});
}

void gateway_predict(struct gateway *gateway, struct http_request *request) {
    gateway_predict_with(gateway, request, NULL);
}

void gateway_confirm_model(struct gateway *gateway, struct http_request *request) {
    respond_json(request, 200, json_pack("{s:s}", "model", context_of(request)->model));
}
