#include "server/edge/respond.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "http/inflate.h"
#include "server/edge/context.h"
#include "server/edge/forwarding.h"

#define OWN_HEADERS 7 /* that `add_own` adds at most */

/* Beside what the handler says: what the request's context asks for. */
static int add_own(const struct http_request *request, struct http_header *headers, int count) {
    const struct context *context = context_of(request);
    if (!context)
        return count;

    headers[count++] = (struct http_header){"X-Request-Id", context->trace.request_id};
    if (context->tells_https)
        headers[count++] = (struct http_header){"Strict-Transport-Security", "max-age=31536000"};
    if (context->cookie)
        headers[count++] = (struct http_header){"Set-Cookie", context->cookie};
    if (context->cors_origin) {
        headers[count++] = (struct http_header){"Access-Control-Allow-Origin", context->cors_origin};
        headers[count++] = (struct http_header){"Access-Control-Expose-Headers",
                                                "X-Request-Id, Retry-After, Inference-Header-Content-Length"};
        headers[count++] = (struct http_header){"Vary", "Origin"};
    }

    return count;
}

static int gather(const struct http_request *request, const struct http_header *headers, int header_count,
                  struct http_header ret[LIMIT_FORWARDED_HEADERS + OWN_HEADERS]) {
    int count = header_count < LIMIT_FORWARDED_HEADERS ? header_count : LIMIT_FORWARDED_HEADERS;
    for (int i = 0; i < count; i++)
        ret[i] = headers[i];
    return add_own(request, ret, count);
}

void respond(struct http_request *request, int status, const struct http_header *headers, int header_count,
             struct http_body *body) {
    struct http_header all[LIMIT_FORWARDED_HEADERS + OWN_HEADERS];
    int count = gather(request, headers, header_count, all);
    http_respond(request, status, all, count, body);
}

bool respond_begin(struct http_request *request, int status, const struct http_header *headers,
                   int header_count, int64_t length) {
    struct http_header all[LIMIT_FORWARDED_HEADERS + OWN_HEADERS];
    int count = gather(request, headers, header_count, all);
    return http_respond_begin(request, status, all, count, length);
}

void respond_json(struct http_request *request, int status, json_t *json) {
    static const struct http_header header = {"Content-Type", "application/json"};
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY) : NULL;
    json_decref(json);

    struct http_body *body = text ? http_body_take(text, strlen(text)) : NULL;
    if (!body) {
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return;
    }
    respond(request, status, &header, 1, body);
}

void respond_text(struct http_request *request, int status, const char *json) {
    static const struct http_header header = {"Content-Type", "application/json"};
    respond(request, status, &header, 1, http_body_create(json, strlen(json)));
}

/* OpenAI's words for what went wrong: https://platform.openai.com/docs/guides/error-codes */
static void write_openai(struct buffer *text, const struct error *error) {
    int status = error_http_status(error->code);
    const char *type = status >= 500   ? "server_error"
                       : status == 429 ? "rate_limit_error"
                       : status == 401 ? "authentication_error"
                       : status == 403 ? "permission_error"
                                       : "invalid_request_error";
    const char *code = status == 401   ? "\"invalid_api_key\""
                       : status == 429 ? "\"rate_limit_exceeded\""
                       : status == 404 ? "\"model_not_found\""
                                       : "null";

    buffer_append_string(text, "{\"error\":{\"message\":");
    json_append_string(text, error->message);
    buffer_printf(text, ",\"type\":\"%s\",\"param\":null,\"code\":%s}}", type, code);
}

bool error_write(struct buffer *text, enum error_form form, const struct error *error) {
    if (form == ERRORS_OPENAI) {
        write_openai(text, error);
        return !text->failed;
    }

    buffer_append_string(text, "{\"error\":");
    json_append_string(text, error->message);
    return buffer_append_string(text, "}");
}

void respond_error_with(struct http_request *request, const struct error *error, const char *retry_after,
                        const char *challenge) {
    const struct context *context = context_of(request);
    struct http_header headers[4] = {{"Content-Type", "application/json"}};
    struct buffer text = {0};
    int count = 1;

    if (retry_after)
        headers[count++] = (struct http_header){"Retry-After", retry_after};
    if (challenge)
        headers[count++] = (struct http_header){"WWW-Authenticate", challenge};
    if (error->code == ERROR_MEDIA)
        headers[count++] = (struct http_header){"Accept-Encoding", HTTP_ENCODINGS};
    error_write(&text, context ? context->errors : ERRORS_HOUSE, error);
    respond(request, error_http_status(error->code), headers, count, http_body_create(text.bytes, text.size));
    buffer_release(&text);
}

void respond_error(struct http_request *request, const struct error *error) {
    bool later = error->code == ERROR_UNAVAILABLE || error->code == ERROR_RATE;
    respond_error_with(request, error, later ? "1" : NULL, NULL);
}

void respond_options(struct http_request *request, const char *allow) {
    respond(request, 204, &(struct http_header){"Allow", allow}, 1, NULL);
}

void respond_method_not_allowed(struct http_request *request, const char *allow) {
    const struct context *context = context_of(request);
    struct http_header headers[2] = {{"Content-Type", "application/json"}, {"Allow", allow}};
    struct buffer text = {0};
    struct error error;

    error_set(&error, ERROR_METHOD, "this path takes %s", allow);
    error_write(&text, context ? context->errors : ERRORS_HOUSE, &error);
    respond(request, 405, headers, 2, http_body_create(text.bytes, text.size));
    buffer_release(&text);
}

void error_set_unknown_model(struct error *error, const char *name, size_t length, const char *names) {
    error_set(error, ERROR_NOT_FOUND, "there is no model \"%.*s\" here; available: %s",
              (int)(length < 60 ? length : 60), name, *names ? names : "none");
}
