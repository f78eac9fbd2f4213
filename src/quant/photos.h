/* The photos that a model is calibrated and compared on: found in a folder, decoded and made tensors.
 * One thread calls. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "image/image.h"

struct photo {
    char *name;  /* relative to the folder */
    char *group; /* the subfolder it lies in; NULL right in the folder */
    int class;   /* -1: not known */
};

struct photo_set {
    struct photo *photos; /* [count] */
    int count;
    int found;        /* image files in the folder, before --limit and the undecodable */
    float *tensors;   /* [count, 3, height, width], or [count, height, width, 3] */
    int64_t elements; /* of one photo's tensor */
    int height, width;
    bool channels_last;
    char **skipped; /* [skipped_count] "NAME: why" */
    int skipped_count;
    uint64_t key; /* changes with the names, sizes and times of the files, and with the recipe */
};

/* Says how far a stage is; false: stop, as the user asked. */
typedef bool (*quant_progress)(void *context, const char *stage, uint64_t done, uint64_t total);

struct photo_request {
    const char *folder;
    const struct image_recipe *recipe;
    bool channels_last;
    int limit; /* photos at the most, spread evenly over those found; 0: as many as PHOTO_SET_BYTES holds */
    int threads;
    quant_progress progress; /* may be NULL */
    void *context;
};

#define PHOTO_SET_BYTES (1024u << 20) /* of tensors that are kept at once */

/* Find the images (.jpg .jpeg .png .webp) right in the folder and in its subfolders, decode and preprocess
 * them. Those that do not decode are left out and listed. ERROR_NOT_FOUND: no folder, or no image in it;
 * ERROR_INVALID: none that decodes; ERROR_UNAVAILABLE: stopped by `progress`. */
bool photo_set_load(const struct photo_request *request, struct photo_set *ret, struct error *error);
void photo_set_release(struct photo_set *set);
