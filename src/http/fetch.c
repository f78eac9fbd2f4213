#include "http/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "http/address.h"
#include "http/internal.h"
#include "http/url.h"

#define WANTED_INTERVAL_MS 200 /* how often the asker is asked whether it still wants it */

/* One fetch under way. */
struct fetch {
    struct fetch_options options;
    CURL *handle;
    struct http_body *body;
    char text[CURL_ERROR_SIZE];
    bool refused, too_large, no_memory;
    bool (*is_wanted)(void *context);
    void (*done)(void *context, struct http_body *body, const struct error *error);
    void *context;
    struct fetch *next;
    char url[];
};

struct fetcher {
    struct fetch_options options;
    CURLM *multi;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards waiting, ending */
    struct fetch *first, **last;
    int waiting;
    bool ending;
    struct fetch *active; /* the thread's own */
    int active_count;
};

static struct fetch_options with_defaults(const struct fetch_options *options) {
    struct fetch_options result = *options;
    if (!result.limit)
        result.limit = LIMIT_IMAGE_BYTES;
    if (!result.timeout_ms)
        result.timeout_ms = LIMIT_FETCH_SECONDS * 1000;
    if (!result.concurrency)
        result.concurrency = 64;
    return result;
}

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    struct fetch *fetch = context;
    bool internet = address->family == AF_INET || address->family == AF_INET6;
    if (!internet || (!fetch->options.allow_private && !address_is_public(&address->addr))) {
        fetch->refused = true;
        errno = EACCES;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t take_bytes(char *bytes, size_t size, size_t count, void *context) {
    struct fetch *fetch = context;
    size_t total = size * count;
    if (total > fetch->options.limit - fetch->body->size)
        fetch->too_large = true;
    else if (!http_body_append(fetch->body, bytes, total))
        fetch->no_memory = true;
    else
        return total;
    return 0;
}

static void configure(struct fetch *fetch) {
    CURL *handle = fetch->handle;
    curl_easy_setopt(handle, CURLOPT_URL, (char *)fetch->url);
    curl_easy_setopt(handle, CURLOPT_PRIVATE, fetch);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, fetch->text);
    curl_easy_setopt(handle, CURLOPT_USERAGENT, "guichet/" GUICHET_VERSION);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(handle, CURLOPT_MAXREDIRS, (long)LIMIT_FETCH_REDIRECTS);
    curl_easy_setopt(handle, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long)fetch->options.timeout_ms);
    curl_easy_setopt(handle, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)fetch->options.limit);
    curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, fetch);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, fetch);
    /* A connection that another fetch checked and opened is not used again: each is checked for itself. */
    curl_easy_setopt(handle, CURLOPT_FORBID_REUSE, 1L);
}

static struct fetch *fetch_create(const char *url, const struct fetch_options *options, struct error *error) {
    size_t length = strlen(url);
    struct url parts;
    if (length > LIMIT_URL_BYTES) {
        error_set(error, ERROR_INVALID, "the photo's address is longer than %d bytes", LIMIT_URL_BYTES);
        return NULL;
    }
    if (!url_parse(url, &parts, error))
        return NULL;
    struct fetch *fetch = calloc(1, sizeof *fetch + length + 1);
    if (fetch) {
        memcpy(fetch->url, url, length + 1);
        fetch->options = *options;
        fetch->handle = curl_easy_init();
        fetch->body = http_body_create(NULL, 0);
    }
    if (!fetch || !fetch->handle || !fetch->body) {
        if (fetch) {
            curl_easy_cleanup(fetch->handle);
            http_body_release(fetch->body);
        }
        free(fetch);
        error_set(error, ERROR_MEMORY, "no memory to fetch a photo");
        return NULL;
    }
    configure(fetch);
    return fetch;
}

static void fetch_free(struct fetch *fetch) {
    curl_easy_cleanup(fetch->handle);
    http_body_release(fetch->body);
    free(fetch);
}

/* curl's outcome as an error of ours; true where the body is whole. */
static bool judge(const struct fetch *fetch, CURLcode code, struct error *error) {
    long status = 0;
    curl_easy_getinfo(fetch->handle, CURLINFO_RESPONSE_CODE, &status);
    if (fetch->no_memory)
        return error_set(error, ERROR_MEMORY, "no memory for the photo at this address");
    if (fetch->too_large || code == CURLE_FILESIZE_EXCEEDED)
        return error_set(error, ERROR_TOO_LARGE, "the photo at this address is larger than %zu bytes",
                         fetch->options.limit);
    switch (code) {
    case CURLE_OK:
        return fetch->body->size || error_set(error, ERROR_UPSTREAM,
                                              "there is nothing at the photo's address: the answer is empty");
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_LOGIN_DENIED:
        return error_set(error, ERROR_INVALID, "the photo's address is not one that is fetched: %s",
                         fetch->text);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(error, ERROR_TIMEOUT, "the photo's address did not answer within %g s",
                         fetch->options.timeout_ms / 1000.0);
    case CURLE_HTTP_RETURNED_ERROR:
        return error_set(error, ERROR_UPSTREAM, "the photo's address answers with status %ld", status);
    case CURLE_TOO_MANY_REDIRECTS:
        return error_set(error, ERROR_UPSTREAM, "the photo's address redirects more than %d times",
                         LIMIT_FETCH_REDIRECTS);
    default:
        if (fetch->refused)
            return error_set(error, ERROR_INVALID,
                             "the photo's address leads into a private network, which is not allowed");
        return error_set(error, ERROR_UPSTREAM, "the photo cannot be fetched: %s",
                         *fetch->text ? fetch->text : curl_easy_strerror(code));
    }
}

struct http_body *fetch_url(const char *url, const struct fetch_options *options, struct error *error) {
    struct fetch_options all = with_defaults(options);
    struct fetch *fetch = fetch_create(url, &all, error);
    if (!fetch)
        return NULL;
    CURLcode code = curl_easy_perform(fetch->handle);
    struct http_body *body = judge(fetch, code, error) ? http_body_reference(fetch->body) : NULL;
    fetch_free(fetch);
    return body;
}

/* ---- Many at once ---- */

static void finish(struct fetcher *fetcher, struct fetch *fetch, bool fetched, const struct error *error) {
    for (struct fetch **at = &fetcher->active; *at; at = &(*at)->next) {
        if (*at == fetch) {
            *at = fetch->next;
            curl_multi_remove_handle(fetcher->multi, fetch->handle);
            fetcher->active_count--;
            break;
        }
    }
    fetch->done(fetch->context, fetched ? fetch->body : NULL, error);
    fetch_free(fetch);
}

/* Take what waits, as far as there is room. True when the fetcher ends. */
static bool take_waiting(struct fetcher *fetcher) {
    pthread_mutex_lock(&fetcher->mutex);
    bool ending = fetcher->ending;
    while (fetcher->first && (ending || fetcher->active_count < fetcher->options.concurrency)) {
        struct fetch *fetch = fetcher->first;
        fetcher->first = fetch->next;
        if (!fetcher->first)
            fetcher->last = &fetcher->first;
        fetcher->waiting--;
        fetch->next = fetcher->active;
        fetcher->active = fetch;
        fetcher->active_count++;
        curl_multi_add_handle(fetcher->multi, fetch->handle);
    }
    pthread_mutex_unlock(&fetcher->mutex);
    return ending;
}

static void drop_unwanted(struct fetcher *fetcher) {
    struct error error;
    error_set(&error, ERROR_TIMEOUT, "fetching the photo took too long");
    for (struct fetch *fetch = fetcher->active, *next; fetch; fetch = next) {
        next = fetch->next;
        if (fetch->is_wanted && !fetch->is_wanted(fetch->context))
            finish(fetcher, fetch, false, &error);
    }
}

static void collect(struct fetcher *fetcher) {
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(fetcher->multi, &left));) {
        if (message->msg != CURLMSG_DONE)
            continue;
        char *private = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        struct fetch *fetch = (struct fetch *)(void *)private;
        struct error error = {0};
        bool fetched = judge(fetch, code, &error);
        finish(fetcher, fetch, fetched, &error);
    }
}

static void *fetcher_main(void *context) {
    struct fetcher *fetcher = context;
    pthread_setname_np(pthread_self(), "fetch");
    while (!take_waiting(fetcher)) {
        int running;
        curl_multi_perform(fetcher->multi, &running);
        collect(fetcher);
        drop_unwanted(fetcher);
        curl_multi_poll(fetcher->multi, NULL, 0, fetcher->active ? WANTED_INTERVAL_MS : 60000, NULL);
    }
    struct error error;
    error_set(&error, ERROR_UNAVAILABLE, "the server is shutting down");
    while (fetcher->active)
        finish(fetcher, fetcher->active, false, &error);
    return NULL;
}

struct fetcher *fetcher_create(const struct fetch_options *options, struct error *error) {
    struct fetcher *fetcher = calloc(1, sizeof *fetcher);
    if (fetcher) {
        fetcher->options = with_defaults(options);
        fetcher->last = &fetcher->first;
        fetcher->multi = curl_multi_init();
        pthread_mutex_init(&fetcher->mutex, NULL);
    }
    if (!fetcher || !fetcher->multi || pthread_create(&fetcher->thread, NULL, fetcher_main, fetcher)) {
        if (fetcher)
            curl_multi_cleanup(fetcher->multi);
        free(fetcher);
        error_set(error, ERROR_MEMORY, "no memory or threads left to fetch photos");
        return NULL;
    }
    return fetcher;
}

void fetcher_start(struct fetcher *fetcher, const char *url, bool (*is_wanted)(void *context),
                   void (*done)(void *context, struct http_body *body, const struct error *error),
                   void *context) {
    struct error error = {0};
    struct fetch *fetch = fetch_create(url, &fetcher->options, &error);
    if (!fetch) {
        done(context, NULL, &error);
        return;
    }
    fetch->is_wanted = is_wanted;
    fetch->done = done;
    fetch->context = context;
    pthread_mutex_lock(&fetcher->mutex);
    bool full = fetcher->waiting >= fetcher->options.concurrency;
    if (!full) {
        *fetcher->last = fetch;
        fetcher->last = &fetch->next;
        fetcher->waiting++;
    }
    pthread_mutex_unlock(&fetcher->mutex);
    if (full) {
        error_set(&error, ERROR_UNAVAILABLE, "too many photos are being fetched: try again soon");
        done(context, NULL, &error);
        fetch_free(fetch);
        return;
    }
    curl_multi_wakeup(fetcher->multi);
}

void fetcher_free(struct fetcher *fetcher) {
    if (!fetcher)
        return;
    pthread_mutex_lock(&fetcher->mutex);
    fetcher->ending = true;
    pthread_mutex_unlock(&fetcher->mutex);
    curl_multi_wakeup(fetcher->multi);
    pthread_join(fetcher->thread, NULL);
    curl_multi_cleanup(fetcher->multi);
    pthread_mutex_destroy(&fetcher->mutex);
    free(fetcher);
}
