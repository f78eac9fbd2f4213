#include "serve/pull_source.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "model/catalogue.h"

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcasecmp(text + length - tail, end);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Takes `url`; `sha256` may be NULL or "". */
static bool plan_add(struct pull_plan *plan, char *url, const char *name, uint64_t size, const char *sha256,
                     uint64_t limit, struct error *error) {
    if (plan->count == PULL_FILES) {
        free(url);
        return error_set(error, ERROR_TOO_LARGE, "%s: more than %d files", plan->origin, PULL_FILES);
    }
    struct pull_file *file = &plan->files[plan->count++];
    *file = (struct pull_file){.url = url, .name = strdup(name), .size = size, .limit = limit};
    if (sha256)
        snprintf(file->sha256, sizeof file->sha256, "%s", sha256);
    if (!file->url || !file->name)
        return error_set(error, ERROR_MEMORY, "%s: no memory", plan->origin);
    if (size > limit)
        return error_set(error, ERROR_TOO_LARGE, "%s: %s has %llu bytes, and the limit is %llu", plan->origin,
                         name, (unsigned long long)size, (unsigned long long)limit);
    return true;
}

static bool plan_name(struct pull_plan *plan, const struct pull_options *options, const char *suggested,
                      size_t length, struct error *error) {
    if (options->name) {
        if (!model_name_valid(options->name))
            return error_set(error, ERROR_INVALID,
                             "%s: not a name for a model: letters, digits, '-', '_' and '.', at most %d",
                             options->name, MODEL_NAME_BYTES - 1);
        snprintf(plan->name, sizeof plan->name, "%s", options->name);
        return true;
    }
    size_t used = 0;
    for (size_t i = 0; i < length && used + 1 < sizeof plan->name; i++) {
        char c = (char)tolower((unsigned char)suggested[i]);
        if (used > 0 || isalnum((unsigned char)c))
            plan->name[used++] = isalnum((unsigned char)c) || strchr("-_.", c) ? c : '-';
    }
    plan->name[used] = 0;
    return used > 0 || error_set(error, ERROR_INVALID,
                                 "%s: no name can be made from it: give one with --name", plan->origin);
}

static bool plan_origin(struct pull_plan *plan, struct error *error, const char *format, const char *a,
                        const char *b) {
    struct buffer text = {0};
    if (!buffer_printf(&text, format, a, b))
        return error_set(error, ERROR_MEMORY, "no memory");
    plan->origin = text.bytes;
    return true;
}

/* ---- Hugging Face ---- */

/* Which of a repository's networks: as asked, as the layout says, or the only one there is. */
static const struct hub_file *choose_network(const struct pull_plan *plan, const struct hub_listing *listing,
                                             const char *asked, struct error *error) {
    static const char *const usual[] = {"onnx/model.onnx", "model.onnx"};
    const struct hub_file *only = NULL;
    char names[240] = "";
    int count = 0;
    if (asked) {
        only = hub_listing_find(listing, asked);
        if (!only)
            error_set(error, ERROR_NOT_FOUND, "%s: has no file %s", plan->origin, asked);
        return only;
    }
    for (size_t i = 0; i < 2; i++)
        if ((only = hub_listing_find(listing, usual[i])))
            return only;
    for (size_t i = 0; i < listing->count; i++) {
        if (!ends_with(listing->files[i].path, ".onnx"))
            continue;
        only = &listing->files[i];
        size_t used = strlen(names);
        if (count++ < 5)
            snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", only->path);
    }
    if (count == 1)
        return only;
    error_set(error, ERROR_NOT_FOUND,
              count ? "%s: %d networks: choose one with --file (%s…)" : "%s: has no ONNX file (%d of them)%s",
              plan->origin, count, names);
    return NULL;
}

/* External data lies beside its network and begins with its name: model.onnx_data, model.onnx.data,
 * model.data. */
static bool is_data_of(const char *path, const char *network) {
    size_t folder = (size_t)(base_name(network) - network), whole = strlen(network),
           stem = whole - strlen(".onnx");
    if (strncmp(path, network, folder) || strchr(path + folder, '/') || strlen(path) <= stem)
        return false;
    if (strlen(path) > whole && !strncmp(path, network, whole))
        return path[whole] == '_' || path[whole] == '.' || path[whole] == '-';
    return ends_with(network, ".onnx") && !strncmp(path, network, stem) &&
           (!strcmp(path + stem, ".data") || !strcmp(path + stem, ".bin") ||
            !strcmp(path + stem, ".weights"));
}

static bool plan_add_hub(struct pull_plan *plan, const struct hub *hub, const struct hub_file *file,
                         const char *name, uint64_t limit, struct error *error) {
    return plan_add(plan, hub_file_url(hub, plan->repository, plan->revision, file->path), name, file->size,
                    file->sha256, limit, error);
}

static bool plan_repository_files(struct pull_plan *plan, const struct hub *hub, const char *asked,
                                  const struct hub_listing *listing, struct error *error) {
    static const char *const configs[] = {"config.json", "preprocessor_config.json"};
    const struct hub_file *network = choose_network(plan, listing, asked, error);
    if (!network)
        return false;
    for (size_t i = 0; i < 2; i++) {
        const struct hub_file *config = hub_listing_find(listing, configs[i]);
        if (config && !plan_add_hub(plan, hub, config, configs[i], LIMIT_CONFIG_BYTES, error))
            return false;
    }
    for (size_t i = 0; i < listing->count; i++) {
        const struct hub_file *file = &listing->files[i];
        if (is_data_of(file->path, network->path) &&
            !plan_add_hub(plan, hub, file, base_name(file->path), LIMIT_MODEL_BYTES, error))
            return false;
    }
    return plan_add_hub(plan, hub, network, "model.onnx", LIMIT_MODEL_BYTES, error);
}

/* `source`: OWNER/REPO[@REV] */
static bool plan_hub_source(struct pull_plan *plan, const char *source, const struct pull_options *options,
                            struct error *error) {
    const char *at = strchr(source, '@');
    plan->repository = strndup(source, at ? (size_t)(at - source) : strlen(source));
    plan->revision = strdup(at ? at + 1 : "main");
    if (!plan->repository || !plan->revision)
        return error_set(error, ERROR_MEMORY, "no memory");
    if (!hub_repository_valid(plan->repository) || !hub_path_safe(plan->revision))
        return error_set(error, ERROR_INVALID,
                         "hf:%s: not a repository: hf:OWNER/REPO or hf:OWNER/REPO@REVISION", source);
    const char *name = plan->entry ? plan->entry->name : base_name(plan->repository);
    return plan_origin(plan, error, "hf:%s@%s", plan->repository, plan->revision) &&
           plan_name(plan, options, name, strlen(name), error);
}

bool pull_plan_list(struct pull_plan *plan, const struct pull_options *options, struct error *error) {
    struct hub hub = {options->endpoint, options->token, options->retries};
    size_t known = plan->entry && !options->file ? plan->entry->file_count : 0;
    for (size_t i = 0; i < known; i++) {
        const struct catalogue_file *file = &plan->entry->files[i];
        if (!plan_add(plan, hub_file_url(&hub, plan->repository, plan->revision, file->path), file->name,
                      file->size, file->sha256, LIMIT_MODEL_BYTES, error))
            return false;
    }
    if (known || !plan->repository)
        return true;
    struct hub_listing listing = {0};
    if (!hub_list(&hub, plan->repository, plan->revision, &listing, error))
        return false;
    bool done = plan_repository_files(plan, &hub, options->file, &listing, error);
    hub_listing_release(&listing);
    return done;
}

/* ---- Plain addresses, and what is none of these ---- */

static bool plan_address(struct pull_plan *plan, const char *url, const struct pull_options *options,
                         struct error *error) {
    size_t end = strcspn(url, "?#"), start = end;
    while (start > 0 && url[start - 1] != '/')
        start--;
    size_t length = end - start;
    if (length > 5 && !strncasecmp(url + end - 5, ".onnx", 5))
        length -= 5;
    if (strlen(url) > LIMIT_URL_BYTES)
        return error_set(error, ERROR_INVALID, "the address is longer than %d bytes", LIMIT_URL_BYTES);
    if (options->sha256 &&
        (strlen(options->sha256) != 64 || strspn(options->sha256, "0123456789abcdefABCDEF") != 64))
        return error_set(error, ERROR_INVALID, "%s: not a SHA-256: 64 hexadecimal digits", options->sha256);
    return plan_origin(plan, error, "%s%s", url, "") &&
           plan_name(plan, options, url + start, length, error) &&
           plan_add(plan, strdup(url), "model.onnx", 0, options->sha256, LIMIT_MODEL_BYTES, error);
}

static bool plan_unknown(const char *source, struct error *error) {
    char names[200] = "";
    for (size_t i = 0; i < catalogue_count(); i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", catalogue_at(i)->name);
    }
    return error_set(error, ERROR_NOT_FOUND,
                     "%s: not in the catalogue (%s), nor hf:OWNER/REPO, nor an http(s) address", source,
                     names);
}

bool pull_plan_make(const char *source, const struct pull_options *options, struct pull_plan *ret,
                    struct error *error) {
    struct pull_plan plan = {0};
    bool done;
    plan.entry = catalogue_find(source);
    if (plan.entry) {
        char place[300];
        snprintf(place, sizeof place, "%s@%s", plan.entry->repository, plan.entry->revision);
        done = plan_hub_source(&plan, place, options, error);
    } else if (!strncmp(source, "hf:", 3))
        done = plan_hub_source(&plan, source + 3, options, error);
    else if (!strncasecmp(source, "http://", 7) || !strncasecmp(source, "https://", 8))
        done = plan_address(&plan, source, options, error);
    else
        done = plan_unknown(source, error);
    if (done)
        *ret = plan;
    else
        pull_plan_release(&plan);
    return done;
}

void pull_plan_release(struct pull_plan *plan) {
    for (int i = 0; i < plan->count; i++) {
        free(plan->files[i].url);
        free(plan->files[i].name);
    }
    free(plan->origin);
    free(plan->repository);
    free(plan->revision);
    *plan = (struct pull_plan){0};
}
