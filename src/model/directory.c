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
#include "model/network_files.h"

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

/* Of the folder and of those below that may hold its network. */
static uint64_t stamp_folder(int descriptor, const char *path) {
    char version[24];
    network_files_version(path, version, sizeof version);
    return stamp_files(descriptor, ".") + stamp_files(descriptor, "onnx") +
           (version[0] ? stamp_files(descriptor, version) + hash_bytes(HASH_START, version, strlen(version))
                       : 0);
}

uint64_t model_folder_stamp(const char *path) {
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    uint64_t stamp = stamp_folder(descriptor, path);
    close(descriptor);
    return stamp;
}

/* What the files of a folder are. */
struct folder_files {
    uint64_t shared; /* bytes of what is no network, language model or baked file */
    struct network_files networks;
    struct language_files languages;
};

static bool add_file(struct folder_files *files, const char *name, uint64_t bytes) {
    if (language_file_is_named(name))
        return language_files_add(&files->languages, name, bytes);
    if (!ends_with(name, ".onnx") && !strstr(name, BAKED))
        files->shared += bytes;
    return true;
}

static bool take_network_files(struct model_folder *folder, const struct network_files *list) {
    const struct network_file *usual = network_files_usual(list);

    folder->bytes = usual ? usual->bytes : 0;
    for (size_t i = 0; list->count > 1 && i < list->count; i++)
        if (list->files[i].variant[0] && !add_variant(folder, list->files[i].variant,
                                                      strlen(list->files[i].variant), list->files[i].bytes))
            return false;

    if (list->count > 1 && usual && usual->variant[0])
        folder->usual = strdup(usual->variant);
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

/* What the folder is: a network, a language model, or another's model, which cannot be loaded. *ret_model:
 * one of these. */
static bool settle_folder(struct model_folder *folder, struct folder_files *files, bool *ret_model) {
    const char *foreign;
    bool done = true;

    language_files_settle(&files->languages);
    if (files->networks.count)
        done = take_network_files(folder, &files->networks);
    else if (files->languages.count)
        done = take_language_files(folder, &files->languages);
    *ret_model =
        files->networks.count || files->languages.count || model_folder_has_foreign(folder->path, &foreign);

    folder->bytes += files->shared;
    for (size_t i = 0; i < folder->variant_count; i++)
        folder->variants[i].bytes += files->shared;
    if (folder->variant_count)
        qsort(folder->variants, folder->variant_count, sizeof *folder->variants, compare_variants);
    return done;
}

/* The files of the open folder. *ret_model: it is one. False when memory is out. */
static bool read_folder(struct model_folder *folder, DIR *open, bool *ret_model) {
    struct stat status;
    struct folder_files files = {0};
    bool done = network_files_read(folder->path, &files.networks);

    folder->stamp = stamp_folder(dirfd(open), folder->path);
    for (struct dirent *entry; done && (entry = readdir(open));)
        if (fstatat(dirfd(open), entry->d_name, &status, 0) == 0 && S_ISREG(status.st_mode))
            done = add_file(&files, entry->d_name, (uint64_t)status.st_size);

    done = done && settle_folder(folder, &files, ret_model);
    network_files_release(&files.networks);
    language_files_release(&files.languages);
    return done;
}

/* The name under which a folder is served: its own; with "-" for each run of bytes that names cannot have.
 * "": nothing is left of it. */
static void make_name(const char *folder, char ret[MODEL_NAME_PART + 1]) {
    size_t used = 0;

    for (const char *at = folder; *at && used < MODEL_NAME_PART; at++) {
        char one[2] = {*at, 0};
        bool good = used ? strchr("-_.", *at) || model_folder_name_valid(one) : model_folder_name_valid(one);
        if (good)
            ret[used++] = *at;
        else if (used && ret[used - 1] != '-')
            ret[used++] = '-';
    }
    while (used && ret[used - 1] == '-' && !model_folder_name_valid(folder))
        used--;
    ret[used] = 0;
}

/* Append the folder `name` where it is a model. False when memory is out. */
static bool add_folder(struct model_folder_list *list, const char *directory, const char *name) {
    char served[MODEL_NAME_PART + 1];
    make_name(name, served);
    struct model_folder folder = {.name = strdup(served)};
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
        char served[MODEL_NAME_PART + 1];
        make_name(entry->d_name, served);
        if (entry->d_name[0] == '.' || !served[0])
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
