#include "engine/baked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "onnx/onnx.h"
#include "ops/operator.h"

#define MAGIC "guichet\1"
#define VERSION 4
#define PAGE 4096
#define ROLE_BYTES 16
#define INPUT_PREFIX "guichet.weights."
#define LIMIT_ENTRIES 100000

struct header {
    char magic[8];
    uint32_t version, precision;
    uint64_t processor; /* primitive_signature */
    uint64_t file_bytes;
    uint64_t graph_offset, graph_bytes;
    uint64_t sources_offset, source_count; /* struct baked_source */
    uint64_t table_offset, entry_count;
    uint64_t checksum; /* of everything after the header */
};

struct entry {
    char role[ROLE_BYTES];
    uint64_t constant;                    /* entries of one constant share its number */
    uint64_t layout_offset, layout_bytes; /* how it lies */
    uint64_t from_offset, from_bytes;     /* how it lay in the model, to get back there */
    uint64_t data_offset, data_bytes;
};

const char *baked_path(const char *model_path, enum precision precision, char *text, size_t size) {
    snprintf(text, size, "%s.%s.baked", model_path, precision_name(precision));
    return text;
}

/* --- Writing --- */

/* Constants that are packed, by number. */
struct numbered {
    const void **data;
    int count;
};

static int number_of(const struct numbered *numbered, const void *data) {
    for (int i = 0; i < numbered->count; i++)
        if (numbered->data[i] == data)
            return i;
    return -1;
}

static bool collect(struct weights_store *weights, struct numbered *ret) {
    int total = 0;
    while (weights_at(weights, total))
        total++;
    ret->data = malloc(((size_t)total + 1) * sizeof *ret->data);
    if (!ret->data)
        return false;

    for (int i = 0; i < total; i++)
        if (number_of(ret, weights_at(weights, i)->source) < 0)
            ret->data[ret->count++] = weights_at(weights, i)->source;
    return true;
}

/* What cannot be unpacked stays in the graph too. */
static bool is_dropped(struct weights_store *weights, const struct value *value) {
    const struct packed_weights *packed;
    bool reversible = true;
    for (int i = 0; (packed = weights_at(weights, i)); i++)
        if (packed->source == value->constant->data) {
            if (packed->source_gone)
                return true;
            reversible = reversible && packed_is_reversible(packed);
        }
    return reversible;
}

/* The graph as ONNX, packed constants as inputs; malloc'ed. */
static char *write_graph(const struct graph *graph, struct weights_store *weights,
                         const struct numbered *numbered, const char *path, size_t *ret_size,
                         struct error *error) {
    cleanup(graph_freep) struct graph *copy = graph_clone(graph);
    if (!copy) {
        error_set(error, ERROR_MEMORY, "%s: no memory to bake", path);
        return NULL;
    }

    for (int i = 0; i < copy->value_count; i++) {
        struct value *value = copy->values[i];
        if (!value->constant)
            continue;
        int number = number_of(numbered, value->constant->data);
        if (number < 0)
            continue;
        bool dropped = is_dropped(weights, value);
        char *name = arena_printf(copy->arena, INPUT_PREFIX "%d.%d", number, i);
        value->name = name ? name : "";
        if (!dropped)
            continue;
        value->dtype = value->constant->dtype;
        value->shape = value->constant->shape;
        value->constant = NULL;
        if (!graph_add_input(copy, value)) {
            error_set(error, ERROR_MEMORY, "%s: no memory to bake", path);
            return NULL;
        }
    }

    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.graph.%d", path, (int)getpid());
    char *bytes = NULL;
    if (onnx_graph_write(copy, temporary, error))
        bytes = file_read(temporary, LIMIT_MODEL_BYTES, ret_size, error);
    unlink(temporary);
    return bytes;
}

static bool pad_to(FILE *file, uint64_t offset) {
    static const char zeros[PAGE] = {0};
    long at = ftell(file);
    while (at >= 0 && (uint64_t)at < offset) {
        size_t count = offset - (uint64_t)at < PAGE ? offset - (uint64_t)at : PAGE;
        if (fwrite(zeros, 1, count, file) != count)
            return false;
        at += (long)count;
    }
    return at >= 0;
}

struct layouts { /* of all entries, one after the other */
    uint8_t *bytes;
    size_t size;
};

static bool layouts_add(struct layouts *layouts, const struct layout *layout, uint64_t *ret_offset,
                        uint64_t *ret_bytes) {
    size_t size = layout_to_bytes(layout, NULL, 0);
    uint8_t *larger = size ? realloc(layouts->bytes, layouts->size + size) : NULL;
    if (!larger)
        return false;

    layouts->bytes = larger;
    if (!layout_to_bytes(layout, larger + layouts->size, size))
        return false;

    *ret_offset = layouts->size;
    *ret_bytes = size;
    layouts->size += size;
    return true;
}

/* What is written, in the order of the file; last come the weights' bytes. */
struct baking {
    struct header header;
    char *graph; /* [header.graph_bytes] ONNX */
    const struct baked_sources *sources;
    struct numbered numbered;
    struct entry *entries; /* [header.entry_count] */
    struct layouts layouts;
    struct weights_store *weights;
};

/* Offsets of everything, from the table on. */
static bool plan_entries(struct baking *baking) {
    struct header *header = &baking->header;
    struct layouts *layouts = &baking->layouts;
    for (uint64_t i = 0; i < header->entry_count; i++) {
        const struct packed_weights *packed = weights_at(baking->weights, (int)i);
        struct entry *entry = &baking->entries[i];
        snprintf(entry->role, sizeof entry->role, "%s", packed->role);
        entry->constant = (uint64_t)number_of(&baking->numbered, packed->source);
        entry->data_bytes = packed->size;
        if (!layouts_add(layouts, packed->layout, &entry->layout_offset, &entry->layout_bytes) ||
            !layouts_add(layouts, packed->from, &entry->from_offset, &entry->from_bytes))
            return false;
    }

    uint64_t layouts_start = header->table_offset + header->entry_count * sizeof *baking->entries;
    uint64_t end = layouts_start + layouts->size;
    for (uint64_t i = 0; i < header->entry_count; i++) {
        struct entry *entry = &baking->entries[i];
        entry->layout_offset += layouts_start;
        entry->from_offset += layouts_start;
        entry->data_offset = size_align(end, PAGE);
        end = entry->data_offset + entry->data_bytes;
    }

    header->file_bytes = end;
    return true;
}

static bool write_parts(FILE *file, const struct baking *baking) {
    const struct header *header = &baking->header;
    if (fwrite(header, sizeof *header, 1, file) != 1 ||
        fwrite(baking->graph, 1, header->graph_bytes, file) != header->graph_bytes ||
        !pad_to(file, header->sources_offset) ||
        fwrite(baking->sources->list, sizeof *baking->sources->list, header->source_count, file) !=
            header->source_count ||
        !pad_to(file, header->table_offset) ||
        fwrite(baking->entries, sizeof *baking->entries, header->entry_count, file) != header->entry_count ||
        fwrite(baking->layouts.bytes, 1, baking->layouts.size, file) != baking->layouts.size)
        return false;

    for (uint64_t i = 0; i < header->entry_count; i++) {
        const struct packed_weights *packed = weights_at(baking->weights, (int)i);
        if (!pad_to(file, baking->entries[i].data_offset) ||
            fwrite(packed->bytes, 1, packed->size, file) != packed->size)
            return false;
    }
    return fflush(file) == 0;
}

/* The checksum needs the whole file: it is put into the header last, and the file is renamed after that. */
static bool seal(FILE *file, struct header *header, const char *temporary, const char *path,
                 struct error *error) {
    struct file_map map;
    if (!file_map_open(temporary, UINT64_MAX, &map, error))
        return false;

    header->checksum = baked_checksum(map.bytes + sizeof *header, map.size - sizeof *header);
    file_map_close(&map);
    if (fseek(file, 0, SEEK_SET) != 0 || fwrite(header, sizeof *header, 1, file) != 1 || fflush(file) != 0 ||
        fsync(fileno(file)) != 0 || rename(temporary, path) != 0)
        return error_set(error, ERROR_IO, "%s: cannot be written (disk full?)", path);
    return true;
}

static bool write_file(const char *path, struct baking *baking, struct error *error) {
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.%d.part", path, (int)getpid());
    FILE *file = fopen(temporary, "w+be");
    bool done = file && write_parts(file, baking);

    if (!done)
        error_set(error, ERROR_IO, "%s: cannot be written (no permission, or disk full?)", path);
    else
        done = seal(file, &baking->header, temporary, path, error);
    if (file)
        fclose(file);
    if (!done)
        unlink(temporary);
    return done;
}

static bool describe_parts(struct baking *baking, const char *path, const struct graph *graph,
                           struct error *error) {
    struct header *header = &baking->header;
    size_t graph_bytes = 0;
    if (!collect(baking->weights, &baking->numbered))
        return error_set(error, ERROR_MEMORY, "%s: no memory to bake", path);
    baking->graph = write_graph(graph, baking->weights, &baking->numbered, path, &graph_bytes, error);
    if (!baking->graph)
        return false;

    while (weights_at(baking->weights, (int)header->entry_count))
        header->entry_count++;
    header->graph_offset = sizeof *header;
    header->graph_bytes = graph_bytes;
    header->sources_offset = size_align(sizeof *header + graph_bytes, 64);
    header->source_count = (uint64_t)baking->sources->count;
    header->table_offset =
        size_align(header->sources_offset + header->source_count * sizeof(struct baked_source), 64);
    baking->entries = calloc(header->entry_count + 1, sizeof *baking->entries);
    if (!baking->entries || !plan_entries(baking))
        return error_set(error, ERROR_MEMORY, "%s: no memory to bake", path);
    return true;
}

bool baked_write(const char *path, const struct baked_sources *sources, enum precision precision,
                 const struct graph *graph, struct weights_store *weights, struct error *error) {
    struct baking baking = {
        .header = {.version = VERSION, .precision = (uint32_t)precision, .processor = primitive_signature()},
        .sources = sources,
        .weights = weights};
    memcpy(baking.header.magic, MAGIC, sizeof baking.header.magic);

    bool done = describe_parts(&baking, path, graph, error) && write_file(path, &baking, error);
    free(baking.numbered.data);
    free(baking.layouts.bytes);
    free(baking.entries);
    free(baking.graph);
    return done;
}

/* --- Reading --- */

static bool check_header(const char *path, const char *model_path, enum precision precision,
                         const struct file_map *map, struct header *ret, struct error *error) {
    if (map->size < sizeof *ret)
        return error_set(error, ERROR_INVALID, "%s: too short for a baked model", path);

    memcpy(ret, map->bytes, sizeof *ret);
    if (memcmp(ret->magic, MAGIC, sizeof ret->magic) != 0)
        return error_set(error, ERROR_INVALID, "%s: not a baked model", path);
    if (ret->version != VERSION)
        return error_set(error, ERROR_INVALID, "%s: baked by another version of guichet", path);
    if (ret->processor != primitive_signature())
        return error_set(error, ERROR_INVALID, "%s: baked for another processor or version of oneDNN", path);
    if (ret->precision != (uint32_t)precision)
        return error_set(error, ERROR_INVALID, "%s: baked for another precision", path);

    if (ret->file_bytes != map->size || !range_fits(ret->graph_offset, ret->graph_bytes, map->size) ||
        ret->entry_count > LIMIT_ENTRIES || ret->table_offset % 8 || ret->sources_offset % 8 ||
        ret->source_count > LIMIT_SOURCES ||
        !range_fits(ret->sources_offset, ret->source_count * sizeof(struct baked_source), map->size) ||
        !range_fits(ret->table_offset, ret->entry_count * sizeof(struct entry), map->size) ||
        ret->checksum != baked_checksum(map->bytes + sizeof *ret, map->size - sizeof *ret))
        return error_set(error, ERROR_INVALID, "%s: damaged", path);

    const struct baked_source *sources =
        (const struct baked_source *)(const void *)(map->bytes + ret->sources_offset);
    return baked_sources_are(model_path, sources, ret->source_count, error) ||
           error_prefix(error, "%s", path);
}

/* The number in "guichet.weights.<n>.<id>", -1 for other names. */
static int64_t weights_number(const char *name) {
    size_t length = strlen(INPUT_PREFIX);
    return strncmp(name, INPUT_PREFIX, length) == 0 ? strtoll(name + length, NULL, 10) : -1;
}

static bool entry_fits(const struct entry *entry, size_t size) {
    return memchr(entry->role, 0, sizeof entry->role) &&
           range_fits(entry->layout_offset, entry->layout_bytes, size) &&
           range_fits(entry->from_offset, entry->from_bytes, size) &&
           range_fits(entry->data_offset, entry->data_bytes, size) && entry->data_offset % PAGE == 0;
}

/* Packed constants that were written as inputs become constants again; their data is the first packed form's.
 */
static bool restore_constants(struct graph *graph, const struct entry *entries, uint64_t count,
                              const struct file_map *map) {
    int kept = 0;
    for (int i = 0; i < graph->input_count; i++) {
        struct value *value = graph->inputs[i];
        int64_t number = weights_number(value->name);
        if (number < 0) {
            graph->inputs[kept++] = value;
            continue;
        }
        const struct entry *entry = NULL;
        for (uint64_t j = 0; j < count && !entry; j++)
            if (entries[j].constant == (uint64_t)number)
                entry = &entries[j];
        struct tensor *tensor = entry ? arena_allocate(graph->arena, sizeof *tensor) : NULL;
        if (!tensor || !shape_is_known(&value->shape))
            return false;
        *tensor = (struct tensor){value->dtype, value->shape, (void *)(map->bytes + entry->data_offset)};
        value->constant = tensor;
        value->is_input = false;
    }

    graph->input_count = kept;
    return true;
}

/* What the entries of a constant are known by: where its data lies, in the map or (int8) in the graph. */
static const void *data_of(const struct graph *graph, uint64_t number) {
    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i]->constant && weights_number(graph->values[i]->name) == (int64_t)number)
            return graph->values[i]->constant->data;
    return NULL;
}

static bool adopt(struct baked *baked, const struct entry *entries, uint64_t count, struct error *error) {
    baked->weights = weights_store_create(baked->graph, error);
    for (uint64_t i = 0; baked->weights && i < count; i++) {
        const uint8_t *bytes = baked->map.bytes;
        const void *data = data_of(baked->graph, entries[i].constant);
        const struct weights_baked weights = {.data = data,
                                              .role = entries[i].role,
                                              .layout = bytes + entries[i].layout_offset,
                                              .layout_size = entries[i].layout_bytes,
                                              .from = bytes + entries[i].from_offset,
                                              .from_size = entries[i].from_bytes,
                                              .bytes = bytes + entries[i].data_offset,
                                              .size = entries[i].data_bytes};
        if (!data || !weights_adopt(baked->weights, &weights, error))
            return false;
    }
    return baked->weights != NULL;
}

static bool keep_sources(const struct file_map *map, const struct header *header, struct baked_sources *ret) {
    size_t bytes = (size_t)header->source_count * sizeof *ret->list;

    ret->list = malloc(bytes + 1);
    if (!ret->list)
        return false;
    memcpy(ret->list, map->bytes + header->sources_offset, bytes);
    ret->count = (int)header->source_count;
    return true;
}

static bool read_parts(const char *path, const struct header *header, struct baked *baked,
                       struct error *error) {
    const struct file_map *map = &baked->map;
    const struct entry *entries = (const struct entry *)(const void *)(map->bytes + header->table_offset);
    for (uint64_t i = 0; i < header->entry_count; i++)
        if (!entry_fits(&entries[i], map->size))
            return error_set(error, ERROR_INVALID, "%s: damaged", path);
    baked->graph =
        onnx_graph_read_memory(path, map->bytes + header->graph_offset, header->graph_bytes, error);
    if (!baked->graph)
        return false;
    if (!keep_sources(map, header, &baked->sources))
        return error_set(error, ERROR_MEMORY, "%s: no memory for a list of files", path);
    if (!restore_constants(baked->graph, entries, header->entry_count, map) ||
        !operators_bind(baked->graph, error) || !adopt(baked, entries, header->entry_count, error))
        return error_set(error, ERROR_INVALID, "%s: damaged", path);
    return true;
}

bool baked_read(const char *path, const char *model_path, enum precision precision, struct baked *ret,
                struct error *error) {
    struct baked baked = {0};
    struct header header;
    if (!file_map_open(path, LIMIT_MODEL_BYTES * 2, &baked.map, error))
        return false;
    if (check_header(path, model_path, precision, &baked.map, &header, error) &&
        read_parts(path, &header, &baked, error)) {
        *ret = baked;
        return true;
    }

    baked_sources_release(&baked.sources);
    weights_store_free(baked.weights);
    graph_free(baked.graph);
    file_map_close(&baked.map);
    error->code = ERROR_INVALID;
    return false;
}
