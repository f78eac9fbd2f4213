#include "data/photo_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"

/* A list being made. */
struct photo_listing {
    struct photo_list list;
    size_t capacity;
    const struct model *model;
    struct error *error;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for a list of photos");
}

void photo_list_release(struct photo_list *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->files[i].name);
    for (size_t i = 0; i < list->unknown_count; i++)
        free(list->unknown[i]);

    free(list->files);
    free(list->unknown);
    free(list->folder);
    *list = (struct photo_list){0};
}

/* `name` is taken over; NULL: there was not enough memory for it. */
static bool add_file(struct photo_listing *listing, char *name, int class_index) {
    struct photo_list *list = &listing->list;
    if (!name)
        return no_memory(listing->error);

    if (list->count >= LIMIT_PHOTOS) {
        free(name);
        return error_set(listing->error, ERROR_TOO_LARGE, "%s: more than %d photos", list->folder,
                         LIMIT_PHOTOS);
    }

    if (list->count == listing->capacity) {
        size_t capacity = listing->capacity ? listing->capacity * 2 : 256;
        struct photo_file *files = reallocarray(list->files, capacity, sizeof *files);
        if (!files) {
            free(name);
            return no_memory(listing->error);
        }
        list->files = files;
        listing->capacity = capacity;
    }

    list->files[list->count++] = (struct photo_file){name, class_index};
    return true;
}

static bool add_unknown(struct photo_listing *listing, const char *group) {
    struct photo_list *list = &listing->list;
    char **unknown = reallocarray(list->unknown, list->unknown_count + 1, sizeof *unknown);
    if (!unknown)
        return no_memory(listing->error);

    list->unknown = unknown;
    if (asprintf(&unknown[list->unknown_count], "%s/%s", list->folder, group) < 0)
        return no_memory(listing->error);

    list->unknown_count++;
    return true;
}

/* "folder/name", or "name" where it is absolute. malloc'ed. */
static char *path_join(const char *folder, const char *name) {
    char *path;
    if (name[0] == '/')
        return strdup(name);
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

char *photo_list_path(const struct photo_list *list, size_t index) {
    return path_join(list->folder, list->files[index].name);
}

/* ---- Folders ---- */

static bool is_image_name(const char *name) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && dot != name && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return true;
    return false;
}

static bool read_folder(struct photo_listing *listing, const char *group, int class_index);

/* The folder of a class, or of none. */
static bool read_group(struct photo_listing *listing, const char *group) {
    int class_index = listing->model ? model_class_find(listing->model, group) : -1;
    if (listing->model && class_index < 0 && !add_unknown(listing, group))
        return false;
    return read_folder(listing, group, class_index);
}

/* One name of a folder: an image, or a folder of images one level down. */
static bool read_entry(struct photo_listing *listing, const char *group, const char *name, int class_index) {
    struct stat status;
    char *relative = group ? path_join(group, name) : strdup(name);
    cleanup(freep) char *path = relative ? path_join(listing->list.folder, relative) : NULL;
    if (!path) {
        free(relative);
        return no_memory(listing->error);
    }

    bool found = stat(path, &status) == 0; /* or it is gone in the meantime */
    if (found && S_ISREG(status.st_mode) && is_image_name(name))
        return add_file(listing, relative, class_index);

    free(relative);
    return !found || group || !S_ISDIR(status.st_mode) || read_group(listing, name);
}

static bool read_folder(struct photo_listing *listing, const char *group, int class_index) {
    struct error *error = listing->error;
    cleanup(freep) char *path = group ? path_join(listing->list.folder, group) : strdup(listing->list.folder);
    if (!path)
        return no_memory(error);

    DIR *directory = opendir(path);
    if (!directory)
        return error_set_errno(error, errno == ENOENT || errno == ENOTDIR ? ERROR_NOT_FOUND : ERROR_IO, errno,
                               "%s", path);

    bool done = true;
    for (const struct dirent *entry; done && (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            done = read_entry(listing, group, entry->d_name, class_index);
    closedir(directory);
    return done;
}

/* ---- Lists of photos and classes ---- */

/* A class by number or name; -1 where it is none. */
static int read_class(const char *text, int offset, const struct model *model) {
    char *end;
    long number = strtol(text, &end, 10);
    if (end == text || *end)
        return model_class_find(model, text);

    number += offset;
    return number >= 0 && number < model_class_count(model) ? (int)number : -1;
}

/* The first class stands for nothing, under one of the names that it has in the wild: lists of classes do not
 * number it. */
static bool has_background(const struct model *model) {
    static const char *const names[] = {"background", "dummy", "nothing", "none",    "null", "void",
                                        "no class",   "empty", "other",   "unknown", "n/a"};
    const char *label = model_label(model, 0, NULL) + strspn(model_label(model, 0, NULL), "_<[ ");
    size_t length = strcspn(label, "_>]");

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == length && strncasecmp(label, names[i], length) == 0)
            return true;
    return false;
}

static bool read_lines(struct photo_listing *listing, const char *path, char *text, int offset) {
    int number = 0;
    if (offset == LABEL_OFFSET_AUTO)
        offset = has_background(listing->model) ? 1 : 0;
    listing->list.label_offset = offset;

    for (char *line; (line = strsep(&text, "\n"));) {
        number++;
        line[strcspn(line, "\r")] = 0;
        char *name = strsep(&line, "\t"), *class_text = line ? strsep(&line, "\t") : NULL;
        if (!*name)
            continue;

        int class_index = class_text ? read_class(class_text, offset, listing->model) : -1;
        if (class_index < 0)
            return error_set(listing->error, ERROR_INVALID,
                             "%s: line %d: '%s' is not a class of the model, which has 0 to %d%s", path,
                             number, class_text ? class_text : "", model_class_count(listing->model) - 1,
                             offset ? " (see --label-offset)" : "");
        if (!add_file(listing, strdup(name), class_index))
            return false;
    }
    return true;
}

/* Does the first line name a photo that is there? Other data sets call a list of their classes labels.tsv. */
static bool names_photos(const char *text, const char *folder) {
    cleanup(freep) char *name = strndup(text, strcspn(text, "\t\n"));
    cleanup(freep) char *path = name ? path_join(folder, name) : NULL;
    struct stat status;
    return path && stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* The list that the source gives, or that is in its folder. *ret_path and *ret_text are malloc'ed; NULL where
 * there is none. */
static bool find_labels(const struct photo_source *source, char **ret_path, char **ret_text,
                        struct error *error) {
    cleanup(freep) char *path =
        source->labels ? strdup(source->labels) : path_join(source->folder, "labels.tsv");
    size_t size;
    *ret_path = *ret_text = NULL;
    if (!path)
        return no_memory(error);
    if (!source->labels && access(path, F_OK) < 0)
        return true;

    char *text = file_read(path, LIMIT_LABELS_BYTES, &size, error);
    if (!text)
        return false;
    if (!source->labels && !names_photos(text, source->folder)) {
        free(text);
        return true;
    }

    *ret_path = steal_pointer(&path);
    *ret_text = text;
    return true;
}

/* ---- Both ---- */

static bool listing_begin(struct photo_listing *listing, const char *folder, const struct model *model,
                          struct error *error) {
    *listing = (struct photo_listing){.list.folder = strdup(folder), .model = model, .error = error};
    return listing->list.folder || no_memory(error);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const struct photo_file *)a)->name, ((const struct photo_file *)b)->name);
}

static void sort_files(struct photo_list *list) {
    if (list->count)
        qsort(list->files, list->count, sizeof *list->files, compare_names);
}

/* Photos of the list `from` have the classes that it says. */
static void take_classes(struct photo_list *list, const struct photo_list *from) {
    for (size_t i = 0; i < list->count; i++)
        list->files[i].class_index = -1;

    for (size_t i = 0; i < from->count; i++) {
        const char *name = from->files[i].name;
        size_t prefix = strlen(list->folder);
        if (strncmp(name, list->folder, prefix) == 0 && name[prefix] == '/')
            name += prefix + 1;

        const struct photo_file wanted = {.name = (char *)name};
        struct photo_file *file = bsearch(&wanted, list->files, list->count, sizeof wanted, compare_names);
        if (file)
            file->class_index = from->files[i].class_index;
    }
}

static bool read_classes(const struct photo_source *source, const struct model *model, const char *path,
                         char *text, struct photo_list *list, struct error *error) {
    struct photo_listing listing;
    bool done = listing_begin(&listing, source->folder, model, error) &&
                read_lines(&listing, path, text, source->label_offset);
    if (done)
        take_classes(list, &listing.list);
    photo_list_release(&listing.list);

    return done;
}

bool photo_list_read(const struct photo_source *source, const struct model *model, struct photo_list *ret,
                     struct error *error) {
    struct photo_listing listing;
    cleanup(freep) char *path = NULL;
    cleanup(freep) char *text = NULL;
    if (!listing_begin(&listing, source->folder, model, error) || !read_folder(&listing, NULL, -1))
        goto fail;

    if (listing.list.count == 0) {
        error_set(error, ERROR_NOT_FOUND, "%s: contains no photos (.jpg, .png, .webp, .gif, .bmp or .tif)",
                  source->folder);
        goto fail;
    }

    sort_files(&listing.list);
    if (model && !find_labels(source, &path, &text, error))
        goto fail;
    if (text && !read_classes(source, model, path, text, &listing.list, error))
        goto fail;

    *ret = listing.list;
    return true;

fail:
    photo_list_release(&listing.list);
    return false;
}

/* Leave out the photos whose class is not known. */
static void drop_unlabelled(struct photo_list *list) {
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (list->files[i].class_index < 0)
            free(list->files[i].name);
        else
            list->files[kept++] = list->files[i];
    }
    list->count = kept;
}

bool photo_list_read_labelled(const struct photo_source *source, const struct model *model,
                              struct photo_list *ret, struct error *error) {
    struct photo_listing listing;
    cleanup(freep) char *path = NULL;
    cleanup(freep) char *text = NULL;
    if (!listing_begin(&listing, source->folder, model, error) || !find_labels(source, &path, &text, error))
        goto fail;

    if (text ? !read_lines(&listing, path, text, source->label_offset) : !read_folder(&listing, NULL, -1))
        goto fail;

    drop_unlabelled(&listing.list);
    if (listing.list.count == 0) {
        error_set(error, ERROR_NOT_FOUND,
                  "%s: no photos of known classes: folders named after the classes of %s, or labels.tsv, are "
                  "needed",
                  source->folder, model_name(model));
        goto fail;
    }

    sort_files(&listing.list);
    *ret = listing.list;
    return true;

fail:
    photo_list_release(&listing.list);
    return false;
}

void photo_list_thin(struct photo_list *list, size_t limit) {
    size_t kept = 0, count = list->count;
    if (!limit || count <= limit)
        return;

    for (size_t i = 0; i < count; i++) {
        if (i == kept * count / limit && kept < limit)
            list->files[kept++] = list->files[i];
        else
            free(list->files[i].name);
    }
    list->count = kept;
}
