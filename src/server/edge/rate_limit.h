/* Rate limit per client: one token bucket each, in a table of fixed size, so that no flood of clients costs
 * memory. Where a set of the table is full, the bucket touched longest ago gives way. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rate_limiter;

/* `rate` requests a second each (> 0), after a burst of `burst` (>= 1). NULL when memory is out. About 1.5
 * MB. */
struct rate_limiter *rate_limiter_create(double rate, double burst);
void rate_limiter_free(struct rate_limiter *limiter);
/* One request of `client` (an address, a key's name) at `now_ns` of clock_ns(). True: let it pass. False: too
 * many, and *ret_wait_seconds says when the next will do. */
bool rate_limiter_take(struct rate_limiter *limiter, const char *client, size_t length, int64_t now_ns,
                       double *ret_wait_seconds);
