#include "server/backend/batcher.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

struct batcher {
    struct batcher_options options;
    pthread_t thread, preparer;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed, started, wanted;
    struct batcher_item *first, **last;
    int length, expected;
    bool ending, is_started;
    int prepared[BATCHER_KEYS]; /* the most rows of a batch of that key */
    bool settled[BATCHER_KEYS]; /* and there will be no larger ones */
    int preparing;              /* a key; -1: none */
    struct error start_error;
};

static int power_of_two(int count) {
    int size = 1;
    while (size * 2 <= count)
        size *= 2;
    return size;
}

static void wait_until(struct batcher *batcher, int64_t until_ns) {
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    pthread_cond_timedwait(&batcher->changed, &batcher->mutex, &until);
}

/* Unlink cancelled and expired items. Returns them as a list; the caller completes them outside the lock. */
static struct batcher_item *take_expired(struct batcher *batcher, int64_t now) {
    struct batcher_item *expired = NULL, **end = &expired;
    batcher->last = &batcher->first;

    for (struct batcher_item **at = &batcher->first; *at;) {
        struct batcher_item *item = *at;
        if (now >= item->deadline_ns || !batcher->options.is_wanted(batcher->options.context, item)) {
            *at = item->next;
            item->next = NULL;
            *end = item;
            end = &item->next;
            batcher->length--;
        } else {
            at = &item->next;
            batcher->last = at;
        }
    }

    return expired;
}

static void end_expired(struct batcher *batcher, struct batcher_item *item) {
    struct error error;
    for (struct batcher_item *next; item; item = next) {
        next = item->next;
        error_set(&error, ERROR_TIMEOUT, "the request waited longer than its timeout");
        batcher->options.done(batcher->options.context, item, &error);
    }
}

static int rows_of(const struct batcher_item *item) {
    return item->rows > 1 ? item->rows : 1;
}

/* The rows of the waiting items that have the first item's key, at most `limit`. */
static int count_alike(const struct batcher *batcher, int limit) {
    int rows = 0;
    for (const struct batcher_item *item = batcher->first; item && rows < limit; item = item->next)
        if (item->key == batcher->first->key)
            rows += rows_of(item) < limit - rows ? rows_of(item) : limit - rows;
    return rows;
}

/* The most rows of the next batch; 0 after waiting for more items: choose again. */
static int choose_size(struct batcher *batcher) {
    int key = batcher->first->key;
    if (key < 0)
        return 1;

    int alike = count_alike(batcher, batcher->options.max_batch), prepared = batcher->prepared[key];
    int size = power_of_two(alike < prepared ? alike : prepared);

    if (alike >= prepared * 2 && !batcher->settled[key] && batcher->preparing < 0) {
        batcher->preparing = key;
        pthread_cond_signal(&batcher->wanted);
    }

    int64_t until = batcher->first->queued_ns + (int64_t)batcher->options.max_wait_us * 1000;
    bool more_come = batcher->expected > 0 && !batcher->ending;

    if (size < prepared && more_come && clock_ns() < until) {
        wait_until(batcher, until);
        return 0;
    }
    return size;
}

/* Of the items of the first one's key that fit into `size` rows, how many make a power of two: the most. The
 * first alone, whatever its rows, where none do. */
static int count_batch(const struct batcher *batcher, int size) {
    int rows = 0, count = 0, best = 1;
    if (batcher->first->key < 0 || rows_of(batcher->first) >= size)
        return 1;

    for (const struct batcher_item *item = batcher->first; item && rows < size; item = item->next) {
        if (item->key != batcher->first->key || rows_of(item) > size - rows)
            continue;
        rows += rows_of(item);
        count++;
        if (power_of_two(rows) == rows)
            best = count;
    }
    return best;
}

static int take_batch(struct batcher *batcher, int size, struct batcher_item **items) {
    int64_t now = clock_ns();
    int key = batcher->first->key, rows = 0, count = 0, wanted = count_batch(batcher, size);
    batcher->last = &batcher->first;

    for (struct batcher_item **at = &batcher->first; *at;) {
        struct batcher_item *item = *at;
        if (count < wanted && item->key == key && (count == 0 || rows_of(item) <= size - rows)) {
            *at = item->next;
            item->begun_ns = now;
            rows += rows_of(item);
            items[count++] = item;
        } else {
            at = &item->next;
            batcher->last = at;
        }
    }

    batcher->length -= count;
    for (int i = 0; i < count; i++)
        items[i]->batch = count;
    return count;
}

/* Lock held on entry and return, released while the model runs. */
static void run_batch(struct batcher *batcher, int size) {
    const struct batcher_options *options = &batcher->options;
    struct batcher_item *items[BATCHER_LARGEST];
    int count = take_batch(batcher, size, items);
    pthread_mutex_unlock(&batcher->mutex);

    struct error error = {0};
    bool done = options->run(options->context, items, count, &error);

    for (int i = 0; i < count; i++)
        options->done(options->context, items[i], done ? NULL : &error);

    pthread_mutex_lock(&batcher->mutex);
}

static void *batcher_main(void *context) {
    struct batcher *batcher = context;

    pthread_setname_np(pthread_self(), "model");
    struct error error = {0};
    bool started = batcher->options.start(batcher->options.context, &error);
    pthread_mutex_lock(&batcher->mutex);
    batcher->is_started = true;
    if (!started) /* a successful start may leave an optional failure in `error` */
        batcher->start_error = error;
    if (!started && error.code == ERROR_NONE)
        batcher->start_error.code = ERROR_INTERNAL;
    pthread_cond_broadcast(&batcher->started);

    for (;;) {
        struct batcher_item *expired = take_expired(batcher, clock_ns());
        if (expired) {
            pthread_mutex_unlock(&batcher->mutex);
            end_expired(batcher, expired);
            pthread_mutex_lock(&batcher->mutex);
        } else if (batcher->first) {
            int size = choose_size(batcher);
            if (size)
                run_batch(batcher, size);
        } else if (batcher->ending) {
            break;
        } else {
            pthread_cond_wait(&batcher->changed, &batcher->mutex);
        }
    }

    pthread_mutex_unlock(&batcher->mutex);
    if (batcher->options.end)
        batcher->options.end(batcher->options.context);
    return NULL;
}

/* Prepares the next batch size of a kind when the queue has outgrown what is prepared. */
static void *preparer_main(void *context) {
    struct batcher *batcher = context;
    pthread_setname_np(pthread_self(), "prepare");

    pthread_mutex_lock(&batcher->mutex);
    while (!batcher->ending) {
        int key = batcher->preparing;
        if (key < 0) {
            pthread_cond_wait(&batcher->wanted, &batcher->mutex);
            continue;
        }

        int size = batcher->prepared[key] * 2;
        pthread_mutex_unlock(&batcher->mutex);
        bool ready = batcher->options.prepare(batcher->options.context, key, size);
        pthread_mutex_lock(&batcher->mutex);

        if (ready)
            batcher->prepared[key] = size;
        batcher->settled[key] = !ready || size * 2 > batcher->options.max_batch;
        batcher->preparing = -1;
    }

    pthread_mutex_unlock(&batcher->mutex);
    return NULL;
}

static void release(struct batcher *batcher) {
    pthread_cond_destroy(&batcher->changed);
    pthread_cond_destroy(&batcher->started);
    pthread_cond_destroy(&batcher->wanted);
    pthread_mutex_destroy(&batcher->mutex);
    free(batcher);
}

struct batcher *batcher_create(const struct batcher_options *options, struct error *error) {
    struct batcher *batcher = calloc(1, sizeof *batcher);
    if (!batcher) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    batcher->options = *options;
    int largest = options->max_batch ? options->max_batch : 8;
    batcher->options.max_batch = largest > BATCHER_LARGEST ? BATCHER_LARGEST : largest;
    for (int key = 0; key < BATCHER_KEYS; key++) {
        batcher->prepared[key] = options->prepare ? 1 : power_of_two(batcher->options.max_batch);
        batcher->settled[key] = !options->prepare || batcher->options.max_batch < 2;
    }
    batcher->preparing = -1;
    batcher->last = &batcher->first;

    pthread_mutex_init(&batcher->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&batcher->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_cond_init(&batcher->started, NULL);
    pthread_cond_init(&batcher->wanted, NULL);

    bool prepares = options->prepare && batcher->options.max_batch > 1;
    if (prepares && pthread_create(&batcher->preparer, NULL, preparer_main, batcher)) {
        release(batcher);
        error_set(error, ERROR_IO, "cannot start a thread");
        return NULL;
    }

    if (!prepares)
        batcher->options.prepare = NULL;

    if (pthread_create(&batcher->thread, NULL, batcher_main, batcher)) {
        pthread_mutex_lock(&batcher->mutex);
        batcher->ending = true;
        pthread_cond_broadcast(&batcher->wanted);
        pthread_mutex_unlock(&batcher->mutex);
        if (prepares)
            pthread_join(batcher->preparer, NULL);
        release(batcher);
        error_set(error, ERROR_IO, "cannot start a thread");
        return NULL;
    }

    return batcher;
}

bool batcher_wait_started(struct batcher *batcher, struct error *error) {
    pthread_mutex_lock(&batcher->mutex);
    while (!batcher->is_started)
        pthread_cond_wait(&batcher->started, &batcher->mutex);
    struct error outcome = batcher->start_error;
    pthread_mutex_unlock(&batcher->mutex);

    if (outcome.code != ERROR_NONE)
        *error = outcome;
    return outcome.code == ERROR_NONE;
}

void batcher_expect(struct batcher *batcher, int change) {
    pthread_mutex_lock(&batcher->mutex);
    batcher->expected += change;
    if (change < 0)
        pthread_cond_signal(&batcher->changed);
    pthread_mutex_unlock(&batcher->mutex);
}

void batcher_submit(struct batcher *batcher, struct batcher_item *item) {
    item->next = NULL;
    item->queued_ns = clock_ns();

    pthread_mutex_lock(&batcher->mutex);
    batcher->expected--;
    *batcher->last = item;
    batcher->last = &item->next;
    batcher->length++;
    pthread_cond_signal(&batcher->changed);
    pthread_mutex_unlock(&batcher->mutex);
}

int batcher_length(struct batcher *batcher) {
    pthread_mutex_lock(&batcher->mutex);
    int length = batcher->length;
    pthread_mutex_unlock(&batcher->mutex);
    return length;
}

void batcher_free(struct batcher *batcher) {
    if (!batcher)
        return;

    pthread_mutex_lock(&batcher->mutex);
    batcher->ending = true;
    pthread_cond_broadcast(&batcher->changed);
    pthread_cond_broadcast(&batcher->wanted);
    pthread_mutex_unlock(&batcher->mutex);

    pthread_join(batcher->thread, NULL);
    if (batcher->options.prepare)
        pthread_join(batcher->preparer, NULL);
    release(batcher);
}
