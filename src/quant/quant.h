/* Post-training quantisation: a float network and photos -> a network in 8-bit integers, and what that costs.
 *
 * The steps: load.h (read, fold), observe.h (calibrate), correct.h (equalise, correct biases), scheme.h (what
 * runs in integers), search.h (what stays in float), scheme_write, and report.h (the loss). One thread calls;
 * OpenMP works inside. */
#pragma once
#include "quant/search.h"

struct quant_options {
    enum quant_method method;
    enum dtype activations; /* DTYPE_U8 or DTYPE_I8 */
    bool per_tensor;
    double max_loss; /* percentage points of agreement */
    uint64_t seed;   /* of which photos calibrate, choose and are reported on */
    int threads;
    const char *state_path; /* keeps the statistics of an unfinished calibration; NULL: nothing is kept */
    progress_report progress;
    void *context;
};

struct quant_layer {
    const char *name, *op_type;
    bool active;        /* in integers */
    const char *reason; /* why it is in float; else NULL */
    double damage;      /* -1: not measured */
    int64_t weights;
};

struct quant_result {
    struct arena *arena;                /* of the strings */
    enum quant_method method;           /* never QUANT_AUTO */
    bool equalized, corrected;          /* done, as it helped */
    int pairs;                          /* equalised */
    int calibrated, choosing, held_out; /* photos */
    int *held_out_photos; /* [held_out] indices in the set: those that neither calibrated nor chose */
    struct search_result search;
    struct quant_layer *layers; /* [layer_count] convolutions and matrix products, in order */
    int layer_count, quantized_count;
};

/* Read the network of a model, quantise it with the photos, write it (atomically) to `output`. ERROR_INVALID:
 * it is quantised already, or there is nothing to quantise. */
bool quant_run(const struct model *model, const struct photo_set *set, const char *output,
               const struct quant_options *options, struct quant_result *ret, struct error *error);
void quant_result_release(struct quant_result *result);

/* How many photos it takes to measure a loss of `max_loss` points on the held-out part; 0: `count` is enough.
 */
int quant_photos_wanted(int count, double max_loss);
