#include "serve/pull.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define PATH_BYTES 4096
#define SOURCE_FILE "source.json"

/* A pull under way. */
struct pull {
    const char *directory;
    const struct pull_options *options;
    const struct pull_plan *plan;
    char final[PATH_BYTES], staging[PATH_BYTES];
    int lock; /* the staging folder, locked */
    int number;
    uint64_t bytes;
};

static bool make_path(char ret[PATH_BYTES], struct error *error, const char *folder, const char *prefix,
                      const char *name) {
    int length = snprintf(ret, PATH_BYTES, "%s/%s%s", folder, prefix, name);
    return (length > 0 && length < PATH_BYTES) ||
           error_set(error, ERROR_INVALID, "%s: too long a path", folder);
}

static bool make_directories(const char *path, struct error *error) {
    cleanup(freep) char *copy = strdup(path);
    if (!copy)
        return error_set(error, ERROR_MEMORY, "%s: no memory", path);
    for (char *c = copy + 1; *c; c++) {
        if (*c != '/')
            continue;
        *c = 0;
        mkdir(copy, 0755); /* what cannot be made shows at the last one */
        *c = '/';
    }
    if (mkdir(copy, 0755) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno,
                               "%s: cannot be made (choose another with GUICHET_MODELS)", path);
    return true;
}

/* Remove a folder of plain files, and what is in it. Folders within stay, and then so does it. */
static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder));)
        unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(path);
}

static bool staging_open(struct pull *pull, struct error *error) {
    if (mkdir(pull->staging, 0755) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be made", pull->staging);
    pull->lock = open(pull->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (pull->lock < 0)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be opened", pull->staging);
    if (flock(pull->lock, LOCK_EX | LOCK_NB) == 0)
        return true;
    return error_set(error, ERROR_UNAVAILABLE, "%s: another pull of it is under way", pull->plan->name);
}

static bool plan_has(const struct pull_plan *plan, const char *name) {
    for (int i = 0; i < plan->count; i++) {
        size_t length = strlen(plan->files[i].name);
        if (!strncmp(name, plan->files[i].name, length) &&
            (!name[length] || !strcmp(name + length, ".part") || !strcmp(name + length, ".part.from")))
            return true;
    }
    return false;
}

/* What an earlier pull of something else left under the same name has no business in this one. */
static void staging_clean(struct pull *pull) {
    DIR *folder = opendir(pull->staging);
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (!plan_has(pull->plan, entry->d_name))
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
}

/* Bytes of the plan that are not on the disk yet, against what is free. */
static bool check_space(const struct pull *pull, struct error *error) {
    uint64_t need = 0;
    struct statvfs disk;
    for (int i = 0; i < pull->plan->count; i++) {
        const struct pull_file *file = &pull->plan->files[i];
        char path[PATH_BYTES], part[PATH_BYTES];
        struct stat status;
        if (!make_path(path, error, pull->staging, "", file->name) ||
            (size_t)snprintf(part, sizeof part, "%s.part", path) >= sizeof part)
            return error_set(error, ERROR_INVALID, "%s: too long a path", pull->staging);
        bool there = stat(path, &status) == 0 || stat(part, &status) == 0;
        uint64_t have = there ? (uint64_t)status.st_size : 0;
        need += have < file->size ? file->size - have : 0;
    }
    if (statvfs(pull->staging, &disk) < 0)
        return true;
    uint64_t available = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (need <= available)
        return true;
    return error_set(error, ERROR_IO, "%s: the disk is too full: %.0f MB are needed and %.0f MB are free",
                     pull->directory, (double)need / 1e6, (double)available / 1e6);
}

static void on_progress(void *context, uint64_t done, uint64_t total) {
    struct pull *pull = context;
    pull->options->progress(pull->options->context, pull->plan->files[pull->number].name, pull->number + 1,
                            pull->plan->count, done, total);
}

/* A file that an earlier pull finished is kept where its hash tells that it is right. */
static bool pull_one(struct pull *pull, const struct pull_file *file, char sha256[DOWNLOAD_SHA256_TEXT],
                     struct error *error) {
    char path[PATH_BYTES];
    struct error ignored = {0};
    struct stat status;
    if (!make_path(path, error, pull->staging, "", file->name))
        return false;
    bool kept =
        file->sha256[0] && download_hash_file(path, sha256, &ignored) && !strcasecmp(sha256, file->sha256);
    struct download_options options = {
        .token = pull->options->token,
        .token_origin = pull->options->endpoint,
        .sha256 = file->sha256[0] ? file->sha256 : NULL,
        .size = file->size,
        .limit = file->limit,
        .retries = pull->options->retries,
        .progress = pull->options->progress ? on_progress : NULL,
        .context = pull,
    };
    if (!kept && !download_file(file->url, path, &options, sha256, error))
        return error_prefix(error, "%s", pull->plan->name);
    if (stat(path, &status) < 0)
        return error_set_errno(error, ERROR_IO, errno, "%s", path);
    pull->bytes += (uint64_t)status.st_size;
    return true;
}

/* Fetch all of it, and note where it came from. */
static bool pull_files(struct pull *pull, struct error *error) {
    char path[PATH_BYTES];
    json_t *files = json_array(), *note = json_object();
    bool done = files && note;
    if (!done)
        error_set(error, ERROR_MEMORY, "%s: no memory", pull->plan->name);
    for (pull->number = 0; done && pull->number < pull->plan->count; pull->number++) {
        const struct pull_file *file = &pull->plan->files[pull->number];
        char sha256[DOWNLOAD_SHA256_TEXT];
        done = pull_one(pull, file, sha256, error);
        if (done)
            json_array_append_new(files, json_pack("{s:s, s:s}", "name", file->name, "sha256", sha256));
    }
    json_object_set_new(note, "source", json_string(pull->plan->origin));
    json_object_set_new(note, "files", files);
    cleanup(freep) char *text = json_dumps(note, JSON_INDENT(1));
    json_decref(note);
    if (!done || !make_path(path, error, pull->staging, "", SOURCE_FILE))
        return false;
    if (!text)
        return error_set(error, ERROR_MEMORY, "%s: no memory", path);
    return file_write(path, text, strlen(text), error);
}

/* The staging folder becomes the model, in one step; a model that was there goes away after it. */
static bool publish(struct pull *pull, struct error *error) {
    fsync(pull->lock);
    if (renameat2(AT_FDCWD, pull->staging, AT_FDCWD, pull->final, RENAME_NOREPLACE) == 0)
        return true;
    if (errno == EINVAL && access(pull->final, F_OK) < 0 && rename(pull->staging, pull->final) == 0)
        return true; /* a file system without the flag */
    if (errno != EEXIST || !pull->options->force)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be put there", pull->final);
    if (renameat2(AT_FDCWD, pull->staging, AT_FDCWD, pull->final, RENAME_EXCHANGE) < 0)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be replaced", pull->final);
    remove_folder(pull->staging);
    return true;
}

static bool pull_into_staging(struct pull *pull, struct pull_result *result, struct error *error) {
    staging_clean(pull);
    if (!check_space(pull, error) || !pull_files(pull, error))
        return false;
    if (!pull_supply(pull->staging, &result->supplied, error)) {
        /* Whole, as announced, and no model: nothing to go on with. */
        remove_folder(pull->staging);
        return error_prefix(error, "%s", pull->plan->name);
    }
    result->bytes = pull->bytes;
    return publish(pull, error);
}

bool pull_model(const char *directory, const char *source, const struct pull_options *options,
                struct pull_result *ret, struct error *error) {
    struct pull_plan plan;
    struct pull_result result = {0};
    if (!pull_plan_make(source, options, &plan, error))
        return false;
    struct pull pull = {.directory = directory, .options = options, .plan = &plan, .lock = -1};
    snprintf(result.name, sizeof result.name, "%s", plan.name);
    bool done = make_directories(directory, error) &&
                make_path(pull.final, error, directory, "", plan.name) &&
                make_path(pull.staging, error, directory, ".pull-", plan.name);
    if (done && !options->force && access(pull.final, F_OK) == 0)
        result.already = true;
    else if (done)
        done = pull_plan_list(&plan, options, error) && staging_open(&pull, error) &&
               pull_into_staging(&pull, &result, error);
    if (pull.lock >= 0)
        close(pull.lock);
    rmdir(pull.staging); /* where nothing came, nothing stays */
    pull_plan_release(&plan);
    if (done)
        *ret = result;
    return done;
}
