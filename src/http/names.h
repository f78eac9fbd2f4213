/* Names to addresses, where nobody has the time to wait: getaddrinfo can take many seconds and cannot be
 * given up, so each look-up runs on a thread of its own, which ends by itself and which nobody ever waits
 * for. */
#pragma once
#include <netdb.h>
#include <stdbool.h>

/* Look `host` up. `done` is called once, on that thread, with what was found (valid during the call), or with
 * NULL and a few words; `context` must live until then, so it wants a count of its own. An address in numbers
 * is told within this call. False where no thread is to be had: `done` is then not called. Any thread. */
bool name_look_up(const char *host,
                  void (*done)(void *context, const struct addrinfo *found, const char *failure),
                  void *context);
