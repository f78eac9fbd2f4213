/* One axis of Resize: which positions each result reads, and with which weights. Internal to ops/resize*.c.
 * https://onnx.ai/onnx/operators/onnx__Resize.html. */
#pragma once
#include "ops/family.h"

enum resize_mode { RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC };

struct resize_options {
    enum resize_mode mode;
    const char *coordinates; /* coordinate_transformation_mode */
    const char *nearest;     /* nearest_mode; "simple" before opset 11 */
    float cubic_a;
    bool exclude_outside, antialias;
};

/* Attributes with the defaults of the node's opset; refuses unknown names. */
bool resize_options_read(const struct node *node, struct resize_options *ret, struct error *error);

struct resize_axis {
    int64_t from, to;        /* lengths */
    float scale, start, end; /* start, end: the region of tf_crop_and_resize */
    int taps;                /* positions read for each result */
    int64_t *positions;      /* [to, taps] */
    float *weights;          /* [to, taps] */
    bool *outside;           /* [to]: outside the region, to be extrapolated; NULL if there is no region */
};

/* Fill in the last four, in the arena. False when memory is out. */
bool resize_axis_make(const struct resize_options *options, struct arena *arena, struct resize_axis *axis);
