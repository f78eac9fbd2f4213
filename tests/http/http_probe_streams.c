/* Routes of http_probe that stream:
 *   /events?count=&ms=        events of the monotonic clock's nanoseconds, `ms` apart
 *   /flood?bytes=&length=     as many bytes as fast as the client reads; length=1: with Content-Length
 *   /abort?bytes=&length=     as many bytes, then http_respond_abort; length: Content-Length to announce
 *   /hang?bytes=&length=      as many bytes, then nothing until the client goes
 *   /wait                     no reply until the client goes
 *   /nothing                  http_respond_abort without a reply
 *   /short?bytes=&length=     as many bytes, then the end, whatever length was announced
 *   /bare?status=             writes a body that a HEAD, 204 or 304 does not have
 *   /count?pause=             counts the body's bytes, with a pause of so many ms after each piece
 *   /early?status=            replies without reading the body
 *   /later?ms=                reads the body after so long, and counts it
 *   /begin                    begins its reply when the first piece of the body is here
 *   /relay/…                  asks the upstream for /…, in pieces both ways
 *   /state                    counters of all these */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "http_probe.h"

#define PIECE_BYTES (64u << 10)

static int gone_count, incomplete_bodies, open_streams, upstream_failures;
static int64_t gone_ns; /* when a client's going was noticed last */
static size_t peak_pending;
static long produced; /* bytes written by send_flood, all replies */

/* One reply that is being made. */
struct producer {
    struct http_request *request;
    struct http_timer *timer;
    long left; /* events or bytes */
    long ms;
    bool abort, hang;
};

static void note_pending(size_t pending) {
    if (pending > peak_pending)
        peak_pending = pending;
}

static void free_producer(struct producer *producer) {
    http_timer_cancel(producer->timer);
    free(producer);
    open_streams--;
}

static void producer_gone(void *context) {
    struct producer *producer = context;
    gone_count++;
    gone_ns = clock_ns();
    http_respond_end(producer->request);
    free_producer(producer);
}

static void send_event(void *context) {
    struct producer *producer = context;
    char text[64];
    int size = snprintf(text, sizeof text, "data: %lld\n\n", (long long)clock_ns());
    producer->timer = NULL;
    http_respond_write(producer->request, text, (size_t)size);

    if (--producer->left) {
        producer->timer = http_timer_start(producer->request->loop, (int)producer->ms, send_event, producer);
        return;
    }
    http_respond_end(producer->request);
    free_producer(producer);
}

/* Bytes that tell their position, so that a piece lost or doubled is seen. */
static void fill(char *piece, size_t size, long position) {
    memset(piece, 'a' + (int)(position / (long)PIECE_BYTES % 26), size);
}

static void send_flood(void *context) {
    struct producer *producer = context;
    static char piece[PIECE_BYTES];
    while (producer->left && http_respond_pending(producer->request) <= LIMIT_OUTPUT_HIGH_BYTES) {
        size_t size = producer->left < (long)sizeof piece ? (size_t)producer->left : sizeof piece;
        fill(piece, size, producer->ms);
        producer->ms += (long)size;
        producer->left -= (long)size;
        produced += (long)size;
        if (!http_respond_write(producer->request, piece, size))
            return; /* producer_gone follows */
        note_pending(http_respond_pending(producer->request));
    }
    if (producer->left || producer->hang)
        return;

    producer->abort ? http_respond_abort(producer->request) : http_respond_end(producer->request);
    free_producer(producer);
}

static struct producer *begin_reply(struct http_request *request, const char *type, int64_t length) {
    struct producer *producer = calloc(1, sizeof *producer);
    struct http_header header = {"Content-Type", type};
    open_streams++;
    producer->request = request;
    http_request_on_gone(request, producer_gone, producer);
    http_respond_begin(request, 200, &header, 1, length);
    return producer;
}

static void begin_events(struct http_request *request) {
    struct producer *producer = begin_reply(request, "text/event-stream", -1);
    producer->left = probe_parameter(request, "count", 10);
    producer->ms = probe_parameter(request, "ms", 200);
    producer->timer = http_timer_start(request->loop, (int)producer->ms, send_event, producer);
}

static void wait_gone(void *context) {
    gone_count++;
    gone_ns = clock_ns();
    open_streams--;
    http_respond_bytes(context, 200, NULL, NULL, 0);
}

static void begin_wait(struct http_request *request) {
    open_streams++;
    http_request_on_gone(request, wait_gone, request);
}

static void reply_bare(struct http_request *request) {
    http_respond_begin(request, (int)probe_parameter(request, "status", 200), NULL, 0, 5);
    http_respond_write(request, "12345", 5);
    http_respond_end(request);
}

static void reply_short(struct http_request *request) {
    static const char bytes[100];
    http_respond_begin(request, 200, NULL, 0, probe_parameter(request, "length", -1));
    http_respond_write(request, bytes, (size_t)probe_parameter(request, "bytes", 10));
    http_respond_end(request);
}

static void begin_flood(struct http_request *request) {
    long bytes = probe_parameter(request, "bytes", 1000), length = probe_parameter(request, "length", -1);
    bool flood = !strcmp(request->path, "/flood");
    struct producer *producer =
        begin_reply(request, "application/octet-stream", flood && length > 0 ? bytes : length);
    producer->left = bytes;
    producer->abort = !strcmp(request->path, "/abort");
    producer->hang = !strcmp(request->path, "/hang");
    http_respond_on_writable(request, send_flood, producer);
    send_flood(producer);
}

/* ---- Bodies ---- */

struct counter {
    struct http_request *request;
    struct http_timer *timer;
    size_t bytes;
    long pause;
    bool wrong;
};

static void count_resume(void *context) {
    struct counter *counter = context;
    counter->timer = NULL;
    http_request_pause_body(counter->request, false);
}

static void count_piece(void *context, const void *bytes, size_t size) {
    struct counter *counter = context;
    const char *text = bytes;
    for (size_t at = 0, run; at < size; at += run) {
        run = PIECE_BYTES - counter->bytes % PIECE_BYTES;
        run = run < size - at ? run : size - at;
        bool same = text[at] == (char)('a' + counter->bytes / PIECE_BYTES % 26) &&
                    memcmp(text + at, text + at + 1, run - 1) == 0;
        counter->wrong |= !same;
        counter->bytes += run;
    }
    if (counter->pause) {
        http_request_pause_body(counter->request, true);
        counter->timer = http_timer_start(counter->request->loop, (int)counter->pause, count_resume, counter);
    }
}

static void count_end(void *context, bool complete) {
    struct counter *counter = context;
    incomplete_bodies += !complete;
    http_timer_cancel(counter->timer);
    char text[64];
    int size = snprintf(text, sizeof text, "%zu%s", counter->bytes, counter->wrong ? " wrong" : "");
    http_respond_bytes(counter->request, complete ? 200 : 400, "text/plain", text, (size_t)size);
    free(counter);
}

static void count_body(void *context) {
    struct counter *counter = context;
    counter->timer = NULL;
    const struct http_body_reader reader = {count_piece, count_end, counter};
    http_request_read_body(counter->request, &reader);
}

static void begin_count(struct http_request *request) {
    struct counter *counter = calloc(1, sizeof *counter);
    counter->request = request;
    counter->pause = probe_parameter(request, "pause", 0);
    long later = probe_parameter(request, "ms", 0);
    if (later)
        counter->timer = http_timer_start(request->loop, (int)later, count_body, counter);
    else
        count_body(counter);
}

static void begin_piece(void *context, const void *bytes, size_t size) {
    http_respond_begin(context, 200, NULL, 0, -1);
    http_respond_write(context, bytes, size);
    http_respond_end(context);
}

static void begin_end(void *context, bool complete) {
    http_respond_bytes(context, complete ? 200 : 400, NULL, NULL, 0);
}

/* ---- A relay: what a proxy does ---- */

struct relay {
    struct http_request *request;
    struct http_call *call; /* NULL once it is done */
    bool begun;
};

static void relay_free(struct relay *relay) {
    http_call_cancel(relay->call);
    free(relay);
    open_streams--;
}

static void relay_fail(struct relay *relay, enum error_code code, const char *reason) {
    struct error error;
    error_set(&error, code, "%s", reason);
    if (relay->begun)
        http_respond_abort(relay->request);
    else
        http_respond_error(relay->request, &error);
    relay_free(relay);
}

static void relay_gone(void *context) {
    struct relay *relay = context;
    gone_count++;
    gone_ns = clock_ns();
    relay_fail(relay, ERROR_UPSTREAM, "the client has gone");
}

static void relay_body(void *context, const void *bytes, size_t size) {
    struct relay *relay = context;
    if (!http_call_write(relay->call, bytes, size))
        return; /* relay_done follows */
    note_pending(http_call_pending(relay->call));
    if (http_call_pending(relay->call) > LIMIT_OUTPUT_HIGH_BYTES)
        http_request_pause_body(relay->request, true);
}

static void relay_body_end(void *context, bool complete) {
    struct relay *relay = context;
    if (complete) {
        http_call_finish(relay->call);
        return;
    }
    incomplete_bodies++;
    relay_fail(relay, ERROR_INVALID, "the body is not complete");
}

static void relay_upstream_writable(void *context) {
    struct relay *relay = context;
    http_request_pause_body(relay->request, false);
}

static void relay_head(void *context, const struct http_response *response) {
    struct relay *relay = context;
    struct http_header headers[64];
    int count = 0;
    for (int i = 0; i < response->header_count && count < 64; i++)
        if (!http_header_is_hop_by_hop(response->headers[i].name))
            headers[count++] = response->headers[i];
    relay->begun = true;
    http_respond_begin(relay->request, response->status, headers, count, response->content_length);
}

static void relay_piece(void *context, const void *bytes, size_t size) {
    struct relay *relay = context;
    if (!http_respond_write(relay->request, bytes, size))
        return; /* relay_gone follows */
    note_pending(http_respond_pending(relay->request));
    if (http_respond_pending(relay->request) > LIMIT_OUTPUT_HIGH_BYTES)
        http_call_pause(relay->call, true);
}

static void relay_client_writable(void *context) {
    struct relay *relay = context;
    http_call_pause(relay->call, false);
}

static void relay_done(void *context, const struct http_response *response) {
    struct relay *relay = context;
    relay->call = NULL;
    if (response->failure != HTTP_COMPLETE) {
        char reason[200];
        snprintf(reason, sizeof reason, "%d: %s", response->failure, response->reason);
        upstream_failures++;
        relay_fail(relay, response->failure == HTTP_FAILED_TIMEOUT ? ERROR_TIMEOUT : ERROR_UPSTREAM, reason);
        return;
    }
    http_respond_end(relay->request);
    relay_free(relay);
}

static void begin_relay(struct http_request *request, struct http_upstream *upstream) {
    struct relay *relay = calloc(1, sizeof *relay);
    open_streams++;
    relay->request = request;
    const struct http_call_options options = {
        .method = request->method_name,
        .target = request->target + 6,
        .headers = request->headers,
        .header_count = request->header_count,
        .body_in_pieces = request->content_length != 0,
        .body_length = request->content_length,
        .first_byte_timeout_ms = (int)probe_parameter(request, "first_ms", 0),
        .silence_timeout_ms = (int)probe_parameter(request, "silence_ms", 0),
        .timeout_ms = (int)probe_parameter(request, "whole_ms", 0),
        .head = relay_head,
        .piece = relay_piece,
        .writable = relay_upstream_writable,
        .done = relay_done,
        .context = relay,
    };
    relay->call = http_call_start(upstream, request->loop, &options);
    if (!relay->call) {
        relay_fail(relay, ERROR_MEMORY, "no memory for a call");
        return;
    }
    http_request_on_gone(request, relay_gone, relay);
    http_respond_on_writable(request, relay_client_writable, relay);
    const struct http_body_reader reader = {relay_body, relay_body_end, relay};
    if (request->content_length)
        http_request_read_body(request, &reader);
}

/* ---- Routes ---- */

static void tell_state(struct http_request *request) {
    char text[256];
    int size = snprintf(text, sizeof text,
                        "{\"gone\": %d, \"gone_ns\": %lld, \"incomplete\": %d, \"open\": %d, "
                        "\"upstream_failures\": %d, \"peak_pending\": %zu, \"produced\": %ld}",
                        gone_count, (long long)gone_ns, incomplete_bodies, open_streams, upstream_failures,
                        peak_pending, produced);
    http_respond_bytes(request, 200, "application/json", text, (size_t)size);
}

static void abort_reply(struct http_request *request) {
    http_respond_abort(request);
}

static void reply_early(struct http_request *request) {
    http_respond_bytes(request, (int)probe_parameter(request, "status", 413), "text/plain", "early", 5);
}

static void begin_with_body(struct http_request *request) {
    const struct http_body_reader reader = {begin_piece, begin_end, request};
    http_request_read_body(request, &reader);
}

static const struct {
    const char *path;
    void (*handle)(struct http_request *request);
} routes[] = {
    {"/abort", begin_flood}, {"/bare", reply_bare},     {"/begin", begin_with_body}, {"/count", begin_count},
    {"/early", reply_early}, {"/events", begin_events}, {"/flood", begin_flood},     {"/hang", begin_flood},
    {"/later", begin_count}, {"/nothing", abort_reply}, {"/short", reply_short},     {"/state", tell_state},
    {"/wait", begin_wait},
};

static int find_route(const struct http_request *request) {
    int count = sizeof routes / sizeof *routes, i = 0;
    while (i < count && strcmp(request->path, routes[i].path))
        i++;
    return i < count ? i : -1;
}

static bool is_relay(const struct http_request *request) {
    return !strncmp(request->path, "/relay/", 7);
}

bool probe_is_stream(const struct http_request *request) {
    return is_relay(request) || find_route(request) >= 0;
}

void probe_streams(struct http_request *request, struct http_upstream *upstream) {
    if (is_relay(request))
        begin_relay(request, upstream);
    else
        routes[find_route(request)].handle(request);
}
