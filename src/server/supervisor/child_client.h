/* HTTP client for a model's process, over its loopback port. The supervisor's thread sends requests;
 * responses arrive on an event loop. Use from one thread at a time. */
#pragma once
#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "http/http_client.h"

struct child_client;

/* `wake` (an eventfd) is written to when the process has become ready. NULL on failure. */
struct child_client *child_client_create(struct http_loops *loops, int port, int wake, struct error *error);
/* Responses that arrive later are dropped. Accepts NULL. */
void child_client_free(struct child_client *client);

/* Whether /readyz has returned 200. If not, sends the next check unless one is under way; never blocks. */
bool child_client_is_ready(struct child_client *client);
/* GET `target` into `text`. Blocks for at most `timeout_ms`; false without a complete 200 response. */
bool child_client_get(struct child_client *client, const char *target, int timeout_ms, struct buffer *text);
