/* Which layers are worth their damage: each measured alone, and the worst kept in float until the loss is
 * small enough. One thread calls. */
#pragma once
#include "quant/measure.h"
#include "quant/scheme.h"

/* What candidates are measured on. */
struct trial {
    const struct photo_set *set;
    const int *samples; /* [count] as runner_run has them */
    int count;
    const float *reference; /* [count, classes] the float network's probabilities */
    int output;             /* of the network, that holds the classes */
    int64_t classes;
    int batch, threads;
    struct runner *float_runner; /* of the float network: candidates share its weights. May be NULL */
    quant_progress progress;     /* may be NULL */
    void *context;
};

/* Settle the scheme, run what it makes of the network on the first `count` samples of the trial. */
bool trial_run(const struct trial *trial, struct scheme *scheme, int count, struct likeness *ret,
               struct error *error);
/* a loses less than b: more of the same answers, then less divergence. Divergence decides alone where few
 * photos are judged. */
bool likeness_is_better(const struct likeness *a, const struct likeness *b);

/* Quantise one layer after another alone, and note its damage; in about `seconds`, on as many photos as that
 * allows (2 at the least). What was excluded before is so afterwards. */
bool search_sensitivity(const struct trial *trial, struct scheme *scheme, double seconds,
                        struct error *error);

struct search_result {
    struct likeness before, after; /* with all layers quantised, and as it was left */
    int kept;                      /* layers in float */
    int allowed;                   /* photos that may change */
    bool met;
};
/* Keep the most damaging layers in float until at most max_loss points of the answers change. Leaves the
 * scheme settled. */
bool search_keep_out(const struct trial *trial, struct scheme *scheme, double max_loss,
                     struct search_result *ret, struct error *error);
/* Of `count` photos, how many answers may change for a loss of `max_loss` points: one at the least, unless
 * the loss is to be 0. */
int search_allowed(int count, double max_loss);
