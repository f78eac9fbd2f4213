#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "http/internal.h"

void stream_open(struct http_stream *stream, struct http_loop *loop, int fd, SSL *ssl,
                 void (*on_read)(evutil_socket_t, short, void *),
                 void (*on_write)(evutil_socket_t, short, void *), void *context) {
    *stream = (struct http_stream){.loop = loop, .fd = fd, .ssl = ssl};
    if (ssl)
        SSL_set_fd(ssl, fd);
    event_assign(&stream->read_event, loop->base, fd, EV_READ | EV_PERSIST, on_read, context);
    event_assign(&stream->write_event, loop->base, fd, EV_WRITE | EV_PERSIST, on_write, context);
}

void stream_close(struct http_stream *stream) {
    stream_want_read(stream, false);
    stream_want_write(stream, false);
    SSL_free(stream->ssl);
    stream->ssl = NULL;
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
    buffer_release(&stream->pending);
    http_body_release(stream->body);
    stream->body = NULL;
}

void stream_want_read(struct http_stream *stream, bool want) {
    if (want == stream->reading)
        return;
    stream->reading = want;
    if (want)
        event_add(&stream->read_event, NULL);
    else
        event_del(&stream->read_event);
}

void stream_want_write(struct http_stream *stream, bool want) {
    if (want == stream->writing)
        return;
    stream->writing = want;
    if (want)
        event_add(&stream->write_event, NULL);
    else
        event_del(&stream->write_event);
}

bool stream_has_buffered(const struct http_stream *stream) {
    return stream->ssl && SSL_pending(stream->ssl) > 0;
}

static int size_to_int(size_t size) {
    return size > (1u << 30) ? 1 << 30 : (int)size;
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
        return STREAM_FAILED;
    }
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

/* Head and body of a small message leave in one record, which is copied together for that. */
static ssize_t write_tls(struct http_stream *stream, const struct iovec *parts, int count) {
    char together[16 << 10];
    const void *bytes = parts[0].iov_base;
    size_t size = parts[0].iov_len;
    if (count == 2 && size < sizeof together) {
        size_t rest = parts[1].iov_len < sizeof together - size ? parts[1].iov_len : sizeof together - size;
        memcpy(together, bytes, size);
        memcpy(together + size, parts[1].iov_base, rest);
        bytes = together;
        size += rest;
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

/* Write head (from *head_sent on) and body (from stream->body_sent on) until the socket is full. */
static enum stream_result write_message(struct http_stream *stream, const char *head, size_t head_size,
                                        size_t *head_sent) {
    for (;;) {
        struct iovec parts[2];
        int count = 0;
        if (*head_sent < head_size)
            parts[count++] = (struct iovec){(char *)(uintptr_t)head + *head_sent, head_size - *head_sent};
        if (stream->body && stream->body_sent < stream->body->size)
            parts[count++] = (struct iovec){stream->body->bytes + stream->body_sent,
                                            stream->body->size - stream->body_sent};
        if (!count)
            return STREAM_SENT;
        ssize_t written = write_parts(stream, parts, count);
        if (written == STREAM_AGAIN)
            return STREAM_PENDING;
        if (written < 0)
            return STREAM_BROKEN;
        size_t of_head = (size_t)written < head_size - *head_sent ? (size_t)written : head_size - *head_sent;
        *head_sent += of_head;
        stream->body_sent += (size_t)written - of_head;
    }
}

static enum stream_result settle(struct http_stream *stream, enum stream_result result) {
    if (result != STREAM_PENDING) {
        buffer_release(&stream->pending);
        stream->pending_sent = 0;
        http_body_release(stream->body);
        stream->body = NULL;
        stream->body_sent = 0;
    }
    /* While TLS waits for the other side, the socket being writable says nothing. */
    stream_want_write(stream,
                      (result == STREAM_PENDING && !stream->write_wants_read) || stream->read_wants_write);
    return result;
}

enum stream_result stream_flush(struct http_stream *stream) {
    return settle(stream,
                  write_message(stream, stream->pending.bytes, stream->pending.size, &stream->pending_sent));
}

enum stream_result stream_send(struct http_stream *stream, const char *head, size_t head_size,
                               struct http_body *body) {
    stream->body = http_body_reference(body);
    stream->body_sent = 0;
    if (stream->pending.size) {
        if (!buffer_append(&stream->pending, head, head_size))
            return settle(stream, STREAM_BROKEN);
        return stream_flush(stream);
    }
    size_t sent = 0;
    enum stream_result result = write_message(stream, head, head_size, &sent);
    stream->pending_sent = 0;
    if (result == STREAM_PENDING && sent < head_size &&
        !buffer_append(&stream->pending, head + sent, head_size - sent))
        result = STREAM_BROKEN;
    return settle(stream, result);
}

void stream_finish(struct http_stream *stream) {
    if (stream->ssl) {
        ERR_clear_error();
        SSL_shutdown(stream->ssl);
    }
    shutdown(stream->fd, SHUT_WR);
}
