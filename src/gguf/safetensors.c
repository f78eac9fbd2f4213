#include "gguf/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"

struct safetensors {
    struct file_map *maps; /* [map_count] */
    size_t map_count;
    json_t **headers; /* [header_count]; they have the names */
    size_t header_count;
    struct safetensor *all; /* [count], sorted by name */
    size_t count;
};

static bool out_of_memory(const char *name, struct error *error) {
    return error_set(error, ERROR_MEMORY, "%s: not enough memory for the list of its contents", name);
}

/* --- One tensor ----------------------------------------------------------------------------------------- */

static bool read_type(const char *text, enum block_type *ret) {
    static const struct {
        const char *name;
        enum block_type type;
    } types[] = {{"F32", BLOCK_F32}, {"F16", BLOCK_F16}, {"BF16", BLOCK_BF16}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(text, types[i].name) == 0) {
            *ret = types[i].type;
            return true;
        }
    return false;
}

static bool read_count(const json_t *value, uint64_t *ret) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

static bool damaged(const char *file, const char *name, struct error *error) {
    return error_set(error, ERROR_MODEL, "%s: the description of tensor '%.80s' is damaged", file, name);
}

/* data: what follows the header, [size] */
static bool read_tensor(const char *file, const char *name, const json_t *entry, const uint8_t *data,
                        size_t size, struct safetensor *ret, struct error *error) {
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    struct safetensor tensor = {.name = name, .dims = {1, 1, 1, 1}};
    uint64_t from, to;

    if (!type || !json_is_array(shape) || json_array_size(offsets) != 2)
        return damaged(file, name, error);
    if (!read_type(type, &tensor.type))
        return error_set(error, ERROR_MODEL,
                         "%s: tensor '%.80s' has the type %.20s, and F32, F16 and BF16 are supported", file,
                         name, type);
    if (json_array_size(shape) > 4 || !read_count(json_array_get(offsets, 0), &from) ||
        !read_count(json_array_get(offsets, 1), &to) || to < from || !range_fits(from, to - from, size))
        return damaged(file, name, error);

    tensor.rank = (int)json_array_size(shape);
    tensor.size = block_bytes(tensor.type);
    for (int i = 0; i < tensor.rank; i++)
        if (!read_count(json_array_get(shape, (size_t)i), &tensor.dims[i]) || !tensor.dims[i] ||
            !size_multiply(tensor.size, tensor.dims[i], &tensor.size))
            return damaged(file, name, error);
    if (tensor.size != to - from)
        return damaged(file, name, error);
    tensor.bytes = data + from;
    *ret = tensor;
    return true;
}

/* --- Files ---------------------------------------------------------------------------------------------- */

static bool add_header(struct safetensors *tensors, json_t *header) {
    json_t **headers = realloc(tensors->headers, (tensors->header_count + 1) * sizeof *headers);
    if (!headers)
        return false;
    tensors->headers = headers;
    headers[tensors->header_count++] = header;
    return true;
}

static bool add_tensors(struct safetensors *tensors, const char *file, json_t *header, const uint8_t *data,
                        size_t size, struct error *error) {
    const char *name;
    json_t *entry;
    struct safetensor *all =
        realloc(tensors->all, (tensors->count + json_object_size(header) + 1) * sizeof *all);
    if (!all)
        return out_of_memory(file, error);
    tensors->all = all;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (!read_tensor(file, name, entry, data, size, &all[tensors->count], error))
            return false;
        tensors->count++;
    }
    return true;
}

static bool read_file(struct safetensors *tensors, const char *name, const uint8_t *bytes, size_t size,
                      struct error *error) {
    uint64_t length;
    if (size < sizeof length)
        return error_set(error, ERROR_MODEL, "%s is not a safetensors file", name);
    memcpy(&length, bytes, sizeof length);
    if (length > LIMIT_SAFETENSORS_HEADER_BYTES || length > size - sizeof length)
        return error_set(error, ERROR_MODEL, "%s is not a safetensors file, or ends within its header", name);

    struct memory_charge charge = {0};
    json_t *header = json_parse((const char *)bytes + sizeof length, (size_t)length, NULL, &charge, error);
    if (!header)
        return error_prefix(error, "%s", name);
    memory_charge_release(&charge);
    if (!json_is_object(header) || !add_header(tensors, header)) {
        bool is_object = json_is_object(header);
        json_decref(header);
        return is_object ? out_of_memory(name, error)
                         : error_set(error, ERROR_MODEL, "%s is not a safetensors file", name);
    }
    return add_tensors(tensors, name, header, bytes + sizeof length + length,
                       size - sizeof length - (size_t)length, error);
}

static bool open_file(struct safetensors *tensors, const char *folder, const char *name,
                      struct error *error) {
    cleanup(freep) char *path = NULL;
    struct file_map *maps = realloc(tensors->maps, (tensors->map_count + 1) * sizeof *maps), map;
    if (maps)
        tensors->maps = maps;
    if (!maps || asprintf(&path, "%s/%s", folder, name) < 0) {
        path = NULL;
        return out_of_memory(name, error);
    }
    if (!file_map_open(path, LIMIT_GGUF_BYTES, &map, error))
        return false;
    maps[tensors->map_count++] = map;
    return read_file(tensors, path, map.bytes, map.size, error);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct safetensor *)a)->name, ((const struct safetensor *)b)->name);
}

static int by_place(const void *a, const void *b) {
    const uint8_t *first = ((const struct safetensor *)a)->bytes,
                  *second = ((const struct safetensor *)b)->bytes;
    return (first > second) - (first < second);
}

/* Sort them by name. No bytes belong to two tensors, and no name. */
static bool settle(struct safetensors *tensors, const char *name, struct error *error) {
    if (tensors->count)
        qsort(tensors->all, tensors->count, sizeof *tensors->all, by_place);
    for (size_t i = 1; i < tensors->count; i++)
        if (tensors->all[i - 1].bytes + tensors->all[i - 1].size > tensors->all[i].bytes)
            return error_set(error, ERROR_MODEL, "%s: the tensors '%.80s' and '%.80s' overlap", name,
                             tensors->all[i - 1].name, tensors->all[i].name);

    if (tensors->count)
        qsort(tensors->all, tensors->count, sizeof *tensors->all, by_name);
    for (size_t i = 1; i < tensors->count; i++)
        if (by_name(&tensors->all[i - 1], &tensors->all[i]) == 0)
            return error_set(error, ERROR_MODEL, "%s: the tensor '%.80s' comes twice", name,
                             tensors->all[i].name);
    return true;
}

/* Each file that the index names once; none may lie elsewhere. */
static bool open_indexed(struct safetensors *tensors, const char *folder, const json_t *index,
                         struct error *error) {
    const char *tensor;
    json_t *file;
    json_t *files = json_object();
    bool done = files;
    json_object_foreach(json_object_get(index, "weight_map"), tensor, file) {
        const char *name = json_string_value(file);
        if (!name || !*name || name[0] == '.' || strchr(name, '/') ||
            json_object_size(files) > LIMIT_GGUF_PARTS) {
            json_decref(files);
            return error_set(error, ERROR_MODEL,
                             "%s/model.safetensors.index.json names '%.80s', which is no file of "
                             "the folder",
                             folder, name ? name : "");
        }
        if (!json_object_get(files, name) && json_object_set_new(files, name, json_true()) < 0)
            done = out_of_memory(folder, error);
    }
    if (done && json_object_size(files) == 0)
        done = error_set(error, ERROR_MODEL, "%s/model.safetensors.index.json names no files", folder);
    json_object_foreach(files, tensor, file) {
        done = done && open_file(tensors, folder, tensor, error);
    }
    json_decref(files);
    done = done && settle(tensors, folder, error);
    json_object_foreach(json_object_get(index, "weight_map"), tensor, file) {
        if (done && !safetensors_find(tensors, tensor))
            done = error_set(error, ERROR_MODEL, "%s/%s lacks the tensor '%.80s', which the index has in it",
                             folder, json_string_value(file), tensor);
    }
    return done;
}

static bool open_folder(struct safetensors *tensors, const char *folder, struct error *error) {
    cleanup(freep) char *path = NULL;
    size_t size;
    if (asprintf(&path, "%s/model.safetensors.index.json", folder) < 0) {
        path = NULL;
        return out_of_memory(folder, error);
    }
    cleanup(freep) char *text = file_read(path, LIMIT_SAFETENSORS_HEADER_BYTES, &size, error);
    if (!text && error->code != ERROR_NOT_FOUND)
        return false;
    if (!text)
        return open_file(tensors, folder, "model.safetensors", error);

    json_t *index = json_parse_python(text, size, error);
    if (!index)
        return error_prefix(error, "%s", path);
    bool done = open_indexed(tensors, folder, index, error);
    json_decref(index);
    return done;
}

static struct safetensors *finish(struct safetensors *tensors, bool done, const char *name,
                                  struct error *error) {
    if (done && settle(tensors, name, error))
        return tensors;
    safetensors_free(tensors);
    return NULL;
}

struct safetensors *safetensors_open(const char *folder, struct error *error) {
    struct safetensors *tensors = calloc(1, sizeof *tensors);
    if (!tensors)
        out_of_memory(folder, error);
    return tensors ? finish(tensors, open_folder(tensors, folder, error), folder, error) : NULL;
}

struct safetensors *safetensors_open_memory(const char *name, const uint8_t *bytes, size_t size,
                                            struct error *error) {
    struct safetensors *tensors = calloc(1, sizeof *tensors);
    if (!tensors)
        out_of_memory(name, error);
    return tensors ? finish(tensors, read_file(tensors, name, bytes, size, error), name, error) : NULL;
}

void safetensors_free(struct safetensors *tensors) {
    if (!tensors)
        return;
    for (size_t i = 0; i < tensors->map_count; i++)
        file_map_close(&tensors->maps[i]);
    for (size_t i = 0; i < tensors->header_count; i++)
        json_decref(tensors->headers[i]);
    free(tensors->maps);
    free(tensors->headers);
    free(tensors->all);
    free(tensors);
}

size_t safetensors_count(const struct safetensors *tensors) {
    return tensors->count;
}

const struct safetensor *safetensors_get(const struct safetensors *tensors, size_t index) {
    return &tensors->all[index];
}

const struct safetensor *safetensors_find(const struct safetensors *tensors, const char *name) {
    const struct safetensor wanted = {.name = name};
    return tensors->count ? bsearch(&wanted, tensors->all, tensors->count, sizeof wanted, by_name) : NULL;
}
