#include "hub/pull.h"

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
#include "hub/download.h"
#include "model/folder.h"

#define PATH_BYTES 4096
#define SOURCE_NOTE "source.json"

/* One pull. */
struct pull {
    const char *directory;
    const struct pull_options *options;
    struct pull_source source;
    char published[PATH_BYTES], staging[PATH_BYTES];
    int lock;    /* the open staging folder, locked; -1: not yet */
    int current; /* index of the file that is being fetched */
    uint64_t bytes;
};

static bool make_path(char ret[PATH_BYTES], struct error *error, const char *folder, const char *prefix,
                      const char *name) {
    int length = snprintf(ret, PATH_BYTES, "%s/%s%s", folder, prefix, name);
    return (length > 0 && length < PATH_BYTES) ||
           error_set(error, ERROR_INVALID, "%s: the path is too long", folder);
}

static bool make_directories(const char *path, struct error *error) {
    cleanup(freep) char *copy = strdup(path);
    if (!copy)
        return error_set(error, ERROR_MEMORY, "%s: no memory", path);

    for (char *c = copy + 1; *c; c++) {
        if (*c != '/')
            continue;
        *c = 0;
        mkdir(copy, 0755); /* a failure shows at the last one */
        *c = '/';
    }

    if (mkdir(copy, 0755) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno,
                               "%s: cannot be created (choose another with GUICHET_MODELS)", path);
    return true;
}

/* Remove a folder and the plain files in it. Where it holds folders, these and it stay. */
static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder)
        return;

    for (struct dirent *entry; (entry = readdir(folder));)
        unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(path);
}

/* ---- The staging folder ---- */

static bool staging_open(struct pull *pull, struct error *error) {
    if (mkdir(pull->staging, 0755) < 0 && errno != EEXIST)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be created", pull->staging);

    pull->lock = open(pull->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (pull->lock < 0)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be opened", pull->staging);
    if (flock(pull->lock, LOCK_EX | LOCK_NB) < 0)
        return error_set(error, ERROR_UNAVAILABLE, "%s: another pull of it is running", pull->source.name);
    return true;
}

static bool source_has(const struct pull_source *source, const char *name) {
    for (int i = 0; i < source->count; i++) {
        size_t length = strlen(source->files[i].name);
        if (!strncmp(name, source->files[i].name, length) &&
            (!name[length] || !strcmp(name + length, ".part") || !strcmp(name + length, ".part.from")))
            return true;
    }

    /* Perhaps a file that the network names: known when that is here. */
    size_t length = strlen(name);
    static const char *const tails[] = {"", ".part", ".part.from"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (length > strlen(tails[i]) && !strcmp(name + length - strlen(tails[i]), tails[i]) &&
            pull_source_lists(source, name, length - strlen(tails[i])))
            return true;
    return false;
}

/* Remove what an earlier pull of another source left under the same name. */
static void staging_clean(struct pull *pull) {
    DIR *folder = opendir(pull->staging);
    if (!folder)
        return;

    for (struct dirent *entry; (entry = readdir(folder));)
        if (!source_has(&pull->source, entry->d_name))
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
}

/* Bytes of one file that are still to be fetched. */
static bool missing_bytes(const struct pull *pull, const struct pull_file *file, uint64_t *ret,
                          struct error *error) {
    char path[PATH_BYTES], part[PATH_BYTES];
    struct stat status;
    if (!make_path(path, error, pull->staging, "", file->name))
        return false;
    if ((size_t)snprintf(part, sizeof part, "%s.part", path) >= sizeof part)
        return error_set(error, ERROR_INVALID, "%s: the path is too long", pull->staging);

    bool exists = stat(path, &status) == 0 || stat(part, &status) == 0;
    uint64_t have = exists ? (uint64_t)status.st_size : 0;
    *ret = have < file->size ? file->size - have : 0;
    return true;
}

static bool check_space(const struct pull *pull, struct error *error) {
    uint64_t needed = 0;
    for (int i = 0; i < pull->source.count; i++) {
        uint64_t missing = 0;
        if (!missing_bytes(pull, &pull->source.files[i], &missing, error))
            return false;
        needed += missing;
    }

    struct statvfs disk;
    if (statvfs(pull->staging, &disk) < 0) /* not known: the writes will tell */
        return true;

    uint64_t available = (uint64_t)disk.f_bavail * disk.f_frsize;
    return needed <= available ||
           error_set(error, ERROR_IO, "%s: the disk is too full: %.0f MB are needed and %.0f MB are free",
                     pull->directory, (double)needed / 1e6, (double)available / 1e6);
}

/* ---- Files ---- */

static void on_progress(void *context, uint64_t done, uint64_t total) {
    struct pull *pull = context;
    pull->options->progress(pull->options->context, pull->source.files[pull->current].name, pull->current + 1,
                            pull->source.count, done, total);
}

/* A file that an earlier pull completed is kept where its hash is the expected one. */
static bool is_complete(const struct pull_file *file, const char *path, char sha256[SHA256_TEXT_BYTES]) {
    struct error ignored = {0};
    return file->sha256[0] && sha256_file(path, sha256, &ignored) && !strcasecmp(sha256, file->sha256);
}

static bool pull_one(struct pull *pull, const struct pull_file *file, char sha256[SHA256_TEXT_BYTES],
                     struct error *error) {
    char path[PATH_BYTES];
    if (!make_path(path, error, pull->staging, "", file->name))
        return false;

    struct download_options options = {
        .token = pull->options->token,
        .token_origin = pull->options->endpoint,
        .token_name = "HF_TOKEN",
        .sha256 = file->sha256[0] ? file->sha256 : NULL,
        .size = file->size,
        .limit = file->limit,
        .retries = pull->options->retries,
        .progress = pull->options->progress ? on_progress : NULL,
        .context = pull,
    };
    if (!is_complete(file, path, sha256) && !download_file(file->url, path, &options, sha256, error))
        return error_prefix(error, "%s", pull->source.name);

    struct stat status;
    if (stat(path, &status) < 0)
        return error_set_errno(error, ERROR_IO, errno, "%s", path);
    pull->bytes += (uint64_t)status.st_size;
    return true;
}

/* What the note of a model says of the files; NULL where there is none. */
static json_t *read_note(const char *folder) {
    char path[PATH_BYTES];
    size_t size;
    struct error ignored = {0};
    if (!make_path(path, &ignored, folder, "", SOURCE_NOTE))
        return NULL;
    cleanup(freep) char *text = file_read(path, LIMIT_CONFIG_BYTES, &size, &ignored);
    return text ? json_loadb(text, size, 0, NULL) : NULL;
}

static bool write_note(const struct pull *pull, const char *folder, json_t *files, struct error *error) {
    char path[PATH_BYTES];
    if (!make_path(path, error, folder, "", SOURCE_NOTE))
        return false;

    json_t *note = json_pack("{s:s, s:O}", "source", pull->source.origin, "files", files);
    cleanup(freep) char *text = note ? json_dumps(note, JSON_INDENT(1)) : NULL;
    json_decref(note);
    if (!text)
        return error_set(error, ERROR_MEMORY, "%s: no memory", path);
    return file_write(path, text, strlen(text), error);
}

/* The network is here: what it names beside it is fetched, too. */
static bool add_named_files(struct pull *pull, struct error *error) {
    char path[PATH_BYTES];
    return make_path(path, error, pull->staging, "", "model.onnx") &&
           (pull_source_add_named(&pull->source, pull->options, path, error) ||
            error_prefix(error, "%s", pull->source.name)) &&
           check_space(pull, error);
}

/* Fetch all files, and note where they came from. */
static bool pull_files(struct pull *pull, struct error *error) {
    bool done = true;
    json_t *files = json_array();

    for (pull->current = 0; done && pull->current < pull->source.count; pull->current++) {
        const struct pull_file *file = &pull->source.files[pull->current];
        char sha256[SHA256_TEXT_BYTES];
        done = pull_one(pull, file, sha256, error);
        if (done)
            json_array_append_new(files, json_pack("{s:s, s:s}", "name", file->name, "sha256", sha256));
        if (done && !strcmp(file->name, "model.onnx"))
            done = add_named_files(pull, error);
    }
    done = done && write_note(pull, pull->staging, files, error);

    json_decref(files);
    return done;
}

/* The staging folder becomes the model in one step; a model that it replaces is removed after that. */
static bool publish(struct pull *pull, struct error *error) {
    fsync(pull->lock);
    if (renameat2(AT_FDCWD, pull->staging, AT_FDCWD, pull->published, RENAME_NOREPLACE) == 0)
        return true;

    /* A file system without the flag. */
    if (errno == EINVAL && access(pull->published, F_OK) < 0 && rename(pull->staging, pull->published) == 0)
        return true;

    if (errno != EEXIST || !pull->options->force)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be created", pull->published);
    if (renameat2(AT_FDCWD, pull->staging, AT_FDCWD, pull->published, RENAME_EXCHANGE) < 0)
        return error_set_errno(error, ERROR_IO, errno, "%s: cannot be replaced", pull->published);
    remove_folder(pull->staging);
    return true;
}

/* ---- A variant more ---- */

/* Is there a language model of that name, which may get other files? */
static bool has_language(const struct pull *pull) {
    struct model_files files;
    struct error ignored;
    if (!model_files_find(pull->published, NULL, &files, &ignored))
        return false;
    bool is_language = files.kind == MODEL_LANGUAGE;
    model_files_release(&files);
    return is_language;
}

/* Does the model have the files that are to be pulled? */
static bool has_files(const struct pull *pull) {
    char path[PATH_BYTES];
    struct error ignored;
    struct stat status;
    for (int i = 0; i < pull->source.count; i++) {
        const struct pull_file *file = &pull->source.files[i];
        if (!make_path(path, &ignored, pull->published, "", file->name) || stat(path, &status) < 0 ||
            (file->size && (uint64_t)status.st_size != file->size))
            return false;
    }
    return true;
}

/* Files of one repository only may come together under a name. */
static bool check_origin(const struct pull *pull, struct error *error) {
    json_t *note = read_note(pull->published);
    const char *origin = json_string_value(json_object_get(note, "source"));
    size_t length = strcspn(pull->source.origin, "@");
    bool same = origin && pull->source.repository && strncmp(origin, pull->source.origin, length) == 0 &&
                origin[length] == '@';
    if (!same)
        error_set(error, ERROR_INVALID,
                  "%s exists, from %s: choose another name with --name, or replace it with --force",
                  pull->source.name, origin ? origin : "elsewhere");
    json_decref(note);
    return same;
}

/* The files join those of the model, the first part last: it is what the model is found by. */
static bool add_to_model(struct pull *pull, struct error *error) {
    char from[PATH_BYTES], to[PATH_BYTES];
    for (int i = pull->source.count - 1; i >= 0; i--) {
        const char *name = pull->source.files[i].name;
        if (!make_path(from, error, pull->staging, "", name) ||
            !make_path(to, error, pull->published, "", name))
            return false;
        if (rename(from, to) < 0)
            return error_set_errno(error, ERROR_IO, errno, "%s: cannot be created", to);
    }

    json_t *there = read_note(pull->published), *own = read_note(pull->staging), *all = json_array();
    json_array_extend(all, json_object_get(there, "files"));
    json_array_extend(all, json_object_get(own, "files"));
    bool done = write_note(pull, pull->published, all, error);
    json_decref(there);
    json_decref(own);
    json_decref(all);
    remove_folder(pull->staging);
    return done;
}

/* ---- All of it ---- */

/* A hash says that a file is the one of the listing; what comes from a URL may be a page that says sorry. */
static bool check_language(const struct pull *pull, struct error *error) {
    char path[PATH_BYTES];
    const char *name = pull->source.files[0].name;
    if (!make_path(path, error, pull->staging, "", name))
        return false;
    return model_file_is_gguf(path) || error_set(error, ERROR_MODEL, "%s is no GGUF file", name);
}

static bool complete(struct pull *pull, struct pull_result *result, struct error *error) {
    bool done = pull->source.is_language ? check_language(pull, error)
                                         : model_defaults_write(pull->staging, &result->defaults, error);
    if (done)
        return true;

    /* Complete and correct, but not a model: a resumed pull would fail again. */
    remove_folder(pull->staging);
    return error_prefix(error, "%s", pull->source.name);
}

static bool pull_into_staging(struct pull *pull, struct pull_result *result, struct error *error) {
    staging_clean(pull);
    if (!check_space(pull, error) || !pull_files(pull, error) || !complete(pull, result, error))
        return false;

    result->bytes = pull->bytes;
    memcpy(result->variant, pull->source.variant, sizeof result->variant);
    return result->added ? add_to_model(pull, error) : publish(pull, error);
}

static bool pull_run(struct pull *pull, struct pull_result *result, struct error *error) {
    const char *name = pull->source.name;
    if (!make_directories(pull->directory, error) ||
        !make_path(pull->published, error, pull->directory, "", name) ||
        !make_path(pull->staging, error, pull->directory, ".pull-", name))
        return false;

    memcpy(result->name, name, sizeof result->name);
    bool exists = !pull->options->force && access(pull->published, F_OK) == 0;
    if (exists && !has_language(pull)) {
        result->already = true;
        return true;
    }
    if (!pull_source_list_files(&pull->source, pull->options, error))
        return false;
    if (exists && (!pull->source.is_language || has_files(pull))) {
        result->already = true;
        return true;
    }

    result->added = exists;
    return (!exists || check_origin(pull, error)) && staging_open(pull, error) &&
           pull_into_staging(pull, result, error);
}

bool pull_model(const char *directory, const char *source, const struct pull_options *options,
                struct pull_result *ret, struct error *error) {
    struct pull pull = {.directory = directory, .options = options, .lock = -1};
    struct pull_result result = {0};
    if (!pull_source_parse(source, options, &pull.source, error))
        return false;

    bool done = pull_run(&pull, &result, error);

    if (pull.lock >= 0)
        close(pull.lock);
    rmdir(pull.staging); /* an empty one is not worth keeping */
    pull_source_release(&pull.source);
    if (done)
        *ret = result;

    return done;
}
