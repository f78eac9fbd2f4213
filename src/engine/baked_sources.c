#include "engine/baked_sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "base/limits.h"
#include "graph/graph.h"

#define SECOND_NS 1000000000
/* Two changes of a file within so long may leave it with the same time. */
#define SETTLED_NS (2 * (int64_t)SECOND_NS)

static uint64_t mix(uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 29;
}

/* Eight independent lanes keep the multiplier busy. */
static uint64_t checksum_block(const uint8_t *bytes, size_t size, uint64_t seed) {
    uint64_t lanes[8];
    for (int i = 0; i < 8; i++)
        lanes[i] = seed + (uint64_t)i;
    size_t at = 0;
    for (; at + 64 <= size; at += 64)
        for (int i = 0; i < 8; i++) {
            uint64_t word;
            memcpy(&word, bytes + at + 8 * i, 8);
            lanes[i] = mix(lanes[i], word);
        }
    uint64_t sum = mix(seed, size);
    for (; at < size; at++)
        sum = mix(sum, bytes[at]);
    for (int i = 0; i < 8; i++)
        sum = mix(sum, lanes[i]);
    return sum;
}

#define BLOCK (1u << 20)

uint64_t baked_checksum(const uint8_t *bytes, size_t size) {
    int64_t blocks = (int64_t)((size + BLOCK - 1) / BLOCK);
    uint64_t sum = 0;
#pragma omp parallel for reduction(^ : sum)
    for (int64_t i = 0; i < blocks; i++) {
        size_t start = (size_t)i * BLOCK;
        sum ^= checksum_block(bytes + start, size - start < BLOCK ? size - start : BLOCK, (uint64_t)i + 1);
    }
    return sum;
}

/* "FOLDER/NAME", or the network's own path. Returns `text`. */
static const char *source_path(const char *model_path, const char *name, char *text, size_t size) {
    const char *slash = strrchr(model_path, '/');
    int folder = slash ? (int)(slash - model_path) + 1 : 0;

    if (*name)
        snprintf(text, size, "%.*s%s", folder, model_path, name);
    else
        snprintf(text, size, "%s", model_path);
    return text;
}

/* False where there is no such file. */
static bool look_at(const char *path, struct baked_source *ret) {
    struct stat status;
    struct timespec now;
    if (stat(path, &status) != 0)
        return false;

    clock_gettime(CLOCK_REALTIME, &now);
    int64_t modified = (int64_t)status.st_mtim.tv_sec * SECOND_NS + status.st_mtim.tv_nsec;
    bool settled = (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec - modified > SETTLED_NS;
    ret->bytes = (uint64_t)status.st_size;
    ret->inode = status.st_ino;
    ret->modified_ns = settled ? modified : 0;
    return true;
}

bool baked_sources_create(const char *model_path, const struct graph *graph, struct baked_sources *ret,
                          struct error *error) {
    char path[4096];
    struct baked_sources sources = {calloc((size_t)graph->map_count + 1, sizeof *sources.list), 0};
    if (!sources.list)
        return error_set(error, ERROR_MEMORY, "not enough memory for a list of files");

    for (int i = 0; i < graph->map_count; i++) {
        const char *name = graph->map_names[i] ? graph->map_names[i] : "";
        struct baked_source *source = &sources.list[sources.count++];
        int length = snprintf(source->name, sizeof source->name, "%s", name);
        if (length < 0 || (size_t)length >= sizeof source->name ||
            !look_at(source_path(model_path, name, path, sizeof path), source)) {
            free(sources.list);
            return error_set(error, ERROR_INVALID, "'%s' is not there any more, or its name is too long",
                             name);
        }
    }
    *ret = sources;
    return true;
}

void baked_sources_release(struct baked_sources *sources) {
    free(sources->list);
    *sources = (struct baked_sources){0};
}

static bool digest_file(const char *path, uint64_t *ret, struct error *error) {
    struct file_map map;
    if (!file_map_open(path, LIMIT_MODEL_BYTES, &map, error))
        return false;
    *ret = baked_checksum(map.bytes, map.size);
    file_map_close(&map);
    return true;
}

bool baked_sources_digest(const char *model_path, struct baked_sources *sources, struct error *error) {
    char path[4096];

    for (int i = 0; i < sources->count; i++) {
        struct baked_source *source = &sources->list[i], now = *source;
        source_path(model_path, source->name, path, sizeof path);
        if (!digest_file(path, &source->digest, error))
            return false;
        if (!look_at(path, &now) || now.bytes != source->bytes || now.inode != source->inode ||
            (source->modified_ns && now.modified_ns != source->modified_ns))
            return error_set(error, ERROR_INVALID, "%s: has changed since it was loaded", path);
    }
    return true;
}

/* A plain name below the network's folder. */
static bool is_inside(const struct baked_source *source) {
    return memchr(source->name, 0, sizeof source->name) && source->name[0] != '/' &&
           !strstr(source->name, "..");
}

bool baked_sources_are(const char *model_path, const struct baked_source *list, uint64_t count,
                       struct error *error) {
    char path[4096];
    struct error ignored;

    for (uint64_t i = 0; i < count; i++) {
        const struct baked_source *source = &list[i];
        struct baked_source now = {0};
        uint64_t digest;
        if (!is_inside(source))
            return error_set(error, ERROR_INVALID, "damaged");
        if (!look_at(source_path(model_path, source->name, path, sizeof path), &now))
            continue;
        if (source->modified_ns && now.modified_ns == source->modified_ns && now.inode == source->inode &&
            now.bytes == source->bytes)
            continue;
        if (now.bytes != source->bytes || !digest_file(path, &digest, &ignored) || digest != source->digest)
            return error_set(error, ERROR_INVALID, "baked from another %s", path);
    }
    return true;
}
