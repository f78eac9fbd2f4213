#include "data/photo_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "data/loader.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the photos");
}

void photo_set_release(struct photo_set *set) {
    for (int i = 0; i < set->count; i++)
        free(set->photos[i].name);
    for (int i = 0; i < set->skipped_count; i++)
        free(set->skipped[i]);

    free(set->photos);
    free(set->skipped);
    free(set->tensors);
    *set = (struct photo_set){0};
}

/* ---- The key ---- */

static uint64_t file_key(uint64_t key, const struct photo_list *list, size_t index) {
    const char *name = list->files[index].name;
    cleanup(freep) char *path = photo_list_path(list, index);
    struct stat status = {0};
    if (path)
        (void)stat(path, &status);

    const int64_t facts[] = {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    return hash_bytes(hash_bytes(key, name, strlen(name)), facts, sizeof facts);
}

static uint64_t preprocessing_key(const struct preprocessing *config) {
    const double facts[] = {config->do_resize,
                            config->resize_short,
                            config->resize_width,
                            config->resize_height,
                            config->filter,
                            config->do_center_crop,
                            config->crop_width,
                            config->crop_height,
                            config->do_rescale,
                            config->rescale_factor,
                            config->rescale_offset,
                            config->do_normalize,
                            config->mean[0],
                            config->mean[1],
                            config->mean[2],
                            config->standard_deviation[0],
                            config->standard_deviation[1],
                            config->standard_deviation[2],
                            config->divide_again,
                            config->flip_channels};
    return hash_bytes(HASH_START, facts, sizeof facts);
}

static uint64_t list_key(const struct photo_list *list, const struct photo_input *input) {
    uint64_t key = preprocessing_key(&input->preprocessing);
    for (size_t i = 0; i < list->count; i++)
        key = file_key(key, list, i);
    return key;
}

/* ---- Loading ---- */

/* The size of the tensors: what every photo becomes, or the first decodable photo where each has a size of
 * its own. */
static bool find_size(const struct photo_list *list, const struct photo_input *input, int *ret_width,
                      int *ret_height, struct error *error) {
    if (photo_input_size(input, ret_width, ret_height))
        return true;

    struct photo_loader *loader = photo_loader_create(list, input, 1, error);
    struct loaded_photo photo;
    char first[sizeof error->message] = "";
    bool found = false;
    if (!loader)
        return false;

    while (!found && photo_loader_take(loader, &photo)) {
        found = photo.prepared.tensor != NULL;
        *ret_width = photo.prepared.width;
        *ret_height = photo.prepared.height;
        free(photo.prepared.tensor);
        if (!found && !*first)
            snprintf(first, sizeof first, "%s", photo.error.message);
    }

    photo_loader_free(loader);
    return found || error_set(error, ERROR_INVALID, "%s: no photo in it can be used; the first: %s",
                              list->folder, first);
}

static bool allocate(struct photo_set *set, size_t count, struct error *error) {
    size_t bytes;
    set->photos = calloc(count + 1, sizeof *set->photos);
    set->skipped = calloc(count + 1, sizeof *set->skipped);
    if (size_multiply(count, (size_t)set->elements * sizeof(float), &bytes))
        set->tensors = aligned_alloc(64, size_align(bytes, 64));
    return (set->photos && set->skipped && set->tensors) || no_memory(error);
}

/* "FOLDER/NAME: why", with NAME alone. */
static bool skip(struct photo_set *set, const char *folder, const char *reason, struct error *error) {
    size_t prefix = strlen(folder);
    if (strncmp(reason, folder, prefix) == 0 && reason[prefix] == '/')
        reason += prefix + 1;

    char *line = strdup(reason);
    if (!line)
        return no_memory(error);
    set->skipped[set->skipped_count++] = line;
    return true;
}

/* Keep a photo, or say why not; its tensor is freed. */
static bool add(struct photo_set *set, struct photo_list *list, struct loaded_photo *photo,
                struct error *error) {
    struct photo_file *file = &list->files[photo->index];
    const struct prepared_photo *prepared = &photo->prepared;
    bool fits = prepared->width == set->width && prepared->height == set->height, done = true;
    if (prepared->tensor && !fits)
        error_set(&photo->error, ERROR_INVALID, "%s/%s: its tensor differs in size from the others",
                  list->folder, file->name);

    if (prepared->tensor && fits) {
        memcpy(set->tensors + set->count * set->elements, prepared->tensor, prepared->bytes);
        set->photos[set->count++] = *file;
        file->name = NULL;
    } else {
        done = skip(set, list->folder, photo->error.message, error);
    }

    free(prepared->tensor);
    return done;
}

/* Every photo of the list, whose files' names move to the set. */
static bool load_all(const struct photo_request *request, struct photo_list *list, struct photo_set *set,
                     struct error *error) {
    struct photo_loader *loader = photo_loader_create(list, &set->input, request->threads, error);
    struct loaded_photo photo;
    bool done = loader != NULL;

    while (done && photo_loader_take(loader, &photo)) {
        done = add(set, list, &photo, error);
        if (done && request->report &&
            !request->report(request->context, "reading photos", photo.index + 1, list->count))
            done = error_set(error, ERROR_UNAVAILABLE, "interrupted");
    }

    photo_loader_free(loader);
    return done;
}

static bool load(const struct photo_request *request, struct photo_list *list, struct photo_set *set,
                 struct error *error) {
    set->found = (int)list->count;
    photo_list_thin(list, (size_t)request->limit);
    if (!find_size(list, &set->input, &set->width, &set->height, error))
        return false;

    size_t bytes = photo_input_bytes(&set->input, set->width, set->height);
    if (!bytes)
        return no_memory(error);

    set->elements = (int64_t)(bytes / sizeof(float));
    photo_list_thin(list, bytes < PHOTO_SET_BYTES ? PHOTO_SET_BYTES / bytes : 1);
    set->key = list_key(list, &set->input);
    if (!allocate(set, list->count, error) || !load_all(request, list, set, error))
        return false;

    return set->count || error_set(error, ERROR_INVALID, "%s: no photo in it can be decoded; the first: %s",
                                   list->folder, set->skipped[0]);
}

bool photo_set_load(const struct photo_request *request, const struct model *model, struct photo_set *ret,
                    struct error *error) {
    struct photo_set set = {.input = *model_input(model)};
    struct photo_list list;

    if (set.input.dtype != DTYPE_F32)
        return error_set(error, ERROR_MODEL, "%s: its input is %s, but only float32 inputs can be used here",
                         model_path(model), dtype_name(set.input.dtype));
    if (!photo_list_read(&request->source, model, &list, error))
        return false;

    bool done = load(request, &list, &set, error);
    photo_list_release(&list);
    if (!done) {
        photo_set_release(&set);
        return false;
    }

    *ret = set;
    return true;
}
