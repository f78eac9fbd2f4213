#include "model/find.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "model/directory.h"

static void add_root(struct model_roots *roots, const char *path) {
    char *real = roots->count < MODEL_ROOTS ? realpath(path, NULL) : NULL;
    struct stat status;
    if (!real)
        return;

    bool good = stat(real, &status) == 0 && S_ISDIR(status.st_mode);
    for (int i = 0; i < roots->count; i++)
        good = good && strcmp(roots->paths[i], real) != 0;

    if (good)
        roots->paths[roots->count++] = real;
    else
        free(real);
}

void model_roots_find(struct model_roots *ret) {
    *ret = (struct model_roots){0};
    cleanup(freep) char *own = model_directory_default();
    if (own)
        add_root(ret, own);

    char program[PATH_MAX], path[PATH_MAX + 32];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return;

    program[length] = 0;
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = 0;
    snprintf(path, sizeof path, "%s/../share/guichet/models", program);
    add_root(ret, path);
    snprintf(path, sizeof path, "%s/../models", program);
    add_root(ret, path);
}

void model_roots_release(struct model_roots *roots) {
    for (int i = 0; i < roots->count; i++)
        free(roots->paths[i]);
    *roots = (struct model_roots){0};
}

static bool exists(const char *path, const char *variant, struct error *error) {
    struct model_files files;
    if (!model_files_find(path, variant, &files, error))
        return false;
    model_files_release(&files);
    return true;
}

static bool return_copies(const char *path, const char *variant, char **ret_path, char **ret_variant,
                          struct error *error) {
    char *own_path = strdup(path), *own_variant = variant ? strdup(variant) : NULL;
    if (!own_path || (variant && !own_variant)) {
        free(own_path);
        free(own_variant);
        return error_set(error, ERROR_MEMORY, "not enough memory for a model's name");
    }

    *ret_path = own_path;
    *ret_variant = own_variant;
    return true;
}

/* The folder of a root that is called otherwise, because its own name cannot be a model's: "my cats". */
static bool find_renamed(const char *root, const char *name, char *ret, size_t size) {
    struct model_folder_list list = {0};
    struct error ignored;
    bool found = false;

    if (!model_folder_name_valid(name) || !model_directory_list(root, &list, &ignored))
        return false;
    for (size_t i = 0; !found && i < list.count; i++) {
        found = strcmp(list.folders[i].name, name) == 0;
        if (found)
            text_copy(ret, size, list.folders[i].path);
    }
    model_folder_list_release(&list);
    return found;
}

/* The path itself, then every root. The error is that of a model that exists and cannot be used, if there is
 * one.
 */
static bool look_up(const char *name, const char *variant, char **ret_path, char **ret_variant,
                    struct error *error) {
    if (exists(name, variant, error))
        return return_copies(name, variant, ret_path, ret_variant, error);
    if (strchr(name, '/') || error->code != ERROR_NOT_FOUND)
        return false;

    if (access(name, F_OK) < 0)
        error_set(error, ERROR_NOT_FOUND, "unknown model '%s': 'guichet models' lists the installed ones",
                  name);

    struct model_roots roots;
    bool done = false;
    model_roots_find(&roots);
    bool there = false; /* of two folders of one name, the first counts */
    for (int i = 0; !there && i < roots.count; i++) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", roots.paths[i], name);
        there = (length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0) ||
                find_renamed(roots.paths[i], name, path, sizeof path);
        if (there)
            done = exists(path, variant, error) && return_copies(path, variant, ret_path, ret_variant, error);
    }

    model_roots_release(&roots);
    return done;
}

bool model_find(const char *name, char **ret_path, char **ret_variant, struct error *error) {
    name = name && *name ? name : MODEL_DEFAULT_NAME;
    if (look_up(name, NULL, ret_path, ret_variant, error))
        return true;

    const char *colon = strrchr(name, ':');
    if (!colon || colon == name || !colon[1] || strchr(colon, '/'))
        return false;

    cleanup(freep) char *stem = strndup(name, (size_t)(colon - name));
    if (!stem)
        return error_set(error, ERROR_MEMORY, "not enough memory for a model's name");
    return look_up(stem, colon + 1, ret_path, ret_variant, error);
}

bool model_find_files(const char *name, struct model_files *ret, struct error *error) {
    cleanup(freep) char *path = NULL;
    cleanup(freep) char *variant = NULL;
    return model_find(name, &path, &variant, error) && model_files_find(path, variant, ret, error);
}

/* The first language model of a root, or the one that is called so. */
static const struct model_folder *find_language(const struct model_folder_list *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (list->folders[i].kind == MODEL_LANGUAGE && (!name || strcmp(list->folders[i].name, name) == 0))
            return &list->folders[i];
    return NULL;
}

char *model_find_language(void) {
    static const char *const wanted[] = {MODEL_DEFAULT_LANGUAGE, NULL};
    struct model_roots roots;
    char *name = NULL;
    model_roots_find(&roots);

    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++)
        for (int i = 0; !name && i < roots.count; i++) {
            struct model_folder_list list;
            struct error ignored;
            if (!model_directory_list(roots.paths[i], &list, &ignored))
                continue;
            const struct model_folder *folder = find_language(&list, wanted[w]);
            name = folder ? strdup(folder->name) : NULL;
            model_folder_list_release(&list);
        }

    model_roots_release(&roots);
    return name;
}
