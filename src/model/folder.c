#include "model/folder.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "model/name.h"

void model_files_release(struct model_files *files) {
    free(files->network);
    free(files->folder);
    free(files->name);
    *files = (struct model_files){0};
}

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool is_file(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* What follows the last '/'; the path has no trailing ones. */
static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* The path of a file of the folder, malloc'ed; NULL where there is none. `format` has a %s for the variant.
 */
static char *find_file(const char *folder, const char *format, const char *variant) {
    char name[PATH_MAX], path[PATH_MAX];
    snprintf(name, sizeof name, format, variant);
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof path && is_file(path) ? strdup(path) : NULL;
}

/* The network of a variant (NULL: the plain one), by the names that it may have; NULL where there is none. */
static char *find_network(const char *folder, const char *variant) {
    static const char *const plain[] = {"model%s.onnx", "onnx/model%s.onnx", NULL};
    static const char *const other[] = {"model_%s.onnx", "onnx/model_%s.onnx", NULL};
    static const char *const int8[] = {"model_%s.onnx", "onnx/model_%s.onnx", "model_quantized.onnx",
                                       "onnx/model_quantized.onnx", NULL};
    const char *const *formats = !variant ? plain : strcmp(variant, "int8") == 0 ? int8 : other;
    char *path = NULL;

    for (; !path && *formats; formats++)
        path = find_file(folder, *formats, variant ? variant : "");
    return path;
}

/* The name of a file that was given itself: the folder's for model.onnx, with the variant for
 * model_int8.onnx, else its own without the ending. */
static char *file_name(const char *network, const char *folder) {
    const char *base = base_name(network);
    char *name = NULL;
    int stem = (int)(strlen(base) - strlen(".onnx"));
    int done;

    if (strcmp(base, "model.onnx") == 0)
        done = asprintf(&name, "%s", base_name(folder));
    else if (strncmp(base, "model_", 6) == 0 && stem > 6)
        done = asprintf(&name, "%s:%.*s", base_name(folder), stem - 6, base + 6);
    else
        done = asprintf(&name, "%.*s", stem, base);

    return done < 0 ? NULL : name;
}

static bool locate_file(const char *path, struct model_files *files) {
    const char *slash = strrchr(path, '/');
    cleanup(freep) char *parent =
        slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    files->network = strdup(path);
    files->folder = parent ? realpath(parent, NULL) : NULL;
    if (!files->network || !files->folder)
        return false;

    if (strcmp(base_name(files->folder), "onnx") == 0) /* FOLDER/onnx/model.onnx */
        *strrchr(files->folder, '/') = 0;
    files->name = file_name(path, files->folder);
    return files->name != NULL;
}

static bool locate_folder(const char *path, const char *variant, struct model_files *files) {
    files->folder = realpath(path, NULL);
    if (!files->folder ||
        asprintf(&files->name, variant ? "%s:%s" : "%s", base_name(files->folder), variant) < 0) {
        files->name = NULL;
        return false;
    }

    return true;
}

bool model_files_find(const char *path, const char *variant, struct model_files *ret, struct error *error) {
    struct model_files files = {0};
    bool located;
    if (variant && !model_folder_name_valid(variant))
        return error_set(error, ERROR_INVALID, "'%s' cannot be the name of a model's variant", variant);

    if (is_file(path) && ends_with(path, ".onnx")) {
        located = locate_file(path, &files);
    } else if (is_folder(path)) {
        files.network = find_network(path, variant);
        if (!files.network)
            return error_set(error, ERROR_NOT_FOUND,
                             variant ? "%s: it contains no model_%s.onnx" : "%s: it contains no model.onnx",
                             path, variant);
        located = locate_folder(path, variant, &files);
    } else {
        return error_set(error, ERROR_NOT_FOUND,
                         is_file(path) ? "%s: neither a folder nor an .onnx file" : "%s: no such model",
                         path);
    }

    if (!located) {
        model_files_release(&files);
        return error_set(error, ERROR_IO, "%s: its folder cannot be found", path);
    }

    *ret = files;
    return true;
}
