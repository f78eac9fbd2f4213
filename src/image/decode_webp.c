/* WebP through libwebp, alpha dropped; of an animation, the first frame on a black canvas, as Pillow has it.
 *
 * libwebp decodes into a picture that it has whole, so such a frame counts in full; of an animation's canvas,
 * only rows are made. Its alpha is not decoded: no pixel depends on it. */
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "base/cleanup.h"
#include "image/decode.h"
#include "image/resample.h"

enum {
    WEBP_DECODER_BYTES = 256 << 10, /* of a decoder, beside its pictures */
    LOSSLESS_PIXEL = 4,             /* bytes that it keeps itself */
    LOSSY_COLUMN = 256,             /* bytes for each column of pixels */
};

static void demuxer_freep(WebPDemuxer **demuxer) {
    WebPDemuxDelete(*demuxer);
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

/* The first frame: its bytes within the file, and where it is on the canvas. */
struct webp_frame {
    const uint8_t *bytes;
    size_t size;
    int left, top, width, height;
    int canvas_width, canvas_height;
    bool lossless;
};

/* An "ALPH" chunk may stand before the frame's pixels. */
static void skip_alpha(struct webp_frame *frame) {
    const uint8_t *bytes = frame->bytes;
    if (frame->size < 8 || memcmp(bytes, "ALPH", 4) != 0)
        return;

    uint64_t length =
        bytes[4] | (uint64_t)bytes[5] << 8 | (uint64_t)bytes[6] << 16 | (uint64_t)bytes[7] << 24;
    length += 8 + (length & 1);
    if (length > frame->size)
        return;

    frame->bytes += length;
    frame->size -= length;
}

static bool find_frame(const WebPDemuxer *demuxer, struct webp_frame *ret) {
    WebPIterator first;
    if (!WebPDemuxGetFrame(demuxer, 1, &first))
        return false;

    struct webp_frame frame = {.bytes = first.fragment.bytes,
                               .size = first.fragment.size,
                               .left = first.x_offset,
                               .top = first.y_offset,
                               .width = first.width,
                               .height = first.height,
                               .canvas_width = (int)WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH),
                               .canvas_height = (int)WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT)};
    WebPDemuxReleaseIterator(&first);

    WebPBitstreamFeatures features;
    skip_alpha(&frame);
    if (WebPGetFeatures(frame.bytes, frame.size, &features) != VP8_STATUS_OK ||
        features.width != frame.width || features.height != frame.height ||
        frame.left + frame.width > frame.canvas_width || frame.top + frame.height > frame.canvas_height)
        return false;

    frame.lossless = features.format != 1;
    *ret = frame;
    return true;
}

static bool refuse_damaged(struct error *error) {
    return error_set(error, ERROR_INVALID, "the WebP is truncated or damaged");
}

bool image_webp_info(const uint8_t *bytes, size_t size, struct stored_info *ret, struct error *error) {
    const WebPData data = {bytes, size};
    cleanup(demuxer_freep) WebPDemuxer *demuxer = WebPDemux(&data);
    struct webp_frame frame;

    if (!demuxer)
        return refuse_damaged(error);
    if (!image_check_size(WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH),
                          WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT), error))
        return false;
    if (!find_frame(demuxer, &frame))
        return refuse_damaged(error);

    int64_t pixels = (int64_t)frame.width * frame.height;
    int64_t cost = WEBP_DECODER_BYTES + pixels * 3 + (int64_t)frame.canvas_width * 3 * IMAGE_ROWS_AT_ONCE;
    cost += frame.lossless ? pixels * LOSSLESS_PIXEL + webp_lossless_table_bytes(frame.bytes, frame.size)
                           : (int64_t)frame.width * LOSSY_COLUMN;
    *ret = (struct stored_info){frame.canvas_width, frame.canvas_height, find_orientation(demuxer), cost};
    return true;
}

struct webp_reader {
    struct webp_frame frame;
    int next;        /* the row that is read next */
    uint8_t *pixels; /* of the frame, [height, width, 3] */
    uint8_t *rows;   /* [IMAGE_ROWS_AT_ONCE, canvas_width, 3], with slack */
};

static void reader_free(void *state) {
    struct webp_reader *reader = state;
    if (!reader)
        return;
    free(reader->pixels);
    free(reader->rows);
    free(reader);
}

static const uint8_t *reader_rows(void *state, int count, struct error *error) {
    struct webp_reader *reader = state;
    const struct webp_frame *frame = &reader->frame;
    size_t stride = (size_t)frame->canvas_width * 3, inner = (size_t)frame->width * 3;

    memset(reader->rows, 0, stride * (size_t)count);
    for (int i = 0; i < count; i++, reader->next++) {
        int y = reader->next - frame->top;
        if (y >= 0 && y < frame->height)
            memcpy(reader->rows + (size_t)i * stride + (size_t)frame->left * 3,
                   reader->pixels + (size_t)y * inner, inner);
    }

    return reader->rows;
}

static bool reader_finish(void *state, struct error *error) {
    return true;
}

bool image_webp_open(const uint8_t *bytes, size_t size, struct row_reader *ret, struct error *error) {
    const WebPData data = {bytes, size};
    cleanup(demuxer_freep) WebPDemuxer *demuxer = WebPDemux(&data);
    struct webp_frame frame;
    if (!demuxer || !find_frame(demuxer, &frame))
        return refuse_damaged(error);

    struct webp_reader *reader = calloc(1, sizeof *reader);
    size_t stride = (size_t)frame.width * 3, all = stride * (size_t)frame.height;

    if (!reader)
        return image_no_memory(frame.width, frame.height, error);

    reader->frame = frame;
    reader->pixels = malloc(all);
    reader->rows = malloc((size_t)frame.canvas_width * 3 * IMAGE_ROWS_AT_ONCE + RESAMPLE_SLACK);
    if (!reader->pixels || !reader->rows) {
        reader_free(reader);
        return image_no_memory(frame.width, frame.height, error);
    }
    if (!WebPDecodeRGBInto(frame.bytes, frame.size, reader->pixels, all, (int)stride)) {
        reader_free(reader);
        return refuse_damaged(error);
    }

    *ret = (struct row_reader){reader, reader_rows, reader_finish, reader_free};
    return true;
}
