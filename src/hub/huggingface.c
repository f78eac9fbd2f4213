#include "hub/huggingface.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "hub/download.h"

static void json_freep(json_t **json) {
    json_decref(*json);
}

bool huggingface_repository_is_valid(const char *repository) {
    const char *slash = strchr(repository, '/');
    if (!slash || slash == repository || !slash[1] || strchr(slash + 1, '/') ||
        strlen(repository) > LIMIT_REPOSITORY_BYTES)
        return false;

    for (const char *c = repository; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_./", *c))
            return false;

    return huggingface_path_is_safe(repository);
}

bool huggingface_path_is_safe(const char *path) {
    if (!*path || strlen(path) > LIMIT_NAME_BYTES)
        return false;
    for (const char *c = path; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '\\')
            return false;

    for (const char *segment = path;;) {
        size_t length = strcspn(segment, "/");
        if (length == 0 || (length == 1 && segment[0] == '.') || (length == 2 && !strncmp(segment, "..", 2)))
            return false;
        if (!segment[length])
            return true;
        segment += length + 1;
    }
}

/* Percent-encode all but the unreserved characters and those in `keep`. */
static void append_encoded(struct buffer *buffer, const char *text, const char *keep) {
    for (const char *c = text; *c; c++) {
        if (isalnum((unsigned char)*c) || strchr("-_.~", *c) || strchr(keep, *c))
            buffer_append(buffer, c, 1);
        else
            buffer_printf(buffer, "%%%02X", (unsigned char)*c);
    }
}

static void append_endpoint(struct buffer *buffer, const struct huggingface *hub) {
    size_t length = strlen(hub->endpoint);
    while (length && hub->endpoint[length - 1] == '/')
        length--;
    buffer_append(buffer, hub->endpoint, length);
}

static char *listing_url(const struct huggingface *hub, const char *repository, const char *revision) {
    struct buffer url = {0};
    append_endpoint(&url, hub);
    buffer_printf(&url, "/api/models/%s/tree/", repository);
    append_encoded(&url, revision, "");
    buffer_append_string(&url, "?recursive=true");

    if (url.failed)
        buffer_release(&url);
    return url.bytes;
}

char *huggingface_file_url(const struct huggingface *hub, const char *repository, const char *revision,
                           const char *path) {
    struct buffer url = {0};
    append_endpoint(&url, hub);
    buffer_printf(&url, "/%s/resolve/", repository);
    append_encoded(&url, revision, "");
    buffer_append_string(&url, "/");
    append_encoded(&url, path, "/");

    if (url.failed)
        buffer_release(&url);
    return url.bytes;
}

char *huggingface_neighbour_url(const char *url, const char *name) {
    struct buffer text = {0};
    buffer_append(&text, url, (size_t)(strrchr(url, '/') - url) + 1);
    append_encoded(&text, name, "");

    if (text.failed)
        buffer_release(&text);
    return text.bytes;
}

/* One entry of the listing into `file`; false where it is not a file that can be used. */
static bool read_entry(json_t *entry, struct huggingface_file *file) {
    const char *type = json_string_value(json_object_get(entry, "type"));
    const char *path = json_string_value(json_object_get(entry, "path"));
    json_t *large = json_object_get(entry, "lfs");
    json_t *size = json_object_get(large ? large : entry, "size");

    if (!type || strcmp(type, "file") != 0 || !path || !huggingface_path_is_safe(path) ||
        !json_is_integer(size) || json_integer_value(size) < 0)
        return false;

    *file = (struct huggingface_file){.path = strdup(path), .size = (uint64_t)json_integer_value(size)};
    const char *sha256 = json_string_value(json_object_get(large, "oid"));
    if (sha256 && sha256_text_is_valid(sha256))
        memcpy(file->sha256, sha256, sizeof file->sha256);
    return file->path;
}

/* Append the files of one page. */
static bool read_page(const char *url, const struct buffer *body, struct huggingface_listing *listing,
                      struct error *error) {
    json_error_t at;
    cleanup(json_freep) json_t *page = body->bytes ? json_loadb(body->bytes, body->size, 0, &at) : NULL;
    if (!json_is_array(page))
        return error_set(error, ERROR_UPSTREAM,
                         "%s: the response is not a list of files: is this a Hugging Face endpoint?", url);

    size_t total = listing->count + json_array_size(page);
    if (total > LIMIT_LISTING_FILES)
        return error_set(error, ERROR_TOO_LARGE, "%s: lists more than %d files", url, LIMIT_LISTING_FILES);

    struct huggingface_file *files = realloc(listing->files, (total + 1) * sizeof *files);
    if (!files)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for its list of files", url);
    listing->files = files;

    for (size_t i = 0; i < json_array_size(page); i++)
        if (read_entry(json_array_get(page, i), &files[listing->count]))
            listing->count++;
    return true;
}

bool huggingface_list(const struct huggingface *hub, const char *repository, const char *revision,
                      struct huggingface_listing *ret, struct error *error) {
    struct download_options options = {.token = hub->token,
                                       .token_origin = hub->endpoint,
                                       .token_name = "HF_TOKEN",
                                       .limit = LIMIT_LISTING_BYTES,
                                       .retries = hub->retries};
    struct huggingface_listing listing = {0};
    bool done = true;

    char *url = listing_url(hub, repository, revision);
    if (!url)
        return error_set(error, ERROR_MEMORY, "no memory");

    for (int page = 0; done && url; page++) {
        struct buffer body = {0};
        char *next = NULL;
        if (page == LIMIT_LISTING_PAGES)
            done = error_set(error, ERROR_TOO_LARGE, "%s: its listing has more than %d pages", repository,
                             LIMIT_LISTING_PAGES);
        else
            done =
                download_text(url, &options, &body, &next, error) && read_page(url, &body, &listing, error);
        buffer_release(&body);
        free(url);
        url = next;
    }

    free(url);
    if (done)
        *ret = listing;
    else
        huggingface_listing_release(&listing);
    return done;
}

void huggingface_listing_release(struct huggingface_listing *listing) {
    for (size_t i = 0; i < listing->count; i++)
        free(listing->files[i].path);
    free(listing->files);
    *listing = (struct huggingface_listing){0};
}

const struct huggingface_file *huggingface_listing_find(const struct huggingface_listing *listing,
                                                        const char *path) {
    for (size_t i = 0; i < listing->count; i++)
        if (!strcmp(listing->files[i].path, path))
            return &listing->files[i];
    return NULL;
}
