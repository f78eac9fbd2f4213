/* The links of a server's chain. Each is called on the request's loop when its head is here, and returns
 * false where it has answered. What they decide by is passed in, so that each can be read by itself. */
#pragma once
#include <stdbool.h>

#include "http/http.h"
#include "server/edge/api_keys.h"
#include "server/edge/context.h"
#include "server/edge/rate_limit.h"
#include "server/edge/static_files.h"

/* host.c. On listeners of loopback addresses alone: the Host header must name this machine, or one of
 * `names` (NULL-terminated; NULL: none); else 421. A page whose name was made to point here (DNS rebinding)
 * sends its own. */
bool link_check_host(struct http_request *request, const char *const *names);

/* host.c. Each of `names` can be the name in a Host header; else an error that says what is expected. */
bool host_check_names(const char *const *names, struct error *error);

/* static_files.c. The page, the description of the service. */
bool link_serve_file(struct http_request *request, enum web_tier tier);

/* cors.c. `allowed`: origins that may call from a page, comma-separated; "*": any; NULL: none. Notes the
 * origin in the context and answers preflight requests. */
bool link_allow_origin(struct http_request *request, const char *allowed);
/* cors.c. `list` names origins as browsers send them; else an error that says what is expected. */
bool cors_check_list(const char *list, struct error *error);
/* cors.c. A browser's question whether a page may make another request. */
bool cors_is_preflight(const struct http_request *request);

/* origin.c. 403 where a request that changes state comes from a page that is neither ours nor an allowed
 * origin. */
bool link_check_origin(struct http_request *request);

/* auth.c. 401 without a known key where there are `keys` (a reference is taken), 403 where the caller has not
 * the right of the endpoint. What is no endpoint needs none. Without keys, everything but `manage` is open.
 * `control`: everything is. */
bool link_authenticate(struct http_request *request, struct api_keys *keys, bool control);

/* rate_limit.c. 429 beyond the rate. `limiter` NULL: no limit. */
bool link_limit_rate(struct http_request *request, struct rate_limiter *limiter);

/* named_model.c. Called when the body is here, for requests with an endpoint: reads the model that the query
 * or the body names into the context. 400 where it is none, 404 where `check` (of struct server_options, with
 * its `service`) does not know it, 403 where the caller's key may not use it. */
bool link_find_model(struct http_request *request,
                     bool (*check)(void *service, const char *name, struct error *error), void *service);

/* auth.c. For models that the path does not name: false where the caller's key may not use it, and 403 was
 * answered. */
bool auth_allow_model(struct http_request *request, const char *model);
