/* Any bytes through sniffing, decoding and, where a picture comes out, a small preprocessing, which must not
 * take more memory than its header let expect. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <webp/decode.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* --- Memory, counted by AddressSanitizer's allocator where the program has it --- */

#define SLACK (1 << 20) /* what does not depend on the photo */

int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void *, size_t),
                                              void (*freed)(const volatile void *)) __attribute__((weak));
size_t __sanitizer_get_allocated_size(const volatile void *) __attribute__((weak));

static int64_t held, most_held;

static void note_allocation(const volatile void *memory, size_t size) {
    held += (int64_t)size;
    if (held > most_held)
        most_held = held;
}

static void note_free(const volatile void *memory) {
    if (memory)
        held -= (int64_t)__sanitizer_get_allocated_size(memory);
}

static void begin_counting(void) {
    static int hooked;
    if (!hooked && __sanitizer_install_malloc_and_free_hooks)
        __sanitizer_install_malloc_and_free_hooks(note_allocation, note_free);
    hooked = 1;
    held = most_held = 0;
}

static void expect_at_most(int64_t bytes, const char *what) {
    if (most_held <= bytes + SLACK)
        return;
    fprintf(stderr, "%s took %lld bytes, and %lld were expected\n", what, (long long)most_held,
            (long long)bytes);
    abort();
}

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

    if (announces_large(bytes, size))
        return 0;
    begin_counting();
    bool known = image_read_info(bytes, size, &info, &error);
    expect_at_most(image_sniff(bytes, size) == IMAGE_TIFF ? 4 << 20 : 0, "reading the header"); /* its tags */
    if (!known || !image_geometry_find(&config, info.width, info.height, &geometry, &error))
        return 0;

    int64_t cost = image_preprocess_cost(&info, &config, &geometry);
    begin_counting();
    image_preprocess(bytes, size, &info, &config, &geometry, size & 1, tensor, &decode, &error);
    expect_at_most(cost, "the photo");
    return 0;
}
