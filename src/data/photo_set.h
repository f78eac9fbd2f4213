/* Photos that are kept in memory as tensors, to be run again and again. One thread calls. */
#pragma once
#include "base/progress.h"
#include "data/photo_list.h"

#define PHOTO_SET_BYTES (1024u << 20) /* of tensors in one set */

struct photo_set {
    struct photo_file *photos; /* [count] */
    int count;
    int found;                /* images in the folder, before the limit and the undecodable */
    struct photo_input input; /* float32 */
    float *tensors;           /* [count, 3, height, width], or [count, height, width, 3] */
    int64_t elements;         /* of one photo's tensor */
    int height, width;
    char **skipped; /* [skipped_count] "NAME: why" */
    int skipped_count;
    uint64_t key; /* changes with the names, sizes and times of the files, and with the preprocessing */
};

struct photo_request {
    struct photo_source source;
    int limit; /* photos at the most, evenly spread over those found; 0: as many as PHOTO_SET_BYTES holds */
    int threads;
    progress_report report; /* may be NULL */
    void *context;
};

/* The photos that photo_list_read finds, as the model wants them. Those that do not decode are left out and
 * listed. ERROR_MODEL: the model takes no float32; ERROR_NOT_FOUND: no folder, or no image in it;
 * ERROR_INVALID: none that decodes; ERROR_UNAVAILABLE: stopped by `report`. */
bool photo_set_load(const struct photo_request *request, const struct model *model, struct photo_set *ret,
                    struct error *error);
void photo_set_release(struct photo_set *set);
