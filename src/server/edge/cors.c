/* Which pages from elsewhere may call: https://fetch.spec.whatwg.org/#http-cors-protocol */
#include <string.h>
#include <strings.h>

#include "server/edge/links.h"
#include "server/edge/respond.h"

/* Whether `origin` is in a list such as "https://a.example, https://b.example". */
static bool is_allowed(const char *list, const char *origin) {
    size_t wanted = strlen(origin);
    while (*list) {
        list += strspn(list, " ,");
        size_t length = strcspn(list, " ,");
        if ((length == 1 && *list == '*') || (length == wanted && strncasecmp(list, origin, length) == 0))
            return true;
        list += length;
    }

    return false;
}

bool cors_is_preflight(const struct http_request *request) {
    return request->method == HTTP_OPTIONS && http_request_header(request, "Access-Control-Request-Method");
}

bool link_allow_origin(struct http_request *request, const char *allowed) {
    static const struct http_header headers[] = {
        {"Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"},
        {"Access-Control-Allow-Headers",
         "Authorization, Content-Type, Inference-Header-Content-Length, X-Api-Key, X-Request-Id, "
         "X-Request-Timeout-Ms, traceparent, tracestate"},
        {"Access-Control-Max-Age", "600"},
    };
    const char *origin = http_request_header(request, "Origin");

    if (!origin || !allowed || !is_allowed(allowed, origin))
        return true;

    context_of(request)->cors_origin = origin;
    if (!cors_is_preflight(request))
        return true;

    respond(request, 204, headers, 3, NULL);
    return false;
}
