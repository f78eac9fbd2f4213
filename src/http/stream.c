#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/internal.h"

#define TLS_RECORD_BYTES (16u << 10)
#define GATHER_BYTES (16u << 10) /* stream_write keeps back up to this much until the end of the round */

void stream_open(struct http_stream *stream, struct http_loop *loop, int fd, SSL *ssl,
                 void (*on_read)(evutil_socket_t, short, void *),
                 void (*on_write)(evutil_socket_t, short, void *), void *context) {
    *stream = (struct http_stream){.loop = loop, .fd = fd, .ssl = ssl};
    if (ssl)
        SSL_set_fd(ssl, fd);

    struct event_base *base = http_loop_base(loop);
    event_assign(&stream->read_event, base, fd, EV_READ | EV_PERSIST, on_read, context);
    event_assign(&stream->write_event, base, fd, EV_WRITE | EV_PERSIST, on_write, context);
}

void stream_close(struct http_stream *stream) {
    event_del(&stream->read_event); /* also what stream_read_soon and stream_write_soon asked for */
    event_del(&stream->write_event);
    stream->reading = stream->writing = false;

    SSL_free(stream->ssl);
    stream->ssl = NULL;
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;

    buffer_release(&stream->pending);
    http_body_release(stream->body);
    stream->body = NULL;
}

void stream_reset(struct http_stream *stream) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    stream_close(stream);
}

/* ---- Events ---- */

/* libevent does not watch the socket of an event that is added while it is active, as stream_read_soon and
 * stream_write_soon leave it. */
static void arm(struct event *event, short what) {
    bool active = event_pending(event, what, NULL);
    if (active)
        event_del(event);
    event_add(event, NULL);
    if (active)
        event_active(event, what, 1);
}

void stream_want_read(struct http_stream *stream, bool want) {
    if (want == stream->reading)
        return;

    stream->reading = want;
    if (want)
        arm(&stream->read_event, EV_READ);
    else
        event_del(&stream->read_event);
}

void stream_want_write(struct http_stream *stream, bool want) {
    if (want == stream->writing)
        return;

    stream->writing = want;
    if (want)
        arm(&stream->write_event, EV_WRITE);
    else
        event_del(&stream->write_event);
}

void stream_read_soon(struct http_stream *stream) {
    event_active(&stream->read_event, EV_READ, 1);
}

void stream_write_soon(struct http_stream *stream) {
    event_active(&stream->write_event, EV_WRITE, 1);
}

/* ---- Reading ---- */

bool stream_is_secure(const struct http_stream *stream) {
    return stream->ssl != NULL;
}

bool stream_has_buffered(const struct http_stream *stream) {
    return stream->ssl && SSL_pending(stream->ssl) > 0;
}

static int size_to_int(size_t size) {
    return size > (1u << 30) ? 1 << 30 : (int)size;
}

/* OpenSSL has failed: keep why, unless the other side only went, or had shaken hands. */
static void note_tls_failure(struct http_stream *stream) {
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    if (stream->tls_failure || !code || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING ||
        SSL_is_init_finished(stream->ssl))
        return;

    long verdict = SSL_get_verify_result(stream->ssl);
    stream->got_plain_http = reason == SSL_R_HTTP_REQUEST;
    stream->tls_failure =
        verdict == X509_V_OK ? ERR_reason_error_string(code) : X509_verify_cert_error_string(verdict);
}

const char *stream_tls_failure(const struct http_stream *stream) {
    return stream->tls_failure;
}

static ssize_t read_tls(struct http_stream *stream, void *bytes, size_t size) {
    ERR_clear_error();
    int count = SSL_read(stream->ssl, bytes, size_to_int(size));
    if (count > 0)
        return count;

    switch (SSL_get_error(stream->ssl, count)) {
    case SSL_ERROR_WANT_READ:
        return STREAM_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        stream->read_wants_write = true;
        stream_want_write(stream, true);
        return STREAM_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        note_tls_failure(stream);
        return STREAM_FAILED;
    }
}

bool stream_drop_tls(struct http_stream *stream) {
    if (!stream->got_plain_http)
        return false;
    SSL_free(stream->ssl);
    stream->ssl = NULL;
    return true;
}

ssize_t stream_read(struct http_stream *stream, void *bytes, size_t size) {
    stream->read_wants_write = false;
    if (stream->ssl)
        return read_tls(stream, bytes, size);

    ssize_t count;
    do
        count = recv(stream->fd, bytes, size, 0);
    while (count < 0 && errno == EINTR);

    if (count >= 0)
        return count;
    return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_AGAIN : STREAM_FAILED;
}

/* ---- Writing ---- */

/* Several small parts leave in one record, which is put together here. */
static ssize_t write_tls(struct http_stream *stream, const struct iovec *parts, int count) {
    char record[TLS_RECORD_BYTES];
    const void *bytes = parts[0].iov_base;
    size_t size = parts[0].iov_len;
    if (count > 1 && size < sizeof record) {
        size = 0;
        for (int i = 0; i < count && size < sizeof record; i++) {
            size_t room = sizeof record - size;
            size_t run = parts[i].iov_len < room ? parts[i].iov_len : room;
            memcpy(record + size, parts[i].iov_base, run);
            size += run;
        }
        bytes = record;
    }

    ERR_clear_error();
    int written = SSL_write(stream->ssl, bytes, size_to_int(size));
    if (written > 0)
        return written;

    switch (SSL_get_error(stream->ssl, written)) {
    case SSL_ERROR_WANT_READ:
        stream->write_wants_read = true;
        return STREAM_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        return STREAM_AGAIN;
    default:
        note_tls_failure(stream);
        return STREAM_FAILED;
    }
}

static ssize_t write_parts(struct http_stream *stream, struct iovec *parts, int count) {
    stream->write_wants_read = false;
    if (stream->ssl)
        return write_tls(stream, parts, count);

    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t written;
    do
        written = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    while (written < 0 && errno == EINTR);

    if (written >= 0)
        return written;
    return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_AGAIN : STREAM_FAILED;
}

/* What is to be written, in order: pending bytes, the runs, the body. Returns the number of parts. */
static int gather_parts(const struct http_stream *stream, const struct iovec *runs, int count,
                        struct iovec parts[STREAM_RUNS + 2]) {
    int used = 0;
    if (stream->pending_sent < stream->pending.size)
        parts[used++] = (struct iovec){stream->pending.bytes + stream->pending_sent,
                                       stream->pending.size - stream->pending_sent};

    for (int i = 0; i < count; i++)
        if (runs[i].iov_len)
            parts[used++] = runs[i];

    if (stream->body && stream->body_sent < stream->body->size)
        parts[used++] =
            (struct iovec){stream->body->bytes + stream->body_sent, stream->body->size - stream->body_sent};
    return used;
}

/* The first `size` bytes of what gather_parts listed are written. */
static void note_written(struct http_stream *stream, struct iovec *runs, int count, size_t size) {
    size_t pending = stream->pending.size - stream->pending_sent;
    size_t part = size < pending ? size : pending;
    stream->pending_sent += part;
    size -= part;

    for (int i = 0; i < count; i++) {
        part = size < runs[i].iov_len ? size : runs[i].iov_len;
        runs[i].iov_base = (char *)runs[i].iov_base + part;
        runs[i].iov_len -= part;
        size -= part;
    }

    stream->body_sent += size;
}

/* Write until everything has left or the socket is full; what is left of the runs stays in `runs`. */
static enum stream_result write_all(struct http_stream *stream, struct iovec *runs, int count) {
    for (;;) {
        struct iovec parts[STREAM_RUNS + 2];
        int part_count = gather_parts(stream, runs, count, parts);
        if (!part_count)
            return STREAM_SENT;

        ssize_t written = write_parts(stream, parts, part_count);
        if (written == STREAM_AGAIN)
            return STREAM_PENDING;
        if (written < 0)
            return STREAM_BROKEN;
        note_written(stream, runs, count, (size_t)written);
    }
}

/* Put runs after what is pending. Rather than let the buffer grow, move the bytes already sent out of it, if
 * that is worth the copy. */
static bool keep_runs(struct http_stream *stream, const struct iovec *runs, int count) {
    struct buffer *pending = &stream->pending;
    size_t more = 0, left = pending->size - stream->pending_sent;
    for (int i = 0; i < count; i++)
        more += runs[i].iov_len;

    bool fits = more < pending->capacity - pending->size;
    if (!fits && stream->pending_sent && stream->pending_sent >= left / 2) {
        memmove(pending->bytes, pending->bytes + stream->pending_sent, left + 1);
        pending->size = left;
        stream->pending_sent = 0;
    }

    for (int i = 0; i < count; i++)
        if (runs[i].iov_len && !buffer_append(pending, runs[i].iov_base, runs[i].iov_len))
            return false;
    return true;
}

static enum stream_result settle(struct http_stream *stream, enum stream_result result) {
    if (result != STREAM_PENDING) {
        buffer_release(&stream->pending);
        stream->pending_sent = 0;
        http_body_release(stream->body);
        stream->body = NULL;
    }
    stream->blocked = result == STREAM_PENDING;

    /* While TLS waits for the other side, the socket being writable says nothing. */
    stream_want_write(stream, (stream->blocked && !stream->write_wants_read) || stream->read_wants_write);
    return result;
}

enum stream_result stream_flush(struct http_stream *stream) {
    return settle(stream, write_all(stream, NULL, 0));
}

enum stream_result stream_send(struct http_stream *stream, const struct iovec *runs, int count,
                               struct http_body *body) {
    struct iovec rest[STREAM_RUNS];
    for (int i = 0; i < count; i++)
        rest[i] = runs[i];
    stream->body = http_body_reference(body);
    stream->body_sent = 0;

    enum stream_result result = stream->blocked ? STREAM_PENDING : write_all(stream, rest, count);
    if (result == STREAM_PENDING && !keep_runs(stream, rest, count))
        result = STREAM_BROKEN;
    return settle(stream, result);
}

enum stream_result stream_write(struct http_stream *stream, const struct iovec *runs, int count) {
    size_t size = stream_pending(stream);
    for (int i = 0; i < count; i++)
        size += runs[i].iov_len;
    if (stream->blocked || size > GATHER_BYTES)
        return stream_send(stream, runs, count, NULL);

    if (!keep_runs(stream, runs, count))
        return STREAM_BROKEN;
    stream_write_soon(stream);
    return STREAM_PENDING;
}

size_t stream_pending(const struct http_stream *stream) {
    return stream->pending.size - stream->pending_sent +
           (stream->body ? stream->body->size - stream->body_sent : 0);
}

size_t stream_body_sent(const struct http_stream *stream) {
    return stream->body_sent;
}

void stream_finish(struct http_stream *stream) {
    if (stream->ssl) {
        ERR_clear_error();
        SSL_shutdown(stream->ssl);
    }
    shutdown(stream->fd, SHUT_WR);
}
