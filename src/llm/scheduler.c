#include "llm/scheduler.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "llm/sequences.h"

struct scheduler {
    struct sequences *sequences; /* its thread's alone */
    int most;                    /* sequences that are written and that wait, together */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct generation *waiting, **last;
    struct scheduler_counts counts;
    bool ending;
};

/* --- What waits: with the mutex --------------------------------------------------------------------------
 */

static void append(struct scheduler *scheduler, struct generation *generation) {
    generation->next = NULL;
    *scheduler->last = generation;
    scheduler->last = &generation->next;
    scheduler->counts.waiting++;
    scheduler->counts.queued_tokens += (int64_t)generation->prompt_count;
}

static struct generation *take_out(struct scheduler *scheduler, struct generation **link) {
    struct generation *generation = *link;
    *link = generation->next;
    if (!*link)
        scheduler->last = link;
    scheduler->counts.waiting--;
    return generation;
}

/* The first of a client that has the fewest sequences. */
static struct generation **find_next(struct scheduler *scheduler) {
    struct generation **best = NULL;
    int fewest = INT_MAX;

    for (struct generation **link = &scheduler->waiting; *link && fewest > 0; link = &(*link)->next) {
        int count = sequences_of_client(scheduler->sequences, (*link)->client);
        if (count < fewest) {
            fewest = count;
            best = link;
        }
    }
    return best;
}

/* Move cancelled and expired generations into a list of their own. */
static struct generation *take_ended(struct scheduler *scheduler) {
    struct generation *ended = NULL, **last = &ended;
    int64_t now = clock_ns();

    for (struct generation **link = &scheduler->waiting; *link;) {
        struct generation *generation = *link;
        bool expired = generation->expires_ns && generation->expires_ns <= now;
        if (!expired && !atomic_load(&generation->cancelled)) {
            link = &generation->next;
            continue;
        }
        *last = take_out(scheduler, link);
        last = &(*last)->next;
        *last = NULL;
    }
    return ended;
}

/* --- The thread ------------------------------------------------------------------------------------------
 */

static void tell_ended(struct generation *ended) {
    struct error error;
    error_set(&error, ERROR_TIMEOUT, "the request waited longer than its timeout for its turn");

    while (ended) {
        struct generation *generation = ended;
        bool cancelled = atomic_load(&generation->cancelled);
        ended = generation->next;
        generation->done(generation->context, cancelled ? GENERATION_CANCELLED : GENERATION_FAILED,
                         cancelled ? NULL : &error);
    }
}

/* With the mutex. */
static void update_counts(struct scheduler *scheduler) {
    struct scheduler_counts *counts = &scheduler->counts;
    struct sequences_counts of;

    sequences_counts_get(scheduler->sequences, &of);
    counts->running = sequences_count(scheduler->sequences);
    counts->queued_tokens = of.queued_tokens;
    for (const struct generation *at = scheduler->waiting; at; at = at->next)
        counts->queued_tokens += (int64_t)at->prompt_count;
    counts->runs = of.runs;
    counts->prompt_tokens = of.prompt_tokens;
    counts->shared_tokens = of.shared_tokens;
    counts->written_tokens = of.written_tokens;
    counts->pages = of.pages;
    counts->free_pages = of.free_pages;
}

/* What waits and has a place, into the sequences; each call without the mutex. */
static void begin_waiting(struct scheduler *scheduler) {
    pthread_mutex_lock(&scheduler->mutex);
    struct generation *ended = take_ended(scheduler);
    pthread_mutex_unlock(&scheduler->mutex);
    tell_ended(ended);

    while (sequences_have_place(scheduler->sequences)) {
        pthread_mutex_lock(&scheduler->mutex);
        struct generation **link = find_next(scheduler);
        struct generation *generation = link ? take_out(scheduler, link) : NULL;
        scheduler->counts.running += generation != NULL;
        pthread_mutex_unlock(&scheduler->mutex);
        if (!generation)
            return;
        sequences_begin(scheduler->sequences, generation);
    }
}

/* False: it is to end, and nothing is left. */
static bool wait_for_work(struct scheduler *scheduler) {
    pthread_mutex_lock(&scheduler->mutex);
    update_counts(scheduler);
    while (!scheduler->ending && !scheduler->waiting && sequences_count(scheduler->sequences) == 0)
        pthread_cond_wait(&scheduler->changed, &scheduler->mutex);
    if (scheduler->ending)
        for (struct generation *at = scheduler->waiting; at; at = at->next)
            atomic_store(&at->cancelled, true);
    bool work = scheduler->waiting || sequences_count(scheduler->sequences) > 0;
    bool ending = scheduler->ending;
    pthread_mutex_unlock(&scheduler->mutex);

    if (ending)
        sequences_cancel(scheduler->sequences);
    return work;
}

static void *run(void *context) {
    struct scheduler *scheduler = context;

    while (wait_for_work(scheduler)) {
        begin_waiting(scheduler);
        sequences_step(scheduler->sequences);
    }
    return NULL;
}

/* --- Life ------------------------------------------------------------------------------------------------
 */

struct scheduler *scheduler_create(const struct llm_model *model, const struct scheduler_options *options,
                                   struct error *error) {
    const struct sequences_options of = {options->parallel, options->context, options->threads,
                                         options->precision, options->kv};
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (!scheduler) {
        error_set(error, ERROR_MEMORY, "not enough memory for a scheduler");
        return NULL;
    }

    pthread_mutex_init(&scheduler->mutex, NULL);
    pthread_cond_init(&scheduler->changed, NULL);
    scheduler->last = &scheduler->waiting;
    scheduler->most = options->parallel + options->waiting;
    scheduler->sequences = sequences_create(model, &of, error);
    int number = scheduler->sequences ? pthread_create(&scheduler->thread, NULL, run, scheduler) : 0;
    scheduler->has_thread = scheduler->sequences && number == 0;
    if (scheduler->has_thread)
        return scheduler;

    if (number)
        error_set_errno(error, ERROR_IO, number, "starting a thread");
    scheduler_free(scheduler);
    return NULL;
}

void scheduler_free(struct scheduler *scheduler) {
    if (!scheduler)
        return;

    if (scheduler->has_thread) {
        pthread_mutex_lock(&scheduler->mutex);
        scheduler->ending = true;
        pthread_cond_signal(&scheduler->changed);
        pthread_mutex_unlock(&scheduler->mutex);
        pthread_join(scheduler->thread, NULL);
    }
    sequences_free(scheduler->sequences);
    pthread_cond_destroy(&scheduler->changed);
    pthread_mutex_destroy(&scheduler->mutex);
    free(scheduler);
}

bool scheduler_submit(struct scheduler *scheduler, struct generation *const *generations, int count,
                      struct error *error) {
    int64_t now = clock_ns();

    pthread_mutex_lock(&scheduler->mutex);
    int there = scheduler->counts.running + scheduler->counts.waiting;
    bool taken = !scheduler->ending && there <= scheduler->most - count;
    for (int i = 0; taken && i < count; i++) {
        generations[i]->queued_ns = now;
        append(scheduler, generations[i]);
    }
    if (taken)
        pthread_cond_signal(&scheduler->changed);
    pthread_mutex_unlock(&scheduler->mutex);

    return taken || error_set(error, ERROR_UNAVAILABLE,
                              "%d texts are being written or wait, and at most %d can: try again soon", there,
                              scheduler->most);
}

void scheduler_counts_get(struct scheduler *scheduler, struct scheduler_counts *ret) {
    pthread_mutex_lock(&scheduler->mutex);
    *ret = scheduler->counts;
    pthread_mutex_unlock(&scheduler->mutex);
}
