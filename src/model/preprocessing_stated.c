/* Preprocessing that is stated elsewhere than in preprocessor_config.json: timm's pretrained_cfg, and the
 * image metadata of an ONNX file. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "model/config.h"
#include "model/preprocessing.h"

/* ---- timm ---- */

struct timm_reader {
    const char *path;
    const json_t *fields;
    struct error *error;
};

static bool fail_field(const struct timm_reader *reader, const char *field, const char *wanted) {
    return error_set(reader->error, ERROR_MODEL, "%s: pretrained_cfg: '%s' is not %s", reader->path, field,
                     wanted);
}

static const json_t *find_field(const struct timm_reader *reader, const char *field) {
    const json_t *value = json_object_get(reader->fields, field);
    return json_is_null(value) ? NULL : value;
}

static bool read_three(const struct timm_reader *reader, const char *field, bool divisor, double values[3]) {
    const json_t *list = find_field(reader, field);
    if (list && json_array_size(list) != 3)
        return fail_field(reader, field, "a list of three numbers");

    for (size_t i = 0; list && i < 3; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_number(value) || !isfinite(json_number_value(value)) ||
            (divisor && json_number_value(value) == 0))
            return fail_field(reader, field, divisor ? "three numbers other than 0" : "three numbers");
        values[i] = json_number_value(value);
    }
    return true;
}

static bool read_interpolation(const struct timm_reader *reader, enum image_filter *ret) {
    static const char *const names[] = {
        [IMAGE_NEAREST] = "nearest", [IMAGE_LANCZOS] = "lanczos", [IMAGE_BILINEAR] = "bilinear",
        [IMAGE_BICUBIC] = "bicubic", [IMAGE_BOX] = "box",         [IMAGE_HAMMING] = "hamming"};
    const json_t *json = find_field(reader, "interpolation");
    const char *name = json_string_value(json);

    if (!json)
        return true;

    for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum image_filter)i;
            return true;
        }
    return fail_field(reader, "interpolation", "nearest, bilinear, bicubic, lanczos, box or hamming");
}

static bool is_side(const json_t *json) {
    return json_is_integer(json) && json_integer_value(json) >= 1 &&
           json_integer_value(json) <= LIMIT_IMAGE_SIDE;
}

/* [3, height, width], for sides that the network leaves open. */
static bool read_input_size(const struct timm_reader *reader, int64_t *width, int64_t *height) {
    const json_t *list = find_field(reader, "input_size"), *rows = json_array_get(list, 1),
                 *columns = json_array_get(list, 2);
    if (list && (json_array_size(list) != 3 || json_integer_value(json_array_get(list, 0)) != 3 ||
                 !is_side(rows) || !is_side(columns)))
        return fail_field(reader, "input_size", "[3, height, width]");

    if (*height < 1)
        *height = list ? json_integer_value(rows) : 224;
    if (*width < 1)
        *width = list ? json_integer_value(columns) : 224;
    return true;
}

/* timm's: "center" resizes the shorter side to size / crop_pct and crops; "squash" resizes both sides to
 * that. */
static bool read_crop(const struct timm_reader *reader, int64_t width, int64_t height,
                      struct preprocessing *config) {
    const json_t *share = find_field(reader, "crop_pct"), *mode = find_field(reader, "crop_mode");
    const char *name = mode ? json_string_value(mode) : "center";
    double crop_pct = share ? json_number_value(share) : 0.875;
    if ((share && !json_is_number(share)) || !(crop_pct > 0 && crop_pct <= 1))
        return fail_field(reader, "crop_pct", "a number above 0 and at most 1");
    if (!name || (strcmp(name, "center") != 0 && strcmp(name, "squash") != 0))
        return fail_field(reader, "crop_mode", "center or squash");

    config->do_resize = config->do_center_crop = true;
    config->crop_width = (int)width;
    config->crop_height = (int)height;
    bool square = width == height;

    if (strcmp(name, "center") == 0 && square)
        config->resize_short = (int)floor((double)width / crop_pct);
    config->resize_width = (int)floor((double)width / crop_pct);
    config->resize_height = (int)floor((double)height / crop_pct);
    if (strcmp(name, "center") == 0 && !square)
        return fail_field(reader, "input_size", "square, which crop_mode center needs here");

    return true;
}

static bool read_timm(const struct timm_reader *reader, int64_t width, int64_t height,
                      struct preprocessing *ret) {
    struct preprocessing config = {.filter = IMAGE_BILINEAR,
                                   .do_rescale = true,
                                   .rescale_factor = 1 / 255.0,
                                   .do_normalize = true,
                                   .mean = {0.485, 0.456, 0.406},
                                   .standard_deviation = {0.229, 0.224, 0.225}};

    if (!read_three(reader, "mean", false, config.mean) ||
        !read_three(reader, "std", true, config.standard_deviation) ||
        !read_interpolation(reader, &config.filter) || !read_input_size(reader, &width, &height) ||
        !read_crop(reader, width, height, &config))
        return false;

    *ret = config;
    return true;
}

bool preprocessing_read_timm(const char *path, int64_t width, int64_t height, struct preprocessing *ret,
                             bool *ret_found, struct error *error) {
    json_t *root = config_read(path, JSON_OBJECT, error);
    *ret_found = false;
    if (!root)
        return error->code == ERROR_NOT_FOUND;

    const json_t *nested = json_object_get(root, "pretrained_cfg");
    bool bare =
        json_object_get(root, "input_size") && json_object_get(root, "mean") && json_object_get(root, "std");
    struct timm_reader reader = {path, json_is_object(nested) ? nested : bare ? root : NULL, error};
    bool done = true;

    if (nested && !json_is_null(nested) && !json_is_object(nested))
        done = error_set(error, ERROR_MODEL, "%s: 'pretrained_cfg' is not an object", path);
    else if (reader.fields)
        done = *ret_found = read_timm(&reader, width, height, ret);

    json_decref(root);
    return done;
}

/* ---- ONNX image metadata ---- */

static bool fail_property(const char *name, const char *value, struct error *error) {
    return error_set(error, ERROR_MODEL, "the network's metadata: '%s' is \"%.60s\", which is not known here",
                     name, value);
}

/* What 0 and 255 become. */
static bool read_range(const char *range, struct preprocessing *config) {
    static const struct {
        const char *name;
        double least, most;
    } ranges[] = {
        {"NominalRange_0_255", 0, 255},   {"Normalized_0_1", 0, 1},
        {"Normalized_1_1", -1, 1},        {"0_255", 0, 255},
        {"NominalRange_16_235", 16, 235},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (strcmp(range, ranges[i].name) != 0)
            continue;
        config->rescale_factor = (ranges[i].most - ranges[i].least) / 255;
        config->rescale_offset = -ranges[i].least;
        config->do_rescale = config->rescale_factor != 1;
        return true;
    }

    return false;
}

bool preprocessing_read_metadata(const struct onnx_metadata *metadata, int width, int height,
                                 struct preprocessing *ret, bool *ret_found, struct error *error) {
    const char *format = onnx_metadata_find(metadata, "Image.BitmapPixelFormat");
    const char *range = onnx_metadata_find(metadata, "Image.NominalPixelRange");
    const char *gamma = onnx_metadata_find(metadata, "Image.ColorSpaceGamma");
    *ret_found = format || range;
    if (!*ret_found)
        return true;

    struct preprocessing config = {.do_resize = true,
                                   .resize_width = width,
                                   .resize_height = height,
                                   .filter = IMAGE_BILINEAR,
                                   .rescale_factor = 1,
                                   .standard_deviation = {1, 1, 1}};
    bool blue_first = format && (strcmp(format, "Bgr8") == 0 || strcmp(format, "Bgra8") == 0);
    if (format && !blue_first && strcmp(format, "Rgb8") != 0 && strcmp(format, "Rgba8") != 0)
        return fail_property("Image.BitmapPixelFormat", format, error);
    if (range && !read_range(range, &config))
        return fail_property("Image.NominalPixelRange", range, error);
    if (gamma && strcmp(gamma, "SRGB") != 0)
        return fail_property("Image.ColorSpaceGamma", gamma, error);

    config.flip_channels = blue_first;
    *ret = config;
    return true;
}
