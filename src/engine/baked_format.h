/* The bytes of a baked file: see baked.h for their order. For engine/baked*.c and its fuzz target. */
#pragma once
#include <stdint.h>

#include "plan/primitive.h"

#define BAKED_MAGIC "guichet\1"
#define BAKED_VERSION 5
#define BAKED_PAGE 4096
#define ROLE_BYTES 16
#define BAKED_INPUT_PREFIX "guichet.weights."
#define LIMIT_BAKED_ENTRIES 100000

struct baked_header {
    char magic[8];
    uint32_t version, precision;
    uint64_t processor; /* primitive_signature */
    uint64_t file_bytes;
    uint64_t graph_offset, graph_bytes;
    uint64_t sources_offset, source_count; /* struct baked_source */
    uint64_t table_offset, entry_count;
    uint64_t checksum; /* of everything after the header */
};

struct baked_entry {
    char role[ROLE_BYTES];
    uint64_t constant;           /* entries of one constant share its number */
    struct layout_record layout; /* how it lies */
    struct layout_record from;   /* how it lay in the model, to get back there */
    uint64_t data_offset, data_bytes;
};
