/* One axis of Resize: where each result place reads, and with which weights. Internal to ops/resize*.c.
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

/* Attributes with the defaults of the node's opset; refuses names that are none. */
bool resize_options_read(const struct node *node, struct resize_options *ret, struct error *error);

struct resize_axis {
    int64_t from, to;        /* lengths */
    float scale, start, end; /* start, end: the region of tf_crop_and_resize */
    int taps;                /* places read for each result place */
    int64_t *places;         /* [to, taps] */
    float *weights;          /* [to, taps] */
    bool *outside;           /* [to]: beyond the region, to be extrapolated; NULL where there is no region */
};

/* False where memory is out. Free with resize_axis_release in either case. */
bool resize_axis_make(const struct resize_options *options, struct resize_axis *axis);
void resize_axis_release(struct resize_axis *axis);
