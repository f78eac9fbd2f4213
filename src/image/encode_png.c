/* Pixels -> a PNG file. */
#include <png.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "image/decode.h"

bool image_write_png(const char *path, const uint8_t *pixels, int width, int height, int channels,
                     struct error *error) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
    if (!image_check_size(width, height, error))
        return false;

    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    cleanup(freep) void *bytes = malloc(size);
    if (!bytes)
        return image_no_memory(width, height, error);
    if (!png_image_write_to_memory(&image, bytes, &size, 0, pixels, 0, NULL))
        return error_set(error, ERROR_INVALID, "%s: the picture cannot be written: %s", path, image.message);
    return file_write(path, bytes, size, error);
}
