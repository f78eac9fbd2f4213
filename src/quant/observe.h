/* Calibration: the values that the activations of a float network take on real photos. One thread calls. */
#pragma once
#include "quant/histogram.h"
#include "quant/runner.h"

/* Statistics of one value of the graph. */
struct observation {
    int value;          /* its id */
    int axis;           /* of the channels: 1, or -1 for the last */
    struct shape shape; /* of the last batch */
    struct histogram histogram;
    int64_t channels;   /* 0 before the first photo */
    double *sum;        /* [channels] of all values */
    float *high;        /* [channels] largest magnitude */
    double per_channel; /* values in each sum */
};

struct observations {
    struct observation *items; /* [count], by value id */
    int count;
    int photos; /* so far */
};

/* A file that keeps the statistics, so that an interrupted calibration can continue. */
struct observe_state {
    const char *path; /* NULL: nowhere */
    uint64_t key;     /* changes with the network, the photos and their choice */
};

/* `values`: ids, ascending; `axes`: the channel axis of each. ERROR_MEMORY. */
bool observations_create(const int *values, const int *axes, int count, struct observations *ret,
                         struct error *error);
void observations_release(struct observations *observations);
const struct observation *observations_find(const struct observations *observations, int value);
/* The mean of a channel. */
double observation_mean(const struct observation *observation, int64_t channel);

struct observe_options {
    const struct photo_set *set;
    const int *samples; /* [count] as for runner_run */
    int count, threads;
    struct runner *share_weights_with; /* as for runner_create */
    const struct observe_state *state; /* NULL: nothing is kept */
    progress_report progress;          /* may be NULL */
    void *context;
};

/* Run the bound float graph over the samples and add up its values. ERROR_MODEL names a value that is not
 * finite; ERROR_UNAVAILABLE: stopped by `progress`. */
bool observe(const struct graph *graph, const struct observe_options *options,
             struct observations *observations, struct error *error);

/* Write the statistics to a file (atomically), and read them. Loading is false, and `observations` unchanged,
 * where there is no such file or it has another key. */
bool observations_save(const struct observations *observations, const struct observe_state *state,
                       struct error *error);
bool observations_load(struct observations *observations, const struct observe_state *state);
