#include "model/recipe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "model/config.h"

/* How `size` becomes a resize. */
enum rule {
    RULE_PLAIN,      /* as it stands */
    RULE_CROP_PCT,   /* ConvNeXt: below 384, resize to size / crop_pct and crop to size; else exactly size */
    RULE_LEVIT,      /* resize to size * 256 / 224 */
    RULE_POOLFORMER, /* resize to size / crop_pct, crop to crop_size */
};

enum means { MEANS_HALF, MEANS_IMAGENET, MEANS_CLIP };

static const double means[][2][3] = {
    [MEANS_HALF] = {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}},
    [MEANS_IMAGENET] = {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}},
    [MEANS_CLIP] = {{0.48145466, 0.4578275, 0.40821073}, {0.26862954, 0.26130258, 0.27577711}},
};

/* The defaults of Hugging Face's image processors, by the stem of their name. */
struct style {
    const char *stem;
    int size, crop; /* crop 0: none unless do_center_crop says so */
    bool square;    /* a `size` that is one number means both sides */
    enum image_filter filter;
    enum means means;
    enum rule rule;
    double crop_pct;
    bool do_normalize, flip_channels, divide_again;
};

static const struct style styles[] = {
    {"", 224, 0, false, IMAGE_BILINEAR, MEANS_IMAGENET, RULE_PLAIN, 0, true, false, false},
    {"ViT", 224, 0, true, IMAGE_BILINEAR, MEANS_HALF, RULE_PLAIN, 0, true, false, false},
    {"DeiT", 256, 224, true, IMAGE_BICUBIC, MEANS_HALF, RULE_PLAIN, 0, true, false, false},
    {"Beit", 256, 224, true, IMAGE_BICUBIC, MEANS_HALF, RULE_PLAIN, 0, true, false, false},
    {"ConvNext", 384, 0, false, IMAGE_BILINEAR, MEANS_HALF, RULE_CROP_PCT, 224.0 / 256, true, false, false},
    {"MobileNetV1", 256, 224, false, IMAGE_BILINEAR, MEANS_HALF, RULE_PLAIN, 0, true, false, false},
    {"MobileNetV2", 256, 224, false, IMAGE_BILINEAR, MEANS_HALF, RULE_PLAIN, 0, true, false, false},
    {"MobileViT", 224, 256, false, IMAGE_BILINEAR, MEANS_HALF, RULE_PLAIN, 0, false, true, false},
    {"EfficientNet", 346, 0, true, IMAGE_NEAREST, MEANS_HALF, RULE_PLAIN, 0, true, false, true},
    {"Levit", 224, 224, false, IMAGE_BICUBIC, MEANS_IMAGENET, RULE_LEVIT, 0, true, false, false},
    {"PoolFormer", 224, 224, false, IMAGE_BICUBIC, MEANS_IMAGENET, RULE_POOLFORMER, 0.9, true, false, false},
    {"Bit", 224, 224, false, IMAGE_BICUBIC, MEANS_CLIP, RULE_PLAIN, 0, true, false, false},
    {"CLIP", 224, 224, false, IMAGE_BICUBIC, MEANS_CLIP, RULE_PLAIN, 0, true, false, false},
};

/* A file being read: what messages name, and where they go. */
struct reader {
    const char *path;
    const json_t *root;
    struct error *error;
};

static bool field_fail(const struct reader *reader, const char *field, const char *wanted) {
    return error_set(reader->error, ERROR_MODEL, "%s: '%s' is not %s", reader->path, field, wanted);
}

static const json_t *field_find(const struct reader *reader, const char *field) {
    const json_t *value = json_object_get(reader->root, field);
    return json_is_null(value) ? NULL : value;
}

static bool read_bool(const struct reader *reader, const char *field, bool *value) {
    const json_t *json = field_find(reader, field);
    if (json && !json_is_boolean(json))
        return field_fail(reader, field, "true or false");
    *value = json ? json_is_true(json) : *value;
    return true;
}

static bool read_number(const struct reader *reader, const char *field, double *value) {
    const json_t *json = field_find(reader, field);
    if (json && (!json_is_number(json) || !isfinite(json_number_value(json))))
        return field_fail(reader, field, "a number");
    *value = json ? json_number_value(json) : *value;
    return true;
}

/* One number for all channels, or a list of three. */
static bool read_channels(const struct reader *reader, const char *field, bool divisor, double values[3]) {
    const json_t *json = field_find(reader, field);
    if (!json)
        return true;
    for (int channel = 0; channel < 3; channel++) {
        const json_t *value =
            json_is_array(json) && json_array_size(json) == 3 ? json_array_get(json, (size_t)channel) : json;
        if (!json_is_number(value))
            return field_fail(reader, field, "a number or a list of three numbers");
        values[channel] = json_number_value(value);
        if (divisor && values[channel] == 0)
            return field_fail(reader, field, "made of numbers other than 0");
    }
    return true;
}

/* What `size` and `crop_size` say. */
struct extent {
    int shortest; /* > 0: of the shorter side */
    int width, height;
};

static bool side_valid(const json_t *json) {
    return json_is_integer(json) && json_integer_value(json) >= 1 &&
           json_integer_value(json) <= LIMIT_IMAGE_SIDE;
}

static bool read_extent(const struct reader *reader, const char *field, bool square, struct extent *extent) {
    const json_t *json = field_find(reader, field);
    if (!json)
        return true;
    const json_t *shortest = json_object_get(json, "shortest_edge"), *width = json_object_get(json, "width"),
                 *height = json_object_get(json, "height");
    if (json_is_array(json) && json_array_size(json) == 2) {
        height = json_array_get(json, 0);
        width = json_array_get(json, 1);
    } else if (json_is_integer(json) && square) {
        height = width = json;
    } else if (json_is_integer(json)) {
        shortest = json;
    }
    if (side_valid(shortest))
        *extent = (struct extent){.shortest = (int)json_integer_value(shortest)};
    else if (side_valid(width) && side_valid(height))
        *extent = (struct extent){.width = (int)json_integer_value(width),
                                  .height = (int)json_integer_value(height)};
    else
        return field_fail(reader, field,
                          "a number of pixels, {\"shortest_edge\"} or {\"height\", \"width\"}");
    return true;
}

static const struct style *style_find(const struct reader *reader) {
    const json_t *json = field_find(reader, "image_processor_type");
    if (!json)
        json = field_find(reader, "feature_extractor_type");
    const char *name = json_is_string(json) ? json_string_value(json) : "";
    for (size_t i = 1; i < sizeof styles / sizeof styles[0]; i++) {
        const char *rest = name + strlen(styles[i].stem);
        if (strncmp(name, styles[i].stem, strlen(styles[i].stem)) == 0 &&
            (strncmp(rest, "FeatureExtractor", 16) == 0 || strncmp(rest, "ImageProcessor", 14) == 0))
            return &styles[i];
    }
    return &styles[0];
}

static void recipe_begin(const struct style *style, struct image_recipe *recipe) {
    *recipe = (struct image_recipe){.do_resize = true,
                                    .filter = style->filter,
                                    .do_center_crop = style->crop > 0,
                                    .do_rescale = true,
                                    .rescale_factor = 1 / 255.0,
                                    .do_normalize = style->do_normalize,
                                    .flip_channels = style->flip_channels,
                                    .divide_again = style->divide_again};
    memcpy(recipe->mean, means[style->means][0], sizeof recipe->mean);
    memcpy(recipe->standard_deviation, means[style->means][1], sizeof recipe->standard_deviation);
}

static bool read_values(const struct reader *reader, struct image_recipe *recipe) {
    bool offset = false;
    if (!read_bool(reader, "do_rescale", &recipe->do_rescale) ||
        !read_number(reader, "rescale_factor", &recipe->rescale_factor) ||
        !read_bool(reader, "rescale_offset", &offset) ||
        !read_bool(reader, "do_normalize", &recipe->do_normalize) ||
        !read_channels(reader, "image_mean", false, recipe->mean) ||
        !read_channels(reader, "image_std", true, recipe->standard_deviation) ||
        !read_bool(reader, "include_top", &recipe->divide_again) ||
        !read_bool(reader, "do_flip_channel_order", &recipe->flip_channels))
        return false;
    recipe->rescale_offset = offset ? 1 : 0;
    recipe->divide_again = recipe->divide_again && recipe->do_normalize;
    return true;
}

static bool read_filter(const struct reader *reader, struct image_recipe *recipe) {
    const json_t *json = field_find(reader, "resample");
    if (!json)
        return true;
    if (!json_is_integer(json) || json_integer_value(json) < 0 || json_integer_value(json) > IMAGE_HAMMING)
        return field_fail(reader, "resample", "a filter of Pillow's, 0 to 5");
    recipe->filter = (enum image_filter)json_integer_value(json);
    return true;
}

/* ConvNeXt's two ways. */
static void apply_crop_pct(int size, double crop_pct, struct image_recipe *recipe) {
    recipe->do_center_crop = size < 384;
    if (size < 384) {
        recipe->resize_short = (int)(size / crop_pct);
        recipe->crop_width = recipe->crop_height = size;
    } else {
        recipe->resize_width = recipe->resize_height = size;
    }
}

static bool read_geometry(const struct reader *reader, const struct style *style,
                          struct image_recipe *recipe) {
    struct extent size = style->square ? (struct extent){0, style->size, style->size}
                                       : (struct extent){.shortest = style->size};
    double crop_pct = style->crop_pct;
    bool has_crop_size = field_find(reader, "crop_size") != NULL;
    if (style == &styles[0]) /* no processor we know: the fields themselves say what they want */
        recipe->do_center_crop = has_crop_size;
    if (!read_bool(reader, "do_resize", &recipe->do_resize) ||
        !read_bool(reader, "do_center_crop", &recipe->do_center_crop) || !read_filter(reader, recipe) ||
        !read_extent(reader, "size", style->square, &size) || !read_number(reader, "crop_pct", &crop_pct))
        return false;
    if (field_find(reader, "crop_pct") && !(crop_pct > 0 && crop_pct <= 1))
        return field_fail(reader, "crop_pct", "a number above 0 and at most 1");
    int side = size.shortest ? size.shortest : size.height;
    struct extent crop = {0, style->crop ? style->crop : side, style->crop ? style->crop : side};
    if (!read_extent(reader, "crop_size", true, &crop))
        return false;
    recipe->crop_width = crop.shortest ? crop.shortest : crop.width;
    recipe->crop_height = crop.shortest ? crop.shortest : crop.height;
    recipe->resize_short = size.shortest;
    recipe->resize_width = size.width;
    recipe->resize_height = size.height;
    bool by_crop_pct =
        style->rule == RULE_CROP_PCT || (style == &styles[0] && crop_pct > 0 && !has_crop_size);
    if (by_crop_pct && size.shortest && recipe->do_resize) {
        recipe->resize_short = 0;
        apply_crop_pct(size.shortest, crop_pct, recipe);
    } else if (style->rule == RULE_LEVIT && size.shortest) {
        recipe->resize_short = (int)(256.0 / 224.0 * size.shortest);
    } else if (style->rule == RULE_POOLFORMER && size.shortest) {
        recipe->resize_short = (int)(size.shortest / crop_pct);
    }
    return true;
}

bool recipe_read(const char *path, struct image_recipe *ret, struct error *error) {
    json_t *root = config_read(path, JSON_OBJECT, error);
    if (!root)
        return false;
    struct reader reader = {path, root, error};
    const struct style *style = style_find(&reader);
    struct image_recipe recipe;
    recipe_begin(style, &recipe);
    bool done = read_values(&reader, &recipe) && read_geometry(&reader, style, &recipe);
    json_decref(root);
    if (done)
        *ret = recipe;
    return done;
}

void recipe_default(int width, int height, struct image_recipe *ret) {
    recipe_begin(&styles[0], ret);
    int side = width < height ? width : height;
    if (width == height)
        ret->resize_short = (int)lround(side / 0.875);
    ret->resize_width = width;
    ret->resize_height = height;
    ret->do_center_crop = width == height;
    ret->crop_width = width;
    ret->crop_height = height;
}
