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

/* "https://host:port", of any scheme that browsers have pages of, or "*". */
static bool is_origin(const char *text, size_t length) {
    static const char schemes[] = "abcdefghijklmnopqrstuvwxyz0123456789+-.";
    size_t scheme = strspn(text, schemes);

    if (length == 1 && *text == '*')
        return true;
    if (!scheme || strncmp(text + scheme, "://", 3) != 0 || length < scheme + 4)
        return false;
    return scheme + 3 + strcspn(text + scheme + 3, "/?#@ ,") == length;
}

bool cors_check_list(const char *list, struct error *error) {
    while (*(list += strspn(list, " ,"))) {
        size_t length = strcspn(list, " ,");
        if (!is_origin(list, length))
            return error_set(error, ERROR_INVALID,
                             "--cors %.*s: expected an origin such as https://example.org, or *",
                             (int)(length < 80 ? length : 80), list);
        list += length;
    }
    return true;
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
