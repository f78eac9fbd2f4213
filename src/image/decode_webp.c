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
static bool animation_decode(const WebPData *data, struct image *image) {
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

static bool still_decode(const WebPData *data, struct image *image) {
    size_t stride = (size_t)image->width * 3;
    return WebPDecodeRGBInto(data->bytes, data->size, image->pixels, stride * (size_t)image->height,
                             (int)stride);
}

static int demuxer_orientation(WebPDemuxer *demuxer) {
    WebPChunkIterator chunk;
    if (!(WebPDemuxGetI(demuxer, WEBP_FF_FORMAT_FLAGS) & EXIF_FLAG) ||
        !WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk))
        return 1;
    int orientation = exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
    WebPDemuxReleaseChunkIterator(&chunk);
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
    if (!image_allocate(width, height, &image, error))
        return false;
    bool animated = WebPDemuxGetI(demuxer, WEBP_FF_FORMAT_FLAGS) & ANIMATION_FLAG;
    if (!(animated ? animation_decode(&data, &image) : still_decode(&data, &image))) {
        image_release(&image);
        return error_set(error, ERROR_INVALID, "the WebP is truncated or damaged");
    }
    *ret = image;
    *ret_orientation = demuxer_orientation(demuxer);
    return true;
}
