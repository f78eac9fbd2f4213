/* One GET that asks whether a service is well: what a container's health check runs. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

/* True when `url` answers 2xx within `milliseconds`. Directly: no proxy, no redirect. ERROR_UNAVAILABLE says
 * what it did instead. Blocking; any thread. */
bool probe_url(const char *url, int milliseconds, struct error *error);
