/* Any bytes through sniffing, decoding and, where a picture comes out, a small preprocessing. */
#include <stdint.h>

#include <webp/decode.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The size that a header announces may be large and true; a fuzzer only wants the small ones. */
static int announces_large(const uint8_t *bytes, size_t size) {
    if (image_sniff(bytes, size) == IMAGE_PNG && size >= 24)
        return bytes[16] || bytes[17] || bytes[20] || bytes[21] || bytes[18] > 8 || bytes[22] > 8;
    int width, height;
    if (image_sniff(bytes, size) == IMAGE_WEBP && WebPGetInfo(bytes, size, &width, &height))
        return width > 2048 || height > 2048;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static float tensor[3 * 16 * 16];
    const struct preprocessing config = {.do_resize = true,
                                         .resize_short = 20,
                                         .filter = IMAGE_BICUBIC,
                                         .do_center_crop = true,
                                         .crop_width = 16,
                                         .crop_height = 16,
                                         .do_rescale = true,
                                         .rescale_factor = 1 / 255.0};
    struct error error = {0};
    struct image_info info;
    struct image_geometry geometry;
    double decode = 0;
    if (!announces_large(bytes, size) && image_read_info(bytes, size, &info, &error) &&
        image_geometry_find(&config, info.width, info.height, &geometry, &error))
        image_preprocess(bytes, size, &info, &config, &geometry, size & 1, tensor, &decode, &error);
    return 0;
}
