/* Photos read, decoded and prepared by threads of their own, a few ahead of the one that takes them. */
#pragma once
#include "data/photo_list.h"

struct photo_loader;

/* A prepared photo, or why there is none. */
struct loaded_photo {
    size_t index;                   /* in the list */
    struct prepared_photo prepared; /* tensor: the taker's, to free; NULL where the photo failed */
    struct error error;             /* names the file */
};

/* The list and `input` must outlive the loader. NULL: no memory, or no thread could be started. */
struct photo_loader *photo_loader_create(const struct photo_list *list, const struct photo_input *input,
                                         int threads, struct error *error);

/* The next photo, in the order of the list; false when all were taken. One thread takes. Memory for photos
 * that wait is bounded: PHOTO_LOADER_AHEAD of them, and PHOTO_LOADER_BYTES of tensors. */
#define PHOTO_LOADER_AHEAD 32
#define PHOTO_LOADER_BYTES (256u << 20)
bool photo_loader_take(struct photo_loader *loader, struct loaded_photo *ret);

/* Stops early where not all were taken. */
void photo_loader_free(struct photo_loader *loader);
