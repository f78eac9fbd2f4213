#include "model/network_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"

#define ENDING ".onnx"
#define PREFIX "model_"

static bool is_network(const char *name) {
    size_t length = strlen(name);
    return name[0] != '.' && length > strlen(ENDING) && strcmp(name + length - strlen(ENDING), ENDING) == 0;
}

/* What a file is called as a variant. */
static void name_variant(const char *file, char ret[MODEL_NAME_PART + 1]) {
    size_t length = strlen(file) - strlen(ENDING);
    bool prefixed = length > strlen(PREFIX) && strncmp(file, PREFIX, strlen(PREFIX)) == 0;
    const char *start = prefixed ? file + strlen(PREFIX) : file;
    char name[NAME_MAX + 1];

    length -= (size_t)(start - file);
    snprintf(name, sizeof name, "%.*s", (int)length, start);
    bool plain = strcmp(name, "model") == 0;
    text_copy(ret, MODEL_NAME_PART + 1, !plain && model_folder_name_valid(name) ? name : "");
}

static const struct network_file *find(const struct network_files *list, const char *variant) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->files[i].variant, variant) == 0)
            return &list->files[i];
    return NULL;
}

/* False when memory is out. */
static bool add(struct network_files *list, const char *subfolder, const char *name, uint64_t bytes) {
    struct network_file file = {.bytes = bytes};
    name_variant(name, file.variant);
    if (find(list, file.variant))
        return true;
    if (asprintf(&file.path, "%s%s%s", subfolder, *subfolder ? "/" : "", name) < 0)
        return false;

    struct network_file *files = realloc(list->files, (list->count + 1) * sizeof *files);
    if (!files) {
        free(file.path);
        return false;
    }
    list->files = files;
    files[list->count++] = file;
    return true;
}

static int compare(const void *a, const void *b) {
    return strcmp(((const struct network_file *)a)->path, ((const struct network_file *)b)->path);
}

/* The files of one subfolder, "" for the folder itself, in the order of their names. */
static bool read_subfolder(const char *folder, const char *subfolder, struct network_files *list) {
    char path[PATH_MAX];
    struct dirent **entries;
    bool done = true;

    snprintf(path, sizeof path, "%s/%s", folder, subfolder);
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        return true;

    for (int i = 0; i < count; i++) {
        struct stat status;
        if (done && is_network(entries[i]->d_name)) {
            int length = snprintf(path, sizeof path, "%s/%s/%s", folder, subfolder, entries[i]->d_name);
            if (length < (int)sizeof path && stat(path, &status) == 0 && S_ISREG(status.st_mode))
                done = add(list, subfolder, entries[i]->d_name, (uint64_t)status.st_size);
        }
        free(entries[i]);
    }
    free(entries);
    return done;
}

void network_files_version(const char *folder, char *ret, size_t size) {
    enum { DIGITS_MOST = 18 };
    long long highest = -1;
    DIR *open = opendir(folder);

    *ret = 0;
    for (struct dirent *entry; open && (entry = readdir(open));) {
        size_t digits = strspn(entry->d_name, "0123456789");
        struct stat status;
        if (digits == 0 || digits > DIGITS_MOST || entry->d_name[digits] || digits >= size ||
            atoll(entry->d_name) <= highest || fstatat(dirfd(open), entry->d_name, &status, 0) < 0 ||
            !S_ISDIR(status.st_mode))
            continue;
        highest = atoll(entry->d_name);
        text_copy(ret, size, entry->d_name);
    }
    if (open)
        closedir(open);
}

bool network_files_read(const char *folder, struct network_files *ret) {
    struct network_files list = {0};
    char version[24];

    network_files_version(folder, version, sizeof version);
    if (!read_subfolder(folder, "", &list) || !read_subfolder(folder, "onnx", &list) ||
        (version[0] && !read_subfolder(folder, version, &list))) {
        network_files_release(&list);
        return false;
    }

    if (list.count)
        qsort(list.files, list.count, sizeof *list.files, compare);
    *ret = list;
    return true;
}

void network_files_release(struct network_files *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->files[i].path);
    free(list->files);
    *list = (struct network_files){0};
}

const struct network_file *network_files_usual(const struct network_files *list) {
    const struct network_file *plain = find(list, "");
    return plain ? plain : list->count == 1 ? list->files : find(list, "quantized");
}

const struct network_file *network_files_find(const struct network_files *list, const char *variant) {
    const struct network_file *file = *variant ? find(list, variant) : NULL;
    return !file && strcmp(variant, "int8") == 0 ? find(list, "quantized") : file;
}

void network_files_name(const struct network_files *list, char *ret, size_t size) {
    size_t used = 0;
    *ret = 0;
    for (size_t i = 0; i < list->count && used < size; i++)
        used += (size_t)snprintf(ret + used, size - used, "%s%s", i ? ", " : "", list->files[i].path);
}
