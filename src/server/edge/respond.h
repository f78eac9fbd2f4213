/* Replies in the forms that every tier shares. Each adds the request's id, the CORS headers and the cookie
 * of its context (context.h). Like http_respond: once for each request, from any thread. */
#pragma once
#include <jansson.h>

#include "base/buffer.h"
#include "server/edge/endpoint.h"

/* Takes over `body` (NULL: empty). */
void respond(struct http_request *request, int status, const struct http_header *headers, int header_count,
             struct http_body *body);
/* The head of a reply that is written in pieces (http_respond_begin). On the request's loop. */
bool respond_begin(struct http_request *request, int status, const struct http_header *headers,
                   int header_count, int64_t length);
/* Takes over the reference (NULL: 500). */
void respond_json(struct http_request *request, int status, json_t *json);
/* A JSON text that lives in the program. */
void respond_text(struct http_request *request, int status, const char *json);
/* In the form of the endpoint, with the status of the error's code. 503 and 429 carry Retry-After: 1. */
void respond_error(struct http_request *request, const struct error *error);
/* … with Retry-After (NULL: none) and WWW-Authenticate (NULL: none) as given. */
void respond_error_with(struct http_request *request, const struct error *error, const char *retry_after,
                        const char *challenge);
/* 204 with Allow: what OPTIONS asks for. */
void respond_options(struct http_request *request, const char *allow);
/* 405 with Allow. */
void respond_method_not_allowed(struct http_request *request, const char *allow);
/* ERROR_NOT_FOUND for a model that is not here; `names`: "a, b" of those that are. */
void error_set_unknown_model(struct error *error, const char *name, size_t length, const char *names);

/* The text of an error in one of the forms, for replies that have begun already. */
bool error_write(struct buffer *text, enum error_form form, const struct error *error);
