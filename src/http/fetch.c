#include "http/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "http/address.h"
#include "http/inflate.h"
#include "http/internal.h"
#include "base/url.h"

#define WANTED_INTERVAL_MS 200 /* how often is_wanted is asked */
#define ROOM_INTERVAL_MS 20    /* how often a fetch that waits for memory looks for it */
#define CONCURRENCY 64

/* One fetch under way. */
struct fetch {
    struct fetch_options options;
    CURL *handle;
    struct http_body *body;
    char text[CURL_ERROR_SIZE];
    bool numeric; /* the URL's host is an address, not a name */
    bool refused, too_large, no_memory;
    size_t length;        /* bytes that the server announced; 0: none, or nothing has come yet */
    size_t wanted;        /* > 0: waits for so much room in the budget; the server is not read meanwhile */
    struct error no_room; /* there will be none, if its code is set */
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

static struct fetch_options fill_defaults(const struct fetch_options *options) {
    struct fetch_options result = *options;
    if (!result.timeout_ms)
        result.timeout_ms = LIMIT_FETCH_SECONDS * 1000;
    if (!result.concurrency)
        result.concurrency = CONCURRENCY;
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

/* Room for `bytes` more, at first for all that is announced: what has begun to come can then be finished. */
static bool charge(struct fetch *fetch, size_t bytes) {
    struct http_body *body = fetch->body;
    size_t needed = body->size + bytes;
    curl_off_t length = 0;
    if (!fetch->length &&
        curl_easy_getinfo(fetch->handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK &&
        length > 0)
        fetch->length = (size_t)length;
    if (fetch->length > needed)
        needed = fetch->length;

    size_t more = needed > body->charge.bytes ? needed - body->charge.bytes : 0;
    if (!more || memory_charge_try(&body->charge, more))
        return true;
    if (body->charge.bytes || !memory_budget_allows(MEMORY_FETCHED, more))
        return memory_charge_grow(&body->charge, more,
                                  &fetch->no_room); /* who holds some does not wait for more */
    fetch->wanted = more;
    return true;
}

static size_t take_bytes(char *bytes, size_t size, size_t count, void *context) {
    struct fetch *fetch = context;
    size_t total = size * count;

    if (total > fetch->options.limit - fetch->body->size)
        fetch->too_large = true;
    else if (!charge(fetch, total))
        return 0;
    else if (fetch->wanted)
        return CURL_WRITEFUNC_PAUSE;
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

    /* Of HTTP/2, curl would keep what comes while a fetch waits. */
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
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

    /* Each fetch opens connections of its own, so that each is checked by its own options. */
    curl_easy_setopt(handle, CURLOPT_FORBID_REUSE, 1L);
}

static void free_fetch(struct fetch *fetch) {
    if (!fetch)
        return;
    curl_easy_cleanup(fetch->handle);
    http_body_release(fetch->body);
    free(fetch);
}

static struct fetch *create_fetch(const char *url, const struct fetch_options *options, struct error *error) {
    size_t length = strlen(url);
    struct url parts;

    if (length > LIMIT_URL_BYTES) {
        error_set(error, ERROR_INVALID, "the URL is longer than %d bytes", LIMIT_URL_BYTES);
        return NULL;
    }
    if (!url_parse(url, &parts, error))
        return NULL;

    struct fetch *fetch = calloc(1, sizeof *fetch + length + 1);
    if (fetch) {
        memcpy(fetch->url, url, length + 1);
        fetch->options = *options;
        fetch->numeric = strchr(parts.host, ':') || inet_aton(parts.host, &(struct in_addr){0});
        fetch->handle = curl_easy_init();
        fetch->body = http_body_create(NULL, 0);
        if (fetch->body)
            fetch->body->charge.purpose = MEMORY_FETCHED;
    }

    if (!fetch || !fetch->handle || !fetch->body) {
        free_fetch(fetch);
        error_set(error, ERROR_MEMORY, "not enough memory to fetch a URL");
        return NULL;
    }

    configure(fetch);
    return fetch;
}

static bool fail_by_code(const struct fetch *fetch, CURLcode code, struct error *error) {
    long status = 0, redirects = 0;
    curl_easy_getinfo(fetch->handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(fetch->handle, CURLINFO_REDIRECT_COUNT, &redirects);

    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_LOGIN_DENIED:
        return error_set(error, ERROR_INVALID, "the URL cannot be fetched: %s", fetch->text);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(error, ERROR_TIMEOUT, "the URL's server did not reply within %g s",
                         fetch->options.timeout_ms / 1000.0);
    case CURLE_HTTP_RETURNED_ERROR:
        return error_set(error, ERROR_UPSTREAM, "the URL's server replied with status %ld", status);
    case CURLE_TOO_MANY_REDIRECTS:
        return error_set(error, ERROR_UPSTREAM, "the URL redirects more than %d times",
                         LIMIT_FETCH_REDIRECTS);
    default:
        if (fetch->refused && fetch->numeric && redirects == 0)
            return error_set(error, ERROR_INVALID,
                             "the URL leads into a private network, which is not allowed");
        /* Of a name, strangers do not learn whether it exists in our network. */
        if (fetch->refused || (code == CURLE_COULDNT_RESOLVE_HOST && !fetch->options.allow_private))
            return error_set(error, ERROR_UPSTREAM,
                             "the URL cannot be fetched: its host has no public address");
        return error_set(error, ERROR_UPSTREAM, "the URL cannot be fetched: %s",
                         *fetch->text ? fetch->text : curl_easy_strerror(code));
    }
}

/* curl's outcome as an error of ours; true: the body is complete. */
static bool check_outcome(const struct fetch *fetch, CURLcode code, struct error *error) {
    if (fetch->no_room.code) {
        *error = fetch->no_room;
        return false;
    }
    if (fetch->wanted)
        return error_set(error, ERROR_UNAVAILABLE,
                         "there was no room for the file at the URL: try again soon");
    if (fetch->no_memory)
        return error_set(error, ERROR_MEMORY, "not enough memory for the file at the URL");
    if (fetch->too_large || code == CURLE_FILESIZE_EXCEEDED)
        return error_set(error, ERROR_TOO_LARGE, "the file at the URL is larger than %zu bytes",
                         fetch->options.limit);
    if (code == CURLE_OK)
        return fetch->body->size || error_set(error, ERROR_UPSTREAM, "the file at the URL is empty");

    return fail_by_code(fetch, code, error);
}

/* Some servers compress the response without an Accept-Encoding in the request. */
static bool decode_body(struct fetch *fetch, struct error *error) {
    struct curl_header *header = NULL;
    CURLHcode found = curl_easy_header(fetch->handle, "Content-Encoding", 0, CURLH_HEADER, -1, &header);
    if (found != CURLHE_OK)
        return true;
    if (header->amount > 1)
        return error_set(error, ERROR_UPSTREAM, "the file at the URL is compressed more than once");

    struct http_body *plain =
        http_body_decode_content(fetch->body, header->value, fetch->options.limit, error);
    if (!plain) {
        if (error->code == ERROR_MEDIA || error->code == ERROR_INVALID)
            error->code = ERROR_UPSTREAM;
        return error_prefix(error, "the file at the URL");
    }

    http_body_release(fetch->body);
    fetch->body = plain;
    return plain->size || error_set(error, ERROR_UPSTREAM, "the file at the URL is empty");
}

struct http_body *fetch_url(const char *url, const struct fetch_options *options, struct error *error) {
    struct fetch_options all = fill_defaults(options);
    struct fetch *fetch = create_fetch(url, &all, error);
    if (!fetch)
        return NULL;

    CURLcode code = curl_easy_perform(fetch->handle);
    struct http_body *body = NULL;
    if (check_outcome(fetch, code, error) && decode_body(fetch, error))
        body = http_body_reference(fetch->body);
    free_fetch(fetch);
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
    free_fetch(fetch);
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
    error_set(&error, ERROR_TIMEOUT, "fetching the URL took too long");
    for (struct fetch *fetch = fetcher->active, *next; fetch; fetch = next) {
        next = fetch->next;
        if (fetch->is_wanted && !fetch->is_wanted(fetch->context))
            finish(fetcher, fetch, false, &error);
    }
}

/* The one that has waited longest for room; NULL where none does. */
static struct fetch *find_waiting(const struct fetcher *fetcher) {
    struct fetch *oldest = NULL;
    for (struct fetch *fetch = fetcher->active; fetch; fetch = fetch->next)
        if (fetch->wanted)
            oldest = fetch;
    return oldest;
}

/* Let those go on that have room now. True: some still wait. */
static bool resume_waiting(struct fetcher *fetcher) {
    struct fetch *fetch;
    while ((fetch = find_waiting(fetcher)) && memory_charge_try(&fetch->body->charge, fetch->wanted)) {
        fetch->wanted = 0;
        curl_easy_pause(fetch->handle, CURLPAUSE_CONT);
    }
    return fetch != NULL;
}

static void collect(struct fetcher *fetcher) {
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(fetcher->multi, &left));) {
        if (message->msg != CURLMSG_DONE)
            continue;

        char *pointer = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &pointer);

        struct fetch *fetch = (struct fetch *)(void *)pointer;
        struct error error = {0};
        bool fetched = check_outcome(fetch, code, &error) && decode_body(fetch, &error);
        finish(fetcher, fetch, fetched, &error);
    }
}

static void *fetcher_main(void *context) {
    struct fetcher *fetcher = context;
    pthread_setname_np(pthread_self(), "fetch");
    while (!take_waiting(fetcher)) {
        int running;
        bool room_wanted = resume_waiting(fetcher);
        curl_multi_perform(fetcher->multi, &running);
        collect(fetcher);
        drop_unwanted(fetcher);
        int pause = room_wanted ? ROOM_INTERVAL_MS : fetcher->active ? WANTED_INTERVAL_MS : 60000;
        curl_multi_poll(fetcher->multi, NULL, 0, pause, NULL);
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
        fetcher->options = fill_defaults(options);
        fetcher->last = &fetcher->first;
        fetcher->multi = curl_multi_init();
        pthread_mutex_init(&fetcher->mutex, NULL);
    }

    if (!fetcher || !fetcher->multi || pthread_create(&fetcher->thread, NULL, fetcher_main, fetcher)) {
        if (fetcher)
            curl_multi_cleanup(fetcher->multi);
        free(fetcher);
        error_set(error, ERROR_MEMORY, "no memory or threads left to fetch URLs");
        return NULL;
    }
    return fetcher;
}

void fetcher_start(struct fetcher *fetcher, const char *url, bool (*is_wanted)(void *context),
                   void (*done)(void *context, struct http_body *body, const struct error *error),
                   void *context) {
    struct error error = {0};
    struct fetch *fetch = create_fetch(url, &fetcher->options, &error);
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
        error_set(&error, ERROR_UNAVAILABLE, "too many URLs are being fetched: try again soon");
        done(context, NULL, &error);
        free_fetch(fetch);
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
