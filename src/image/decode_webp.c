/* WebP through libwebp, alpha dropped; of an animation, the first frame. */
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "base/cleanup.h"
#include "image/decode.h"

static void demuxer_freep(WebPDemuxer **demuxer) {
    WebPDemuxDelete(*demuxer);
}

static void animation_freep(WebPAnimDecoder **animation) {
    WebPAnimDecoderDelete(*animation);
}

/* [height, width, 4] on the whole canvas; belongs to the decoder. */
static bool decode_animation(const WebPData *data, struct image *image) {
    WebPAnimDecoderOptions options;
    if (!WebPAnimDecoderOptionsInit(&options))
        return false;

    options.color_mode = MODE_RGBA;
    cleanup(animation_freep) WebPAnimDecoder *animation = WebPAnimDecoderNew(data, &options);
    uint8_t *canvas = NULL;
    int timestamp;
    if (!animation || !WebPAnimDecoderGetNext(animation, &canvas, &timestamp) || !canvas)
        return false;

    size_t pixels = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; i < pixels; i++)
        memcpy(image->pixels + 3 * i, canvas + 4 * i, 3);

    return true;
}

static bool decode_still(const WebPData *data, struct image *image) {
    size_t stride = (size_t)image->width * 3;
    return WebPDecodeRGBInto(data->bytes, data->size, image->pixels, stride * (size_t)image->height,
                             (int)stride);
}

/* EXIF's, else XMP's. */
static int find_orientation(WebPDemuxer *demuxer) {
    uint32_t flags = WebPDemuxGetI(demuxer, WEBP_FF_FORMAT_FLAGS);
    WebPChunkIterator chunk;
    int orientation = 1;

    if ((flags & EXIF_FLAG) && WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
        orientation = exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
        return orientation;
    }
    if ((flags & XMP_FLAG) && WebPDemuxGetChunk(demuxer, "XMP ", 1, &chunk)) {
        orientation = xmp_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    return orientation;
}

bool image_decode_webp(const uint8_t *bytes, size_t size, struct image *ret, int *ret_orientation,
                       struct error *error) {
    const WebPData data = {bytes, size};
    cleanup(demuxer_freep) WebPDemuxer *demuxer = WebPDemux(&data);
    if (!demuxer)
        return error_set(error, ERROR_INVALID, "the WebP is truncated or damaged");

    uint32_t width = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH);
    uint32_t height = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT);
    struct image image;
    if (!image_check_size(width, height, error) || !image_allocate(width, height, &image, error))
        return false;

    bool animated = WebPDemuxGetI(demuxer, WEBP_FF_FORMAT_FLAGS) & ANIMATION_FLAG;
    if (!(animated ? decode_animation(&data, &image) : decode_still(&data, &image))) {
        image_release(&image);
        return error_set(error, ERROR_INVALID, "the WebP is truncated or damaged");
    }

    *ret = image;
    *ret_orientation = find_orientation(demuxer);
    return true;
}

/* Lossless pictures keep all pixels in four bytes; of an animation, two canvases and a frame are kept, too.
 */
int64_t image_webp_cost(const uint8_t *bytes, size_t size) {
    const WebPData data = {bytes, size};
    cleanup(demuxer_freep) WebPDemuxer *demuxer = WebPDemux(&data);
    WebPBitstreamFeatures features;
    if (!demuxer)
        return 0;

    int64_t pixels =
        (int64_t)WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH) * WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT);
    if (WebPDemuxGetI(demuxer, WEBP_FF_FORMAT_FLAGS) & ANIMATION_FLAG)
        return pixels * (3 + 4 + 4 + 4);

    bool lossless = WebPGetFeatures(bytes, size, &features) != VP8_STATUS_OK || features.format != 1;
    int64_t turned = find_orientation(demuxer) > 1 ? pixels * 3 : 0;
    int64_t own = lossless ? pixels * 4 : features.has_alpha ? pixels : 0;
    return pixels * 3 + (own > turned ? own : turned);
}
