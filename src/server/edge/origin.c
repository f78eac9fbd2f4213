/* Requests that change state must not come from somebody else's page: a browser sends them with the person's
 * cookies and from inside their network. */
#include <string.h>
#include <strings.h>

#include "server/edge/links.h"
#include "server/edge/respond.h"

/* "https://host:port" against the Host that the request was sent to. */
static bool is_own(const char *origin, const char *host) {
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

bool link_check_origin(struct http_request *request) {
    const struct context *context = context_of(request);
    const char *origin = http_request_header(request, "Origin");
    const char *site = http_request_header(request, "Sec-Fetch-Site");
    struct error error;

    if (!context->endpoint || !context->endpoint->changes_state || context->cors_origin)
        return true;

    /* Programs send neither. */
    bool good = true;

    if (origin)
        good = is_own(origin, http_request_header(request, "Host")) ||
               is_own(origin, http_request_header(request, "X-Forwarded-Host"));
    else if (site)
        good = strcasecmp(site, "same-origin") == 0 || strcasecmp(site, "none") == 0;

    if (good)
        return true;

    error_set(&error, ERROR_FORBIDDEN,
              "a page of another origin may not change this service (a proxy in front must pass Host on)");
    respond_error(request, &error);
    return false;
}
