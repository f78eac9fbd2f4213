#include "cli/feeder.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"

enum { THREADS = 16, QUEUE = 32 };

struct feeder {
    const struct dataset *dataset;
    const struct image_recipe *recipe;
    pthread_t threads[THREADS];
    int thread_count;
    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    size_t next, taken; /* of the data set: begun, handed out */
    struct feed queue[QUEUE];
    int first, count;
    bool stop;
};

static void photo_prepare(const struct feeder *feeder, struct feed *feed) {
    const char *path = feeder->dataset->photos[feed->photo].path;
    struct image image = {0};
    size_t size;
    char *bytes = file_read(path, LIMIT_IMAGE_BYTES, &size, &feed->error);
    if (!bytes)
        return;
    bool done = image_decode((const uint8_t *)bytes, size, &image, &feed->error);
    free(bytes);
    if (done) {
        image_recipe_size(feeder->recipe, image.width, image.height, &feed->width, &feed->height);
        feed->tensor = malloc((size_t)feed->width * (size_t)feed->height * 3 * sizeof *feed->tensor + 1);
        done = feed->tensor ? image_preprocess(&image, feeder->recipe, feed->tensor, &feed->error)
                            : error_set(&feed->error, ERROR_MEMORY, "no memory for its tensor");
    }
    image_release(&image);
    if (done)
        return;
    free(feed->tensor);
    feed->tensor = NULL;
    error_prefix(&feed->error, "%s", path);
}

static void *feeder_work(void *context) {
    struct feeder *feeder = context;
    pthread_mutex_lock(&feeder->lock);
    while (!feeder->stop && feeder->next < feeder->dataset->count) {
        struct feed feed = {.photo = feeder->next++};
        pthread_mutex_unlock(&feeder->lock);
        photo_prepare(feeder, &feed);
        pthread_mutex_lock(&feeder->lock);
        while (feeder->count == QUEUE && !feeder->stop)
            pthread_cond_wait(&feeder->changed, &feeder->lock);
        if (feeder->stop) {
            free(feed.tensor);
            break;
        }
        feeder->queue[(feeder->first + feeder->count++) % QUEUE] = feed;
        pthread_cond_broadcast(&feeder->changed);
    }
    pthread_mutex_unlock(&feeder->lock);
    return NULL;
}

struct feeder *feeder_create(const struct dataset *dataset, const struct image_recipe *recipe, int threads,
                             struct error *error) {
    struct feeder *feeder = calloc(1, sizeof *feeder);
    if (!feeder) {
        error_set(error, ERROR_MEMORY, "no memory to read photos with");
        return NULL;
    }
    feeder->dataset = dataset;
    feeder->recipe = recipe;
    pthread_mutex_init(&feeder->lock, NULL);
    pthread_cond_init(&feeder->changed, NULL);
    for (int i = 0; i < threads && i < THREADS; i++)
        if (pthread_create(&feeder->threads[feeder->thread_count], NULL, feeder_work, feeder) == 0)
            feeder->thread_count++;
    if (feeder->thread_count)
        return feeder;
    feeder_free(feeder);
    error_set(error, ERROR_IO, "no thread could be started to read photos with");
    return NULL;
}

bool feeder_take(struct feeder *feeder, struct feed *ret) {
    pthread_mutex_lock(&feeder->lock);
    bool more = feeder->taken < feeder->dataset->count;
    while (more && !feeder->count)
        pthread_cond_wait(&feeder->changed, &feeder->lock);
    if (more) {
        *ret = feeder->queue[feeder->first];
        feeder->first = (feeder->first + 1) % QUEUE;
        feeder->count--;
        feeder->taken++;
        pthread_cond_broadcast(&feeder->changed);
    }
    pthread_mutex_unlock(&feeder->lock);
    return more;
}

void feeder_free(struct feeder *feeder) {
    if (!feeder)
        return;
    pthread_mutex_lock(&feeder->lock);
    feeder->stop = true;
    pthread_cond_broadcast(&feeder->changed);
    pthread_mutex_unlock(&feeder->lock);
    for (int i = 0; i < feeder->thread_count; i++)
        pthread_join(feeder->threads[i], NULL);
    for (int i = 0; i < feeder->count; i++)
        free(feeder->queue[(feeder->first + i) % QUEUE].tensor);
    pthread_cond_destroy(&feeder->changed);
    pthread_mutex_destroy(&feeder->lock);
    free(feeder);
}
