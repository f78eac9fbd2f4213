#include "hub/source.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/text.h"
#include "base/url.h"
#include "hub/huggingface.h"
#include "hub/source_private.h"

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcasecmp(text + length - tail, end);
}

bool source_add_file(struct pull_source *source, char *url, const char *name, uint64_t size,
                     const char *sha256, uint64_t limit, struct error *error) {
    if (source->count == LIMIT_PULL_FILES) {
        free(url);
        return error_set(error, ERROR_TOO_LARGE, "%s: more than %d files", source->origin, LIMIT_PULL_FILES);
    }

    struct pull_file *file = &source->files[source->count++];
    *file = (struct pull_file){.url = url, .name = strdup(name), .size = size, .limit = limit};
    if (sha256)
        snprintf(file->sha256, sizeof file->sha256, "%s", sha256);
    if (!file->url || !file->name)
        return error_set(error, ERROR_MEMORY, "%s: no memory", source->origin);

    if (size > limit)
        return error_set(error, ERROR_TOO_LARGE, "%s: %s has %llu bytes, but the limit is %llu",
                         source->origin, name, (unsigned long long)size, (unsigned long long)limit);
    return true;
}

/* Set the model's name: options->name, or one made from the first `length` bytes of `suggested`. */
static bool source_set_name(struct pull_source *source, const struct pull_options *options,
                            const char *suggested, size_t length, struct error *error) {
    if (options->name) {
        if (!model_folder_name_valid(options->name))
            return error_set(error, ERROR_INVALID, "%s: not a name for a model: " MODEL_NAME_RULE,
                             options->name);
        snprintf(source->name, sizeof source->name, "%s", options->name);
        return true;
    }

    size_t used = 0;
    for (size_t i = 0; i < length && used < MODEL_NAME_PART; i++) {
        char c = (char)tolower((unsigned char)suggested[i]);
        if (used > 0 || isalnum((unsigned char)c))
            source->name[used++] = isalnum((unsigned char)c) || strchr("-_.", c) ? c : '-';
    }
    source->name[used] = 0;

    return used > 0 ||
           error_set(error, ERROR_INVALID,
                     "%s: does not say what to call the model: choose a name with --name", source->origin);
}

static bool source_set_origin(struct pull_source *source, struct error *error, const char *format,
                              const char *a, const char *b) {
    struct buffer text = {0};
    if (!buffer_printf(&text, format, a, b))
        return error_set(error, ERROR_MEMORY, "no memory");
    source->origin = text.bytes;
    return true;
}

/* ---- Hugging Face ---- */

/* The only ONNX file of a repository. */
static const struct huggingface_file *find_only_network(const struct pull_source *source,
                                                        const struct huggingface_listing *listing,
                                                        struct error *error) {
    const struct huggingface_file *network = NULL;
    char names[240] = "";
    int count = 0;

    for (size_t i = 0; i < listing->count; i++) {
        if (!ends_with(listing->files[i].path, ".onnx"))
            continue;
        network = &listing->files[i];
        size_t used = strlen(names);
        if (count++ < 5)
            snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", network->path);
    }
    if (count == 1)
        return network;

    error_set(error, ERROR_NOT_FOUND, "%s: has %d networks: choose one with --file (%s…)", source->origin,
              count, names);
    return NULL;
}

/* Which of a repository's networks: the one asked for, the usual one, or the only one. */
static const struct huggingface_file *choose_network(const struct pull_source *source,
                                                     const struct huggingface_listing *listing,
                                                     const char *wanted, struct error *error) {
    static const char *const usual[] = {"onnx/model.onnx", "model.onnx"};

    if (wanted) {
        const struct huggingface_file *file = huggingface_listing_find(listing, wanted);
        if (!file)
            error_set(error, ERROR_NOT_FOUND, "%s: has no file %s", source->origin, wanted);
        return file;
    }

    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        const struct huggingface_file *file = huggingface_listing_find(listing, usual[i]);
        if (file)
            return file;
    }
    return find_only_network(source, listing, error);
}

/* External data is in the network's folder, and its name begins with the network's: model.onnx_data,
 * model.onnx.data, model.data. */
static bool is_data_of(const char *path, const char *network) {
    size_t folder = (size_t)(source_base_name(network) - network), whole = strlen(network),
           stem = whole - strlen(".onnx");
    if (strncmp(path, network, folder) != 0 || strchr(path + folder, '/') || strlen(path) <= stem)
        return false;

    if (strlen(path) > whole && !strncmp(path, network, whole))
        return path[whole] == '_' || path[whole] == '.' || path[whole] == '-';
    return ends_with(network, ".onnx") && !strncmp(path, network, stem) &&
           (!strcmp(path + stem, ".data") || !strcmp(path + stem, ".bin") ||
            !strcmp(path + stem, ".weights"));
}

bool source_add_listed(struct pull_source *source, const struct huggingface *hub,
                       const struct huggingface_file *file, const char *name, uint64_t limit,
                       struct error *error) {
    char *url = huggingface_file_url(hub, source->repository, source->revision, file->path);
    return source_add_file(source, url, name, file->size, file->sha256, limit, error);
}

/* The config files, the network's external data, and the network. */
static bool source_add_network(struct pull_source *source, const struct huggingface *hub, const char *wanted,
                               const struct huggingface_listing *listing, struct error *error) {
    static const char *const configs[] = {"config.json", "preprocessor_config.json"};
    const struct huggingface_file *network = choose_network(source, listing, wanted, error);
    if (!network)
        return false;

    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        const struct huggingface_file *config = huggingface_listing_find(listing, configs[i]);
        if (config && !source_add_listed(source, hub, config, configs[i], LIMIT_CONFIG_BYTES, error))
            return false;
    }

    for (size_t i = 0; i < listing->count; i++) {
        const struct huggingface_file *file = &listing->files[i];
        if (is_data_of(file->path, network->path) &&
            !source_add_listed(source, hub, file, source_base_name(file->path), LIMIT_MODEL_BYTES, error))
            return false;
    }

    source->network = strdup(network->path);
    return source->network ? source_add_listed(source, hub, network, "model.onnx", LIMIT_MODEL_BYTES, error)
                           : error_set(error, ERROR_MEMORY, "%s: no memory", source->origin);
}

/* An ONNX network where there is one and no variant is asked for, else a language model. */
static bool source_add_repository(struct pull_source *source, const struct huggingface *hub,
                                  const struct pull_options *options, struct error *error) {
    const struct huggingface_listing *listing = &source->listing;
    const char *wanted = source->file ? source->file : options->file;
    bool networks = false, language = false;
    for (size_t i = 0; i < listing->count; i++) {
        networks = networks || ends_with(listing->files[i].path, ".onnx");
        language = language || language_file_is_named(listing->files[i].path);
    }

    if (!networks && !language)
        return source_refuse_foreign(source, options, error);
    if (wanted ? language_file_is_named(wanted) : source->variant[0] || (language && !networks))
        return source_add_language(source, hub, wanted, listing, error);
    return source_add_network(source, hub, wanted, listing, error);
}

/* Repositories of GGUF files are called so: the model is not. */
static size_t name_length(const char *name) {
    static const char *const endings[] = {"-GGUF", "_GGUF", ".GGUF"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (length > strlen(endings[i]) && ends_with(name, endings[i]))
            return length - strlen(endings[i]);
    return length;
}

/* `text`: OWNER/REPO[@REV][:VARIANT] */
static bool parse_repository(struct pull_source *source, const char *text, const struct pull_options *options,
                             struct error *error) {
    size_t repository = strcspn(text, "@:");
    const char *revision = text[repository] == '@' ? text + repository + 1 : "",
               *colon = strchr(text + repository, ':'), *variant = colon ? colon + 1 : NULL;
    source->repository = strndup(text, repository);
    source->revision = strndup(*revision ? revision : "main", *revision ? strcspn(revision, ":") : 4);
    if (!source->repository || !source->revision)
        return error_set(error, ERROR_MEMORY, "no memory");
    if (!huggingface_repository_is_valid(source->repository) || !huggingface_path_is_safe(source->revision) ||
        (text[repository] == '@' && !*revision) || (variant && !model_folder_name_valid(variant)))
        return error_set(error, ERROR_INVALID,
                         "hf:%s: not a repository: hf:OWNER/REPO, with @REVISION or :VARIANT behind it",
                         text);
    if (variant && options->file)
        return error_set(error, ERROR_INVALID, "hf:%s: either :%s or --file, not both", text, variant);

    if (variant)
        text_copy(source->variant, sizeof source->variant, variant);
    const char *name = source->entry ? source->entry->name : source_base_name(source->repository);
    return source_set_origin(source, error, "hf:%s@%s", source->repository, source->revision) &&
           source_set_name(source, options, name, name_length(name), error);
}

bool pull_source_list_files(struct pull_source *source, const struct pull_options *options,
                            struct error *error) {
    if (!source->repository) /* a URL is its own file */
        return true;

    struct huggingface hub = {options->endpoint, options->token, options->retries};
    size_t known = source->entry && !options->file ? source->entry->file_count : 0; /* no page has an entry */
    for (size_t i = 0; i < known; i++) {
        const struct catalogue_file *file = &source->entry->files[i];
        char *url = huggingface_file_url(&hub, source->repository, source->revision, file->path);
        if (!source_add_file(source, url, file->name, file->size, file->sha256, LIMIT_MODEL_BYTES, error))
            return false;
    }

    if (known)
        return true;

    return huggingface_list(&hub, source->repository, source->revision, &source->listing, error) &&
           source_add_repository(source, &hub, options, error);
}

/* The address of a repository's page, or of a file's. */
static bool parse_page(struct pull_source *source, const char *text, const struct pull_options *options,
                       struct error *error) {
    cleanup(freep) char *repository = NULL;
    if (!source_read_page(text, options->endpoint, &repository, &source->file, error))
        return false;
    if (source->file && options->file)
        return error_set(error, ERROR_INVALID, "%s: is the address of a file: --file names another", text);
    return parse_repository(source, repository, options, error);
}

/* OWNER/REPO[@REV][:VARIANT], without hf: before it. */
static bool is_repository(const char *text) {
    cleanup(freep) char *repository = strndup(text, strcspn(text, "@:"));
    return repository && huggingface_repository_is_valid(repository);
}

/* ---- URLs ---- */

static bool parse_url(struct pull_source *source, const char *text, const struct pull_options *options,
                      struct error *error) {
    struct url url;
    if (!url_parse(text, &url, error))
        return false;
    if (options->sha256 && !sha256_text_is_valid(options->sha256))
        return error_set(error, ERROR_INVALID, "%s: not a SHA-256: 64 hexadecimal digits", options->sha256);

    cleanup(freep) char *path = strndup(url.path, strcspn(url.path, "?"));
    if (!path)
        return error_set(error, ERROR_MEMORY, "no memory");

    size_t length;
    source->is_language = language_file_is_named(source_base_name(path));
    const char *name = language_file_stem(path, &length);
    if (length > 5 && !strncasecmp(name + length - 5, ".onnx", 5))
        length -= 5;
    if (!source_set_origin(source, error, "%s%s", text, "") ||
        !source_set_name(source, options, name, length, error))
        return false;
    if (source->is_language)
        return source_add_language_url(source, text, source_base_name(path), options->sha256, error);
    if (!strpbrk(text, "?#") && !(source->network = strdup(text)))
        return error_set(error, ERROR_MEMORY, "no memory");
    return source_add_file(source, strdup(text), "model.onnx", 0, options->sha256, LIMIT_MODEL_BYTES, error);
}

static bool refuse_unknown(const char *text, struct error *error) {
    char names[200] = "";
    for (size_t i = 0; i < catalogue_count(); i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", catalogue_at(i)->name);
    }

    return error_set(error, ERROR_NOT_FOUND,
                     "%s: not in the catalogue (%s), nor OWNER/REPO on Hugging Face, nor an http(s) URL",
                     text, names);
}

bool pull_source_parse(const char *text, const struct pull_options *options, struct pull_source *ret,
                       struct error *error) {
    struct pull_source source = {.entry = catalogue_find(text)};
    bool done;

    if (source.entry) {
        char repository[300];
        snprintf(repository, sizeof repository, "%s@%s", source.entry->repository, source.entry->revision);
        done = parse_repository(&source, repository, options, error);
    } else if (!strncmp(text, "hf:", 3)) {
        done = parse_repository(&source, text + 3, options, error);
    } else if (source_is_page(text, options->endpoint)) {
        done = parse_page(&source, text, options, error);
    } else if (!strncasecmp(text, "http://", 7) || !strncasecmp(text, "https://", 8)) {
        done = parse_url(&source, text, options, error);
    } else if (is_repository(text)) {
        done = parse_repository(&source, text, options, error);
    } else {
        done = refuse_unknown(text, error);
    }

    if (done)
        *ret = source;
    else
        pull_source_release(&source);
    return done;
}

void pull_source_release(struct pull_source *source) {
    for (int i = 0; i < source->count; i++) {
        free(source->files[i].url);
        free(source->files[i].name);
    }

    free(source->origin);
    free(source->repository);
    free(source->revision);
    free(source->network);
    free(source->file);
    huggingface_listing_release(&source->listing);
    *source = (struct pull_source){0};
}
