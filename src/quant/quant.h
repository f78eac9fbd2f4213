/* Post-training quantisation: a float network and photos -> a network in 8-bit integers, and what that cost.
 *
 * The road: load.h (read, fold), photos.h, observe.h (calibrate), correct.h (equalise, correct biases),
 * scheme.h (what runs in integers), search.h (what had better not), scheme_write, and report.h (the price).
 * One thread calls; OpenMP works inside. */
#pragma once
#include "quant/search.h"

struct quant_options {
    enum quant_method method;
    enum dtype activations; /* DTYPE_U8 or DTYPE_I8 */
    bool per_tensor;
    double max_loss; /* points of agreement */
    int threads;
    const char *state_path; /* the statistics of an unfinished calibration; NULL: none are kept */
    quant_progress progress;
    void *context;
};

struct quant_layer {
    const char *name, *op_type;
    bool active;        /* in integers */
    const char *reason; /* in float: why */
    double damage;      /* -1: not measured */
    int64_t weights;
};

struct quant_result {
    struct arena *arena;       /* of the strings */
    enum quant_method method;  /* that was used */
    bool equalised, corrected; /* and helped */
    int pairs;                 /* equalised */
    int calibrated, held_out;  /* photos */
    int *held_out_photos;      /* [held_out] their numbers in the set */
    struct search_result search;
    struct quant_layer *layers; /* [layer_count] convolutions and products, in order */
    int layer_count, quantised_count;
};

/* Read `network`, quantise it with the photos, write it (atomically) to `output`. ERROR_INVALID: it is
 * quantised already, or there is nothing to quantise. */
bool quant_run(const char *network, const struct photo_set *set, const char *output,
               const struct quant_options *options, struct quant_result *ret, struct error *error);
void quant_result_release(struct quant_result *result);

/* Photos that are few: how many it takes to see a loss of `max_loss` points in the held-out part; 0 where
 * `count` is enough. */
int quant_photos_wanted(int count, double max_loss);
