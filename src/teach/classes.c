#include "teach/classes.h"

#include <stdlib.h>
#include <string.h>

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the classes");
}

void teach_classes_release(struct teach_classes *classes) {
    for (int i = 0; i < classes->count; i++)
        free(classes->names[i]);
    free(classes->names);
    free(classes->photos);
    *classes = (struct teach_classes){0};
}

static bool add_class(struct teach_classes *classes, const char *name, size_t length, struct error *error) {
    char **names = reallocarray(classes->names, (size_t)classes->count + 1, sizeof *names);
    if (!names)
        return no_memory(error);
    classes->names = names;

    int *photos = reallocarray(classes->photos, (size_t)classes->count + 1, sizeof *photos);
    if (!photos)
        return no_memory(error);
    classes->photos = photos;

    char *copy = strndup(name, length);
    if (!copy)
        return no_memory(error);
    classes->photos[classes->count] = 0;
    classes->names[classes->count++] = copy;
    return true;
}

/* The list is sorted, so that photos of a class come one after another. */
static bool group(struct photo_list *list, struct teach_classes *classes, struct error *error) {
    size_t kept = 0, last = 0, i;
    const char *name = "";

    for (i = 0; i < list->count; i++) {
        struct photo_file file = list->files[i];
        const char *slash = strchr(file.name, '/');
        if (!slash) {
            free(file.name);
            classes->outside++;
            continue;
        }

        size_t length = (size_t)(slash - file.name);
        bool is_new = !classes->count || length != last || strncmp(name, file.name, length) != 0;
        if (is_new && !add_class(classes, file.name, length, error))
            break;

        name = file.name;
        last = length;
        file.class_index = classes->count - 1;
        classes->photos[file.class_index]++;
        list->files[kept++] = file;
    }

    bool done = i == list->count;
    while (i < list->count)
        list->files[kept++] = list->files[i++];
    list->count = kept;
    return done;
}

static bool check(const char *folder, const struct photo_list *list, const struct teach_classes *classes,
                  struct error *error) {
    if (classes->count < 2)
        return error_set(error, ERROR_INVALID,
                         "%s: %s: photos of at least two classes are needed, each in a folder of its own",
                         folder, classes->count ? "there is one class alone" : "no folder in it has photos");
    if (classes->count > TEACH_CLASSES_MOST || list->count > TEACH_PHOTOS_MOST)
        return error_set(error, ERROR_TOO_LARGE,
                         "%s: %zu photos of %d classes; at most %d of %d can be taught", folder, list->count,
                         classes->count, TEACH_PHOTOS_MOST, TEACH_CLASSES_MOST);

    for (int i = 0; i < classes->count; i++)
        if (classes->photos[i] < 2)
            return error_set(error, ERROR_INVALID, "%s/%s: one photo is too few: a class needs at least two",
                             folder, classes->names[i]);
    return true;
}

bool teach_classes_read(const char *folder, struct photo_list *ret_list, struct teach_classes *ret,
                        struct error *error) {
    const struct photo_source source = {.folder = folder};
    struct photo_list list;
    struct teach_classes classes = {0};
    if (!photo_list_read(&source, NULL, &list, error))
        return false;

    if (!group(&list, &classes, error) || !check(folder, &list, &classes, error)) {
        photo_list_release(&list);
        teach_classes_release(&classes);
        return false;
    }

    *ret_list = list;
    *ret = classes;
    return true;
}
