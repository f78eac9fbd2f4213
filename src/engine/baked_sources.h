/* The files that a model was loaded from, so that what is baked of it is known to be of these and no others:
 * every byte of them counts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SOURCE_NAME_BYTES 512
#define LIMIT_SOURCES 4096

/* A file, as a baked file has it. */
struct baked_source {
    char name[SOURCE_NAME_BYTES]; /* relative to the network's folder; "": the network itself */
    uint64_t bytes, inode;
    int64_t modified_ns; /* 0: so young when it was looked at that a later change might have the same time */
    uint64_t digest;
};

struct baked_sources {
    struct baked_source *list; /* [count] malloc'ed */
    int count;
};

/* What the system says of the network and of its external files now, right after the graph was read from
 * them; the digests come later. */
struct graph;
bool baked_sources_create(const char *model_path, const struct graph *graph, struct baked_sources *ret,
                          struct error *error);
void baked_sources_release(struct baked_sources *sources);
/* Fills in the digests: reads all of the files. ERROR_INVALID where one has changed meanwhile. */
bool baked_sources_digest(const char *model_path, struct baked_sources *sources, struct error *error);
/* The files are still those of `list` [count], which comes from a baked file and may hold anything: by size,
 * time and inode number, or where these differ by all of their bytes. A file that is missing is no reason.
 * ERROR_INVALID with one that is another. */
bool baked_sources_are(const char *model_path, const struct baked_source *list, uint64_t count,
                       struct error *error);

/* Of all bytes; on the calling thread's OpenMP team. Guards against damage and changes, not against an
 * attacker. */
uint64_t baked_checksum(const uint8_t *bytes, size_t size);
