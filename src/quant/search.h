/* Which layers stay in float: each is measured alone, and the most damaging ones are kept in float until the
 * loss is small enough. One thread calls. */
#pragma once
#include "data/photo_set.h"
#include "quant/measure.h"
#include "quant/scheme.h"

/* What candidates are compared with. */
struct trial {
    const struct photo_set *set;
    const int *samples;           /* [reference.count] as for runner_run */
    struct predictions reference; /* the float network's */
    int output;                   /* the one that scores the classes */
    int batch, threads;
    struct runner *float_runner; /* of the float network, whose weights candidates share; may be NULL */
    progress_report progress;    /* may be NULL */
    void *context;
};

/* Settle the scheme, and compare its network with the reference on the first `count` samples. */
bool trial_run(const struct trial *trial, struct scheme *scheme, int count, struct agreement *ret,
               struct error *error);
/* Is `a` better? Divergence decides: it tells more of few photos than equal predictions do. */
bool agreement_is_better(const struct agreement *a, const struct agreement *b);

/* Set the damage of every layer: its divergence when it alone is quantised. In about `seconds`, on as many
 * photos as that allows (2 at least). What is excluded stays as it is. */
bool search_sensitivity(const struct trial *trial, struct scheme *scheme, double seconds,
                        struct error *error);

struct search_result {
    struct agreement before, after; /* with all layers quantised, and in the end */
    int kept;                       /* layers in float */
    int allowed;                    /* photos that may change */
    bool met;
};
/* Exclude the most damaging layers until at most max_loss points of the predictions change. Leaves the scheme
 * settled.
 */
bool search_keep_out(const struct trial *trial, struct scheme *scheme, double max_loss,
                     struct search_result *ret, struct error *error);
/* How many of `count` predictions may change for a loss of `max_loss` points: at least one, unless that is 0.
 */
int search_allowed(int count, double max_loss);
