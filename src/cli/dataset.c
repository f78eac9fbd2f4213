#include "cli/dataset.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "cli/cli.h"

enum { LABELS_LIMIT = 256 << 20 };

void dataset_release(struct dataset *dataset) {
    for (size_t i = 0; i < dataset->count; i++)
        free(dataset->photos[i].path);
    free(dataset->photos);
    *dataset = (struct dataset){0};
}

static bool dataset_add(struct dataset *dataset, const char *folder, const char *name, int class,
                        struct error *error) {
    if (dataset->count == dataset->capacity) {
        size_t capacity = dataset->capacity ? dataset->capacity * 2 : 1024;
        struct dataset_photo *photos = realloc(dataset->photos, capacity * sizeof *photos);
        if (!photos)
            return error_set(error, ERROR_MEMORY, "no memory for a list of %zu photos", capacity);
        dataset->photos = photos;
        dataset->capacity = capacity;
    }
    char *path = NULL;
    if (asprintf(&path, name[0] == '/' ? "%.0s%s" : "%s/%s", folder, name) < 0)
        return error_set(error, ERROR_MEMORY, "no memory for a list of photos");
    dataset->photos[dataset->count++] = (struct dataset_photo){path, class};
    return true;
}

/* A class by number or name; -1 where it is none. */
static int class_read(const char *text, int offset, const struct model *model) {
    char *end;
    long number = strtol(text, &end, 10);
    if (end != text && !*end)
        return number + offset >= 0 && number + offset < model_class_count(model) ? (int)(number + offset)
                                                                                  : -1;
    return model_class_find(model, text);
}

static bool lines_read(const char *path, char *text, const char *folder, int offset,
                       const struct model *model, struct dataset *dataset, struct error *error) {
    int number = 0;
    for (char *line; (line = strsep(&text, "\n"));) {
        number++;
        line[strcspn(line, "\r")] = 0;
        char *name = strsep(&line, "\t"), *class_text = line ? strsep(&line, "\t") : NULL;
        if (!*name)
            continue;
        int class = class_text ? class_read(class_text, offset, model) : -1;
        if (class < 0)
            return error_set(error, ERROR_INVALID, "%s: line %d: '%s' is no class of the model", path, number,
                             class_text ? class_text : "");
        if (!dataset_add(dataset, folder, name, class, error))
            return false;
    }
    return true;
}

/* Does the first line name a photo that is there? Other data sets call a list of their classes labels.tsv. */
static bool labels_name_photos(const char *text, const char *folder) {
    cleanup(freep) char *path = NULL;
    struct stat status;
    if (asprintf(&path, "%s/%.*s", folder, (int)strcspn(text, "\t\n"), text) < 0) {
        path = NULL;
        return false;
    }
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool ends_like_photo(const char *name) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && name[0] != '.' && i < sizeof endings / sizeof endings[0]; i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return true;
    return false;
}

static bool class_folder_read(const char *folder, int class, struct dataset *dataset, struct error *error) {
    DIR *entries = opendir(folder);
    bool done = true;
    for (const struct dirent *entry; entries && done && (entry = readdir(entries));)
        if (ends_like_photo(entry->d_name))
            done = dataset_add(dataset, folder, entry->d_name, class, error);
    if (entries)
        closedir(entries);
    return done;
}

static bool folders_read(const char *folder, const struct model *model, struct dataset *dataset,
                         struct error *error) {
    DIR *entries = opendir(folder);
    bool done = true;
    if (!entries)
        return error_set(error, ERROR_NOT_FOUND, "%s: no such folder", folder);
    for (const struct dirent *entry; done && (entry = readdir(entries));) {
        cleanup(freep) char *path = NULL;
        struct stat status;
        if (entry->d_name[0] == '.' || asprintf(&path, "%s/%s", folder, entry->d_name) < 0) {
            path = NULL;
            continue;
        }
        if (stat(path, &status) < 0 || !S_ISDIR(status.st_mode))
            continue;
        int class = model_class_find(model, entry->d_name);
        if (class < 0)
            cli_warn("%s: no class of %s is called so; left out", path, model_name(model));
        else
            done = class_folder_read(path, class, dataset, error);
    }
    closedir(entries);
    return done;
}

static int photos_compare(const void *a, const void *b) {
    return strcmp(((const struct dataset_photo *)a)->path, ((const struct dataset_photo *)b)->path);
}

bool dataset_load(const char *folder, const char *labels, int offset, const struct model *model,
                  struct dataset *ret, struct error *error) {
    cleanup(freep) char *beside = NULL;
    struct dataset dataset = {0};
    size_t size;
    if (!labels && asprintf(&beside, "%s/labels.tsv", folder) < 0) {
        beside = NULL;
        return error_set(error, ERROR_MEMORY, "%s: no memory for its name", folder);
    }
    cleanup(freep) char *text = NULL;
    const char *path = labels ? labels : beside;
    if (labels || access(path, F_OK) == 0)
        text = file_read(path, LABELS_LIMIT, &size, error);
    bool done = text || !labels;
    if (done && text && (labels || labels_name_photos(text, folder)))
        done = lines_read(path, text, folder, offset, model, &dataset, error);
    else if (done)
        done = folders_read(folder, model, &dataset, error);
    if (done && !dataset.count)
        done = error_set(error, ERROR_NOT_FOUND,
                         "%s: no photos; wanted are folders named after the classes of %s, or labels.tsv",
                         folder, model_name(model));
    if (!done) {
        dataset_release(&dataset);
        return false;
    }
    qsort(dataset.photos, dataset.count, sizeof *dataset.photos, photos_compare);
    *ret = dataset;
    return true;
}
