/* Col2Im: columns of blocks added up to an image, and AffineGrid: where an affine map puts the points of a
 * grid; ImageScaler of opset 1, which Core ML's converter writes.
 * https://onnx.ai/onnx/operators/onnx__Col2Im.html */
#include <string.h>

#include "ops/window.h"

/* --- Col2Im: input [n, c * block, blocks], image_shape, block_shape --- */

struct columns {
    int spatial;
    int64_t image[LIMIT_TENSOR_RANK], block[LIMIT_TENSOR_RANK], steps[LIMIT_TENSOR_RANK];
    int64_t stride[LIMIT_TENSOR_RANK], dilation[LIMIT_TENSOR_RANK], pad[2 * LIMIT_TENSOR_RANK];
    int64_t block_size, blocks; /* elements of a block, blocks of an image */
};

static bool read_list(const struct node *node, const char *name, int count, int64_t fallback, int64_t least,
                      int64_t *ret, struct error *error) {
    int given;
    if (!node_attribute_ints(node, name, 2 * LIMIT_TENSOR_RANK, ret, &given, error))
        return false;
    for (int i = 0; given < 0 && i < count; i++)
        ret[i] = fallback;
    for (int i = 0; i < count; i++)
        if ((given >= 0 && given != count) || ret[i] < least || ret[i] > LIMIT_TENSOR_ELEMENTS)
            return node_error(node, error, "attribute %s does not fit %d numbers", name, count);
    return true;
}

static bool columns_read(const struct node *node, struct columns *ret, struct error *error) {
    int images, blocks;
    struct columns c = {.block_size = 1, .blocks = 1};
    if (!node_read_ints(node, 1, LIMIT_TENSOR_RANK - 2, c.image, &images, error) ||
        !node_read_ints(node, 2, LIMIT_TENSOR_RANK - 2, c.block, &blocks, error))
        return false;
    if (images < 1 || images != blocks)
        return node_error(node, error, "image_shape and block_shape have different lengths");

    c.spatial = images;
    if (!read_list(node, "strides", images, 1, 1, c.stride, error) ||
        !read_list(node, "dilations", images, 1, 1, c.dilation, error) ||
        !read_list(node, "pads", 2 * images, 0, 0, c.pad, error))
        return false;
    for (int i = 0; i < images; i++) {
        if (c.image[i] < 1 || c.image[i] > LIMIT_TENSOR_ELEMENTS || c.block[i] < 1 ||
            c.block[i] > LIMIT_TENSOR_ELEMENTS)
            return node_error(node, error, "image_shape or block_shape is not positive");
        int64_t room = c.image[i] + c.pad[i] + c.pad[images + i] - c.dilation[i] * (c.block[i] - 1) - 1;
        c.steps[i] = room < 0 ? 0 : room / c.stride[i] + 1;
        if (c.steps[i] < 1 || !extent_multiply(&c.block_size, c.block[i]) ||
            !extent_multiply(&c.blocks, c.steps[i]))
            return node_error(node, error, "the blocks do not fit the image");
    }
    *ret = c;
    return true;
}

static bool col2im_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    struct columns c;
    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_rank(node, 0, 3, 3, error) ||
        !columns_read(node, &c, error))
        return false;
    if (x->dims[1] % c.block_size || x->dims[2] != c.blocks)
        return node_error(node, error, "%lldx%lld are not columns of %lld elements of %lld blocks",
                          (long long)x->dims[1], (long long)x->dims[2], (long long)c.block_size,
                          (long long)c.blocks);

    struct shape y = {c.spatial + 2, {x->dims[0], x->dims[1] / c.block_size}};
    memcpy(y.dims + 2, c.image, (size_t)c.spatial * sizeof *c.image);
    return infer_output(node, 0, node_dtype(node, 0), &y, error);
}

/* Where element `element` of block `block` lies in the image; -1: in the padding. */
static int64_t place_of(const struct columns *c, int64_t element, int64_t block) {
    int64_t place = 0, step = 1;
    for (int i = c->spatial - 1; i >= 0; i--) {
        int64_t at = block % c->steps[i] * c->stride[i] + element % c->block[i] * c->dilation[i] - c->pad[i];
        if (at < 0 || at >= c->image[i])
            return -1;
        place += at * step;
        step *= c->image[i];
        block /= c->steps[i];
        element /= c->block[i];
    }
    return place;
}

static bool col2im_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    struct columns c;
    bool wide = inputs[0].dtype == DTYPE_F64;
    if (!columns_read(node, &c, error))
        return false;

    int64_t planes = inputs[0].shape.dims[0] * inputs[0].shape.dims[1] / c.block_size;
    int64_t size = shape_product(&outputs[0].shape, 2, outputs[0].shape.rank);
    memset(outputs[0].data, 0, tensor_bytes(&outputs[0]));
    for (int64_t i = 0; i < c.block_size * c.blocks; i++) {
        int64_t place = place_of(&c, i / c.blocks, i % c.blocks);
        for (int64_t plane = 0; place >= 0 && plane < planes; plane++) {
            int64_t from = plane * c.block_size * c.blocks + i, to = plane * size + place;
            if (wide)
                ((double *)outputs[0].data)[to] += ((const double *)inputs[0].data)[from];
            else
                ((float *)outputs[0].data)[to] += ((const float *)inputs[0].data)[from];
        }
    }
    return true;
}

static bool col2im_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, col2im_wide);
}

/* --- AffineGrid: theta [n, d, d + 1] and size [n, c, …] to [n, …, d], d of 2 or 3 --- */

static bool grid_infer(struct node *node, struct error *error) {
    const struct shape *theta = node_shape(node, 0);
    int64_t size[5];
    int count;
    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_rank(node, 0, 3, 3, error) ||
        !node_read_ints(node, 1, 5, size, &count, error))
        return false;

    int dims = count - 2;
    bool good = (dims == 2 || dims == 3) && theta->dims[0] == size[0] && theta->dims[1] == dims &&
                theta->dims[2] == dims + 1;
    struct shape y = {dims + 2, {size[0]}};
    for (int i = 0; good && i < dims; i++) {
        y.dims[1 + i] = size[2 + i];
        good = size[2 + i] > 0;
    }
    if (!good)
        return node_error(node, error, "theta does not fit the size, of 4 or 5 numbers");
    y.dims[dims + 1] = dims;
    return infer_output(node, 0, node_dtype(node, 0), &y, error);
}

/* From -1 to 1: the edges, or the middles of the outermost places with `corners`. */
static double coordinate(int64_t place, int64_t length, bool corners) {
    if (corners)
        return length > 1 ? 2 * (double)place / (double)(length - 1) - 1 : 0;
    return (2 * (double)place + 1) / (double)length - 1;
}

static bool grid_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    const struct shape *y = &outputs[0].shape;
    int dims = y->rank - 2;
    bool corners = node_int(node, "align_corners", 0) != 0;
    int64_t points = shape_product(y, 1, dims + 1);
    size_t element = dtype_size(outputs[0].dtype);

    for (int64_t i = 0; i < y->dims[0] * points; i++) {
        double at[4] = {0}, made[3] = {0}; /* x first, then y, z, 1 */
        int64_t left = i % points;
        for (int d = 0; d < dims; d++) {
            int64_t length = y->dims[dims - d];
            at[d] = coordinate(left % length, length, corners);
            left /= length;
        }
        at[dims] = 1;
        for (int row = 0; row < dims; row++)
            for (int column = 0; column <= dims; column++)
                made[row] +=
                    at[column] * tensor_get_f64(&inputs[0], (i / points * dims + row) * (dims + 1) + column);
        elements_convert(DTYPE_F64, made, outputs[0].dtype,
                         (char *)outputs[0].data + (size_t)(i * dims) * element, dims);
    }
    return true;
}

/* --- ImageScaler: x * scale + bias[channel] --- */

static bool scaler_infer(struct node *node, struct error *error) {
    const struct attribute *bias = node_attribute(node, "bias");
    if (!node_want_types(node, 0, TYPES_F32, error) || !node_want_rank(node, 0, 4, 4, error))
        return false;
    if (bias && (bias->kind != ATTRIBUTE_FLOATS || (int64_t)bias->count != node_shape(node, 0)->dims[1]))
        return node_error(node, error, "bias is not one number for each channel");
    return infer_same(node, error);
}

static bool scaler_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    const struct attribute *bias = node_attribute(node, "bias");
    const struct shape *x = &inputs[0].shape;
    int64_t size = x->dims[2] * x->dims[3];
    float scale = node_float(node, "scale", 1);
    for (int64_t i = 0; i < shape_elements(x); i++)
        ((float *)outputs[0].data)[i] =
            ((const float *)inputs[0].data)[i] * scale + (bias ? bias->floats[i / size % x->dims[1]] : 0);
    return true;
}

static bool scaler_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, scaler_wide);
}

const struct op_def col2im_operators[] = {
    {.op_type = "Col2Im",
     .since = 18,
     .inputs = {3, 3},
     .plan_inputs = 1u << 1 | 1u << 2,
     .types = NAMES_FLOAT,
     FUNCTIONS(col2im)},
    {.op_type = "AffineGrid",
     .since = 20,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .types = NAMES_FLOAT,
     FUNCTIONS(grid)},
    {.op_type = "ImageScaler",
     .since = 1,
     .inputs = {1, 1},
     .types = NAMES_F32,
     .traits = OP_SAMPLEWISE,
     FUNCTIONS(scaler)},
    {0},
};
