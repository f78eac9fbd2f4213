#include "serve/web_reply.h"

#include <string.h>

#include "serve/web_files.h"

/* The page loads nothing from elsewhere, save the photos that a person names by address. */
static const char policy[] =
    "default-src 'self'; img-src 'self' data: blob: https: http:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

static const struct web_file *file_find(enum web_tier tier, const char *path) {
    static const char *const own_descriptions[] = {"/openapi.json", "gateway/openapi.json",
                                                   "backend/openapi.json"};
    if (path[0] != '/') /* the tiers' own descriptions are not to be had by name */
        return NULL;
    return web_file_find(strcmp(path, "/openapi.json") == 0 ? own_descriptions[tier] : path);
}

bool web_reply_is_file(enum web_tier tier, const char *path) {
    return file_find(tier, path) != NULL;
}

bool web_reply_make(enum web_tier tier, const struct http_request *request, struct web_reply *ret) {
    const struct web_file *file = file_find(tier, request->path);
    if (!file)
        return false;
    if (request->method != HTTP_GET && request->method != HTTP_HEAD) {
        static const char text[] = "{\"error\":\"this address takes GET, HEAD\"}";
        *ret = (struct web_reply){405,
                                  {{"Content-Type", "application/json"}, {"Allow", "GET, HEAD"}},
                                  2,
                                  http_body_create(text, sizeof text - 1)};
        return true;
    }
    if (tier != WEB_FRONTEND && strcmp(request->path, "/") == 0) {
        *ret = (struct web_reply){.status = 302, .headers = {{"Location", "/docs"}}, .header_count = 1};
        return true;
    }
    const char *known = http_request_header(request, "If-None-Match");
    bool same = known && strstr(known, file->etag);
    *ret = (struct web_reply){same ? 304 : 200,
                              {{"Content-Type", file->content_type},
                               {"ETag", file->etag},
                               {"Cache-Control", "no-cache"},
                               {"Content-Security-Policy", policy},
                               {"X-Content-Type-Options", "nosniff"},
                               {"Referrer-Policy", "no-referrer"}},
                              WEB_HEADERS,
                              same ? NULL : http_body_create(file->bytes, file->size)};
    return true;
}
