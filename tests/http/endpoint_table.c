/* Prints the table of endpoints (server/endpoints.c) as JSON, a row each, for tests that ask every endpoint.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/edge/endpoint.h"

static const char *const rights[] = {
    [RIGHT_NONE] = "none",
    [RIGHT_PREDICT] = "predict",
    [RIGHT_METRICS] = "metrics",
    [RIGHT_MANAGE] = "manage",
};
static const char *const error_forms[] = {[ERRORS_HOUSE] = "house", [ERRORS_OPENAI] = "openai"};
static const char *const scopes[] = {
    [SCOPE_PROCESS] = "process",
    [SCOPE_SERVICE] = "service",
    [SCOPE_MODEL] = "model",
};
static const char *const sources[] = {
    [MODEL_IN_PATH] = "path",
    [MODEL_IN_QUERY] = "query",
    [MODEL_IN_BODY] = "body",
};

static json_t *describe_columns(const struct endpoint *row) {
    return json_pack("{s:b, s:b, s:b, s:b}", "frontend", row->frontend != NULL, "gateway",
                     row->gateway != NULL, "backend", row->backend != NULL, "service", row->service != NULL);
}

static json_t *describe(const struct endpoint *row) {
    json_t *json =
        json_pack("{s:s, s:s, s:s}", "method", row->method, "pattern", row->pattern, "label", row->label);

    json_object_set_new(json, "right", json_string(rights[row->right]));
    json_object_set_new(json, "errors", json_string(error_forms[row->errors]));
    json_object_set_new(json, "scope", json_string(scopes[row->scope]));
    json_object_set_new(json, "model", json_string(sources[row->model]));
    json_object_set_new(json, "changes_state", json_boolean(row->changes_state));
    json_object_set_new(json, "columns", describe_columns(row));
    return json;
}

int main(void) {
    json_t *rows = json_array();
    for (const struct endpoint *row = endpoints; row->pattern; row++)
        json_array_append_new(rows, describe(row));

    bool printed = json_dumpf(rows, stdout, JSON_INDENT(1)) == 0;
    json_decref(rows);
    return printed ? EXIT_SUCCESS : EXIT_FAILURE;
}
