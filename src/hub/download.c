#include "hub/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/url.h"

#define CONNECT_SECONDS 15
#define STALL_SECONDS 30
#define ETAG_BYTES 256
#define ORIGIN_NOTE_BYTES (64u << 10)

/* One download, over all its attempts and redirects. */
struct transfer {
    const char *url; /* the requested URL; redirects do not change it */
    const struct download_options *options;
    struct error *error;
    CURL *handle;

    /* Where the body goes: `body`, or the open file `file`. */
    struct buffer *body;
    int file;
    const char *path;
    char *part, *origin_note;
    struct sha256 *digest;

    uint64_t offset;       /* bytes of the file that were there when this attempt began */
    uint64_t done;         /* bytes of the file that are there now, and in the digest */
    uint64_t total;        /* 0: not known */
    char etag[ETAG_BYTES]; /* "" where there is none */
    char *next_page;       /* of a Link header; malloc'ed */

    bool accepted;  /* the final response's head was checked */
    bool failed;    /* `error` is set */
    bool transient; /* the failure is worth another attempt */
};

static void curl_freep(CURL **handle) {
    curl_easy_cleanup(*handle);
}

static void slist_freep(struct curl_slist **list) {
    curl_slist_free_all(*list);
}

/* ---- Failures ---- */

static bool transfer_fail(struct transfer *transfer, bool transient, enum error_code code, const char *text) {
    transfer->failed = true;
    transfer->transient = transient;
    return error_set(transfer->error, code, "%s: %s", transfer->url, text);
}

/* `error` is set: fail for good. */
static bool transfer_fail_set(struct transfer *transfer) {
    transfer->failed = true;
    transfer->transient = false;
    return false;
}

static bool transfer_fail_errno(struct transfer *transfer, const char *path, const char *text) {
    error_set_errno(transfer->error, ERROR_IO, errno, "%s: %s", path, text);
    return transfer_fail_set(transfer);
}

/* Whether the token may be sent to this URL. */
static bool is_token_origin(const struct download_options *options, const char *text) {
    struct url url, origin;
    struct error ignored;
    return options->token_origin && url_parse(text, &url, &ignored) &&
           url_parse(options->token_origin, &origin, &ignored) && url_same_origin(&url, &origin);
}

/* Hugging Face says in a header of its own why it refuses. It answers 401 also to who asks without a token
 * for what does not exist. */
static bool transfer_fail_reason(struct transfer *transfer, bool *ret_known) {
    struct curl_header *reason;
    const struct download_options *options = transfer->options;
    *ret_known = false;
    if (curl_easy_header(transfer->handle, "X-Error-Code", 0, CURLH_HEADER, -1, &reason) != CURLHE_OK)
        return true;

    *ret_known = true;
    if (strcmp(reason->value, "GatedRepo") == 0) {
        char text[200];
        snprintf(text, sizeof text, "gated: accept its terms on its page in a browser%s%.40s%s",
                 options->token_name && !options->token ? ", then set " : "",
                 options->token_name && !options->token ? options->token_name : "",
                 options->token ? " with the account of the token" : " to a token of that account");
        return transfer_fail(transfer, false, ERROR_FORBIDDEN, text);
    }
    if (strcmp(reason->value, "RepoNotFound") == 0)
        return transfer_fail(transfer, false, ERROR_NOT_FOUND,
                             options->token ? "there is no such repository, or the token may not see it"
                                            : "there is no such repository, unless it is private");
    if (strcmp(reason->value, "RevisionNotFound") == 0)
        return transfer_fail(transfer, false, ERROR_NOT_FOUND, "the repository has no such revision");
    if (strcmp(reason->value, "EntryNotFound") == 0)
        return transfer_fail(transfer, false, ERROR_NOT_FOUND, "the repository has no such file");

    *ret_known = false;
    return true;
}

static bool transfer_fail_status(struct transfer *transfer, long status) {
    const struct download_options *options = transfer->options;
    bool known;
    if (!transfer_fail_reason(transfer, &known) || known)
        return false;

    char text[200], hint[100] = "";
    if (options->token_name && is_token_origin(options, transfer->url))
        snprintf(hint, sizeof hint,
                 options->token ? ": the server refused %.40s" : ": set %.40s if this needs an account",
                 options->token_name);

    switch (status) {
    case 401:
        snprintf(text, sizeof text, "does not exist, or access needs a token (401)%s", hint);
        return transfer_fail(transfer, false, ERROR_UNAUTHORIZED, text);
    case 403:
        snprintf(text, sizeof text, "access is denied (403)%s", hint);
        return transfer_fail(transfer, false, ERROR_FORBIDDEN, text);
    case 404:
    case 410:
        snprintf(text, sizeof text, "not found (%ld)", status);
        return transfer_fail(transfer, false, ERROR_NOT_FOUND, text);
    default:
        snprintf(text, sizeof text, "the server responded with status %ld", status);
        return transfer_fail(transfer, status == 408 || status == 416 || status == 429 || status >= 500,
                             ERROR_UPSTREAM, text);
    }
}

static bool transfer_fail_curl(struct transfer *transfer, CURLcode code) {
    if (transfer->failed)
        return false;

    struct url url;
    struct error ignored;
    char *current = NULL, text[400];
    curl_easy_getinfo(transfer->handle, CURLINFO_EFFECTIVE_URL, &current);
    const char *host = current && url_parse(current, &url, &ignored) ? url.host : "the server";

    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        snprintf(text, sizeof text, "cannot resolve the name %s: is there a network?", host);
        return transfer_fail(transfer, false, ERROR_UNAVAILABLE, text);
    case CURLE_COULDNT_CONNECT:
        /* In the middle of a file it is worth waiting. */
        snprintf(text, sizeof text, "cannot connect to %s: is there a network?", host);
        return transfer_fail(transfer, transfer->done > 0, ERROR_UNAVAILABLE, text);
    case CURLE_OPERATION_TIMEDOUT:
        snprintf(text, sizeof text, "%s sent nothing for %d s", host, STALL_SECONDS);
        return transfer_fail(transfer, true, ERROR_TIMEOUT, text);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return transfer_fail(transfer, false, ERROR_INVALID, "not an http(s) URL");
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
        snprintf(text, sizeof text, "%s cut the connection after %llu bytes", host,
                 (unsigned long long)transfer->done);
        return transfer_fail(transfer, true, ERROR_UPSTREAM, text);
    default:
        snprintf(text, sizeof text, "%s", curl_easy_strerror(code));
        return transfer_fail(transfer, false, ERROR_UPSTREAM, text);
    }
}

/* ---- The response: its head, then its body ---- */

/* Start the file again from nothing. */
static bool transfer_rewind(struct transfer *transfer) {
    if (transfer->body)
        return true;

    if (ftruncate(transfer->file, 0) < 0 || lseek(transfer->file, 0, SEEK_SET) < 0)
        return transfer_fail_errno(transfer, transfer->part, "cannot be emptied");
    if (!sha256_reset(transfer->digest, transfer->error))
        return transfer_fail_set(transfer);

    transfer->offset = transfer->done = 0;
    return true;
}

/* Whether a 206 continues at the byte that was asked for. */
static bool transfer_continues(struct transfer *transfer) {
    struct curl_header *range;
    unsigned long long start;
    return curl_easy_header(transfer->handle, "Content-Range", 0, CURLH_HEADER, -1, &range) == CURLHE_OK &&
           sscanf(range->value, "bytes %llu-", &start) == 1 && start == transfer->offset;
}

/* Note where the part comes from, so that another process can resume it. */
static bool transfer_note_origin(struct transfer *transfer) {
    struct curl_header *etag;
    transfer->etag[0] = 0;
    if (curl_easy_header(transfer->handle, "ETag", 0, CURLH_HEADER, -1, &etag) == CURLHE_OK &&
        etag->value[0] == '"' && strlen(etag->value) < ETAG_BYTES)
        snprintf(transfer->etag, sizeof transfer->etag, "%s", etag->value);

    struct buffer note = {0};
    bool done = buffer_printf(&note, "%s\n%s\n", transfer->url, transfer->etag) ||
                error_set(transfer->error, ERROR_MEMORY, "%s: no memory", transfer->part);
    done = done && file_write(transfer->origin_note, note.bytes, note.size, transfer->error);
    buffer_release(&note);

    return done || transfer_fail_set(transfer);
}

/* Whether the status allows the body to be used; if so, the file is at the right offset. */
static bool transfer_accept_status(struct transfer *transfer, long status) {
    if (status == 416 && transfer->offset)
        return transfer_rewind(transfer) && transfer_fail_status(transfer, status);

    if (status == 206 && transfer->offset) {
        if (transfer_continues(transfer))
            return true;
        return transfer_rewind(transfer) &&
               transfer_fail(transfer, true, ERROR_UPSTREAM, "the server resumed at the wrong offset");
    }

    if (status != 200)
        return transfer_fail_status(transfer, status);
    return transfer_rewind(transfer) && (transfer->body || transfer_note_origin(transfer));
}

/* Check the head of the final response before its body is taken. */
static bool transfer_accept(struct transfer *transfer) {
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    transfer->accepted = true;
    if (!transfer_accept_status(transfer, status))
        return false;

    transfer->total = transfer->options->size;
    if (length < 0)
        return true;

    uint64_t total = transfer->offset + (uint64_t)length;
    if (total > transfer->options->limit)
        return transfer_fail(transfer, false, ERROR_TOO_LARGE, "exceeds the size limit");
    if (!transfer->body && transfer->total && total != transfer->total)
        return transfer_fail(transfer, false, ERROR_UPSTREAM, "its size is not the expected one");

    transfer->total = total;
    return true;
}

static bool transfer_write(struct transfer *transfer, const char *bytes, size_t size) {
    const struct download_options *options = transfer->options;
    if (transfer->body)
        return buffer_append(transfer->body, bytes, size) ||
               transfer_fail(transfer, false, ERROR_TOO_LARGE, "exceeds the size limit");

    if (options->size && size > options->size - transfer->done)
        return transfer_fail(transfer, false, ERROR_UPSTREAM, "exceeds its expected size");
    if (size > options->limit - transfer->done)
        return transfer_fail(transfer, false, ERROR_TOO_LARGE, "exceeds the size limit");
    if (!sha256_add(transfer->digest, bytes, size, transfer->error))
        return transfer_fail_set(transfer);

    while (size) {
        ssize_t written = write(transfer->file, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return transfer_fail_errno(transfer, transfer->part, "cannot be written");
        bytes += written;
        size -= (size_t)written;
        transfer->done += (uint64_t)written;
    }

    if (options->progress)
        options->progress(options->context, transfer->done, transfer->total);
    return true;
}

static bool is_redirect(long status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static size_t on_body(char *bytes, size_t unit, size_t count, void *context) {
    struct transfer *transfer = context;
    long status = 0;
    curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
    if (is_redirect(status))
        return unit * count;

    if (!transfer->accepted && !transfer_accept(transfer))
        return CURL_WRITEFUNC_ERROR;
    return transfer_write(transfer, bytes, unit * count) ? unit * count : CURL_WRITEFUNC_ERROR;
}

/* Take `Link: <https://…>; rel="next"` of the response. */
static void transfer_find_next_page(struct transfer *transfer) {
    struct curl_header *link;
    if (curl_easy_header(transfer->handle, "Link", 0, CURLH_HEADER, -1, &link) != CURLHE_OK)
        return;

    const char *open = strchr(link->value, '<'), *close = open ? strchr(open, '>') : NULL;
    if (close && strstr(close, "rel=\"next\""))
        transfer->next_page = strndup(open + 1, (size_t)(close - open - 1));
}

/* ---- One attempt, redirect by redirect ---- */

static bool add_header(struct curl_slist **headers, const char *text) {
    struct curl_slist *longer = curl_slist_append(*headers, text);
    if (longer)
        *headers = longer;
    return longer;
}

/* The token if `url` may receive it, and a Range if there is something to resume. */
static bool transfer_add_headers(struct transfer *transfer, const char *url, struct curl_slist **headers) {
    const struct download_options *options = transfer->options;
    cleanup(freep) char *authorization = NULL;

    if (options->token && is_token_origin(options, url)) {
        if (strpbrk(options->token, "\r\n"))
            return transfer_fail(transfer, false, ERROR_INVALID, "the token contains a line break");
        if (asprintf(&authorization, "Authorization: Bearer %s", options->token) < 0) {
            authorization = NULL;
            return transfer_fail(transfer, false, ERROR_MEMORY, "no memory");
        }
        if (!add_header(headers, authorization))
            return transfer_fail(transfer, false, ERROR_MEMORY, "no memory");
    }

    if (!transfer->offset)
        return true;

    char range[64], condition[ETAG_BYTES + 16];
    snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)transfer->offset);
    snprintf(condition, sizeof condition, "If-Range: %s", transfer->etag);
    if (!add_header(headers, range) || (transfer->etag[0] && !add_header(headers, condition)))
        return transfer_fail(transfer, false, ERROR_MEMORY, "no memory");

    return true;
}

static bool transfer_set_up(struct transfer *transfer, const char *url, struct curl_slist **headers) {
    CURL *handle = transfer->handle;
    curl_easy_reset(handle);
    curl_easy_setopt(handle, CURLOPT_URL, url);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_USERAGENT, "guichet/" GUICHET_VERSION);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, transfer);

    if (!transfer_add_headers(transfer, url, headers))
        return false;
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, *headers);
    return true;
}

/* Request `url`. *ret_target: the redirect's URL, to be freed; NULL if the body was received. */
static bool transfer_request(struct transfer *transfer, const char *url, char **ret_target) {
    cleanup(slist_freep) struct curl_slist *headers = NULL;
    if (!transfer_set_up(transfer, url, &headers))
        return false;
    CURLcode code = curl_easy_perform(transfer->handle);
    if (code)
        return transfer_fail_curl(transfer, code);

    long status = 0;
    char *target = NULL;
    curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->handle, CURLINFO_REDIRECT_URL, &target);
    if (!is_redirect(status) || !target) {
        transfer_find_next_page(transfer);
        *ret_target = NULL;
        return transfer->accepted || transfer_accept(transfer);
    }

    if (!strncasecmp(url, "https:", 6) && strncasecmp(target, "https:", 6) != 0)
        return transfer_fail(transfer, false, ERROR_UPSTREAM, "redirects from https to an insecure URL");
    *ret_target = strdup(target);
    return *ret_target || transfer_fail(transfer, false, ERROR_MEMORY, "no memory");
}

/* Follow redirects to the final response, and take its body. */
static bool transfer_perform(struct transfer *transfer) {
    transfer->accepted = transfer->failed = transfer->transient = false;
    cleanup(freep) char *url = strdup(transfer->url);
    if (!url)
        return transfer_fail(transfer, false, ERROR_MEMORY, "no memory");

    for (int redirects = 0; redirects <= LIMIT_DOWNLOAD_REDIRECTS; redirects++) {
        char *target = NULL;
        if (!transfer_request(transfer, url, &target))
            return false;
        if (!target)
            return true;
        free(url);
        url = target;
    }

    return transfer_fail(transfer, false, ERROR_UPSTREAM, "redirects too many times");
}

/* ---- Files ---- */

/* How many bytes of an earlier attempt can be used: all of them where they came from the same URL, and the
 * server's entity tag or the expected hash will tell whether they still fit; else none. */
static uint64_t transfer_usable_bytes(struct transfer *transfer, uint64_t size) {
    const struct download_options *options = transfer->options;
    struct error ignored = {0};
    size_t note_size, url_length = strlen(transfer->url);
    transfer->etag[0] = 0;

    cleanup(freep) char *note = file_read(transfer->origin_note, ORIGIN_NOTE_BYTES, &note_size, &ignored);
    if (!note || strncmp(note, transfer->url, url_length) != 0 || note[url_length] != '\n')
        return 0;
    sscanf(note + url_length + 1, "%255[^\n]", transfer->etag);

    bool checkable = transfer->etag[0] || options->sha256;
    bool fits = size <= options->limit && (!options->size || size <= options->size);
    return checkable && fits ? size : 0;
}

static bool transfer_open_part(struct transfer *transfer) {
    struct stat status;
    transfer->file = open(transfer->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (transfer->file < 0 || fstat(transfer->file, &status) < 0)
        return transfer_fail_errno(transfer, transfer->part, "cannot be written");

    uint64_t usable = transfer_usable_bytes(transfer, (uint64_t)status.st_size);
    if (!usable)
        return transfer_rewind(transfer);

    if (!sha256_add_file(transfer->digest, transfer->file, usable, transfer->part, transfer->error))
        return false;
    if (lseek(transfer->file, (off_t)usable, SEEK_SET) < 0)
        return transfer_fail_errno(transfer, transfer->part, "cannot be written");
    transfer->offset = transfer->done = usable;
    return true;
}

/* The file is complete: check its size and hash. */
static bool transfer_check(struct transfer *transfer, char ret_sha256[SHA256_TEXT_BYTES]) {
    const struct download_options *options = transfer->options;
    char text[200], sha256[SHA256_TEXT_BYTES];
    bool resumed = transfer->offset > 0;

    if (options->size && transfer->done != options->size) {
        snprintf(text, sizeof text, "%llu bytes arrived, but its size should be %llu",
                 (unsigned long long)transfer->done, (unsigned long long)options->size);
        return transfer_fail(transfer, true, ERROR_UPSTREAM, text);
    }
    if (!sha256_finish(transfer->digest, sha256, transfer->error))
        return transfer_fail_set(transfer);

    if (options->sha256 && strcasecmp(sha256, options->sha256) != 0) {
        /* A resumed file may mix two versions: worth one attempt from nothing. */
        if (!transfer_rewind(transfer))
            return false;
        snprintf(text, sizeof text, "its SHA-256 is %.16s…, not %.16s… as expected: nothing was kept", sha256,
                 options->sha256);
        return transfer_fail(transfer, resumed, ERROR_UPSTREAM, text);
    }

    memcpy(ret_sha256, sha256, sizeof sha256);
    return true;
}

static bool transfer_attempt(struct transfer *transfer, char ret_sha256[SHA256_TEXT_BYTES]) {
    const struct download_options *options = transfer->options;
    transfer->offset = transfer->done;

    bool complete = options->size && options->sha256 && transfer->done == options->size;
    if (!complete && !transfer_perform(transfer))
        return false;
    return transfer_check(transfer, ret_sha256);
}

static void pause_after(int failures) {
    int64_t milliseconds = 250ll << (failures < 3 ? failures : 3);
    struct timespec pause = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Repeat after transient failures, with longer and longer pauses; an attempt that got further than all before
 * counts as a success. */
static bool transfer_retry(struct transfer *transfer, char ret_sha256[SHA256_TEXT_BYTES]) {
    uint64_t furthest = transfer->done;

    for (int failures = 0;;) {
        if (transfer_attempt(transfer, ret_sha256))
            return true;

        failures = transfer->done > furthest ? 0 : failures + 1;
        if (transfer->done > furthest)
            furthest = transfer->done;
        if (!transfer->transient || failures > transfer->options->retries)
            return false;

        bool resumable = transfer->etag[0] || transfer->options->sha256;
        if (!resumable && !transfer_rewind(transfer))
            return false;
        pause_after(failures);
    }
}

static bool transfer_publish(struct transfer *transfer) {
    if (fchmod(transfer->file, 0644) < 0 || fsync(transfer->file) < 0 ||
        rename(transfer->part, transfer->path) < 0)
        return transfer_fail_errno(transfer, transfer->path, "cannot be written");
    unlink(transfer->origin_note);
    return true;
}

bool download_file(const char *url, const char *path, const struct download_options *options,
                   char ret_sha256[SHA256_TEXT_BYTES], struct error *error) {
    cleanup(sha256_freep) struct sha256 *digest = sha256_create(error);
    if (!digest)
        return false;

    cleanup(curl_freep) CURL *handle = curl_easy_init();
    cleanup(freep) char *part = NULL;
    cleanup(freep) char *note = NULL;

    if (asprintf(&part, "%s.part", path) < 0)
        part = NULL;
    if (asprintf(&note, "%s.part.from", path) < 0)
        note = NULL;
    if (!handle || !part || !note)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory to download it", url);

    struct transfer transfer = {.url = url,
                                .options = options,
                                .error = error,
                                .handle = handle,
                                .file = -1,
                                .path = path,
                                .part = part,
                                .origin_note = note,
                                .digest = digest};
    bool done =
        transfer_open_part(&transfer) && transfer_retry(&transfer, ret_sha256) && transfer_publish(&transfer);

    free(transfer.next_page);
    if (transfer.file >= 0)
        close(transfer.file);
    if (!done && !transfer.done) { /* nothing worth keeping */
        unlink(part);
        unlink(note);
    }

    return done;
}

bool download_text(const char *url, const struct download_options *options, struct buffer *body,
                   char **ret_next, struct error *error) {
    cleanup(curl_freep) CURL *handle = curl_easy_init();
    if (!handle)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory to download it", url);

    struct transfer transfer = {
        .url = url, .options = options, .error = error, .handle = handle, .file = -1, .body = body};
    body->limit = (size_t)options->limit;
    for (int failures = 0; !transfer_perform(&transfer); failures++) {
        free(steal_pointer(&transfer.next_page));
        if (!transfer.transient || failures >= options->retries)
            return false;
        buffer_release(body);
        pause_after(failures);
    }

    *ret_next = transfer.next_page;
    return true;
}
