/* One budget for the memory that requests take: it is asked before the memory is touched.
 *
 * Whoever holds memory for a request has a charge, which says what for. A charge grows where the budget has
 * room, else the request is refused: with ERROR_TOO_LARGE where the bytes would not fit into an idle process
 * either, with ERROR_UNAVAILABLE where they do not fit now. The later a purpose comes in a request's life,
 * the more of the budget it may fill: what was let in can always go on, and gives its memory back.
 *
 * Without memory_budget_start nothing is refused. Any thread, each charge by one at a time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* In the order of a request's life; each may fill so much together with those before it. */
enum memory_purpose {
    MEMORY_BODIES,  /* of requests, while they arrive, wait, or are kept to be sent again: half */
    MEMORY_FETCHED, /* photos by URL: three eighths, without bodies */
    MEMORY_JSON,    /* bodies, parsed */
    MEMORY_TENSORS, /* what the model takes and gives: three quarters */
    MEMORY_REPLIES, /* seven eighths */
    MEMORY_PIXELS,  /* what decoding a photo takes: all */
    MEMORY_PURPOSES
};

/* Zeroed but for the purpose, it holds nothing. */
struct memory_charge {
    enum memory_purpose purpose;
    size_t bytes;
};

/* How long a caller waits for room; zeroed: not at all. */
struct memory_wait {
    int64_t deadline_ns;              /* clock_ns() */
    bool (*is_wanted)(void *context); /* asked several times a second; NULL: always */
    void *context;
};

/* Refuse from now on what does not fit into so many bytes; 0: the default. Also has large blocks returned to
 * the system as soon as they are freed. Once, before other threads start. */
void memory_budget_start(size_t bytes);
/* What the control group allows or the machine has: all of it. */
uint64_t memory_limit(const char *root);
/* Half of what the control group allows or the machine has, at most 1 GiB. `root`: of the file systems /proc
 * and /sys, usually "". */
size_t memory_budget_default(const char *root);
/* SIZE_MAX where none was started. */
size_t memory_budget_bytes(void);

/* `bytes` more. False: the charge is as it was. */
bool memory_charge_try(struct memory_charge *charge, size_t bytes);
/* The same, and a refusal is counted, with its reason. */
bool memory_charge_grow(struct memory_charge *charge, size_t bytes, struct error *error);
/* The same; where it does not fit now, wait until it does, or the deadline is over. Nothing else is waited
 * for in this order: what holds memory of a later purpose does not wait for an earlier one. */
bool memory_charge_wait(struct memory_charge *charge, size_t bytes, const struct memory_wait *wait,
                        struct error *error);
/* Make it `bytes` in all, whether they fit or not: for what is there already and cannot be refused. */
void memory_charge_set(struct memory_charge *charge, size_t bytes);
/* After the memory was freed. */
void memory_charge_release(struct memory_charge *charge);
/* Would so many bytes fit now? They may be gone when they are asked for. False: refused and counted. */
bool memory_budget_check(enum memory_purpose purpose, size_t bytes, struct error *error);
/* Would they ever fit? */
bool memory_budget_allows(enum memory_purpose purpose, size_t bytes);

/* Where much was charged since the last time, return what the heap keeps to the system: at most once a
 * second, and every five seconds while nothing is charged. To be called now and then. False: there is
 * nothing to return. */
bool memory_budget_trim(void);

/* For metrics: "bodies", …; bytes now; charges refused so far, for good and for now. */
const char *memory_purpose_name(enum memory_purpose purpose);
size_t memory_budget_charged(enum memory_purpose purpose);
void memory_budget_refused(uint64_t *ret_never, uint64_t *ret_now);
