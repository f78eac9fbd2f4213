#include "data/loader.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"

enum { THREADS_MOST = 16 };

struct slot {
    struct loaded_photo photo;
    bool ready;
};

struct photo_loader {
    const struct photo_list *list;
    const struct photo_input *input;
    pthread_t threads[THREADS_MOST];
    int thread_count;
    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    size_t begun, taken;                   /* photos of the list */
    size_t waiting_bytes;                  /* of tensors that are ready */
    struct slot slots[PHOTO_LOADER_AHEAD]; /* photo i is in slot i % PHOTO_LOADER_AHEAD */
    bool stop;
};

static void prepare(const struct photo_loader *loader, struct loaded_photo *photo) {
    struct timing ignored = {0};
    size_t size;
    cleanup(freep) char *path = photo_list_path(loader->list, photo->index);
    if (!path) {
        error_set(&photo->error, ERROR_MEMORY, "not enough memory for the name of a photo");
        return;
    }

    cleanup(freep) char *bytes = file_read(path, LIMIT_IMAGE_BYTES, &size, &photo->error);
    if (bytes && !photo_prepare(loader->input, (const uint8_t *)bytes, size, &photo->prepared, &ignored,
                                &photo->error))
        error_prefix(&photo->error, "%s", path);
}

/* May the next photo be begun? The one that is taken next always may. */
static bool has_room(const struct photo_loader *loader) {
    size_t ahead = loader->begun - loader->taken;
    return ahead == 0 || (ahead < PHOTO_LOADER_AHEAD && loader->waiting_bytes < PHOTO_LOADER_BYTES);
}

static void *work(void *context) {
    struct photo_loader *loader = context;
    pthread_mutex_lock(&loader->lock);

    while (!loader->stop && loader->begun < loader->list->count) {
        if (!has_room(loader)) {
            pthread_cond_wait(&loader->changed, &loader->lock);
            continue;
        }

        struct loaded_photo photo = {.index = loader->begun++};
        pthread_mutex_unlock(&loader->lock);
        prepare(loader, &photo);

        pthread_mutex_lock(&loader->lock);
        loader->slots[photo.index % PHOTO_LOADER_AHEAD] = (struct slot){photo, true};
        loader->waiting_bytes += photo.prepared.bytes;
        pthread_cond_broadcast(&loader->changed);
    }

    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

struct photo_loader *photo_loader_create(const struct photo_list *list, const struct photo_input *input,
                                         int threads, struct error *error) {
    struct photo_loader *loader = calloc(1, sizeof *loader);
    if (!loader) {
        error_set(error, ERROR_MEMORY, "not enough memory to load photos");
        return NULL;
    }

    loader->list = list;
    loader->input = input;
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->changed, NULL);
    threads = threads < 1 ? 1 : threads < THREADS_MOST ? threads : THREADS_MOST;
    while (loader->thread_count < threads &&
           pthread_create(&loader->threads[loader->thread_count], NULL, work, loader) == 0)
        loader->thread_count++;

    if (loader->thread_count)
        return loader;

    photo_loader_free(loader);
    error_set(error, ERROR_IO, "cannot start a thread to load photos");
    return NULL;
}

bool photo_loader_take(struct photo_loader *loader, struct loaded_photo *ret) {
    pthread_mutex_lock(&loader->lock);
    struct slot *slot = &loader->slots[loader->taken % PHOTO_LOADER_AHEAD];
    bool more = loader->taken < loader->list->count;

    while (more && !slot->ready)
        pthread_cond_wait(&loader->changed, &loader->lock);
    if (more) {
        *ret = slot->photo;
        *slot = (struct slot){0};
        loader->waiting_bytes -= ret->prepared.bytes;
        loader->taken++;
        pthread_cond_broadcast(&loader->changed);
    }

    pthread_mutex_unlock(&loader->lock);
    return more;
}

void photo_loader_free(struct photo_loader *loader) {
    if (!loader)
        return;

    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->thread_count; i++)
        pthread_join(loader->threads[i], NULL);

    for (int i = 0; i < PHOTO_LOADER_AHEAD; i++)
        free(loader->slots[i].photo.prepared.tensor);
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}
