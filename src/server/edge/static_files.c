#include "server/edge/static_files.h"

#include <string.h>

#include "server/edge/links.h"
#include "server/edge/respond.h"
#include "server/edge/web_files.h"

/* The page loads nothing from elsewhere, save the photos that a person names by address. */
static const char policy[] =
    "default-src 'self'; img-src 'self' data: blob: https: http:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

static const struct web_file *find_file(enum web_tier tier, const char *path) {
    static const char *const own_descriptions[] = {"/openapi.json", "gateway/openapi.json",
                                                   "backend/openapi.json"};
    if (path[0] != '/') /* the tiers' own descriptions have no path of their own */
        return NULL;
    return web_file_find(strcmp(path, "/openapi.json") == 0 ? own_descriptions[tier] : path);
}

bool link_serve_file(struct http_request *request, enum web_tier tier) {
    const struct web_file *file = find_file(tier, request->path);
    if (!file)
        return true;

    context_of(request)->label = "page";
    if (request->method == HTTP_OPTIONS) {
        respond_options(request, "GET, HEAD");
        return false;
    }
    if (request->method != HTTP_GET && request->method != HTTP_HEAD) {
        respond_method_not_allowed(request, "GET, HEAD");
        return false;
    }
    if (tier != WEB_FRONTEND && strcmp(request->path, "/") == 0) {
        respond(request, 302, &(struct http_header){"Location", "/docs"}, 1, NULL);
        return false;
    }

    const struct http_header headers[] = {
        {"Content-Type", file->content_type},  {"ETag", file->etag},
        {"Cache-Control", "no-cache"},         {"Content-Security-Policy", policy},
        {"X-Content-Type-Options", "nosniff"}, {"Referrer-Policy", "no-referrer"},
    };
    const char *known = http_request_header(request, "If-None-Match");
    bool same = known && strstr(known, file->etag);
    respond(request, same ? 304 : 200, headers, sizeof headers / sizeof headers[0],
            same ? NULL : http_body_create(file->bytes, file->size));

    return false;
}
