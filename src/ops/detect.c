/* What detectors end in: NonMaxSuppression and RoiAlign.
 * https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/family.h"

/* --- NonMaxSuppression: boxes [batches, boxes, 4], scores [batches, classes, boxes] --- */

struct suppression {
    const float *boxes, *scores;
    int64_t batches, classes, boxes_each, most;
    float overlap, least;
    bool has_least, centered;
};

struct scored_box {
    float score;
    int64_t box;
};

/* Highest score first; of equal ones the first box. */
static int better_first(const void *a, const void *b) {
    const struct scored_box *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->box < y->box ? -1 : x->box > y->box;
}

/* The corners, lower ones first. */
static void corners(const struct suppression *s, const float *box, float *ret) {
    if (s->centered) {
        ret[0] = box[1] - box[3] / 2;
        ret[1] = box[0] - box[2] / 2;
        ret[2] = box[1] + box[3] / 2;
        ret[3] = box[0] + box[2] / 2;
        return;
    }
    ret[0] = fminf(box[0], box[2]);
    ret[1] = fminf(box[1], box[3]);
    ret[2] = fmaxf(box[0], box[2]);
    ret[3] = fmaxf(box[1], box[3]);
}

static bool overlaps(const float *a, const float *b, float limit) {
    float height = fminf(a[2], b[2]) - fmaxf(a[0], b[0]), width = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
    if (!(height > 0) || !(width > 0))
        return false;

    float common = height * width;
    float both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common;
    return both > 0 && common / both > limit;
}

/* Of one batch and class: the boxes that stay, into ret_boxes (room for all), best first. */
static int64_t suppress_class(const struct suppression *s, int64_t batch, int64_t kind,
                              struct scored_box *list, float *kept, int64_t *ret_boxes) {
    const float *scores = s->scores + (batch * s->classes + kind) * s->boxes_each;
    const float *boxes = s->boxes + batch * s->boxes_each * 4;
    int64_t count = 0, chosen = 0;

    for (int64_t i = 0; i < s->boxes_each; i++)
        if (s->has_least ? scores[i] > s->least : !isnan(scores[i]))
            list[count++] = (struct scored_box){scores[i], i};
    qsort(list, (size_t)count, sizeof *list, better_first);

    for (int64_t i = 0; i < count && chosen < s->most; i++) {
        float *own = kept + chosen * 4;
        bool stays = true;
        corners(s, boxes + list[i].box * 4, own);
        for (int64_t j = 0; j < chosen && stays; j++)
            stays = !overlaps(own, kept + j * 4, s->overlap);
        if (stays)
            ret_boxes[chosen++] = list[i].box;
    }
    return chosen;
}

/* All triples (batch, kind, box), as many as there is room for; returns how many there are, -1 where memory
 * is out. */
static int64_t suppress_all(const struct suppression *s, int64_t *ret, int64_t room) {
    cleanup(freep) struct scored_box *list = calloc((size_t)s->boxes_each + 1, sizeof *list);
    cleanup(freep) float *kept = calloc((size_t)s->boxes_each * 4 + 4, sizeof *kept);
    cleanup(freep) int64_t *boxes = calloc((size_t)s->boxes_each + 1, sizeof *boxes);
    int64_t total = 0;
    if (!list || !kept || !boxes)
        return -1;

    for (int64_t i = 0; i < s->batches * s->classes; i++) {
        int64_t chosen = suppress_class(s, i / s->classes, i % s->classes, list, kept, boxes);
        for (int64_t j = 0; j < chosen; j++, total++) {
            if (total >= room)
                continue;
            ret[total * 3] = i / s->classes;
            ret[total * 3 + 1] = i % s->classes;
            ret[total * 3 + 2] = boxes[j];
        }
    }
    return total;
}

static double scalar_of(const struct tensor *tensor, double fallback) {
    return tensor && tensor->data && shape_elements(&tensor->shape) == 1 ? tensor_get_f64(tensor, 0)
                                                                         : fallback;
}

static struct suppression suppression_of(const struct node *node, const struct tensor *const *inputs) {
    const struct shape *scores = &inputs[1]->shape;
    double most = scalar_of(inputs[2], 0), least = scalar_of(inputs[4], 0);
    return (struct suppression){.boxes = inputs[0]->data,
                                .scores = inputs[1]->data,
                                .batches = scores->dims[0],
                                .classes = scores->dims[1],
                                .boxes_each = scores->dims[2],
                                .most = most > 0 ? (int64_t)fmin(most, 1e9) : 0,
                                .overlap = (float)scalar_of(inputs[3], 0),
                                .has_least = inputs[4] && inputs[4]->data,
                                .least = (float)least,
                                .centered = node_int(node, "center_point_box", 0) != 0};
}

static bool suppression_infer(struct node *node, struct error *error) {
    const struct tensor *inputs[5] = {0};
    for (int i = 0; i < node->input_count; i++)
        if (node_has_input(node, i) && !(inputs[i] = node_constant(node, i, error)))
            return false;

    const struct shape *boxes = node_shape(node, 0), *scores = node_shape(node, 1);
    if (!node_want_types(node, 0, TYPE(F32), error) || !node_want_types(node, 1, TYPE(F32), error) ||
        !node_want_types(node, 2, TYPES_INDEX, error) || !node_want_types(node, 3, TYPE(F32), error) ||
        !node_want_types(node, 4, TYPE(F32), error) || !node_want_rank(node, 0, 3, 3, error) ||
        !node_want_rank(node, 1, 3, 3, error))
        return false;
    if (boxes->dims[2] != 4 || boxes->dims[0] != scores->dims[0] || boxes->dims[1] != scores->dims[2])
        return node_error(node, error, "the shapes of boxes and scores do not fit");

    if (!inputs[0] || !inputs[1])
        return node_error(node, error, "it has no boxes or no scores");

    struct suppression s = suppression_of(node, inputs);
    int64_t count = suppress_all(&s, NULL, 0);
    if (count < 0)
        return node_memory_error(node, error);
    return infer_output(node, 0, DTYPE_I64, &(struct shape){2, {count, 3}}, error);
}

static bool suppression_compute(const struct node *node, const struct tensor *inputs,
                                const struct tensor *outputs, struct error *error) {
    const struct tensor *given[5] = {0};
    for (int i = 0; i < node->input_count; i++)
        given[i] = &inputs[i]; /* without data where there are no boxes, or the input is absent */
    if (!given[0] || !given[1])
        return node_error(node, error, "it has no boxes or no scores");

    struct suppression s = suppression_of(node, given);
    return suppress_all(&s, outputs[0].data, outputs[0].shape.dims[0]) >= 0 || node_memory_error(node, error);
}

/* --- RoiAlign: x [n, c, h, w], rois [r, 4], batch indices [r] --- */

struct roi {
    int64_t height, width, out_height, out_width;
    double top, left, bin_height, bin_width;
    int64_t rows, columns; /* samples in a bin */
    bool is_max;
};

static bool roi_check(const struct node *node, struct error *error) {
    const char *mode = node_string(node, "mode", "avg");
    const char *transform = node_string(node, "coordinate_transformation_mode",
                                        node->opset < 16 ? "output_half_pixel" : "half_pixel");
    if (strcmp(mode, "avg") != 0 && strcmp(mode, "max") != 0)
        return node_error(node, error, "mode '%.32s' is not supported", mode);
    return strcmp(transform, "half_pixel") == 0 || strcmp(transform, "output_half_pixel") == 0 ||
           node_error(node, error, "coordinate_transformation_mode '%.32s' is not supported", transform);
}

static bool roi_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0), *rois = node_shape(node, 1), *batches = node_shape(node, 2);
    int64_t height = node_int(node, "output_height", 1), width = node_int(node, "output_width", 1);
    if (!node_want_types(node, 0, TYPES_F32, error) || !node_want_same_type(node, 1, 0, error) ||
        !node_want_types(node, 2, TYPE(I64), error) || !node_want_rank(node, 0, 4, 4, error))
        return false;
    if (rois->rank != 2 || rois->dims[1] != 4 || batches->rank != 1 || batches->dims[0] != rois->dims[0])
        return node_error(node, error, "the shapes of its regions do not fit");
    if (height < 1 || width < 1 || height > LIMIT_TENSOR_ELEMENTS || width > LIMIT_TENSOR_ELEMENTS ||
        node_int(node, "sampling_ratio", 0) < 0 || node_int(node, "sampling_ratio", 0) > 1024)
        return node_error(node, error, "an output size or sampling_ratio is out of range");

    struct shape shape = {4, {rois->dims[0], x->dims[1], height, width}};
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static struct roi roi_of(const struct node *node, const struct shape *x, const float *box,
                         const struct shape *y) {
    const char *transform = node_string(node, "coordinate_transformation_mode",
                                        node->opset < 16 ? "output_half_pixel" : "half_pixel");
    bool half = strcmp(transform, "half_pixel") == 0;
    double scale = (double)node_float(node, "spatial_scale", 1), shift = half ? 0.5 : 0;
    double left = (double)box[0] * scale - shift, top = (double)box[1] * scale - shift;
    double width = (double)box[2] * scale - shift - left, height = (double)box[3] * scale - shift - top;
    int64_t ratio = node_int(node, "sampling_ratio", 0);

    if (!half) {
        width = fmax(width, 1);
        height = fmax(height, 1);
    }
    struct roi roi = {.height = x->dims[2],
                      .width = x->dims[3],
                      .out_height = y->dims[2],
                      .out_width = y->dims[3],
                      .top = top,
                      .left = left,
                      .bin_height = height / (double)y->dims[2],
                      .bin_width = width / (double)y->dims[3],
                      .is_max = strcmp(node_string(node, "mode", "avg"), "max") == 0};
    /* A region from a stranger may be huge: more samples than the picture has lines tell nothing more. */
    roi.rows = ratio ? ratio : (int64_t)fmin(ceil(fmax(roi.bin_height, 0)), (double)(roi.height + 1));
    roi.columns = ratio ? ratio : (int64_t)fmin(ceil(fmax(roi.bin_width, 0)), (double)(roi.width + 1));
    return roi;
}

/* Between four pixels; zero outside of the picture. For the maximum, the largest of the weighted four. */
static double sample(const struct roi *roi, const float *plane, double y, double x) {
    if (!(y >= -1 && y <= (double)roi->height && x >= -1 && x <= (double)roi->width))
        return 0;

    y = fmax(y, 0);
    x = fmax(x, 0);
    int64_t y0 = (int64_t)y, x0 = (int64_t)x, y1 = y0 + 1, x1 = x0 + 1;
    if (y0 >= roi->height - 1) {
        y0 = y1 = roi->height - 1;
        y = (double)y0;
    }
    if (x0 >= roi->width - 1) {
        x0 = x1 = roi->width - 1;
        x = (double)x0;
    }

    double dy = y - (double)y0, dx = x - (double)x0;
    double a = (1 - dy) * (1 - dx) * (double)plane[y0 * roi->width + x0];
    double b = (1 - dy) * dx * (double)plane[y0 * roi->width + x1];
    double c = dy * (1 - dx) * (double)plane[y1 * roi->width + x0];
    double d = dy * dx * (double)plane[y1 * roi->width + x1];
    return roi->is_max ? fmax(fmax(a, b), fmax(c, d)) : a + b + c + d;
}

static double roi_bin(const struct roi *roi, const float *plane, int64_t row, int64_t column) {
    double result = roi->is_max ? -INFINITY : 0;
    int64_t count = roi->rows * roi->columns;

    for (int64_t i = 0; i < count; i++) {
        int64_t down = i / roi->columns, right = i % roi->columns;
        double y = roi->top + (double)row * roi->bin_height +
                   ((double)down + 0.5) * roi->bin_height / (double)roi->rows;
        double x = roi->left + (double)column * roi->bin_width +
                   ((double)right + 0.5) * roi->bin_width / (double)roi->columns;
        double value = sample(roi, plane, y, x);
        result = roi->is_max ? fmax(result, value) : result + value;
    }
    return !count ? 0 : roi->is_max ? result : result / (double)count;
}

static bool roi_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                     struct error *error) {
    const struct shape *x = &inputs[0].shape, *y = &outputs[0].shape;
    const int64_t *batches = inputs[2].data;
    int64_t bins = y->dims[2] * y->dims[3];
    for (int64_t r = 0; r < y->dims[0]; r++)
        if (batches[r] < 0 || batches[r] >= x->dims[0])
            return node_error(node, error, "region %lld is of picture %lld, there are %lld", (long long)r,
                              (long long)batches[r], (long long)x->dims[0]);
    if (!x->dims[2] || !x->dims[3]) {
        memset(outputs[0].data, 0, tensor_bytes(&outputs[0]));
        return true;
    }

#pragma omp parallel for schedule(dynamic) if (y->dims[0] * y->dims[1] * bins > PARALLEL_ELEMENTS / 16)
    for (int64_t i = 0; i < y->dims[0] * y->dims[1]; i++) {
        int64_t r = i / y->dims[1], c = i % y->dims[1];
        struct roi roi = roi_of(node, x, (const float *)inputs[1].data + r * 4, y);
        const float *plane =
            (const float *)inputs[0].data + (batches[r] * x->dims[1] + c) * x->dims[2] * x->dims[3];
        float *to = (float *)outputs[0].data + i * bins;
        for (int64_t bin = 0; bin < bins; bin++)
            to[bin] = (float)roi_bin(&roi, plane, bin / y->dims[3], bin % y->dims[3]);
    }
    return true;
}

static bool roi_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    return compute_widened(node, inputs, outputs, error, roi_wide);
}

const struct op_def detect_operators[] = {
    {.op_type = "NonMaxSuppression",
     .since = 10,
     .inputs = {2, 5},
     .plan_inputs = 31,
     .types = "float32",
     FUNCTIONS(suppression)},
    {.op_type = "RoiAlign",
     .since = 10,
     .inputs = {3, 3},
     .traits = OP_HEAVY,
     .types = NAMES_F32,
     .check = roi_check,
     FUNCTIONS(roi)},
    {0},
};
