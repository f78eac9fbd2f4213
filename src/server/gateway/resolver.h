/* Cache of the addresses of backends' host names. Look-ups run on their own threads (http/names.h), so one
 * slow name delays no other. Safe from any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "server/gateway/backend_list.h"
#include "server/gateway/balancer.h"

struct resolver;

struct resolver *resolver_create(void);        /* NULL: out of memory */
void resolver_free(struct resolver *resolver); /* look-ups under way end by themselves. Accepts NULL */

/* Cache exactly the host names of these backends. False: out of memory. */
bool resolver_set(struct resolver *resolver, const struct backend_list *list);
/* Start the look-ups that are due: of new names, and of those last looked up `again_ms` ago or earlier. */
void resolver_step(struct resolver *resolver, int64_t now_ns, int again_ms);
/* Wait until every name was looked up once, for at most `milliseconds`. */
void resolver_wait(struct resolver *resolver, int milliseconds);
/* Whether any address has changed since the last call. */
bool resolver_changed(struct resolver *resolver);
/* The number of addresses of a host; -1 if it is not resolved. */
int resolver_find(struct resolver *resolver, const char *host, char ret[LIMIT_REPLICAS][NAME_ADDRESS_BYTES]);
