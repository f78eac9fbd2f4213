/* The names of backends' hosts, and the addresses that each stood for when it was last looked up. Looking up
 * happens on threads that nobody waits for (http/names.h): a name server that is slow about one name delays
 * no other. Safe from any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "serve/gateway_backends.h"
#include "serve/gateway_routes.h"

struct name_book;

struct name_book *name_book_create(void);    /* NULL when memory is out */
void name_book_free(struct name_book *book); /* look-ups under way end by themselves. NULL is welcome */

/* Keep the names of these backends, and no others. False when memory is out. */
bool name_book_set(struct name_book *book, const struct backend_list *list);
/* Begin the look-ups that are due: of names never looked up, and of those whose last one ended `again_ms`
 * ago. */
void name_book_step(struct name_book *book, int64_t now_ns, int again_ms);
/* Wait until every name was looked up once, at most so long. */
void name_book_wait(struct name_book *book, int milliseconds);
/* Whether a look-up has told something new since this was last asked. */
bool name_book_changed(struct name_book *book);
/* How many addresses a name has; -1 while it is not known, for good or not yet. */
int name_book_find(struct name_book *book, const char *host, char ret[REPLICAS_MOST][NAME_ADDRESS_BYTES]);
