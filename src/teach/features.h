/* Inside teach/: what the network sees in photos. */
#pragma once
#include "base/progress.h"
#include "data/photo_list.h"
#include "teach/network.h"

struct teach_features {
    float *values; /* [count, width] */
    int *photos;   /* [count] indices in the list */
    int *classes;  /* [count] */
    int count, width;
    char **skipped; /* [skipped_count] "NAME: why", of photos that do not decode */
    int skipped_count;
};

/* Every photo of the list through the network, as `model` wants its photos. ERROR_UNAVAILABLE: stopped by
 * `report`, which may be NULL. */
bool teach_features_compute(const struct model *model, const struct teach_network *network,
                            const struct photo_list *list, int threads, progress_report report, void *context,
                            struct teach_features *ret, struct error *error);
void teach_features_release(struct teach_features *features);
