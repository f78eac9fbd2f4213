/* Looking up names without blocking. getaddrinfo can take many seconds and cannot be cancelled, so each
 * look-up runs on a detached thread of its own. */
#pragma once
#include <netdb.h>
#include <stdbool.h>

/* Look `host` up. `done` is called once, on that thread, with the addresses (valid during the call), or with
 * NULL and a few words; `context` must live until then, so count references to it. For a numeric address
 * `done` is called within this call. False: no thread can be started, and `done` is not called. Any thread.
 */
bool name_look_up(const char *host,
                  void (*done)(void *context, const struct addrinfo *found, const char *failure),
                  void *context);
