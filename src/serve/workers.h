/* A few threads that do short pieces of work, first come, first served: decoding photos, writing large
 * answers. */
#pragma once
#include "base/error.h"

struct workers;

/* Embedded in what the work is about; free for another use as soon as it runs. */
struct work {
    void (*run)(struct work *work);
    struct work *next;
};

struct workers *workers_create(int threads, const char *name, struct error *error);
/* Any thread. */
void workers_submit(struct workers *workers, struct work *work);
/* Ends the threads once everything submitted was done. NULL is welcome. */
void workers_free(struct workers *workers);
