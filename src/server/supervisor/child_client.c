#include "server/supervisor/child_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

#define READY_TIMEOUT_MS 2000

struct child_client {
    struct http_upstream *upstream;
    struct http_loop *loop;
    int wake;

    pthread_mutex_t mutex; /* guards what follows */
    int references;        /* the supervisor's, and one for each request under way */
    bool checking_ready, is_ready, closed;
};

/* One request; shared by the caller and the event loop. */
struct child_request {
    struct child_client *client;
    const char *target;
    int timeout_ms;
    /* For child_client_get; guarded by mutex. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool done, abandoned, whole;
    struct buffer text;
};

static void client_release(struct child_client *client) {
    pthread_mutex_lock(&client->mutex);
    bool last = --client->references == 0;
    pthread_mutex_unlock(&client->mutex);
    if (!last)
        return;

    http_upstream_free(client->upstream);
    pthread_mutex_destroy(&client->mutex);
    free(client);
}

static void client_reference(struct child_client *client) {
    pthread_mutex_lock(&client->mutex);
    client->references++;
    pthread_mutex_unlock(&client->mutex);
}

struct child_client *child_client_create(struct http_loops *loops, int port, int wake, struct error *error) {
    const struct url url = {.host = "127.0.0.1", .port = port};
    struct child_client *client = calloc(1, sizeof *client);
    if (!client) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    client->upstream = http_upstream_create(loops, &(struct http_upstream_options){.url = &url}, error);
    if (!client->upstream) {
        free(client);
        return NULL;
    }

    client->loop = http_loops_get(loops, 0);
    client->wake = wake;
    client->references = 1;
    pthread_mutex_init(&client->mutex, NULL);

    return client;
}

void child_client_free(struct child_client *client) {
    if (!client)
        return;
    pthread_mutex_lock(&client->mutex);
    client->closed = true;
    pthread_mutex_unlock(&client->mutex);
    client_release(client);
}

/* ---- Is it ready? ---- */

static void ready_done(void *context, const struct http_response *response) {
    struct child_client *client = context;
    bool ready = response->failure == HTTP_COMPLETE && response->status == 200;
    uint64_t one = 1;

    pthread_mutex_lock(&client->mutex);
    client->checking_ready = false;
    client->is_ready |= ready;

    /* Under the mutex: the descriptor is open until child_client_free has returned. */
    if (ready && !client->closed)
        (void)!write(client->wake, &one, sizeof one); /* full: the supervisor is already being woken */
    pthread_mutex_unlock(&client->mutex);
    client_release(client);
}

static void start_ready_check(void *context) {
    struct child_client *client = context;
    const struct http_call_options options = {
        .method = "GET",
        .target = "/readyz",
        .timeout_ms = READY_TIMEOUT_MS,
        .done = ready_done,
        .context = client,
    };
    if (!http_call_start(client->upstream, client->loop, &options))
        ready_done(client, &(struct http_response){.failure = HTTP_FAILED_MEMORY});
}

bool child_client_is_ready(struct child_client *client) {
    pthread_mutex_lock(&client->mutex);
    bool ready = client->is_ready, asks = !ready && !client->checking_ready;
    if (asks) {
        client->checking_ready = true;
        client->references++;
    }

    pthread_mutex_unlock(&client->mutex);
    if (asks && !http_loop_post(client->loop, start_ready_check, client))
        ready_done(client, &(struct http_response){.failure = HTTP_FAILED_MEMORY});

    return ready;
}

/* ---- Whole documents ---- */

static void request_free(struct child_request *request) {
    client_release(request->client);
    buffer_release(&request->text);
    pthread_mutex_destroy(&request->mutex);
    pthread_cond_destroy(&request->changed);
    free(request);
}

static void request_done(void *context, const struct http_response *response) {
    struct child_request *request = context;

    pthread_mutex_lock(&request->mutex);
    request->done = true;
    request->whole = response->failure == HTTP_COMPLETE && response->status == 200 &&
                     buffer_append(&request->text, response->body->bytes, response->body->size);
    bool abandoned = request->abandoned;
    pthread_cond_signal(&request->changed);
    pthread_mutex_unlock(&request->mutex);
    if (abandoned)
        request_free(request);
}

static void start_request(void *context) {
    struct child_request *request = context;
    const struct http_call_options options = {
        .method = "GET",
        .target = request->target,
        .timeout_ms = request->timeout_ms,
        .done = request_done,
        .context = request,
    };
    if (!http_call_start(request->client->upstream, request->client->loop, &options))
        request_done(request, &(struct http_response){.failure = HTTP_FAILED_MEMORY});
}

static struct child_request *request_create(struct child_client *client, const char *target, int timeout_ms) {
    struct child_request *request = calloc(1, sizeof *request);
    pthread_condattr_t attributes;
    if (!request)
        return NULL;

    client_reference(client);
    request->client = client;
    request->target = target;
    request->timeout_ms = timeout_ms;
    request->text.limit = LIMIT_CHILD_RESPONSE_BYTES;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&request->mutex, NULL);
    pthread_cond_init(&request->changed, &attributes);
    pthread_condattr_destroy(&attributes);

    return request;
}

bool child_client_get(struct child_client *client, const char *target, int timeout_ms, struct buffer *text) {
    struct child_request *request = request_create(client, target, timeout_ms);
    if (!request)
        return false;
    if (!http_loop_post(client->loop, start_request, request)) {
        request_free(request);
        return false;
    }

    int64_t until_ns = clock_ns() + (timeout_ms + 50) * 1000000ll;
    const struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    pthread_mutex_lock(&request->mutex);
    while (!request->done && pthread_cond_timedwait(&request->changed, &request->mutex, &until) != ETIMEDOUT)
        ;

    bool done = request->done;
    bool whole = done && request->whole && buffer_append(text, request->text.bytes, request->text.size);
    request->abandoned = !done;
    pthread_mutex_unlock(&request->mutex);
    if (done)
        request_free(request);

    return whole;
}
