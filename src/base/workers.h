/* A fixed set of threads that run short pieces of work in the order of their submission: decoding photos,
 * writing large responses. */
#pragma once
#include "base/error.h"

struct workers;

/* Embedded in the object that the work is about; may be reused as soon as run() is called. */
struct work {
    void (*run)(struct work *work);
    struct work *next;
};

/* NULL with ERROR_MEMORY or ERROR_IO. `name` is the threads' name, cut to 11 bytes. */
struct workers *workers_create(int threads, const char *name, struct error *error);
/* Any thread. */
void workers_submit(struct workers *workers, struct work *work);
/* Ends the threads after all submitted work has run. Not from a worker. Takes NULL. */
void workers_free(struct workers *workers);
