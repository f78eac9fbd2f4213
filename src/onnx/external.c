/* Tensors whose elements lie in files next to the model. Each file is mapped once, and only from the model's
 * own folder: paths are resolved by the system, so that neither ".." nor a symbolic link leads out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "onnx/reader.h"

bool reader_hold_map(struct onnx_reader *reader, struct file_map *map, const char *name) {
    struct graph *graph = reader->graph;
    int count = graph->map_count;
    if ((count & (count - 1)) == 0) { /* full at every power of two */
        struct file_map *maps =
            arena_allocate_array(graph->arena, count ? (size_t)count * 2 : 1, sizeof *maps);
        const char **names = arena_allocate_array(graph->arena, count ? (size_t)count * 2 : 1, sizeof *names);
        if (!maps || !names) {
            file_map_close(map);
            return error_set(reader->error, ERROR_MEMORY, "not enough memory for a list of maps");
        }
        if (count) {
            memcpy(maps, graph->maps, (size_t)count * sizeof *maps);
            memcpy(names, graph->map_names, (size_t)count * sizeof *names);
        }
        graph->maps = maps;
        graph->map_names = names;
    }

    const char *kept = name ? arena_copy_string(graph->arena, name, strlen(name)) : NULL;
    if (name && !kept) {
        file_map_close(map);
        return error_set(reader->error, ERROR_MEMORY, "not enough memory for a list of maps");
    }
    graph->map_names[graph->map_count] = kept;
    graph->maps[graph->map_count++] = *map;
    reader->mapped += map->size;

    return true;
}

static bool find_folder(struct onnx_reader *reader) {
    const char *slash = strrchr(reader->path, '/');
    cleanup(freep) char *folder =
        slash ? strndup(reader->path, (size_t)(slash - reader->path) + 1) : strdup(".");
    reader->folder = folder ? realpath(folder, NULL) : NULL;

    return reader->folder || error_set_errno(reader->error, ERROR_IO, errno, "its folder cannot be resolved");
}

/* The real path of `location`, inside the model's folder. malloc'ed; NULL and an error. */
static char *resolve_inside(struct onnx_reader *reader, const char *location) {
    if (!reader->folder && !find_folder(reader))
        return NULL;
    cleanup(freep) char *joined = NULL;
    size_t folder = strlen(reader->folder), room = folder + strlen(location) + 2;
    bool absolute = location[0] == '/' || !location[0];

    joined = malloc(room);
    if (!joined) {
        error_set(reader->error, ERROR_MEMORY, "not enough memory for a path");
        return NULL;
    }

    memcpy(joined, reader->folder, folder);
    joined[folder] = '/';
    strcpy(joined + folder + 1, location);

    cleanup(freep) char *real = absolute ? NULL : realpath(joined, NULL);
    if (!absolute && !real) {
        error_set_errno(reader->error, ERROR_NOT_FOUND, errno, "external data file '%s'", location);
        return NULL;
    }

    size_t prefix = folder == 1 ? 0 : folder; /* the root folder ends in a slash */
    if (absolute || strncmp(real, reader->folder, prefix) != 0 || real[prefix] != '/') {
        error_set(reader->error, ERROR_MODEL, "external data '%s' lies outside the model's folder", location);
        return NULL;
    }

    return steal_pointer(&real);
}

static const struct file_map *map_file(struct onnx_reader *reader, const char *location) {
    for (int i = 0; i < reader->file_count; i++)
        if (strcmp(reader->files[i].location, location) == 0)
            return &reader->files[i].map;

    cleanup(freep) char *path = resolve_inside(reader, location);
    struct file_map map;
    if (!path || !file_map_open(path, LIMIT_MODEL_BYTES - reader->mapped, &map, reader->error) ||
        !reader_hold_map(reader, &map, location))
        return NULL;

    struct external_file *files = reallocarray(reader->files, (size_t)reader->file_count + 1, sizeof *files);
    if (files)
        reader->files = files;

    char *copy = files ? strdup(location) : NULL;
    if (!copy) {
        error_set(reader->error, ERROR_MEMORY, "not enough memory for a list of files");
        return NULL;
    }

    files[reader->file_count] = (struct external_file){copy, map};

    return &files[reader->file_count++].map;
}

bool reader_find_external(struct onnx_reader *reader, const struct tensor_proto *tensor,
                          const uint8_t **ret) {
    if (!reader->path)
        return error_set(reader->error, ERROR_MODEL,
                         "its data is in another file, which a model in memory cannot have");
    const struct protobuf *location = &tensor->location;
    if (location->at == location->end || !protobuf_is_name(location))
        return error_set(reader->error, ERROR_MODEL, "external data without a file name");

    char name[LIMIT_NAME_BYTES + 1];
    size_t size = (size_t)(location->end - location->at);
    memcpy(name, location->at, size);
    name[size] = 0;

    const struct file_map *map = map_file(reader, name);
    if (!map)
        return false;
    if (tensor->external_length != UINT64_MAX && tensor->external_length != tensor->bytes)
        return error_set(reader->error, ERROR_MODEL, "external data has %llu bytes, but its shape needs %zu",
                         (unsigned long long)tensor->external_length, tensor->bytes);
    if (!range_fits(tensor->external_offset, tensor->bytes, map->size))
        return error_set(reader->error, ERROR_MODEL, "external data extends past the end of '%s' (%zu bytes)",
                         name, map->size);

    *ret = map->bytes + tensor->external_offset;

    return true;
}
