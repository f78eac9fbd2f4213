#include "http/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
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

#define CONNECT_SECONDS 15
#define STALL_SECONDS 30
#define REDIRECTS 10
#define ETAG_BYTES 256

/* One download, over all its attempts and hops. */
struct transfer {
    const char *url; /* as asked; the hops' addresses come and go */
    const struct download_options *options;
    struct error *error;
    CURL *handle;

    struct buffer *text; /* where the body goes: here, or */
    int file;            /* here */
    const char *path;
    char *part, *origin_note;
    EVP_MD_CTX *digest;

    uint64_t offset; /* bytes that were there when this attempt began */
    uint64_t done;   /* bytes of the file that are there now, and in the digest */
    uint64_t total;  /* 0: not known */
    char etag[ETAG_BYTES];
    char *next;
    bool begun;     /* the final answer's headers were looked at */
    bool failed;    /* `error` is set by us */
    bool transient; /* worth another try */
};

static void curl_freep(CURL **handle) {
    curl_easy_cleanup(*handle);
}

static void slist_freep(struct curl_slist **list) {
    curl_slist_free_all(*list);
}

static void curl_url_freep(CURLU **url) {
    curl_url_cleanup(*url);
}

static void digest_freep(EVP_MD_CTX **digest) {
    EVP_MD_CTX_free(*digest);
}

static void curl_stringp(char **text) {
    curl_free(*text);
}

bool download_same_origin(const char *a, const char *b) {
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    cleanup(curl_url_freep) CURLU *left = curl_url();
    cleanup(curl_url_freep) CURLU *right = curl_url();
    if (!left || !right || curl_url_set(left, CURLUPART_URL, a, 0) ||
        curl_url_set(right, CURLUPART_URL, b, 0))
        return false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cleanup(curl_stringp) char *x = NULL;
        cleanup(curl_stringp) char *y = NULL;
        if (curl_url_get(left, parts[i], &x, CURLU_DEFAULT_PORT) ||
            curl_url_get(right, parts[i], &y, CURLU_DEFAULT_PORT) || strcasecmp(x, y))
            return false;
    }
    return true;
}

static bool digest_finish(EVP_MD_CTX *digest, char ret[DOWNLOAD_SHA256_TEXT], struct error *error) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (!EVP_DigestFinal_ex(digest, bytes, &size) || size != 32)
        return error_set(error, ERROR_INTERNAL, "SHA-256 is not to be had from OpenSSL");
    for (unsigned i = 0; i < size; i++)
        snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

/* The first `size` bytes of a file into the digest. */
static bool digest_file(EVP_MD_CTX *digest, int file, uint64_t size, const char *path, struct error *error) {
    enum { CHUNK = 1 << 20 };
    cleanup(freep) char *chunk = malloc(CHUNK);
    if (!chunk)
        return error_set(error, ERROR_MEMORY, "%s: no memory to read it", path);
    for (uint64_t at = 0; at < size;) {
        size_t want = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        ssize_t got = pread(file, chunk, want, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set_errno(error, ERROR_IO, got < 0 ? errno : EIO, "%s: cannot be read", path);
        if (!EVP_DigestUpdate(digest, chunk, (size_t)got))
            return error_set(error, ERROR_INTERNAL, "%s: SHA-256 failed", path);
        at += (uint64_t)got;
    }
    return true;
}

static bool digest_start(EVP_MD_CTX *digest, struct error *error) {
    if (!digest || !EVP_DigestInit_ex(digest, EVP_sha256(), NULL))
        return error_set(error, ERROR_INTERNAL, "SHA-256 is not to be had from OpenSSL");
    return true;
}

bool download_hash_file(const char *path, char ret_sha256[DOWNLOAD_SHA256_TEXT], struct error *error) {
    cleanup(digest_freep) EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (!digest_start(digest, error))
        return false;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat status;
    if (file < 0)
        return error_set_errno(error, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_IO, errno, "%s", path);
    bool done = fstat(file, &status) == 0 || error_set_errno(error, ERROR_IO, errno, "%s", path);
    done = done && digest_file(digest, file, (uint64_t)status.st_size, path, error);
    close(file);
    return done && digest_finish(digest, ret_sha256, error);
}

/* ---- What the server answers ---- */

static bool transfer_fail(struct transfer *transfer, bool transient, enum error_code code, const char *text) {
    transfer->failed = true;
    transfer->transient = transient;
    return error_set(transfer->error, code, "%s: %s", transfer->url, text);
}

static bool transfer_fail_status(struct transfer *transfer, long status) {
    char text[160];
    const char *token =
        transfer->options->token ? "HF_TOKEN was sent and is refused" : "if it is private, set HF_TOKEN";
    switch (status) {
    case 401:
        snprintf(text, sizeof text, "not there, or not for everyone (401): %s", token);
        return transfer_fail(transfer, false, ERROR_UNAUTHORIZED, text);
    case 403:
        snprintf(text, sizeof text, "access is denied (403): %s", token);
        return transfer_fail(transfer, false, ERROR_FORBIDDEN, text);
    case 404:
    case 410:
        snprintf(text, sizeof text, "there is nothing at this address (%ld)", status);
        return transfer_fail(transfer, false, ERROR_NOT_FOUND, text);
    default:
        snprintf(text, sizeof text, "the server answered %ld", status);
        return transfer_fail(transfer, status == 408 || status == 416 || status == 429 || status >= 500,
                             ERROR_UPSTREAM, text);
    }
}

/* Start the file again from nothing. */
static bool transfer_rewind(struct transfer *transfer) {
    if (transfer->text)
        return true;
    if (ftruncate(transfer->file, 0) < 0 || lseek(transfer->file, 0, SEEK_SET) < 0) {
        transfer->failed = true;
        return error_set_errno(transfer->error, ERROR_IO, errno, "%s: cannot be emptied", transfer->part);
    }
    transfer->offset = transfer->done = 0;
    transfer->failed = !digest_start(transfer->digest, transfer->error);
    return !transfer->failed;
}

/* 206 must continue where we stopped. */
static bool transfer_continues(struct transfer *transfer) {
    struct curl_header *range;
    unsigned long long start;
    return curl_easy_header(transfer->handle, "Content-Range", 0, CURLH_HEADER, -1, &range) == CURLHE_OK &&
           sscanf(range->value, "bytes %llu-", &start) == 1 && start == transfer->offset;
}

/* Remember where the part comes from, so that another process may go on with it. */
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
    transfer->failed = !done;
    return done;
}

/* Look at the status and headers of an answer before its body. False: the body is not wanted. */
static bool transfer_begin(struct transfer *transfer) {
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    transfer->begun = true;
    if (status == 416 && transfer->offset) {
        if (transfer_rewind(transfer))
            transfer_fail_status(transfer, status);
        return false;
    }
    if (status != 200 && !(status == 206 && transfer->offset))
        return transfer_fail_status(transfer, status);
    if (status == 206 && !transfer_continues(transfer)) {
        if (transfer_rewind(transfer))
            transfer_fail(transfer, true, ERROR_UPSTREAM, "the server continued at another place than asked");
        return false;
    }
    if (status == 200 && !transfer_rewind(transfer))
        return false;
    if (!transfer->text && status == 200 && !transfer_note_origin(transfer))
        return false;
    transfer->total = transfer->options->size;
    if (length < 0)
        return true;
    uint64_t total = transfer->offset + (uint64_t)length;
    if (total > transfer->options->limit)
        return transfer_fail(transfer, false, ERROR_TOO_LARGE, "larger than the limit for it");
    if (!transfer->text && transfer->total && total != transfer->total)
        return transfer_fail(transfer, false, ERROR_UPSTREAM, "not the size that was announced for it");
    transfer->total = total;
    return true;
}

static bool transfer_write(struct transfer *transfer, const char *bytes, size_t size) {
    if (transfer->text) {
        if (!buffer_append(transfer->text, bytes, size))
            return transfer_fail(transfer, false, ERROR_TOO_LARGE, "larger than the limit for it");
        return true;
    }
    if (transfer->options->size && size > transfer->options->size - transfer->done)
        return transfer_fail(transfer, false, ERROR_UPSTREAM, "more bytes come than were announced for it");
    if (size > transfer->options->limit - transfer->done)
        return transfer_fail(transfer, false, ERROR_TOO_LARGE, "larger than the limit for it");
    if (!EVP_DigestUpdate(transfer->digest, bytes, size))
        return transfer_fail(transfer, false, ERROR_INTERNAL, "SHA-256 failed");
    while (size) {
        ssize_t wrote = write(transfer->file, bytes, size);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            transfer->failed = true;
            return error_set_errno(transfer->error, ERROR_IO, errno, "%s: cannot be written", transfer->part);
        }
        bytes += wrote;
        size -= (size_t)wrote;
        transfer->done += (uint64_t)wrote;
    }
    if (transfer->options->progress)
        transfer->options->progress(transfer->options->context, transfer->done, transfer->total);
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
    if (!transfer->begun && !transfer_begin(transfer))
        return CURL_WRITEFUNC_ERROR;
    return transfer_write(transfer, bytes, unit * count) ? unit * count : CURL_WRITEFUNC_ERROR;
}

/* ---- One attempt, hop by hop ---- */

static bool transfer_fail_curl(struct transfer *transfer, CURLcode code) {
    if (transfer->failed)
        return false;
    char text[320], host[128] = "the server";
    cleanup(curl_url_freep) CURLU *url = curl_url();
    cleanup(curl_stringp) char *name = NULL;
    char *current = NULL;
    curl_easy_getinfo(transfer->handle, CURLINFO_EFFECTIVE_URL, &current);
    if (url && current && !curl_url_set(url, CURLUPART_URL, current, 0) &&
        !curl_url_get(url, CURLUPART_HOST, &name, 0))
        snprintf(host, sizeof host, "%s", name);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        snprintf(text, sizeof text, "the name %s has no address: is there a network?", host);
        return transfer_fail(transfer, false, ERROR_UNAVAILABLE, text);
    case CURLE_COULDNT_CONNECT:
        snprintf(text, sizeof text, "%s cannot be reached: is there a network?", host);
        return transfer_fail(transfer, transfer->done > 0, ERROR_UNAVAILABLE,
                             text); /* worth waiting for in the middle */
    case CURLE_OPERATION_TIMEDOUT:
        snprintf(text, sizeof text, "%s sent nothing for %d s", host, STALL_SECONDS);
        return transfer_fail(transfer, true, ERROR_TIMEOUT, text);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return transfer_fail(transfer, false, ERROR_INVALID, "not an http or https address");
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

static bool add_header(struct curl_slist **headers, const char *text) {
    struct curl_slist *longer = curl_slist_append(*headers, text);
    if (longer)
        *headers = longer;
    return longer;
}

/* Set one hop up: the token only where it belongs, the range where there is something to go on with. */
static bool transfer_prepare(struct transfer *transfer, const char *url, struct curl_slist **headers) {
    const struct download_options *options = transfer->options;
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
    cleanup(freep) char *line = NULL;
    if (options->token && download_same_origin(url, options->token_origin)) {
        if (strpbrk(options->token, "\r\n"))
            return transfer_fail(transfer, false, ERROR_INVALID, "the token holds a line break");
        if (asprintf(&line, "Authorization: Bearer %s", options->token) < 0 || !add_header(headers, line))
            return transfer_fail(transfer, false, ERROR_MEMORY, "no memory");
    }
    if (transfer->offset) {
        char range[64], condition[ETAG_BYTES + 16];
        snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)transfer->offset);
        snprintf(condition, sizeof condition, "If-Range: %s", transfer->etag);
        if (!add_header(headers, range) || (transfer->etag[0] && !add_header(headers, condition)))
            return transfer_fail(transfer, false, ERROR_MEMORY, "no memory");
    }
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, *headers);
    return true;
}

/* `Link: <https://…>; rel="next"` of the answer. */
static void transfer_find_next(struct transfer *transfer) {
    struct curl_header *link;
    if (curl_easy_header(transfer->handle, "Link", 0, CURLH_HEADER, -1, &link) != CURLHE_OK)
        return;
    const char *open = strchr(link->value, '<'), *close = open ? strchr(open, '>') : NULL;
    if (close && strstr(close, "rel=\"next\""))
        transfer->next = strndup(open + 1, (size_t)(close - open - 1));
}

/* Follow `url` to an answer that is no redirect, and take its body. */
static bool transfer_perform(struct transfer *transfer) {
    cleanup(freep) char *url = strdup(transfer->url);
    transfer->begun = transfer->failed = transfer->transient = false;
    for (int hop = 0; url && hop <= REDIRECTS; hop++) {
        cleanup(slist_freep) struct curl_slist *headers = NULL;
        if (!transfer_prepare(transfer, url, &headers))
            return false;
        CURLcode code = curl_easy_perform(transfer->handle);
        long status = 0;
        char *target = NULL;
        curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(transfer->handle, CURLINFO_REDIRECT_URL, &target);
        if (code)
            return transfer_fail_curl(transfer, code);
        if (!is_redirect(status) || !target) {
            transfer_find_next(transfer);
            return transfer->begun || transfer_begin(transfer);
        }
        if (!strncasecmp(url, "https:", 6) && strncasecmp(target, "https:", 6))
            return transfer_fail(transfer, false, ERROR_UPSTREAM,
                                 "redirects from https to something less safe");
        char *following = strdup(target);
        free(url);
        url = following;
    }
    return url ? transfer_fail(transfer, false, ERROR_UPSTREAM, "redirects without end")
               : transfer_fail(transfer, false, ERROR_MEMORY, "no memory");
}

/* ---- Files ---- */

/* How much of an earlier attempt can be used: all of it where it came from the same address and the server's
 * tag or our hash will tell whether it still fits; else nothing. */
static bool transfer_open_part(struct transfer *transfer) {
    struct error ignored = {0};
    struct stat status;
    size_t size;
    transfer->file = open(transfer->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (transfer->file < 0 || fstat(transfer->file, &status) < 0)
        return error_set_errno(transfer->error, ERROR_IO, errno, "%s: cannot be written", transfer->part);
    cleanup(freep) char *note = file_read(transfer->origin_note, LIMIT_CONFIG_BYTES, &size, &ignored);
    size_t length = strlen(transfer->url);
    transfer->etag[0] = 0;
    if (!note || strncmp(note, transfer->url, length) || note[length] != '\n')
        return transfer_rewind(transfer);
    sscanf(note + length + 1, "%255[^\n]", transfer->etag);
    uint64_t have = (uint64_t)status.st_size, want = transfer->options->size;
    if ((!transfer->etag[0] && !transfer->options->sha256) || (want && have > want) ||
        have > transfer->options->limit)
        return transfer_rewind(transfer);
    if (!digest_start(transfer->digest, transfer->error) ||
        !digest_file(transfer->digest, transfer->file, have, transfer->part, transfer->error))
        return false;
    if (lseek(transfer->file, (off_t)have, SEEK_SET) < 0)
        return error_set_errno(transfer->error, ERROR_IO, errno, "%s", transfer->part);
    transfer->offset = transfer->done = have;
    return true;
}

/* Everything is there: is it what it should be? */
static bool transfer_check(struct transfer *transfer, char ret_sha256[DOWNLOAD_SHA256_TEXT]) {
    const struct download_options *options = transfer->options;
    char text[200], sha256[DOWNLOAD_SHA256_TEXT];
    bool resumed = transfer->offset > 0;
    if (options->size && transfer->done != options->size) {
        snprintf(text, sizeof text, "%llu bytes came, and %llu were announced",
                 (unsigned long long)transfer->done, (unsigned long long)options->size);
        return transfer_fail(transfer, true, ERROR_UPSTREAM, text);
    }
    if (!digest_finish(transfer->digest, sha256, transfer->error))
        return false;
    if (options->sha256 && strcasecmp(sha256, options->sha256)) {
        /* A resumed file may have been stitched from two versions: worth one try from nothing. */
        if (!transfer_rewind(transfer))
            return false;
        snprintf(text, sizeof text, "its SHA-256 is %.16s…, and should be %.16s…: nothing was kept", sha256,
                 options->sha256);
        return transfer_fail(transfer, resumed, ERROR_UPSTREAM, text);
    }
    snprintf(ret_sha256, DOWNLOAD_SHA256_TEXT, "%s", sha256);
    return true;
}

static bool transfer_attempt(struct transfer *transfer, char ret_sha256[DOWNLOAD_SHA256_TEXT]) {
    const struct download_options *options = transfer->options;
    transfer->offset = transfer->done;
    if (!(options->size && options->sha256 && transfer->done == options->size) && !transfer_perform(transfer))
        return false;
    return transfer_check(transfer, ret_sha256);
}

static void pause_after(int failures) {
    int64_t milliseconds = 250ll << (failures < 3 ? failures : 3);
    struct timespec pause = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Repeat what may pass, waiting longer each time; getting further than ever before counts as a success. */
static bool transfer_retry(struct transfer *transfer, char ret_sha256[DOWNLOAD_SHA256_TEXT]) {
    uint64_t furthest = transfer->done;
    for (int failures = 0;;) {
        if (transfer_attempt(transfer, ret_sha256))
            return true;
        failures = transfer->done > furthest ? 0 : failures + 1;
        if (transfer->done > furthest)
            furthest = transfer->done;
        if (!transfer->transient || failures > transfer->options->retries)
            return false;
        if (!transfer->etag[0] && !transfer->options->sha256 && !transfer_rewind(transfer))
            return false;
        pause_after(failures);
    }
}

static bool transfer_publish(struct transfer *transfer) {
    if (fchmod(transfer->file, 0644) < 0 || fsync(transfer->file) < 0 ||
        rename(transfer->part, transfer->path) < 0)
        return error_set_errno(transfer->error, ERROR_IO, errno, "%s: cannot be written", transfer->path);
    unlink(transfer->origin_note);
    return true;
}

bool download_file(const char *url, const char *path, const struct download_options *options,
                   char ret_sha256[DOWNLOAD_SHA256_TEXT], struct error *error) {
    cleanup(curl_freep) CURL *handle = curl_easy_init();
    cleanup(digest_freep) EVP_MD_CTX *digest = EVP_MD_CTX_new();
    cleanup(freep) char *part = NULL;
    cleanup(freep) char *note = NULL;
    if (asprintf(&part, "%s.part", path) < 0)
        part = NULL;
    if (asprintf(&note, "%s.part.from", path) < 0)
        note = NULL;
    if (!handle || !digest || !part || !note || !digest_start(digest, error))
        return error_set(error, ERROR_MEMORY, "%s: no memory to download it", url);
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
    free(transfer.next);
    if (transfer.file >= 0)
        close(transfer.file);
    /* Nothing worth keeping: leave nothing. */
    if (!done && !transfer.done) {
        unlink(part);
        unlink(note);
    }
    return done;
}

bool download_text(const char *url, const struct download_options *options, struct buffer *body,
                   char **ret_next, struct error *error) {
    cleanup(curl_freep) CURL *handle = curl_easy_init();
    if (!handle)
        return error_set(error, ERROR_MEMORY, "%s: no memory to download it", url);
    struct transfer transfer = {
        .url = url, .options = options, .error = error, .handle = handle, .file = -1, .text = body};
    body->limit = (size_t)options->limit;
    for (int failures = 0; !transfer_perform(&transfer); failures++) {
        free(steal_pointer(&transfer.next));
        if (!transfer.transient || failures >= options->retries)
            return false;
        buffer_release(body);
        pause_after(failures);
    }
    *ret_next = transfer.next;
    return true;
}
