#include "http/inflate.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "http/internal.h"

enum {
    PIECE = 64 << 10,
    WINDOW_RAW = -15, /* zlib's names for the three wrappings of a deflate zlib */
    WINDOW_ZLIB = 15,
    WINDOW_GZIP = 15 + 16,
};

bool http_encoding_is_set(const char *encoding) {
    return encoding && *encoding && strcasecmp(encoding, "identity") != 0;
}

/* "deflate" means zlib's format, and some send the bare zlib. */
static bool is_zlib(const struct http_body *body) {
    const unsigned char *bytes = (const unsigned char *)body->bytes;
    return body->size >= 2 && (bytes[0] & 0x0f) == Z_DEFLATED && (bytes[0] << 8 | bytes[1]) % 31 == 0;
}

static bool choose_window(const struct http_body *body, const char *encoding, int *ret) {
    bool gzip = strcasecmp(encoding, "gzip") == 0 || strcasecmp(encoding, "x-gzip") == 0;
    if (!gzip && strcasecmp(encoding, "deflate") != 0)
        return false;
    *ret = gzip ? WINDOW_GZIP : is_zlib(body) ? WINDOW_ZLIB : WINDOW_RAW;
    return true;
}

static bool append_piece(struct http_body *body, const void *bytes, size_t size, size_t limit,
                         struct error *error) {
    if (size > limit - body->size)
        return error_set(error, ERROR_TOO_LARGE, "the body is larger than %zu bytes when it is inflated",
                         limit);
    if (!memory_charge_grow(&body->charge, size, error))
        return false;
    return http_body_append(body, bytes, size) ||
           error_set(error, ERROR_MEMORY, "not enough memory for the body of this request");
}

/* Members of a gzip file follow each other; of the others there is one. */
static bool inflate_all(z_stream *zlib, bool members, struct http_body *to, size_t limit,
                        struct error *error) {
    unsigned char piece[PIECE];
    for (;;) {
        zlib->next_out = piece;
        zlib->avail_out = sizeof piece;
        int code = inflate(zlib, Z_NO_FLUSH);
        if (!append_piece(to, piece, sizeof piece - zlib->avail_out, limit, error))
            return false;

        if (code == Z_STREAM_END && (zlib->avail_in == 0 || (members && inflateReset(zlib) != Z_OK)))
            return true;
        if (code == Z_STREAM_END && !members)
            return error_set(error, ERROR_INVALID, "bytes follow the compressed body");
        if (code == Z_MEM_ERROR)
            return error_set(error, ERROR_MEMORY, "not enough memory to inflate a body");
        if ((code != Z_OK && code != Z_STREAM_END) ||
            (code == Z_OK && zlib->avail_in == 0 && zlib->avail_out))
            return error_set(error, ERROR_INVALID, "the compressed body is damaged or truncated");
    }
}

bool http_request_check_plain(const struct http_request *request, struct error *error) {
    const char *encoding = http_request_header(request, "Content-Encoding");
    return !http_encoding_is_set(encoding) ||
           error_set(error, ERROR_MEDIA,
                     "Content-Encoding: %.40s is not read on this path: send the body uncompressed",
                     encoding);
}

struct http_body *http_body_decode_content(struct http_body *body, const char *encoding, size_t limit,
                                           struct error *error) {
    int window;
    if (!http_encoding_is_set(encoding))
        return http_body_reference(body);

    if (!choose_window(body, encoding, &window)) {
        error_set(error, ERROR_MEDIA, "Content-Encoding: %.40s is not read here; " HTTP_ENCODINGS " are",
                  encoding);
        return NULL;
    }

    z_stream zlib = {.next_in = (Bytef *)body->bytes, .avail_in = (uInt)body->size};
    struct http_body *plain = http_body_create(NULL, 0);
    if (plain)
        plain->charge.purpose = body->charge.purpose;
    if (!plain || body->size > UINT32_MAX || inflateInit2(&zlib, window) != Z_OK) {
        http_body_release(plain);
        error_set(error, ERROR_MEMORY, "not enough memory to inflate a body");
        return NULL;
    }

    bool done = inflate_all(&zlib, window == WINDOW_GZIP, plain, limit, error);
    inflateEnd(&zlib);
    if (done)
        return plain;
    http_body_release(plain);
    return NULL;
}

/* Does the list accept it, with a quality that is not 0? */
static bool accepts(const char *accepted, const char *encoding) {
    size_t length = strlen(encoding);
    for (const char *at = accepted; *at;) {
        at += strspn(at, " \t,");
        size_t name = strcspn(at, " \t,;"), all = strcspn(at, ",");
        const char *quality = memmem(at, all, "q=", 2);
        bool refused = quality && strspn(quality + 2, "0.") == strcspn(quality + 2, " \t,;");
        if (name == length && strncasecmp(at, encoding, length) == 0)
            return !refused;
        at += all;
    }
    return false;
}

const char *http_encoding_wanted(const char *accepted) {
    if (accepted && accepts(accepted, "gzip"))
        return "gzip";
    return accepted && accepts(accepted, "deflate") ? "deflate" : NULL;
}

struct http_body *http_body_encode_content(const struct http_body *body, const char *encoding) {
    z_stream zlib = {.next_in = (Bytef *)body->bytes, .avail_in = (uInt)body->size};
    int window = strcasecmp(encoding, "gzip") == 0 ? WINDOW_GZIP : WINDOW_ZLIB;
    struct memory_charge charge = {.purpose = body->charge.purpose};
    struct error ignored;
    if (body->size > UINT32_MAX || !memory_charge_grow(&charge, body->size, &ignored))
        return NULL;

    char *bytes = malloc(body->size + 1);
    struct http_body *packed = NULL;
    if (bytes && deflateInit2(&zlib, Z_BEST_SPEED, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) == Z_OK) {
        zlib.next_out = (Bytef *)bytes;
        zlib.avail_out = (uInt)body->size;
        if (deflate(&zlib, Z_FINISH) == Z_STREAM_END) {
            bytes[zlib.total_out] = 0;
            packed = http_body_take(bytes, zlib.total_out);
            bytes = NULL;
        }
        deflateEnd(&zlib);
    }
    free(bytes);

    if (packed) {
        packed->charge = charge; /* its block stays as large as it was made */
    } else {
        memory_charge_release(&charge);
    }
    return packed;
}
