#include "model/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "model/name.h"
#include "model/network_files.h"
#include "model/settings.h"

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

/* The name of a file that was given itself: the folder's for model.onnx, with the variant for
 * model_int8.onnx, else its own without the ending. */
static char *file_name(const char *network, const char *folder) {
    const char *base = base_name(network);
    char *name = NULL;
    int stem = (int)(strlen(base) - strlen(".onnx"));
    int done;

    if (!ends_with(base, ".onnx")) {
        size_t size;
        const char *own = language_file_stem(network, &size);
        return strndup(own, size);
    }
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

/* The folder's name, with the variant's. */
static bool locate_folder(const char *path, const char *variant, struct model_files *files) {
    files->folder = realpath(path, NULL);
    if (!files->folder ||
        asprintf(&files->name, variant ? "%s:%s" : "%s", base_name(files->folder), variant) < 0) {
        files->name = NULL;
        return false;
    }

    return true;
}

/* ---- Language models ---- */

bool model_folder_language_files(const char *folder, struct language_files *ret) {
    struct language_files list = {0};
    DIR *open = opendir(folder);
    bool done = true;
    struct stat status;

    for (struct dirent *entry; done && open && (entry = readdir(open));)
        if (language_file_is_named(entry->d_name) && fstatat(dirfd(open), entry->d_name, &status, 0) == 0 &&
            S_ISREG(status.st_mode))
            done = language_files_add(&list, entry->d_name, (uint64_t)status.st_size);
    if (open)
        closedir(open);

    language_files_settle(&list);
    if (done)
        *ret = list;
    else
        language_files_release(&list);
    return done;
}

static bool refuse_variant(const char *where, const char *variant, const struct language_files *list,
                           struct error *error) {
    char names[200];
    language_files_name(list, names, sizeof names);
    return error_set(error, ERROR_NOT_FOUND, "%s: it contains no %s; there is %s", where, variant, names);
}

const struct language_file *model_folder_usual_file(const char *folder, const struct language_files *list,
                                                    struct error *error) {
    struct model_settings settings;
    if (list->count < 2)
        return language_files_default(list);
    if (!model_settings_read(folder, MODEL_LANGUAGE, &settings, error))
        return NULL;
    if (!settings.variant[0])
        return language_files_default(list);

    const struct language_file *file = language_files_find(list, settings.variant);
    if (!file && !refuse_variant(folder, settings.variant, list, error))
        error_prefix(error, "guichet.json");
    return file;
}

static bool locate_language(const char *path, const char *variant, const struct language_files *list,
                            struct model_files *files, struct error *error) {
    const struct language_file *file =
        variant ? language_files_find(list, variant) : model_folder_usual_file(path, list, error);
    if (!file)
        return variant ? refuse_variant(path, variant, list, error) : false;

    files->kind = MODEL_LANGUAGE;
    if (asprintf(&files->network, "%s/%s", path, file->path) < 0)
        files->network = NULL;
    if (!files->network || !locate_folder(path, variant ? file->variant : NULL, files))
        return error_set(error, ERROR_IO, "%s: its folder cannot be found", path);
    return true;
}

bool model_file_is_gguf(const char *path) {
    char magic[4] = "";
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool same = read(file, magic, sizeof magic) == sizeof magic && memcmp(magic, "GGUF", sizeof magic) == 0;
    close(file);
    return same;
}

bool model_files_check(const struct model_files *files, enum model_kind kind, struct error *error) {
    if (files->kind == kind)
        return true;
    if (files->kind == MODEL_LANGUAGE)
        return error_set(error, ERROR_INVALID,
                         "%s is a language model: try guichet chat, complete or perplexity", files->network);
    return error_set(error, ERROR_INVALID, "%s is no language model: try guichet classify, run or inspect",
                     files->network);
}

/* ---- Either ---- */

bool model_folder_has_foreign(const char *folder, const char **ret_what) {
    static const struct {
        const char *ending, *what;
    } kinds[] = {
        {".safetensors",
         "weights in safetensors: export the model to ONNX, or pull a repository that has it"},
        {".pt", "a checkpoint of PyTorch: export it to ONNX"},
        {".pth", "a checkpoint of PyTorch: export it to ONNX"},
        {".bin", "weights of PyTorch: export the model to ONNX"},
        {".h5", "a Keras file: convert it to ONNX with tf2onnx"},
        {".keras", "a Keras file: convert it to ONNX with tf2onnx"},
        {".tflite", "a TensorFlow Lite network: convert it to ONNX with tf2onnx"},
        {".pb", "a TensorFlow graph: convert it to ONNX with tf2onnx"},
    };
    DIR *open = opendir(folder);
    *ret_what = NULL;

    for (struct dirent *entry; open && !*ret_what && (entry = readdir(open));)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (ends_with(entry->d_name, kinds[i].ending))
                *ret_what = kinds[i].what;
    if (open)
        closedir(open);
    return *ret_what;
}

static bool locate_network(const char *path, const char *variant, const struct network_files *list,
                           struct model_files *files, struct error *error) {
    const struct network_file *file = variant ? network_files_find(list, variant) : network_files_usual(list);
    char names[200];

    network_files_name(list, names, sizeof names);
    if (!file && variant)
        return error_set(error, ERROR_NOT_FOUND, "%s: it contains no model_%s.onnx; there is %s", path,
                         variant, names);
    if (!file)
        return error_set(
            error, ERROR_NOT_FOUND,
            "%s: it contains several networks (%s): name one of them model.onnx, or ask for NAME:VARIANT",
            path, names);

    if (asprintf(&files->network, "%s/%s", path, file->path) < 0)
        files->network = NULL;
    return (files->network && locate_folder(path, variant, files)) ||
           error_set(error, ERROR_IO, "%s: its folder cannot be found", path);
}

/* A folder without a network that guichet reads, and perhaps with another's. */
static bool refuse_folder(const char *path, struct error *error) {
    const char *what;
    if (!model_folder_has_foreign(path, &what))
        return error_set(error, ERROR_NOT_FOUND, "%s: it contains no model.onnx, and no .gguf file", path);
    return error_set(error, ERROR_NOT_FOUND, "%s: it contains no model.onnx and no .gguf file, only %s", path,
                     what);
}

/* What a folder contains: an ONNX network, or GGUF files. */
static bool find_in_folder(const char *path, const char *variant, struct model_files *files,
                           struct error *error) {
    struct network_files networks = {0};
    struct language_files languages = {0};
    bool done;

    if (!network_files_read(path, &networks) || !model_folder_language_files(path, &languages))
        done = error_set(error, ERROR_MEMORY, "%s: not enough memory to list it", path);
    else if (networks.count)
        done = locate_network(path, variant, &networks, files, error);
    else if (languages.count)
        done = locate_language(path, variant, &languages, files, error);
    else
        done = refuse_folder(path, error);

    network_files_release(&networks);
    language_files_release(&languages);
    return done;
}

static bool find_file_itself(const char *path, struct model_files *files, struct error *error) {
    bool is_onnx = ends_with(path, ".onnx");
    if (!is_onnx && !language_file_is_named(path) && !model_file_is_gguf(path))
        return error_set(error, ERROR_NOT_FOUND, "%s: neither a folder nor an .onnx or .gguf file", path);

    files->kind = is_onnx ? MODEL_NETWORK : MODEL_LANGUAGE;
    return locate_file(path, files) || error_set(error, ERROR_IO, "%s: its folder cannot be found", path);
}

bool model_files_find(const char *path, const char *variant, struct model_files *ret, struct error *error) {
    struct model_files files = {0};
    bool found;
    if (variant && !model_folder_name_valid(variant))
        return error_set(error, ERROR_INVALID, "'%s' cannot be the name of a model's variant", variant);

    if (is_folder(path))
        found = find_in_folder(path, variant, &files, error);
    else if (is_file(path))
        found = find_file_itself(path, &files, error);
    else
        return error_set(error, ERROR_NOT_FOUND, "%s: no such model", path);

    if (found)
        *ret = files;
    else
        model_files_release(&files);
    return found;
}
