/* Who calls, and whether they may. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/edge/links.h"
#include "base/text.h"
#include "server/edge/respond.h"

/* The key that the caller shows; NULL: none. */
static const char *find_key(const struct http_request *request) {
    const char *key = http_request_header(request, "X-Api-Key");
    const char *authorization = http_request_header(request, "Authorization");

    if (!key && authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
        key = authorization + 7 + strspn(authorization + 7, " ");
    return key;
}

static bool refuse_unknown(struct http_request *request, const char *key) {
    struct error error;
    error_set(&error, ERROR_UNAUTHORIZED,
              key ? "unknown API key" : "an API key is needed: Authorization: Bearer KEY, or X-Api-Key: KEY");
    respond_error_with(request, &error, NULL, "Bearer");
    return false;
}

static bool refuse_right(struct http_request *request, const struct api_key *key, enum right right) {
    static const char *const names[] = {
        [RIGHT_NONE] = "none",
        [RIGHT_PREDICT] = "predict",
        [RIGHT_METRICS] = "metrics",
        [RIGHT_MANAGE] = "manage",
    };
    struct error error;

    if (key)
        error_set(&error, ERROR_FORBIDDEN, "the API key \"%s\" does not have the role \"%s\"",
                  api_key_name(key), names[right]);
    else
        error_set(&error, ERROR_FORBIDDEN,
                  "this call changes the service: it is answered at the control listener (--control), or to "
                  "an API key with the role \"manage\"");

    respond_error(request, &error);
    return false;
}

static bool refuse_model(struct http_request *request, const struct api_key *key, const char *model) {
    struct error error;
    error_set(&error, ERROR_FORBIDDEN, "the API key \"%s\" may not use the model \"%s\"", api_key_name(key),
              model);
    respond_error(request, &error);
    return false;
}

bool link_authenticate(struct http_request *request, struct api_keys *keys, bool control) {
    struct context *context = context_of(request);
    enum right right = context->endpoint ? context->endpoint->right : RIGHT_NONE; /* 404 and 405 */

    if (right == RIGHT_NONE || control)
        return true;
    if (!keys)
        return right != RIGHT_MANAGE || refuse_right(request, NULL, right);

    const char *shown = find_key(request);
    const struct api_key *key = shown ? api_keys_find(keys, shown, strlen(shown)) : NULL;
    if (!key)
        return refuse_unknown(request, shown);

    context->keys = api_keys_reference(keys);
    context->key = key;
    text_copy(context->client, sizeof context->client, api_key_name(key));

    if (!api_key_has_right(key, right))
        return refuse_right(request, key, right);
    return !context->model[0] || api_key_allows_model(key, context->model) ||
           refuse_model(request, key, context->model);
}

bool auth_allow_model(struct http_request *request, const char *model) {
    const struct context *context = context_of(request);
    return api_key_allows_model(context->key, model) || refuse_model(request, context->key, model);
}
