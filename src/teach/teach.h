/* Photos in named folders -> a classifier of those names.
 *
 * The network of another model is kept as it is, but for its last layer, which is made anew: features.h (what
 * it sees in the photos), ridge.h (the layer, in closed form), folder.h (an ordinary model folder). Nothing
 * is trained step by step, so it takes seconds. One thread calls; OpenMP works inside. */
#pragma once
#include "base/progress.h"
#include "data/photo_list.h"
#include "model/model.h"
#include "teach/classes.h"
#include "teach/features.h"
#include "teach/none.h"
#include "teach/ridge.h"

struct teach_options {
    const char *photos; /* the folder of folders */
    const char *output; /* the folder to be made */
    const char *none;   /* the name of a class more, for what resembles none of the others; NULL: none */
    bool replace;       /* where there is one already */
    double minutes;     /* for tuning all layers (tune.h); 0: none */
    int64_t steps;      /* instead of minutes: so many steps; 0: as many as fit */
    int threads;
    progress_report report; /* may be NULL */
    void *context;
};

/* How well photos are recognised by heads that never saw them. */
struct teach_score {
    int right;
    double low, high;         /* the share of right answers, with 95 % confidence (Wilson) */
    double calibration_error; /* mean distance of probability and share of right answers, in ten bins */
    int *confusion;           /* [class_count, class_count] photos of a class (row) taken for another */
};

/* What tuning came to, on photos that it did not see, beside a head that did not see them either. */
struct teach_tuning {
    int64_t steps; /* 0: there was none */
    int trained, held_out;
    int head_right, right;
    double head_loss, loss; /* cross-entropy */
    double seconds;
    bool kept; /* it is better, and it is what was written */
};

struct teach_result {
    struct photo_list list;
    struct teach_classes classes;
    struct teach_features features;
    struct ridge_head head;
    struct teach_score score;
    struct teach_none none;
    struct teach_network network;
    struct teach_tuning tuning;
    struct graph *headed; /* what was tuned; NULL: nothing was */
    struct graph *tuned;  /* with the weights that came out; NULL: the head is better */
};

/* ERROR_INVALID: the photos are not as teach_classes_read wants them, or `output` exists already;
 * ERROR_MODEL: the model cannot be taught (network.h); ERROR_UNAVAILABLE: stopped by `report`. Nothing of a
 * failure is left. */
bool teach_run(const struct model *model, const struct teach_options *options, struct teach_result *ret,
               struct error *error);
void teach_result_release(struct teach_result *result);

/* The two classes, row and column of the confusion, that are most often taken for each other; how often. */
int teach_most_confused(const struct teach_result *result, int *ret_class, int *ret_other);
