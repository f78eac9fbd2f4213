#include "engine/baked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "engine/baked_format.h"
#include "onnx/onnx.h"
#include "ops/operator.h"

const char *baked_path(const char *model_path, enum precision precision, char *text, size_t size) {
    snprintf(text, size, "%s.%s.baked", model_path, precision_name(precision));
    return text;
}

/* --- Writing --- */

/* Packed weights that are written. */
struct written {
    const struct packed_weights *packed;
    struct layout_record layout, from;
};

/* Constants that are packed, by number. */
struct numbered {
    const void **data;
    int count;
    struct written *written; /* [written_count] */
    int written_count;
};

static int number_of(const struct numbered *numbered, const void *data) {
    for (int i = 0; i < numbered->count; i++)
        if (numbered->data[i] == data)
            return i;
    return -1;
}

/* Those whose layouts can be made anew; the others are packed again at each start. */
static bool collect(struct weights_store *weights, struct numbered *ret) {
    int total = 0;
    while (weights_at(weights, total))
        total++;
    ret->data = malloc(((size_t)total + 1) * sizeof *ret->data);
    ret->written = calloc((size_t)total + 1, sizeof *ret->written);
    if (!ret->data || !ret->written)
        return false;

    for (int i = 0; i < total; i++) {
        struct written *written = &ret->written[ret->written_count];
        written->packed = weights_at(weights, i);
        if (!layout_record(written->packed->layout, &written->layout) ||
            !layout_record(written->packed->from, &written->from))
            continue;
        ret->written_count++;
        if (number_of(ret, written->packed->source) < 0)
            ret->data[ret->count++] = written->packed->source;
    }
    return true;
}

/* What cannot be unpacked stays in the graph too. */
static bool is_dropped(const struct numbered *numbered, const struct value *value) {
    bool reversible = true;

    for (int i = 0; i < numbered->written_count; i++) {
        const struct packed_weights *packed = numbered->written[i].packed;
        if (packed->source == value->constant->data)
            reversible = reversible && packed_is_reversible(packed);
    }
    return reversible;
}

/* The constant's own elements go into the graph, though only packed ones may be left. */
static bool restore_constant(struct graph *copy, struct value *value, struct weights_store *weights,
                             struct error *error) {
    cleanup(freep) void *restored = NULL;
    if (!weights_restore(weights, value->constant->data, &restored, error))
        return false;
    if (!restored)
        return true;

    struct tensor *tensor = arena_allocate(copy->arena, sizeof *tensor);
    void *data = graph_own_memory(copy, tensor_bytes(value->constant) + 1);
    if (!tensor || !data)
        return error_set(error, ERROR_MEMORY, "not enough memory to bake");
    memcpy(data, restored, tensor_bytes(value->constant));
    *tensor = (struct tensor){value->constant->dtype, value->constant->shape, data};
    value->constant = tensor;
    return true;
}

/* The graph as ONNX, packed constants as inputs; malloc'ed. */
static char *write_graph(const struct graph *graph, struct weights_store *weights,
                         const struct numbered *numbered, const char *path, size_t *ret_size,
                         struct error *error) {
    cleanup(graph_freep) struct graph *copy = graph_clone(graph);
    if (!copy) {
        error_set(error, ERROR_MEMORY, "%s: not enough memory to bake", path);
        return NULL;
    }

    for (int i = 0; i < copy->value_count; i++) {
        struct value *value = copy->values[i];
        if (!value->constant)
            continue;
        int number = number_of(numbered, value->constant->data);
        bool dropped = number >= 0 && is_dropped(numbered, value);
        if (!dropped && !restore_constant(copy, value, weights, error))
            return NULL;
        if (number < 0)
            continue;
        char *name = arena_printf(copy->arena, BAKED_INPUT_PREFIX "%d.%d", number, i);
        value->name = name ? name : "";
        if (!dropped)
            continue;
        value->dtype = value->constant->dtype;
        value->shape = value->constant->shape;
        value->constant = NULL;
        if (!graph_add_input(copy, value)) {
            error_set(error, ERROR_MEMORY, "%s: not enough memory to bake", path);
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
    static const char zeros[BAKED_PAGE] = {0};
    long at = ftell(file);
    while (at >= 0 && (uint64_t)at < offset) {
        size_t count = offset - (uint64_t)at < BAKED_PAGE ? offset - (uint64_t)at : BAKED_PAGE;
        if (fwrite(zeros, 1, count, file) != count)
            return false;
        at += (long)count;
    }
    return at >= 0;
}

/* What is written, in the order of the file; last come the weights' bytes. */
struct baking {
    struct baked_header header;
    char *graph; /* [header.graph_bytes] ONNX */
    const struct baked_sources *sources;
    struct numbered numbered;
    struct baked_entry *entries; /* [header.entry_count] */
    struct weights_store *weights;
};

/* Offsets of everything, from the table on. Behind the weights is room for a constant of the graph's size:
 * its elements are read from there where a file from a stranger has its nodes read them. */
static void plan_entries(struct baking *baking) {
    struct baked_header *header = &baking->header;
    uint64_t end = header->table_offset + header->entry_count * sizeof *baking->entries, room = end;

    for (uint64_t i = 0; i < header->entry_count; i++) {
        const struct written *written = &baking->numbered.written[i];
        struct baked_entry *entry = &baking->entries[i];
        snprintf(entry->role, sizeof entry->role, "%s", written->packed->role);
        entry->constant = (uint64_t)number_of(&baking->numbered, written->packed->source);
        entry->layout = written->layout;
        entry->from = written->from;
        entry->data_offset = size_align(end, BAKED_PAGE);
        entry->data_bytes = written->packed->size;
        end = entry->data_offset + entry->data_bytes;
        if (room < entry->data_offset + layout_bytes(written->packed->from))
            room = entry->data_offset + layout_bytes(written->packed->from);
    }
    header->file_bytes = end > room ? end : room;
}

static bool write_parts(FILE *file, const struct baking *baking) {
    const struct baked_header *header = &baking->header;
    if (fwrite(header, sizeof *header, 1, file) != 1 ||
        fwrite(baking->graph, 1, header->graph_bytes, file) != header->graph_bytes ||
        !pad_to(file, header->sources_offset) ||
        fwrite(baking->sources->list, sizeof *baking->sources->list, header->source_count, file) !=
            header->source_count ||
        !pad_to(file, header->table_offset) ||
        fwrite(baking->entries, sizeof *baking->entries, header->entry_count, file) != header->entry_count)
        return false;

    for (uint64_t i = 0; i < header->entry_count; i++) {
        const struct packed_weights *packed = baking->numbered.written[i].packed;
        if (!pad_to(file, baking->entries[i].data_offset) ||
            fwrite(packed->bytes, 1, packed->size, file) != packed->size)
            return false;
    }
    return pad_to(file, header->file_bytes) && fflush(file) == 0;
}

/* The checksum needs the whole file: it is put into the header last, and the file is renamed after that. */
static bool seal(FILE *file, struct baked_header *header, const char *temporary, const char *path,
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
    struct baked_header *header = &baking->header;
    size_t graph_bytes = 0;
    if (!collect(baking->weights, &baking->numbered))
        return error_set(error, ERROR_MEMORY, "%s: not enough memory to bake", path);
    baking->graph = write_graph(graph, baking->weights, &baking->numbered, path, &graph_bytes, error);
    if (!baking->graph)
        return false;

    header->entry_count = (uint64_t)baking->numbered.written_count;
    header->graph_offset = sizeof *header;
    header->graph_bytes = graph_bytes;
    header->sources_offset = size_align(sizeof *header + graph_bytes, 64);
    header->source_count = (uint64_t)baking->sources->count;
    header->table_offset =
        size_align(header->sources_offset + header->source_count * sizeof(struct baked_source), 64);
    baking->entries = calloc(header->entry_count + 1, sizeof *baking->entries);
    if (!baking->entries)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory to bake", path);
    plan_entries(baking);
    return true;
}

bool baked_write(const char *path, const struct baked_sources *sources, enum precision precision,
                 const struct graph *graph, struct weights_store *weights, struct error *error) {
    struct baking baking = {.header = {.version = BAKED_VERSION,
                                       .precision = (uint32_t)precision,
                                       .processor = primitive_signature()},
                            .sources = sources,
                            .weights = weights};
    memcpy(baking.header.magic, BAKED_MAGIC, sizeof baking.header.magic);

    bool done = describe_parts(&baking, path, graph, error) && write_file(path, &baking, error);
    free(baking.numbered.data);
    free(baking.numbered.written);
    free(baking.entries);
    free(baking.graph);
    return done;
}

/* --- Reading --- */

static bool check_header(const char *path, const char *model_path, enum precision precision,
                         const struct file_map *map, struct baked_header *ret, struct error *error) {
    if (map->size < sizeof *ret)
        return error_set(error, ERROR_INVALID, "%s: too short for a baked model", path);

    memcpy(ret, map->bytes, sizeof *ret);
    if (memcmp(ret->magic, BAKED_MAGIC, sizeof ret->magic) != 0)
        return error_set(error, ERROR_INVALID, "%s: not a baked model", path);
    if (ret->version != BAKED_VERSION)
        return error_set(error, ERROR_INVALID, "%s: baked by another version of guichet", path);
    if (ret->processor != primitive_signature())
        return error_set(error, ERROR_INVALID, "%s: baked for another processor or version of oneDNN", path);
    if (ret->precision != (uint32_t)precision)
        return error_set(error, ERROR_INVALID, "%s: baked for another precision", path);

    if (ret->file_bytes != map->size || !range_fits(ret->graph_offset, ret->graph_bytes, map->size) ||
        ret->entry_count > LIMIT_BAKED_ENTRIES || ret->table_offset % 8 || ret->sources_offset % 8 ||
        ret->source_count > LIMIT_SOURCES ||
        !range_fits(ret->sources_offset, ret->source_count * sizeof(struct baked_source), map->size) ||
        !range_fits(ret->table_offset, ret->entry_count * sizeof(struct baked_entry), map->size) ||
        ret->checksum != baked_checksum(map->bytes + sizeof *ret, map->size - sizeof *ret))
        return error_set(error, ERROR_INVALID, "%s: damaged", path);

    const struct baked_source *sources =
        (const struct baked_source *)(const void *)(map->bytes + ret->sources_offset);
    return baked_sources_are(model_path, sources, ret->source_count, error) ||
           error_prefix(error, "%s", path);
}

/* The number in "guichet.weights.<n>.<id>", -1 for other names. */
static int64_t weights_number(const char *name) {
    size_t length = strlen(BAKED_INPUT_PREFIX);
    return strncmp(name, BAKED_INPUT_PREFIX, length) == 0 ? strtoll(name + length, NULL, 10) : -1;
}

static bool entry_fits(const struct baked_entry *entry, size_t size) {
    return memchr(entry->role, 0, sizeof entry->role) &&
           range_fits(entry->data_offset, entry->data_bytes, size) && entry->data_offset % BAKED_PAGE == 0;
}

/* Packed constants that were written as inputs become constants again; their data is the first packed form's.
 */
static bool restore_constants(struct graph *graph, const struct baked_entry *entries, uint64_t count,
                              const struct file_map *map) {
    int kept = 0;
    for (int i = 0; i < graph->input_count; i++) {
        struct value *value = graph->inputs[i];
        int64_t number = weights_number(value->name);
        if (number < 0) {
            graph->inputs[kept++] = value;
            continue;
        }
        const struct baked_entry *entry = NULL;
        for (uint64_t j = 0; j < count && !entry; j++)
            if (entries[j].constant == (uint64_t)number)
                entry = &entries[j];
        struct tensor *tensor = entry ? arena_allocate(graph->arena, sizeof *tensor) : NULL;
        if (!tensor || !shape_is_known(&value->shape) || shape_elements(&value->shape) < 0)
            return false;
        *tensor = (struct tensor){value->dtype, value->shape, (void *)(map->bytes + entry->data_offset)};
        if (!range_fits(entry->data_offset, tensor_bytes(tensor), map->size))
            return false;
        value->constant = tensor;
        value->is_input = false;
    }

    graph->input_count = kept;
    return true;
}

/* What the entries of a constant are known by: where its data lies, in the map or (int8) in the graph. */
static const struct tensor *constant_of(const struct graph *graph, uint64_t number) {
    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i]->constant && weights_number(graph->values[i]->name) == (int64_t)number)
            return graph->values[i]->constant;
    return NULL;
}

static bool adopt(struct baked *baked, const struct baked_entry *entries, uint64_t count,
                  struct error *error) {
    baked->weights = weights_store_create(baked->graph, error);
    for (uint64_t i = 0; baked->weights && i < count; i++) {
        const struct tensor *constant = constant_of(baked->graph, entries[i].constant);
        const struct weights_baked weights = {.data = constant ? constant->data : NULL,
                                              .role = entries[i].role,
                                              .data_bytes = constant ? tensor_bytes(constant) : 0,
                                              .layout = entries[i].layout,
                                              .from = entries[i].from,
                                              .bytes = baked->map.bytes + entries[i].data_offset,
                                              .size = entries[i].data_bytes};
        if (!constant || !weights_adopt(baked->weights, &weights, error))
            return false;
    }
    return baked->weights != NULL;
}

static bool keep_sources(const struct file_map *map, const struct baked_header *header,
                         struct baked_sources *ret) {
    size_t bytes = (size_t)header->source_count * sizeof *ret->list;

    ret->list = malloc(bytes + 1);
    if (!ret->list)
        return false;
    memcpy(ret->list, map->bytes + header->sources_offset, bytes);
    ret->count = (int)header->source_count;
    return true;
}

static bool read_parts(const char *path, const struct baked_header *header, struct baked *baked,
                       struct error *error) {
    const struct file_map *map = &baked->map;
    const struct baked_entry *entries =
        (const struct baked_entry *)(const void *)(map->bytes + header->table_offset);
    for (uint64_t i = 0; i < header->entry_count; i++)
        if (!entry_fits(&entries[i], map->size))
            return error_set(error, ERROR_INVALID, "%s: damaged", path);
    baked->graph =
        onnx_graph_read_memory(path, map->bytes + header->graph_offset, header->graph_bytes, error);
    if (!baked->graph)
        return false;
    if (!keep_sources(map, header, &baked->sources))
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for a list of files", path);
    if (!restore_constants(baked->graph, entries, header->entry_count, map) ||
        !operators_bind(baked->graph, error) || !adopt(baked, entries, header->entry_count, error))
        return error_set(error, ERROR_INVALID, "%s: damaged", path);
    return true;
}

bool baked_read(const char *path, const char *model_path, enum precision precision, struct baked *ret,
                struct error *error) {
    struct baked baked = {0};
    struct baked_header header;
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
