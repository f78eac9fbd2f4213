/* Two models compared: size, speed on this machine, and predictions. One thread calls. */
#pragma once
#include <jansson.h>

#include "base/buffer.h"
#include "data/evaluator.h"
#include "quant/estimate.h"
#include "quant/quant.h"

struct report_side {
    struct model *model;
    const struct photo_set *set; /* photos as this model wants them; the same ones on both sides */
    /* Set by report_measure: */
    uint64_t bytes;       /* of the ONNX file */
    double milliseconds;  /* median of one photo */
    struct estimate time; /* … with its interval */
    struct hits hits;
};

struct report_change {
    int photo;
    int best[2]; /* the class that each predicts */
    float probability[2];
};

struct report {
    struct report_side sides[2];
    struct model *fast; /* the first side's network in bfloat16, to be timed too; NULL: none */
    double fast_milliseconds;
    const int *samples; /* [count] photos */
    int count;
    struct agreement agreement; /* of the second from the first */
    struct estimate same, divergence,
        speedup; /* of all photos; speedup: against the first as `auto` runs it */
    struct estimate fast_time;
    double *divergences;           /* [count] */
    struct report_change *changes; /* [change_count] photos with another best class */
    int change_count, threads;
    char processor[96];
    const struct quant_result *quant; /* how the second was made from the first; NULL: not by this run */
    const struct quant_options *options;
};

/* Run both on `samples` (indices of photos, [count]; they must outlive the report), and time them in turns
 * for about `seconds`. The caller has set sides[i].model and set, quant, options and fast. ERROR_INVALID:
 * their numbers of classes differ; ERROR_UNAVAILABLE: stopped by `progress`. */
bool report_measure(struct report *report, const int *samples, int count, double seconds,
                    progress_report progress, void *context, struct error *error);
void report_release(struct report *report);

/* "take", "maybe" or "leave", by the worse ends of the intervals, and why: [size] each. */
const char *report_judge(const struct report *report, char *ret_english, char *ret_french, size_t size);
/* Is the agreement that was asked for certain? */
bool report_target_is_met(const struct report *report);

/* The English name of a class of a side. */
const char *report_label(const struct report_side *side, int index);

/* NULL when memory is out. */
json_t *report_json(const struct report *report);
/* A self-contained page. False when memory is out. */
bool report_html(const struct report *report, struct buffer *ret);
/* The most damaging layers, the worst first: ret [at most `most`]. Returns how many. */
int report_worst_layers(const struct report *report, const struct quant_layer **ret, int most);
