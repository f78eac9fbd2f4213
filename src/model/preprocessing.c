#include "model/preprocessing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "model/config.h"

/* How `size` becomes a resize. */
enum rule {
    RULE_PLAIN,      /* as it is */
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
struct processor {
    const char *stem;
    double crop_pct;
    int size, crop; /* crop 0: none unless do_center_crop says so */
    enum image_filter filter;
    enum means means;
    enum rule rule;
    bool square; /* a `size` that is one number means both sides */
    bool do_normalize, flip_channels, divide_again;
};

/* The first is for configurations that name no processor, or one that is not known. */
static const struct processor processors[] = {
    {.stem = "", .size = 224, .filter = IMAGE_BILINEAR, .means = MEANS_IMAGENET, .do_normalize = true},
    {.stem = "ViT",
     .size = 224,
     .square = true,
     .filter = IMAGE_BILINEAR,
     .means = MEANS_HALF,
     .do_normalize = true},
    {.stem = "DeiT",
     .size = 256,
     .crop = 224,
     .square = true,
     .filter = IMAGE_BICUBIC,
     .means = MEANS_HALF,
     .do_normalize = true},
    {.stem = "Beit",
     .size = 256,
     .crop = 224,
     .square = true,
     .filter = IMAGE_BICUBIC,
     .means = MEANS_HALF,
     .do_normalize = true},
    {.stem = "ConvNext",
     .size = 384,
     .filter = IMAGE_BILINEAR,
     .means = MEANS_HALF,
     .rule = RULE_CROP_PCT,
     .crop_pct = 224.0 / 256,
     .do_normalize = true},
    {.stem = "MobileNetV1",
     .size = 256,
     .crop = 224,
     .filter = IMAGE_BILINEAR,
     .means = MEANS_HALF,
     .do_normalize = true},
    {.stem = "MobileNetV2",
     .size = 256,
     .crop = 224,
     .filter = IMAGE_BILINEAR,
     .means = MEANS_HALF,
     .do_normalize = true},
    {.stem = "MobileViT",
     .size = 224,
     .crop = 256,
     .filter = IMAGE_BILINEAR,
     .means = MEANS_HALF,
     .flip_channels = true},
    {.stem = "EfficientNet",
     .size = 346,
     .square = true,
     .filter = IMAGE_NEAREST,
     .means = MEANS_HALF,
     .do_normalize = true,
     .divide_again = true},
    {.stem = "Levit",
     .size = 224,
     .crop = 224,
     .filter = IMAGE_BICUBIC,
     .means = MEANS_IMAGENET,
     .rule = RULE_LEVIT,
     .do_normalize = true},
    {.stem = "PoolFormer",
     .size = 224,
     .crop = 224,
     .filter = IMAGE_BICUBIC,
     .means = MEANS_IMAGENET,
     .rule = RULE_POOLFORMER,
     .crop_pct = 0.9,
     .do_normalize = true},
    {.stem = "Bit",
     .size = 224,
     .crop = 224,
     .filter = IMAGE_BICUBIC,
     .means = MEANS_CLIP,
     .do_normalize = true},
    {.stem = "CLIP",
     .size = 224,
     .crop = 224,
     .filter = IMAGE_BICUBIC,
     .means = MEANS_CLIP,
     .do_normalize = true},
};

/* A configuration being read, and where errors go. */
struct config_reader {
    const char *path;
    const json_t *root;
    struct error *error;
};

static bool fail_field(const struct config_reader *reader, const char *field, const char *wanted) {
    return error_set(reader->error, ERROR_MODEL, "%s: '%s' is not %s", reader->path, field, wanted);
}

static const json_t *find_field(const struct config_reader *reader, const char *field) {
    const json_t *value = json_object_get(reader->root, field);
    return json_is_null(value) ? NULL : value;
}

static bool read_bool(const struct config_reader *reader, const char *field, bool *value) {
    const json_t *json = find_field(reader, field);
    if (json && !json_is_boolean(json))
        return fail_field(reader, field, "true or false");
    *value = json ? json_is_true(json) : *value;
    return true;
}

static bool read_number(const struct config_reader *reader, const char *field, double *value) {
    const json_t *json = find_field(reader, field);
    if (json && (!json_is_number(json) || !isfinite(json_number_value(json))))
        return fail_field(reader, field, "a number");
    *value = json ? json_number_value(json) : *value;
    return true;
}

/* One number for all channels, or a list of three. */
static bool read_channels(const struct config_reader *reader, const char *field, bool divisor,
                          double values[3]) {
    const json_t *json = find_field(reader, field);
    if (!json)
        return true;

    for (int channel = 0; channel < 3; channel++) {
        const json_t *value =
            json_is_array(json) && json_array_size(json) == 3 ? json_array_get(json, (size_t)channel) : json;
        if (!json_is_number(value))
            return fail_field(reader, field, "a number or a list of three numbers");
        values[channel] = json_number_value(value);
        if (divisor && values[channel] == 0)
            return fail_field(reader, field, "made of numbers other than 0");
    }

    return true;
}

/* What `size` and `crop_size` say. */
struct extent {
    int shortest; /* pixels of the shorter side; 0: width and height say both */
    int width, height;
};

static bool is_side(const json_t *json) {
    return json_is_integer(json) && json_integer_value(json) >= 1 &&
           json_integer_value(json) <= LIMIT_IMAGE_SIDE;
}

static bool read_extent(const struct config_reader *reader, const char *field, bool square,
                        struct extent *extent) {
    const json_t *json = find_field(reader, field);
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

    if (is_side(shortest))
        *extent = (struct extent){.shortest = (int)json_integer_value(shortest)};
    else if (is_side(width) && is_side(height))
        *extent = (struct extent){.width = (int)json_integer_value(width),
                                  .height = (int)json_integer_value(height)};
    else
        return fail_field(reader, field,
                          "a number of pixels, {\"shortest_edge\"} or {\"height\", \"width\"}");

    return true;
}

static const struct processor *find_processor(const struct config_reader *reader) {
    const json_t *json = find_field(reader, "image_processor_type");
    if (!json)
        json = find_field(reader, "feature_extractor_type");
    const char *name = json_is_string(json) ? json_string_value(json) : "";

    for (size_t i = 1; i < sizeof processors / sizeof processors[0]; i++) {
        const char *rest = name + strlen(processors[i].stem);
        if (strncmp(name, processors[i].stem, strlen(processors[i].stem)) == 0 &&
            (strncmp(rest, "FeatureExtractor", 16) == 0 || strncmp(rest, "ImageProcessor", 14) == 0))
            return &processors[i];
    }

    return &processors[0];
}

static void set_defaults(const struct processor *processor, struct preprocessing *config) {
    *config = (struct preprocessing){.do_resize = true,
                                     .filter = processor->filter,
                                     .do_center_crop = processor->crop > 0,
                                     .do_rescale = true,
                                     .rescale_factor = 1 / 255.0,
                                     .do_normalize = processor->do_normalize,
                                     .flip_channels = processor->flip_channels,
                                     .divide_again = processor->divide_again};
    memcpy(config->mean, means[processor->means][0], sizeof config->mean);
    memcpy(config->standard_deviation, means[processor->means][1], sizeof config->standard_deviation);
}

static bool read_values(const struct config_reader *reader, struct preprocessing *config) {
    bool offset = false;
    if (!read_bool(reader, "do_rescale", &config->do_rescale) ||
        !read_number(reader, "rescale_factor", &config->rescale_factor) ||
        !read_bool(reader, "rescale_offset", &offset) ||
        !read_bool(reader, "do_normalize", &config->do_normalize) ||
        !read_channels(reader, "image_mean", false, config->mean) ||
        !read_channels(reader, "image_std", true, config->standard_deviation) ||
        !read_bool(reader, "include_top", &config->divide_again) ||
        !read_bool(reader, "do_flip_channel_order", &config->flip_channels))
        return false;

    config->rescale_offset = offset ? 1 : 0;
    config->divide_again = config->divide_again && config->do_normalize;
    return true;
}

static bool read_filter(const struct config_reader *reader, struct preprocessing *config) {
    const json_t *json = find_field(reader, "resample");
    if (!json)
        return true;
    if (!json_is_integer(json) || json_integer_value(json) < 0 || json_integer_value(json) > IMAGE_HAMMING)
        return fail_field(reader, "resample", "the number of a Pillow filter, 0 to 5");

    config->filter = (enum image_filter)json_integer_value(json);
    return true;
}

/* ConvNeXt: small sizes are cropped, large ones not. */
static void apply_crop_pct(int size, double crop_pct, struct preprocessing *config) {
    config->do_center_crop = size < 384;
    if (size < 384) {
        config->resize_short = (int)(size / crop_pct);
        config->crop_width = config->crop_height = size;
    } else {
        config->resize_width = config->resize_height = size;
    }
}

/* Where no processor is named, the fields themselves say what they want. */
static bool is_unknown(const struct processor *processor) {
    return processor == &processors[0];
}

static bool read_crop_pct(const struct config_reader *reader, double *ret) {
    if (!read_number(reader, "crop_pct", ret))
        return false;
    if (find_field(reader, "crop_pct") && !(*ret > 0 && *ret <= 1))
        return fail_field(reader, "crop_pct", "a number above 0 and at most 1");
    return true;
}

/* The processor's own way from `size` to a resize. */
static void apply_rule(const struct processor *processor, int size, double crop_pct, bool by_crop_pct,
                       struct preprocessing *config) {
    if (by_crop_pct && config->do_resize) {
        config->resize_short = 0;
        apply_crop_pct(size, crop_pct, config);
    } else if (processor->rule == RULE_LEVIT) {
        config->resize_short = (int)(256.0 / 224.0 * size);
    } else if (processor->rule == RULE_POOLFORMER) {
        config->resize_short = (int)(size / crop_pct);
    }
}

static bool read_geometry(const struct config_reader *reader, const struct processor *processor,
                          struct preprocessing *config) {
    struct extent size = processor->square ? (struct extent){0, processor->size, processor->size}
                                           : (struct extent){.shortest = processor->size};
    double crop_pct = processor->crop_pct;
    bool has_crop_size = find_field(reader, "crop_size") != NULL;

    if (is_unknown(processor))
        config->do_center_crop = has_crop_size;
    if (!read_bool(reader, "do_resize", &config->do_resize) ||
        !read_bool(reader, "do_center_crop", &config->do_center_crop) || !read_filter(reader, config) ||
        !read_extent(reader, "size", processor->square, &size) || !read_crop_pct(reader, &crop_pct))
        return false;

    int side = size.shortest ? size.shortest : size.height;
    int crop_side = processor->crop ? processor->crop : side;
    struct extent crop = {0, crop_side, crop_side};
    if (!read_extent(reader, "crop_size", true, &crop))
        return false;

    config->crop_width = crop.shortest ? crop.shortest : crop.width;
    config->crop_height = crop.shortest ? crop.shortest : crop.height;
    config->resize_short = size.shortest;
    config->resize_width = size.width;
    config->resize_height = size.height;

    bool by_crop_pct =
        processor->rule == RULE_CROP_PCT || (is_unknown(processor) && crop_pct > 0 && !has_crop_size);
    if (size.shortest)
        apply_rule(processor, size.shortest, crop_pct, by_crop_pct, config);
    return true;
}

/* Fields that are read here; one of them at least makes a file a preprocessing configuration. */
static bool has_known_field(const json_t *root) {
    static const char *const names[] = {"image_processor_type",
                                        "feature_extractor_type",
                                        "do_resize",
                                        "size",
                                        "do_center_crop",
                                        "crop_size",
                                        "do_rescale",
                                        "rescale_factor",
                                        "do_normalize",
                                        "image_mean",
                                        "image_std",
                                        "resample",
                                        "crop_pct"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (json_object_get(root, names[i]))
            return true;

    return false;
}

/* The object that has the fields: the whole file, or what newer processors write within it. NULL: a form that
 * is not known. */
static const json_t *find_fields(const json_t *root) {
    static const char *const nests[] = {"image_processor", "feature_extractor"};
    if (has_known_field(root) || json_object_size(root) == 0)
        return root;

    for (size_t i = 0; i < sizeof nests / sizeof nests[0]; i++) {
        const json_t *nested = json_object_get(root, nests[i]);
        if (json_is_object(nested) && has_known_field(nested))
            return nested;
    }

    return NULL;
}

bool preprocessing_read(const char *path, struct preprocessing *ret, struct error *error) {
    json_t *root = config_read(path, JSON_OBJECT, error);
    if (!root)
        return false;

    struct config_reader reader = {path, find_fields(root), error};
    struct preprocessing config;
    bool done = false;

    if (!reader.root) {
        const char *key = json_object_iter_key(json_object_iter(root));
        error_set(error, ERROR_MODEL, "%s: unknown form of preprocessing (its first field is '%.60s')", path,
                  key);
    } else {
        const struct processor *processor = find_processor(&reader);
        set_defaults(processor, &config);
        done = read_values(&reader, &config) && read_geometry(&reader, processor, &config);
    }

    json_decref(root);
    if (!done)
        return false;
    *ret = config;
    return true;
}

void preprocessing_default(int width, int height, struct preprocessing *ret) {
    set_defaults(&processors[0], ret);
    if (width == height)
        ret->resize_short = (int)lround(width / 0.875);
    ret->resize_width = width;
    ret->resize_height = height;
    ret->do_center_crop = width == height;
    ret->crop_width = width;
    ret->crop_height = height;
}
