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

static bool add_variant(struct model_folder *folder, const char *file, uint64_t bytes) {
    struct model_variant *variants =
        realloc(folder->variants, (folder->variant_count + 1) * sizeof *variants);
    if (!variants)
        return false;

    folder->variants = variants;
    char *name = strndup(file + strlen(VARIANT_PREFIX), strlen(file) - strlen(VARIANT_PREFIX VARIANT_SUFFIX));
    if (!name)
        return false;

    variants[folder->variant_count++] = (struct model_variant){name, bytes};
    return true;
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

/* The files of the open folder. *ret_network: one is a network. False when memory is out. */
static bool read_folder(struct model_folder *folder, DIR *open, bool *ret_network) {
    struct stat status;
    uint64_t plain = 0, shared = 0;
    *ret_network = fstatat(dirfd(open), "onnx/" NETWORK, &status, 0) == 0 && S_ISREG(status.st_mode);
    if (*ret_network)
        plain = (uint64_t)status.st_size;
    folder->stamp = stamp_files(dirfd(open), "onnx");

    for (struct dirent *entry; (entry = readdir(open));) {
        if (fstatat(dirfd(open), entry->d_name, &status, 0) < 0 || !S_ISREG(status.st_mode))
            continue;
        folder->stamp += stamp_file(entry->d_name, &status);
        uint64_t bytes = (uint64_t)status.st_size;
        bool is_plain = strcmp(entry->d_name, NETWORK) == 0, of_variant = is_variant(entry->d_name);
        if (of_variant && !add_variant(folder, entry->d_name, bytes))
            return false;
        *ret_network = *ret_network || is_plain;
        plain += is_plain ? bytes : 0;
        shared += is_plain || of_variant || strstr(entry->d_name, BAKED) ? 0 : bytes;
    }

    folder->bytes = plain + shared;
    for (size_t i = 0; i < folder->variant_count; i++)
        folder->variants[i].bytes += shared;

    if (folder->variant_count)
        qsort(folder->variants, folder->variant_count, sizeof *folder->variants, compare_variants);
    return true;
}

/* Append the folder `name` where it is a model. False when memory is out. */
static bool add_folder(struct model_folder_list *list, const char *directory, const char *name) {
    struct model_folder folder = {.name = strdup(name)};
    bool network = false, done = false;
    if (asprintf(&folder.path, "%s/%s", directory, name) < 0)
        folder.path = NULL;
    if (!folder.name || !folder.path)
        goto out;

    DIR *open = opendir(folder.path);
    done = !open || read_folder(&folder, open, &network);
    if (open)
        closedir(open);
    if (!done || !network)
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
            done = error_set(error, ERROR_MEMORY, "%s: no memory to list it", directory);
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
