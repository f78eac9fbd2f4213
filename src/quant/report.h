/* Two models side by side: size, speed on this machine, and what happened to the answers.
 * One thread calls. */
#pragma once
#include <jansson.h>

#include "base/buffer.h"
#include "engine/engine.h"
#include "quant/quant.h"

/* A class in words; `context` is the side's. */
typedef const char *(*report_label)(const void *context, int class);

struct report_side {
    const char *name; /* "animals:int8" */
    const char *path; /* the ONNX file */
    struct engine *engine;
    const struct photo_set
        *set; /* the photos, prepared as this model wants them; the same ones on both sides */
    report_label label;
    const void *context;
    /* What report_measure finds out: */
    uint64_t bytes;
    double milliseconds; /* median of one photo */
    struct hits hits;
};

struct report_change {
    int photo;
    int class[2];   /* what each says */
    float share[2]; /* and how sure it is */
};

struct report {
    struct report_side sides[2];
    struct engine *fast; /* the first side's network in bfloat16, timed too; NULL: none */
    double fast_milliseconds;
    const int *samples; /* [count] which photos were judged */
    int count;
    struct likeness likeness;      /* of the second from the first */
    double *divergences;           /* [count] */
    struct report_change *changes; /* [change_count] the photos that are answered otherwise */
    int change_count, threads;
    char processor[96];
    const struct quant_result *quant; /* the second was made of the first just now; NULL: it was not */
    const struct quant_options *options;
};

/* Run both on `samples` of their sets (photo numbers, [count]; they stay the caller's), and time them turn by
 * turn for about `seconds`. sides[i]'s first six fields, quant, options and fast are set by the caller.
 * ERROR_INVALID where they answer with different numbers of classes. */
bool report_measure(struct report *report, const int *samples, int count, double seconds,
                    quant_progress progress, void *context, struct error *error);
void report_release(struct report *report);

/* NULL when memory is out. */
json_t *report_json(const struct report *report);
/* A page that needs nothing else. False when memory is out. */
bool report_html(const struct report *report, struct buffer *ret);
/* Layers by damage, the worst first: ret [at most `most`]; returns how many have one. */
int report_worst_layers(const struct report *report, const struct quant_layer **ret, int most);
