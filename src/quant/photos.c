#include "quant/photos.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "quant/hash.h"

#define FOLDER_LIMIT 2000000 /* names in a folder of photos */

struct listing {
    struct photo *photos;
    size_t count, capacity;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "no memory for the photos");
}

static bool is_image_name(const char *name) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && dot != name && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return true;
    return false;
}

static bool listing_add(struct listing *listing, const char *group, const char *name) {
    if (listing->count >= FOLDER_LIMIT)
        return false;
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity ? listing->capacity * 2 : 256;
        struct photo *photos = reallocarray(listing->photos, capacity, sizeof *photos);
        if (!photos)
            return false;
        listing->photos = photos;
        listing->capacity = capacity;
    }
    struct photo photo = {.class = -1};
    if (group ? asprintf(&photo.name, "%s/%s", group, name) < 0 : !(photo.name = strdup(name)))
        return false;
    if (group && !(photo.group = strdup(group))) {
        free(photo.name);
        return false;
    }
    listing->photos[listing->count++] = photo;
    return true;
}

static bool listing_read(struct listing *listing, const char *folder, const char *group, struct error *error);

/* One name of the folder: an image, or a folder of images one level down. */
static bool listing_visit(struct listing *listing, const char *folder, const char *group, const char *name,
                          struct error *error) {
    cleanup(freep) char *path = NULL;
    struct stat status;
    if (asprintf(&path, "%s/%s%s%s", folder, group ? group : "", group ? "/" : "", name) < 0) {
        path = NULL;
        return no_memory(error);
    }
    if (stat(path, &status) < 0)
        return true; /* gone in the meantime */
    if (S_ISDIR(status.st_mode))
        return group || listing_read(listing, folder, name, error);
    if (S_ISREG(status.st_mode) && is_image_name(name) && !listing_add(listing, group, name))
        return no_memory(error);
    return true;
}

static bool listing_read(struct listing *listing, const char *folder, const char *group,
                         struct error *error) {
    cleanup(freep) char *path = NULL;
    if (asprintf(&path, "%s%s%s", folder, group ? "/" : "", group ? group : "") < 0) {
        path = NULL;
        return no_memory(error);
    }
    DIR *directory = opendir(path);
    if (!directory)
        return error_set_errno(error, errno == ENOENT || errno == ENOTDIR ? ERROR_NOT_FOUND : ERROR_IO, errno,
                               "%s", path);
    bool done = true;
    for (struct dirent *entry; done && (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            done = listing_visit(listing, folder, group, entry->d_name, error);
    closedir(directory);
    return done;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct photo *)a)->name, ((const struct photo *)b)->name);
}

static void photo_release(struct photo *photo) {
    free(photo->name);
    free(photo->group);
}

/* Keep `limit` of the photos, evenly spread, so that every class keeps its share. */
static void listing_thin(struct listing *listing, size_t limit) {
    size_t kept = 0, count = listing->count;
    if (!limit || count <= limit)
        return;
    for (size_t i = 0; i < count; i++) {
        if (i == kept * count / limit && kept < limit)
            listing->photos[kept++] = listing->photos[i];
        else
            photo_release(&listing->photos[i]);
    }
    listing->count = kept;
}

static uint64_t photo_key(uint64_t key, const char *folder, const struct photo *photo) {
    cleanup(freep) char *path = NULL;
    struct stat status = {0};
    if (asprintf(&path, "%s/%s", folder, photo->name) < 0)
        path = NULL;
    if (path)
        (void)stat(path, &status);
    int64_t facts[] = {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    return hash_bytes(hash_bytes(key, photo->name, strlen(photo->name)), facts, sizeof facts);
}

static uint64_t recipe_key(const struct image_recipe *r) {
    double facts[] = {r->do_resize,
                      r->resize_short,
                      r->resize_width,
                      r->resize_height,
                      r->filter,
                      r->do_center_crop,
                      r->crop_width,
                      r->crop_height,
                      r->do_rescale,
                      r->rescale_factor,
                      r->rescale_offset,
                      r->do_normalize,
                      r->mean[0],
                      r->mean[1],
                      r->mean[2],
                      r->standard_deviation[0],
                      r->standard_deviation[1],
                      r->standard_deviation[2],
                      r->divide_again,
                      r->flip_channels};
    return hash_bytes(HASH_START, facts, sizeof facts);
}

/* The photo's pixels; NULL-safe to release on failure. */
static bool photo_decode(const struct photo_request *request, const struct photo *photo, struct image *ret,
                         struct error *error) {
    cleanup(freep) char *path = NULL;
    size_t size = 0;
    if (asprintf(&path, "%s/%s", request->folder, photo->name) < 0) {
        path = NULL;
        return no_memory(error);
    }
    cleanup(freep) char *bytes = file_read(path, LIMIT_IMAGE_BYTES, &size, error);
    return bytes && image_decode((const uint8_t *)bytes, size, ret, error);
}

static bool photo_prepare(const struct photo_request *request, const struct photo_set *set,
                          const struct photo *photo, float *tensor, struct error *error) {
    struct image image = {0};
    int width, height;
    if (!photo_decode(request, photo, &image, error))
        return false;
    bool done = image_recipe_size(request->recipe, image.width, image.height, &width, &height) &&
                width == set->width && height == set->height;
    if (!done)
        error_set(error, ERROR_INVALID, "the recipe makes it another size than the others");
    cleanup(freep) float *planes = NULL;
    if (done && request->channels_last && !(planes = malloc((size_t)set->elements * sizeof *planes)))
        done = no_memory(error);
    done = done && image_preprocess(&image, request->recipe, planes ? planes : tensor, error);
    int64_t pixels = set->elements / 3;
    for (int64_t i = 0; done && planes && i < pixels; i++)
        for (int64_t c = 0; c < 3; c++)
            tensor[i * 3 + c] = planes[c * pixels + i];
    image_release(&image);
    return done;
}

/* Height and width of the tensors: the recipe's, or the first decodable photo's where the recipe keeps a
 * photo's shape. */
static bool set_measure(const struct photo_request *request, const struct listing *listing,
                        struct photo_set *set, struct error *error) {
    const struct image_recipe *recipe = request->recipe;
    bool fixed = recipe->do_center_crop || (recipe->do_resize && recipe->resize_short <= 0), known = false;
    if (fixed)
        known = image_recipe_size(recipe, 1, 1, &set->width, &set->height);
    for (size_t i = 0; !known && !fixed && i < listing->count; i++) {
        struct image image = {0};
        if (photo_decode(request, &listing->photos[i], &image, error)) {
            known = image_recipe_size(recipe, image.width, image.height, &set->width, &set->height);
            image_release(&image);
        }
    }
    if (!known)
        return error_set(error, ERROR_INVALID, "%s: none of the %zu images in it can be used (the first: %s)",
                         request->folder, listing->count, error->code ? error->message : "its size");
    set->elements = (int64_t)set->width * set->height * 3;
    return true;
}

struct outcome {
    bool done;
    char *reason;
};

/* Decode all, several at once. False: stopped. */
static bool set_decode(const struct photo_request *request, struct photo_set *set,
                       const struct listing *listing, struct outcome *outcomes) {
    atomic_size_t count = 0;
    atomic_bool stop = false;
    size_t total = listing->count;
#pragma omp parallel for schedule(dynamic) num_threads(request->threads > 0 ? request->threads : 1)
    for (size_t i = 0; i < total; i++) {
        struct error error = {0};
        if (atomic_load(&stop))
            continue;
        outcomes[i].done = photo_prepare(request, set, &listing->photos[i],
                                         set->tensors + (int64_t)i * set->elements, &error);
        if (!outcomes[i].done)
            outcomes[i].reason = strdup(error.message);
        size_t done = atomic_fetch_add(&count, 1) + 1;
#pragma omp critical(photos_progress)
        if (request->progress && !request->progress(request->context, "reading photos", done, total))
            atomic_store(&stop, true);
    }
    return !atomic_load(&stop);
}

/* Close the gaps that undecodable photos left. */
static bool set_compact(struct photo_set *set, struct listing *listing, struct outcome *outcomes,
                        struct error *error) {
    set->skipped = calloc(listing->count + 1, sizeof *set->skipped);
    if (!set->skipped)
        return no_memory(error);
    for (size_t i = 0; i < listing->count; i++) {
        struct photo *photo = &listing->photos[i];
        if (outcomes[i].done) {
            if ((size_t)set->count != i)
                memmove(set->tensors + set->count * set->elements, set->tensors + (int64_t)i * set->elements,
                        (size_t)set->elements * sizeof *set->tensors);
            set->photos[set->count++] = *photo;
            *photo = (struct photo){0};
            continue;
        }
        char *line = NULL;
        if (asprintf(&line, "%s: %s", photo->name, outcomes[i].reason ? outcomes[i].reason : "unreadable") <
            0)
            return no_memory(error);
        set->skipped[set->skipped_count++] = line;
    }
    return true;
}

static bool set_fill(const struct photo_request *request, struct listing *listing, struct photo_set *set,
                     struct error *error) {
    size_t bytes;
    struct outcome *outcomes = calloc(listing->count + 1, sizeof *outcomes);
    set->photos = calloc(listing->count + 1, sizeof *set->photos);
    if (size_multiply(listing->count, (size_t)set->elements * sizeof(float), &bytes))
        set->tensors = aligned_alloc(64, size_align(bytes, 64));
    bool done = outcomes && set->photos && set->tensors;
    if (!done)
        no_memory(error);
    else if (!set_decode(request, set, listing, outcomes))
        done = error_set(error, ERROR_UNAVAILABLE, "interrupted");
    else
        done = set_compact(set, listing, outcomes, error);
    if (done && !set->count)
        done = error_set(error, ERROR_INVALID, "%s: none of the %d images in it decodes (%s)",
                         request->folder, set->found, set->skipped[0]);
    for (size_t i = 0; outcomes && i < listing->count; i++)
        free(outcomes[i].reason);
    free(outcomes);
    return done;
}

static bool set_load(const struct photo_request *request, struct listing *listing, struct photo_set *set,
                     struct error *error) {
    if (!listing_read(listing, request->folder, NULL, error))
        return false;
    if (!listing->count)
        return error_set(error, ERROR_NOT_FOUND, "%s: no photos in it (.jpg, .jpeg, .png or .webp)",
                         request->folder);
    qsort(listing->photos, listing->count, sizeof *listing->photos, by_name);
    set->found = (int)listing->count;
    set->channels_last = request->channels_last;
    listing_thin(listing, (size_t)request->limit);
    if (!set_measure(request, listing, set, error))
        return false;
    size_t room = PHOTO_SET_BYTES / ((size_t)set->elements * sizeof(float));
    listing_thin(listing, room ? room : 1);
    set->key = recipe_key(request->recipe);
    for (size_t i = 0; i < listing->count; i++)
        set->key = photo_key(set->key, request->folder, &listing->photos[i]);
    return set_fill(request, listing, set, error);
}

bool photo_set_load(const struct photo_request *request, struct photo_set *ret, struct error *error) {
    struct listing listing = {0};
    struct photo_set set = {0};
    bool done = set_load(request, &listing, &set, error);
    for (size_t i = 0; i < listing.count; i++)
        photo_release(&listing.photos[i]);
    free(listing.photos);
    if (done)
        *ret = set;
    else
        photo_set_release(&set);
    return done;
}

void photo_set_release(struct photo_set *set) {
    for (int i = 0; i < set->count; i++)
        photo_release(&set->photos[i]);
    for (int i = 0; i < set->skipped_count; i++)
        free(set->skipped[i]);
    free(set->photos);
    free(set->skipped);
    free(set->tensors);
    *set = (struct photo_set){0};
}
