/* A folder of photos whose classes are known. */
#pragma once
#include "model/model.h"

struct dataset_photo {
    char *path;
    int class; /* as the model counts */
};

struct dataset {
    struct dataset_photo *photos; /* [count], sorted by path */
    size_t count, capacity;
};

/* `labels` NULL: DIR/labels.tsv where that names photos, else one folder a class, called as the model calls
 * it or by WordNet id (folders that are no class are warned of and left out). A labels file has lines "photo
 * <tab> class", the photo relative to DIR, the class a number, to which `offset` is added, or a name. */
bool dataset_load(const char *folder, const char *labels, int offset, const struct model *model,
                  struct dataset *ret, struct error *error);
void dataset_release(struct dataset *dataset);
