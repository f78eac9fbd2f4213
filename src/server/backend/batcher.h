/* The queue before a model: requests of one kind that wait are run together.
 *
 * One thread, the model's own, runs everything: the OpenMP team that computes belongs to it, so there is one
 * team for the machine. A batch is what waits when the thread is free, up to a limit; a lone request never
 * waits. Where more requests are known to be on their way (batcher_expect), the thread may wait for them a
 * stated time.
 *
 * A request has one row or several; the size of a batch is the rows in it. It is a power of two, so that
 * there are few plans; sizes above one are used once they were prepared for that kind of request, which a
 * second thread does when the queue first grows that long. A request with more rows than that runs alone,
 * whole. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define BATCHER_LARGEST 64 /* rows */
#define BATCHER_KEYS 16    /* kinds of requests */

/* One request in the queue, embedded in what it is about. */
struct batcher_item {
    int key;             /* only items of one key run together, 0 … BATCHER_KEYS - 1; -1: it runs alone */
    int rows;            /* 0 is 1 */
    int64_t deadline_ns; /* clock_ns(); past it the item is not run any more */
    int64_t queued_ns;   /* set by batcher_submit */
    int64_t begun_ns;    /* set when its batch begins; 0: never */
    int batch;           /* items in the batch it was in; 0: none */
    struct batcher_item *next;
};

/* Zero means the default in brackets. */
struct batcher_options {
    int max_batch;   /* [8] rows, at most BATCHER_LARGEST */
    int max_wait_us; /* [0] for requests that are on their way */
    /* First of all, on the model's thread: load, warm up. */
    bool (*start)(void *context, struct error *error);
    /* Run a batch, on the model's thread. An error is everybody's in the batch. */
    bool (*run)(void *context, struct batcher_item **items, int count, struct error *error);
    /* Optional. Prepare for batches of so many rows of that kind; on its own thread, concurrently with `run`.
     * False: they cannot be run together, now or ever. */
    bool (*prepare)(void *context, int key, int rows);
    /* The client has gone, so that the item need not be run. Any thread. */
    bool (*is_wanted)(void *context, struct batcher_item *item);
    /* The item has left the queue: error is NULL where it was run. On the model's thread. */
    void (*done)(void *context, struct batcher_item *item, const struct error *error);
    /* Optional. Last of all, on the model's thread. */
    void (*end)(void *context);
    void *context;
};

struct batcher;
/* Starts the thread; batcher_wait_started says how `start` went. */
struct batcher *batcher_create(const struct batcher_options *options, struct error *error);
bool batcher_wait_started(struct batcher *batcher, struct error *error);
/* A request is on its way to the queue (+1), or will not come after all (-1). Submitting takes one off by
 * itself. Any thread. */
void batcher_expect(struct batcher *batcher, int change);
/* Any thread, after batcher_expect(…, 1). */
void batcher_submit(struct batcher *batcher, struct batcher_item *item);
int batcher_length(struct batcher *batcher);
/* Runs what is queued, then ends. NULL is welcome. */
void batcher_free(struct batcher *batcher);
