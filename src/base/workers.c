#include "base/workers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct workers {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct work *first, **last; /* waiting work */
    bool ending;
    char name[12];
    int count;
    pthread_t threads[];
};

static void *worker_main(void *context) {
    struct workers *workers = context;
    pthread_setname_np(pthread_self(), workers->name);

    pthread_mutex_lock(&workers->mutex);
    for (;;) {
        struct work *work = workers->first;
        if (!work && workers->ending)
            break;
        if (!work) {
            pthread_cond_wait(&workers->changed, &workers->mutex);
            continue;
        }

        workers->first = work->next;
        if (!workers->first)
            workers->last = &workers->first;
        pthread_mutex_unlock(&workers->mutex);

        work->run(work);
        pthread_mutex_lock(&workers->mutex);
    }

    pthread_mutex_unlock(&workers->mutex);
    return NULL;
}

struct workers *workers_create(int threads, const char *name, struct error *error) {
    struct workers *workers = calloc(1, sizeof *workers + (size_t)threads * sizeof *workers->threads);
    if (!workers) {
        error_set(error, ERROR_MEMORY, "not enough memory for %d threads", threads);
        return NULL;
    }

    pthread_mutex_init(&workers->mutex, NULL);
    pthread_cond_init(&workers->changed, NULL);
    workers->last = &workers->first;
    snprintf(workers->name, sizeof workers->name, "%s", name);

    for (; workers->count < threads; workers->count++) {
        if (pthread_create(&workers->threads[workers->count], NULL, worker_main, workers)) {
            workers_free(workers);
            error_set(error, ERROR_IO, "no thread can be started");
            return NULL;
        }
    }

    return workers;
}

void workers_submit(struct workers *workers, struct work *work) {
    work->next = NULL;

    pthread_mutex_lock(&workers->mutex);
    *workers->last = work;
    workers->last = &work->next;
    pthread_cond_signal(&workers->changed);
    pthread_mutex_unlock(&workers->mutex);
}

void workers_free(struct workers *workers) {
    if (!workers)
        return;

    pthread_mutex_lock(&workers->mutex);
    workers->ending = true;
    pthread_cond_broadcast(&workers->changed);
    pthread_mutex_unlock(&workers->mutex);

    for (int i = 0; i < workers->count; i++)
        pthread_join(workers->threads[i], NULL);

    pthread_cond_destroy(&workers->changed);
    pthread_mutex_destroy(&workers->mutex);
    free(workers);
}
