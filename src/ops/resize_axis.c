#include "ops/resize_axis.h"

#include <math.h>
#include <string.h>

static bool is_one_of(const char *name, const char *const *names) {
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

bool resize_options_read(const struct node *node, struct resize_options *ret, struct error *error) {
    static const char *const coordinates[] = {
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
        "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize", NULL};
    static const char *const nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
    const char *mode = node_string(node, "mode", "nearest");
    bool old = node->opset < 11;

    *ret = (struct resize_options){
        .coordinates = old ? "asymmetric" : node_string(node, "coordinate_transformation_mode", "half_pixel"),
        .nearest = old ? "simple" : node_string(node, "nearest_mode", "round_prefer_floor"),
        .cubic_a = node_float(node, "cubic_coeff_a", -0.75f),
        .exclude_outside = node_int(node, "exclude_outside", 0) != 0,
        .antialias = node_int(node, "antialias", 0) != 0,
    };
    if (strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0)
        ret->mode = RESIZE_LINEAR;
    else if (strcmp(mode, "cubic") == 0 && !old)
        ret->mode = RESIZE_CUBIC;
    else if (strcmp(mode, "nearest") != 0)
        return node_error(node, error, "mode '%.40s' is not supported", mode);

    if (!is_one_of(ret->coordinates, coordinates))
        return node_error(node, error, "coordinate_transformation_mode '%.40s' is not supported",
                          ret->coordinates);
    if (!old && !is_one_of(ret->nearest, nearest))
        return node_error(node, error, "nearest_mode '%.40s' is not supported", ret->nearest);

    return isfinite(ret->cubic_a) || node_error(node, error, "cubic_coeff_a is not a number");
}

/* The position in the input of position x in the result. The length that the scale gives counts unrounded. */
static float source_position(const char *mode, const struct resize_axis *axis, float x) {
    float from = (float)axis->from, to = axis->scale * from;
    float half_pixel = (x + 0.5f) / axis->scale - 0.5f;
    if (strcmp(mode, "half_pixel") == 0)
        return half_pixel;
    if (strcmp(mode, "half_pixel_symmetric") == 0)
        return half_pixel + from / 2 * (1 - (float)axis->to / to);
    if (strcmp(mode, "pytorch_half_pixel") == 0)
        return axis->to > 1 ? half_pixel : 0;
    if (strcmp(mode, "align_corners") == 0)
        return axis->to == 1 || to == 1 ? 0 : x * (from - 1) / (to - 1);
    if (strcmp(mode, "asymmetric") == 0)
        return x / axis->scale;
    if (strcmp(mode, "tf_half_pixel_for_nn") == 0)
        return (x + 0.5f) / axis->scale;
    if (axis->to > 1)
        return axis->start * (from - 1) + x * (axis->end - axis->start) * (from - 1) / ((float)axis->to - 1);

    return 0.5f * (axis->start + axis->end) * (from - 1);
}

static float round_position(const char *mode, float x, float scale) {
    if (strcmp(mode, "simple") == 0)
        return scale < 1 ? ceilf(x) : truncf(x);
    if (strcmp(mode, "round_prefer_floor") == 0)
        return ceilf(x - 0.5f);
    if (strcmp(mode, "round_prefer_ceil") == 0)
        return floorf(x + 0.5f);

    return strcmp(mode, "floor") == 0 ? floorf(x) : ceilf(x);
}

static float linear_weight(float distance) {
    return distance < 1 ? 1 - distance : 0;
}

/* Keys, "Cubic convolution interpolation for digital image processing", 1981. */
static float cubic_weight(float distance, float a) {
    if (distance <= 1)
        return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
    return distance < 2 ? ((distance - 5) * distance + 8) * a * distance - 4 * a : 0;
}

static int64_t clamp_position(double position, int64_t length) {
    return !(position > 0) ? 0 : position >= (double)length ? length - 1 : (int64_t)position;
}

/* `taps` places around x; antialiasing stretches the filter by 1 / scale where that shrinks. */
static void weigh_taps(const struct resize_options *options, const struct resize_axis *axis, float x,
                       int64_t *positions, float *weights) {
    float stretch = options->antialias && axis->scale < 1 ? axis->scale : 1, sum = 0;
    int before = axis->taps / 2 - 1;
    double first = floor((double)x) - before;

    for (int i = 0; i < axis->taps; i++) {
        double position = first + i;
        float distance = (float)fabs(position - (double)x) * stretch;
        float weight = options->mode == RESIZE_LINEAR ? linear_weight(distance)
                                                      : cubic_weight(distance, options->cubic_a);

        if (options->exclude_outside && (position < 0 || position >= (double)axis->from))
            weight = 0;
        positions[i] = clamp_position(position, axis->from);
        weights[i] = weight;
        sum += weight;
    }

    for (int i = 0; i < axis->taps; i++)
        weights[i] = sum != 0 ? weights[i] / sum : 0;
}

/* At most four, except for a stretched filter, which is cut to the width of the input on either side. */
static int count_taps(const struct resize_options *options, const struct resize_axis *axis) {
    if (options->mode == RESIZE_NEAREST)
        return 1;
    int radius = options->mode == RESIZE_LINEAR ? 1 : 2;
    if (!options->antialias || axis->scale >= 1)
        return 2 * radius;

    double wide = ceil(radius / (double)axis->scale), most = (double)axis->from + 1;
    return 2 * (int)(wide < most ? wide : most);
}

bool resize_axis_make(const struct resize_options *options, struct arena *arena, struct resize_axis *axis) {
    axis->taps = count_taps(options, axis);
    size_t count = (size_t)axis->to * (size_t)axis->taps;
    bool region = strcmp(options->coordinates, "tf_crop_and_resize") == 0;

    axis->positions = arena_allocate_array(arena, count + 1, sizeof *axis->positions);
    axis->weights = arena_allocate_array(arena, count + 1, sizeof *axis->weights);
    axis->outside = region ? arena_allocate_array(arena, (size_t)axis->to + 1, sizeof *axis->outside) : NULL;
    if (!axis->positions || !axis->weights || (region && !axis->outside))
        return false;

    for (int64_t i = 0; i < axis->to; i++) {
        float x = source_position(options->coordinates, axis, (float)i);
        if (region)
            axis->outside[i] = !(x >= 0 && x <= (float)(axis->from - 1));
        if (!isfinite(x))
            x = 0;
        if (options->mode == RESIZE_NEAREST) {
            axis->positions[i] =
                clamp_position((double)round_position(options->nearest, x, axis->scale), axis->from);
            axis->weights[i] = 1;
        } else {
            weigh_taps(options, axis, x, axis->positions + i * axis->taps, axis->weights + i * axis->taps);
        }
    }

    return true;
}
