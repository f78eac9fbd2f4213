/* Photos decoded and prepared by threads of their own, a few ahead of whoever takes them. */
#pragma once
#include "cli/dataset.h"

struct feeder;

/* What comes out: a tensor [3, height, width], or why there is none. */
struct feed {
    size_t photo;  /* index in the data set */
    float *tensor; /* the taker's: free(); NULL where the photo failed */
    int width, height;
    struct error error;
};

/* The data set and the recipe must outlive it. */
struct feeder *feeder_create(const struct dataset *dataset, const struct image_recipe *recipe, int threads,
                             struct error *error);
/* In no particular order; false when all were taken. One thread. */
bool feeder_take(struct feeder *feeder, struct feed *ret);
/* Stops early if need be. */
void feeder_free(struct feeder *feeder);
