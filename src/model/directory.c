#include "model/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/limits.h"
#include "model/name.h"

#define NETWORK "model.onnx"
#define VARIANT_PREFIX "model_"
#define VARIANT_SUFFIX ".onnx"
#define BAKED ".baked" /* in the name of what bake writes, while it writes it, too */

char *model_directory_default(void) {
    const char *own = getenv("GUICHET_MODELS"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (own && *own)
        return strdup(own);

    int written = -1;
    if (data && data[0] == '/')
        written = asprintf(&path, "%s/guichet/models", data);
    else if (home && *home)
        written = asprintf(&path, "%s/.local/share/guichet/models", home);

    return written < 0 ? NULL : path;
}

static void release_folder(struct model_folder *folder) {
    for (size_t i = 0; i < folder->variant_count; i++)
        free(folder->variants[i].name);
    free(folder->variants);
    free(folder->usual);
    free(folder->name);
    free(folder->path);
}

void model_folder_list_release(struct model_folder_list *list) {
    for (size_t i = 0; i < list->count; i++)
        release_folder(&list->folders[i]);
    free(list->folders);
    *list = (struct model_folder_list){0};
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static bool is_variant(const char *file) {
    return strlen(file) > strlen(VARIANT_PREFIX VARIANT_SUFFIX) &&
           strncmp(file, VARIANT_PREFIX, strlen(VARIANT_PREFIX)) == 0 && ends_with(file, VARIANT_SUFFIX);
}

static bool add_variant(struct model_folder *folder, const char *name, size_t length, uint64_t bytes) {
    struct model_variant *variants =
        realloc(folder->variants, (folder->variant_count + 1) * sizeof *variants);
    if (!variants)
        return false;

    folder->variants = variants;
    char *copy = strndup(name, length);
    if (!copy)
        return false;

    variants[folder->variant_count++] = (struct model_variant){copy, bytes};
    return true;
}

static bool add_onnx_variant(struct model_folder *folder, const char *file, uint64_t bytes) {
    return add_variant(folder, file + strlen(VARIANT_PREFIX),
                       strlen(file) - strlen(VARIANT_PREFIX VARIANT_SUFFIX), bytes);
}

static int compare_variants(const void *a, const void *b) {
    return strcmp(((const struct model_variant *)a)->name, ((const struct model_variant *)b)->name);
}

static int compare_folders(const void *a, const void *b) {
    return strcmp(((const struct model_folder *)a)->name, ((const struct model_folder *)b)->name);
}

static uint64_t stamp_file(const char *name, const struct stat *status) {
    if (name[0] == '.' || strstr(name, BAKED))
        return 0;

    const uint64_t parts[] = {
        hash_bytes(HASH_START, name, strlen(name)),
        (uint64_t)status->st_size,
        status->st_ino,
        (uint64_t)status->st_mtim.tv_sec,
        (uint64_t)status->st_mtim.tv_nsec,
        (uint64_t)status->st_ctim.tv_sec,
        (uint64_t)status->st_ctim.tv_nsec,
    };

    return hash_bytes(HASH_START, parts, sizeof parts);
}

/* Of the regular files of a folder below; a sum, so that their order does not count. */
static uint64_t stamp_files(int parent, const char *path) {
    uint64_t stamp = 0;
    int descriptor = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *open = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    if (!open) {
        if (descriptor >= 0)
            close(descriptor);
        return 0;
    }

    struct stat status;
    for (struct dirent *entry; (entry = readdir(open));)
        if (fstatat(dirfd(open), entry->d_name, &status, 0) == 0 && S_ISREG(status.st_mode))
            stamp += stamp_file(entry->d_name, &status);
    closedir(open);
    return stamp;
}

uint64_t model_folder_stamp(const char *path) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    uint64_t stamp = stamp_files(descriptor, ".") + stamp_files(descriptor, "onnx");
    close(descriptor);
    return stamp;
}

/* What the files of a folder sum up to. */
struct folder_sizes {
    bool has_network; /* model.onnx is there */
    uint64_t network; /* bytes of it … */
    uint64_t shared;  /* … and of what is no network */
    struct language_files language;
};

static bool add_file(struct model_folder *folder, struct folder_sizes *sizes, const char *name,
                     uint64_t bytes) {
    if (strcmp(name, NETWORK) == 0) {
        sizes->has_network = true;
        sizes->network += bytes;
        return true;
    }
    if (is_variant(name))
        return add_onnx_variant(folder, name, bytes);
    if (language_file_is_named(name))
        return language_files_add(&sizes->language, name, bytes);
    if (!strstr(name, BAKED))
        sizes->shared += bytes;
    return true;
}

/* Which file is meant without a variant, and what the others are called. A guichet.json that cannot be read
 * is told of when the model is loaded. */
static bool take_language_files(struct model_folder *folder, const struct language_files *list) {
    struct error ignored;
    const struct language_file *usual = model_folder_usual_file(folder->path, list, &ignored);
    usual = usual ? usual : language_files_default(list);

    folder->kind = MODEL_LANGUAGE;
    folder->bytes = usual->bytes;
    for (size_t i = 0; list->count > 1 && i < list->count; i++)
        if (list->files[i].variant[0] && !add_variant(folder, list->files[i].variant,
                                                      strlen(list->files[i].variant), list->files[i].bytes))
            return false;

    if (list->count > 1 && usual->variant[0])
        folder->usual = strdup(usual->variant);
    return true;
}

static void drop_variants(struct model_folder *folder) {
    for (size_t i = 0; i < folder->variant_count; i++)
        free(folder->variants[i].name);
    folder->variant_count = 0;
}

/* What the folder is: a network, or a language model. *ret_model: one of the two. */
static bool settle_folder(struct model_folder *folder, struct folder_sizes *sizes, bool *ret_model) {
    bool is_language = !sizes->has_network && sizes->language.count, done = true;
    language_files_settle(&sizes->language);
    if (is_language) {
        drop_variants(folder);
        done = take_language_files(folder, &sizes->language);
    } else {
        folder->bytes = sizes->network;
    }

    folder->bytes += sizes->shared;
    for (size_t i = 0; i < folder->variant_count; i++)
        folder->variants[i].bytes += sizes->shared;
    if (folder->variant_count)
        qsort(folder->variants, folder->variant_count, sizeof *folder->variants, compare_variants);
    *ret_model = sizes->has_network || is_language;
    return done;
}

/* The files of the open folder. *ret_model: it is one. False when memory is out. */
static bool read_folder(struct model_folder *folder, DIR *open, bool *ret_model) {
    struct stat status;
    struct folder_sizes sizes = {0};
    bool done = true;
    sizes.has_network = fstatat(dirfd(open), "onnx/" NETWORK, &status, 0) == 0 && S_ISREG(status.st_mode);
    if (sizes.has_network)
        sizes.network = (uint64_t)status.st_size;
    folder->stamp = stamp_files(dirfd(open), "onnx");

    for (struct dirent *entry; done && (entry = readdir(open));) {
        if (fstatat(dirfd(open), entry->d_name, &status, 0) < 0 || !S_ISREG(status.st_mode))
            continue;
        folder->stamp += stamp_file(entry->d_name, &status);
        done = add_file(folder, &sizes, entry->d_name, (uint64_t)status.st_size);
    }

    done = done && settle_folder(folder, &sizes, ret_model);
    language_files_release(&sizes.language);
    return done;
}

/* Append the folder `name` where it is a model. False when memory is out. */
static bool add_folder(struct model_folder_list *list, const char *directory, const char *name) {
    struct model_folder folder = {.name = strdup(name)};
    bool is_model = false, done = false;
    if (asprintf(&folder.path, "%s/%s", directory, name) < 0)
        folder.path = NULL;
    if (!folder.name || !folder.path)
        goto out;

    DIR *open = opendir(folder.path);
    done = !open || read_folder(&folder, open, &is_model);
    if (open)
        closedir(open);
    if (!done || !is_model)
        goto out;

    struct model_folder *folders = realloc(list->folders, (list->count + 1) * sizeof *folders);
    done = folders != NULL;
    if (folders) {
        list->folders = folders;
        folders[list->count++] = folder;
        return true;
    }

out:
    release_folder(&folder);
    return done;
}

bool model_directory_list(const char *directory, struct model_folder_list *ret, struct error *error) {
    struct model_folder_list list = {0};
    DIR *open = opendir(directory);
    if (!open && errno != ENOENT)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be listed", directory);

    bool done = true;
    for (struct dirent *entry; done && open && (entry = readdir(open));) {
        if (!model_folder_name_valid(entry->d_name))
            continue;
        if (list.count == LIMIT_MODEL_FOLDERS)
            done =
                error_set(error, ERROR_TOO_LARGE, "%s: more than %d models", directory, LIMIT_MODEL_FOLDERS);
        else if (!add_folder(&list, directory, entry->d_name))
            done = error_set(error, ERROR_MEMORY, "%s: not enough memory to list it", directory);
    }

    if (open)
        closedir(open);
    if (!done) {
        model_folder_list_release(&list);
        return false;
    }

    if (list.count)
        qsort(list.folders, list.count, sizeof *list.folders, compare_folders);
    *ret = list;
    return true;
}
