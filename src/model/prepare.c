#include "model/prepare.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

enum { CHANNELS = 3, USUAL_SIDE = 224 /* pixels, of a photo where the size of the tensor depends on it */ };

bool photo_input_size(const struct photo_input *input, int *ret_width, int *ret_height) {
    const struct preprocessing *config = &input->preprocessing;
    struct image_geometry geometry = {0};
    struct error ignored;
    bool found = image_geometry_find(config, USUAL_SIDE, USUAL_SIDE, &geometry, &ignored);

    *ret_width = geometry.width;
    *ret_height = geometry.height;
    return found && (config->do_center_crop || (config->do_resize && config->resize_short <= 0));
}

size_t photo_input_bytes(const struct photo_input *input, int width, int height) {
    size_t bytes;
    if (!size_multiply((size_t)width * (size_t)height, CHANNELS * dtype_size(input->dtype), &bytes))
        return 0;
    return bytes;
}

struct tensor photo_input_tensor(const struct photo_input *input, int64_t count, int width, int height,
                                 void *data) {
    struct tensor tensor = {.dtype = input->dtype, .shape = {.rank = 4}, .data = data};
    int64_t first[] = {count, CHANNELS, height, width}, last[] = {count, height, width, CHANNELS};
    memcpy(tensor.shape.dims, input->channels_last ? last : first, sizeof first);
    return tensor;
}

bool photo_input_equal(const struct photo_input *a, const struct photo_input *b) {
    return preprocessing_equal(&a->preprocessing, &b->preprocessing) && a->dtype == b->dtype &&
           a->channels_last == b->channels_last && a->batch == b->batch && a->height == b->height &&
           a->width == b->width;
}

bool photo_plan(const struct photo_input *input, const uint8_t *bytes, size_t size, struct photo_plan *ret,
                struct timing *timing, struct error *error) {
    struct photo_plan plan;
    double start = clock_ms();
    if (!image_read_info(bytes, size, &plan.image, error) ||
        !image_geometry_find(&input->preprocessing, plan.image.width, plan.image.height, &plan.geometry,
                             error))
        return false;

    plan.tensor_bytes = photo_input_bytes(input, plan.geometry.width, plan.geometry.height);
    plan.cost = image_preprocess_cost(&plan.image, &input->preprocessing, &plan.geometry);
    if (input->dtype != DTYPE_F32)
        plan.cost += (int64_t)plan.geometry.width * plan.geometry.height * CHANNELS * (int64_t)sizeof(float);
    if (plan.tensor_bytes == 0)
        return error_set(error, ERROR_MEMORY, "no memory for a photo of %dx%d", plan.geometry.width,
                         plan.geometry.height);

    timing->decode += clock_ms() - start;
    *ret = plan;
    return true;
}

bool photo_write(const struct photo_input *input, const uint8_t *bytes, size_t size,
                 const struct photo_plan *plan, void *tensor, struct timing *timing, struct error *error) {
    const struct image_geometry *geometry = &plan->geometry;
    cleanup(freep) float *floats = NULL;
    size_t values = (size_t)geometry->width * (size_t)geometry->height * CHANNELS;
    double start = clock_ms(), decode = 0;

    if (input->dtype != DTYPE_F32 && !(floats = calloc(values, sizeof *floats)))
        return error_set(error, ERROR_MEMORY, "no memory for a photo of %dx%d", geometry->width,
                         geometry->height);
    if (!image_preprocess(bytes, size, &plan->image, &input->preprocessing, geometry, input->channels_last,
                          floats ? floats : tensor, &decode, error))
        return false;
    if (floats)
        elements_convert(DTYPE_F32, floats, input->dtype, tensor, (int64_t)values);

    timing->decode += decode;
    timing->preprocess += clock_ms() - start - decode;
    return true;
}

bool photo_prepare_planned(const struct photo_input *input, const uint8_t *bytes, size_t size,
                           const struct photo_plan *plan, struct prepared_photo *ret, struct timing *timing,
                           struct error *error) {
    struct prepared_photo prepared = {
        .bytes = plan->tensor_bytes, .width = plan->geometry.width, .height = plan->geometry.height};
    prepared.tensor = aligned_alloc(64, size_align(prepared.bytes, 64));
    if (!prepared.tensor)
        return error_set(error, ERROR_MEMORY, "no memory for a photo of %dx%d", prepared.width,
                         prepared.height);
    if (!photo_write(input, bytes, size, plan, prepared.tensor, timing, error)) {
        free(prepared.tensor);
        return false;
    }

    *ret = prepared;
    return true;
}

bool photo_prepare(const struct photo_input *input, const uint8_t *bytes, size_t size,
                   struct prepared_photo *ret, struct timing *timing, struct error *error) {
    struct photo_plan plan;
    return photo_plan(input, bytes, size, &plan, timing, error) &&
           photo_prepare_planned(input, bytes, size, &plan, ret, timing, error);
}
