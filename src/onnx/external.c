/* Tensors whose elements lie in files next to the model. Each file is mapped once, and only from the model's
 * own folder: paths are resolved by the system, so that neither ".." nor a symbolic link leads out. Where the
 * model's file is a link itself, its data may lie beside what it links to: Hugging Face's cache keeps every
 * file so. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "onnx/reader.h"

bool external_hold_map(struct external_files *external, struct file_map *map, const char *name) {
    struct graph *graph = external->graph;
    int count = graph->map_count;
    if ((count & (count - 1)) == 0) { /* full at every power of two */
        struct file_map *maps =
            arena_allocate_array(graph->arena, count ? (size_t)count * 2 : 1, sizeof *maps);
        const char **names = arena_allocate_array(graph->arena, count ? (size_t)count * 2 : 1, sizeof *names);
        if (!maps || !names) {
            file_map_close(map);
            return error_set(external->error, ERROR_MEMORY, "not enough memory for a list of maps");
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
        return error_set(external->error, ERROR_MEMORY, "not enough memory for a list of maps");
    }
    graph->map_names[graph->map_count] = kept;
    graph->maps[graph->map_count++] = *map;
    external->mapped += map->size;

    return true;
}

static bool find_folder(struct external_files *external) {
    const char *slash = strrchr(external->path, '/');
    cleanup(freep) char *folder =
        slash ? strndup(external->path, (size_t)(slash - external->path) + 1) : strdup(".");
    external->folder = folder ? realpath(folder, NULL) : NULL;
    external->real = realpath(external->path, NULL);

    return (external->folder && external->real) ||
           error_set_errno(external->error, ERROR_IO, errno, "its folder cannot be resolved");
}

/* `real` lies in the model's folder, or right beside what the model's file is a link to. */
static bool is_inside(const struct external_files *external, const char *real) {
    size_t folder = strlen(external->folder), prefix = folder == 1 ? 0 : folder; /* "/" ends in a slash */
    if (strncmp(real, external->folder, prefix) == 0 && real[prefix] == '/')
        return true;

    size_t beside = (size_t)(strrchr(external->real, '/') - external->real) + 1;
    return strncmp(real, external->real, beside) == 0 && !strchr(real + beside, '/');
}

/* The real path of `location`, inside the model's folder. malloc'ed; NULL and an error. */
static char *resolve_inside(struct external_files *external, const char *location) {
    if (!external->folder && !find_folder(external))
        return NULL;
    cleanup(freep) char *joined = NULL;
    size_t folder = strlen(external->folder), room = folder + strlen(location) + 2;
    bool absolute = location[0] == '/' || !location[0];

    joined = malloc(room);
    if (!joined) {
        error_set(external->error, ERROR_MEMORY, "not enough memory for a path");
        return NULL;
    }

    memcpy(joined, external->folder, folder);
    joined[folder] = '/';
    strcpy(joined + folder + 1, location);

    cleanup(freep) char *real = absolute ? NULL : realpath(joined, NULL);
    if (!absolute && !real) {
        error_set_errno(external->error, ERROR_NOT_FOUND, errno, "external data file '%s'", location);
        return NULL;
    }

    if (absolute || !is_inside(external, real)) {
        error_set(external->error, ERROR_MODEL, "external data '%s' lies outside the model's folder",
                  location);
        return NULL;
    }

    return steal_pointer(&real);
}

static const struct file_map *map_file(struct external_files *external, const char *location) {
    for (int i = 0; i < external->file_count; i++)
        if (strcmp(external->files[i].location, location) == 0)
            return &external->files[i].map;

    cleanup(freep) char *path = resolve_inside(external, location);
    struct file_map map;
    if (!path || !file_map_open(path, LIMIT_MODEL_BYTES - external->mapped, &map, external->error) ||
        !external_hold_map(external, &map, location))
        return NULL;

    struct external_file *files =
        reallocarray(external->files, (size_t)external->file_count + 1, sizeof *files);
    if (files)
        external->files = files;

    char *copy = files ? strdup(location) : NULL;
    if (!copy) {
        error_set(external->error, ERROR_MEMORY, "not enough memory for a list of files");
        return NULL;
    }

    files[external->file_count] = (struct external_file){copy, map};

    return &files[external->file_count++].map;
}

bool external_find(struct external_files *external, const struct tensor_proto *tensor, const uint8_t **ret) {
    if (!external->path)
        return error_set(external->error, ERROR_MODEL,
                         "its data is in another file, which a model in memory cannot have");
    const struct protobuf *location = &tensor->location;
    if (location->at == location->end || !protobuf_is_name(location))
        return error_set(external->error, ERROR_MODEL, "external data without a file name");

    char name[LIMIT_NAME_BYTES + 1];
    size_t size = (size_t)(location->end - location->at);
    memcpy(name, location->at, size);
    name[size] = 0;

    const struct file_map *map = map_file(external, name);
    if (!map)
        return false;
    if (tensor->external_length != UINT64_MAX && tensor->external_length != tensor_proto_stored(tensor))
        return error_set(external->error, ERROR_MODEL,
                         "external data has %llu bytes, but its shape needs %zu",
                         (unsigned long long)tensor->external_length, tensor_proto_stored(tensor));
    if (!range_fits(tensor->external_offset, tensor_proto_stored(tensor), map->size))
        return error_set(external->error, ERROR_MODEL,
                         "external data extends past the end of '%s' (%zu bytes)", name, map->size);

    *ret = map->bytes + tensor->external_offset;

    return true;
}

void external_release(struct external_files *external) {
    free(external->folder);
    free(external->real);
    for (int i = 0; i < external->file_count; i++)
        free(external->files[i].location);
    free(external->files);
}
