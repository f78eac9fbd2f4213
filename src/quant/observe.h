/* Calibration: which values the activations of a float network take on real photos. One thread calls. */
#pragma once
#include "quant/histogram.h"
#include "quant/runner.h"

/* What was seen of one value of the graph. */
struct observation {
    int value;          /* its id */
    int axis;           /* that counts channels: 1, or -1 for the last */
    struct shape shape; /* of the last batch */
    struct histogram histogram;
    int64_t channels;   /* 0 before anything was seen */
    double *sum;        /* [channels] of all values */
    float *high;        /* [channels] largest magnitude */
    double per_channel; /* values that each sum is of */
};

struct observations {
    struct observation *items; /* [count], by value id */
    int count;
    int photos; /* seen so far */
};

/* Where statistics are kept meanwhile, so that an interrupted calibration goes on where it was. */
struct observe_state {
    const char *path; /* NULL: nowhere */
    uint64_t key;     /* of model, photos and choice of photos: another key is another calibration */
};

/* `values`: ids, ascending; `axes`: each one's channel axis. */
bool observations_create(const int *values, const int *axes, int count, struct observations *ret,
                         struct error *error);
void observations_release(struct observations *observations);
const struct observation *observations_find(const struct observations *observations, int value);
/* Mean of a channel. */
double observation_mean(const struct observation *observation, int64_t channel);

/* Run the float graph (bound; it stays the caller's and must live meanwhile) over the samples and note its
 * values. `beside`: as runner_create has it. ERROR_MODEL naming a value that is not finite; ERROR_UNAVAILABLE
 * when `progress` says to stop. */
bool observe(const struct graph *graph, const struct photo_set *set, const int *samples, int count,
             int threads, struct runner *beside, const struct observe_state *state, quant_progress progress,
             void *context, struct observations *observations, struct error *error);

/* The statistics as a file (written atomically), and back. False where there is no such file, or it is
 * another calibration's: then `observations` is as it was. */
bool observations_save(const struct observations *observations, const struct observe_state *state,
                       struct error *error);
bool observations_load(struct observations *observations, const struct observe_state *state);
