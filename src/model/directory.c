#include "model/directory.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

#define NETWORK "model.onnx"
#define VARIANT_PREFIX "model_"
#define VARIANT_SUFFIX ".onnx"
#define BAKED_SUFFIX ".baked"

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

bool model_name_valid(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= MODEL_NAME_BYTES || !isalnum((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
            return false;
    return true;
}

static void folder_release(struct model_folder *folder) {
    for (size_t i = 0; i < folder->variant_count; i++)
        free(folder->variants[i].name);
    free(folder->variants);
    free(folder->name);
    free(folder->path);
}

void model_folder_list_release(struct model_folder_list *list) {
    for (size_t i = 0; i < list->count; i++)
        folder_release(&list->folders[i]);
    free(list->folders);
    *list = (struct model_folder_list){0};
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static bool file_is_variant(const char *file) {
    return strlen(file) > strlen(VARIANT_PREFIX VARIANT_SUFFIX) &&
           strncmp(file, VARIANT_PREFIX, strlen(VARIANT_PREFIX)) == 0 && ends_with(file, VARIANT_SUFFIX);
}

static bool folder_add_variant(struct model_folder *folder, const char *file, uint64_t bytes) {
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

/* What lies right in the open folder. *ret_network: it holds a network. False when memory is out. */
static bool folder_read(struct model_folder *folder, DIR *open, bool *ret_network) {
    struct stat status;
    uint64_t plain = 0, shared = 0;
    *ret_network = fstatat(dirfd(open), "onnx/" NETWORK, &status, 0) == 0 && S_ISREG(status.st_mode);
    if (*ret_network)
        plain = (uint64_t)status.st_size;
    for (struct dirent *entry; (entry = readdir(open));) {
        if (fstatat(dirfd(open), entry->d_name, &status, 0) < 0 || !S_ISREG(status.st_mode))
            continue;
        int64_t changed = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
        if (changed > folder->changed)
            folder->changed = changed;
        uint64_t bytes = (uint64_t)status.st_size;
        bool is_plain = strcmp(entry->d_name, NETWORK) == 0, is_variant = file_is_variant(entry->d_name);
        if (is_variant && !folder_add_variant(folder, entry->d_name, bytes))
            return false;
        *ret_network = *ret_network || is_plain;
        plain += is_plain ? bytes : 0;
        shared += is_plain || is_variant || ends_with(entry->d_name, BAKED_SUFFIX) ? 0 : bytes;
    }
    folder->bytes = plain + shared;
    for (size_t i = 0; i < folder->variant_count; i++)
        folder->variants[i].bytes += shared;
    if (folder->variant_count)
        qsort(folder->variants, folder->variant_count, sizeof *folder->variants, compare_variants);
    return true;
}

/* Append the folder `name` where it is a model. False when memory is out. */
static bool list_add(struct model_folder_list *list, const char *directory, const char *name) {
    struct model_folder folder = {.name = strdup(name)};
    bool network = false;
    if (asprintf(&folder.path, "%s/%s", directory, name) < 0)
        folder.path = NULL;
    bool done = folder.name && folder.path;
    DIR *open = done ? opendir(folder.path) : NULL;
    if (open) {
        done = folder_read(&folder, open, &network);
        closedir(open);
    }
    if (done && network) {
        struct model_folder *folders = realloc(list->folders, (list->count + 1) * sizeof *folders);
        if (folders) {
            list->folders = folders;
            folders[list->count++] = folder;
            return true;
        }
        done = false;
    }
    folder_release(&folder);
    return done;
}

bool model_directory_list(const char *directory, struct model_folder_list *ret, struct error *error) {
    struct model_folder_list list = {0};
    DIR *open = opendir(directory);
    if (!open && errno != ENOENT)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be listed", directory);
    bool done = true;
    for (struct dirent *entry; done && open && (entry = readdir(open));) {
        if (!model_name_valid(entry->d_name))
            continue;
        if (list.count == LIMIT_MODEL_FOLDERS)
            done =
                error_set(error, ERROR_TOO_LARGE, "%s: more than %d models", directory, LIMIT_MODEL_FOLDERS);
        else if (!list_add(&list, directory, entry->d_name))
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
