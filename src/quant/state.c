/* Calibration statistics in a file, as this machine has them in memory. A file is read only where its length,
 * key and check fit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"
#include "quant/observe.h"

#define STATE_LIMIT (1u << 30)

struct state_head {
    char magic[8];
    uint64_t key;
    int32_t count, photos;
};

static const char state_magic[8] = "gqstate1";

bool observations_save(const struct observations *observations, const struct observe_state *state,
                       struct error *error) {
    struct buffer buffer = {.limit = STATE_LIMIT};
    if (!state || !state->path)
        return true;

    struct state_head head = {
        .key = state->key, .count = observations->count, .photos = observations->photos};
    memcpy(head.magic, state_magic, sizeof head.magic);
    buffer_append(&buffer, (const char *)&head, sizeof head);

    for (int i = 0; i < observations->count; i++) {
        const struct observation *o = &observations->items[i];
        struct observation flat = *o;
        flat.sum = NULL;
        flat.high = NULL;
        buffer_append(&buffer, (const char *)&flat, sizeof flat);
        buffer_append(&buffer, (const char *)o->sum, (size_t)o->channels * sizeof *o->sum);
        buffer_append(&buffer, (const char *)o->high, (size_t)o->channels * sizeof *o->high);
    }

    uint64_t check = hash_bytes(HASH_START, buffer.bytes, buffer.size);
    buffer_append(&buffer, &check, sizeof check);
    bool done = buffer.failed ? error_set(error, ERROR_MEMORY,
                                          "%s: not enough memory to keep the calibration", state->path)
                              : file_write(state->path, buffer.bytes, buffer.size, error);

    buffer_release(&buffer);
    return done;
}

struct state_reader {
    const char *at;
    size_t left;
};

static bool take(struct state_reader *reader, void *ret, size_t size) {
    if (reader->left < size)
        return false;
    memcpy(ret, reader->at, size);
    reader->at += size;
    reader->left -= size;
    return true;
}

static bool read_observation(struct state_reader *reader, const struct observation *expected,
                             struct observation *ret) {
    struct observation item;
    if (!take(reader, &item, sizeof item))
        return false;

    item.sum = NULL;
    item.high = NULL;
    if (item.value != expected->value || item.axis != expected->axis || item.channels < 0 ||
        (uint64_t)item.channels > reader->left / sizeof(double) || item.shape.rank < 0 ||
        item.shape.rank > LIMIT_TENSOR_RANK)
        return false;

    item.sum = calloc((size_t)item.channels + 1, sizeof *item.sum);
    item.high = calloc((size_t)item.channels + 1, sizeof *item.high);
    *ret = item;
    return item.sum && item.high && take(reader, item.sum, (size_t)item.channels * sizeof *item.sum) &&
           take(reader, item.high, (size_t)item.channels * sizeof *item.high);
}

static bool read_all(struct state_reader *reader, const struct observations *expected,
                     struct observations *fresh) {
    for (int i = 0; i < expected->count; i++)
        if (!read_observation(reader, &expected->items[i], &fresh->items[i]))
            return false;
    return reader->left == 0;
}

bool observations_load(struct observations *observations, const struct observe_state *state) {
    struct error ignored;
    size_t size = 0;
    struct state_head head;
    uint64_t check;
    if (!state || !state->path)
        return false;

    cleanup(freep) char *bytes = file_read(state->path, STATE_LIMIT, &size, &ignored);
    if (!bytes || size < sizeof head + sizeof check)
        return false;

    memcpy(&check, bytes + size - sizeof check, sizeof check);
    struct state_reader reader = {bytes, size - sizeof check};
    if (check != hash_bytes(HASH_START, bytes, size - sizeof check) || !take(&reader, &head, sizeof head) ||
        memcmp(head.magic, state_magic, sizeof head.magic) != 0 || head.key != state->key ||
        head.count != observations->count || head.photos < 0)
        return false;

    struct observations fresh = {calloc((size_t)head.count + 1, sizeof *fresh.items), head.count,
                                 head.photos};
    if (!fresh.items || !read_all(&reader, observations, &fresh)) {
        observations_release(&fresh);
        return false;
    }

    observations_release(observations);
    *observations = fresh;
    return true;
}
