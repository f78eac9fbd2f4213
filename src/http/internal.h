/* What the files of http/ share: the inside of a loop, and one socket with what is to be written to it. All
 * of it on the loop's thread unless said otherwise. */
#pragma once
#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "http/http.h"

/* ---- Loops ---- */

/* Work posted to a loop without allocating: a member of the struct it is about. Private to loop.c. */
struct http_task {
    void (*run)(struct http_task *task);
    struct http_task *next;
};

/* The struct that a task is a member of. */
#define HTTP_TASK_OWNER(task, type, member) ((type *)(void *)((char *)(task)-offsetof(type, member)))

#define HTTP_SCRATCH_BYTES (64u << 10)

/* Run `run(task)` soon on the loop's thread. Any thread. The task must not be pending already. */
void http_loop_submit(struct http_loop *loop, struct http_task *task, void (*run)(struct http_task *task));
struct event_base *http_loop_base(struct http_loop *loop);
/* HTTP_SCRATCH_BYTES that sockets are read into, unless a body has room. Its bytes last until the next read.
 */
char *http_loop_scratch(struct http_loop *loop);
/* An empty buffer, for a head that is written and sent at once. */
struct buffer *http_loop_buffer(struct http_loop *loop);
/* Look for events without sleeping until this time (clock_ns); 0 ends it. Only for what comes within
 * microseconds: to wake a thread takes 20 to 60 of them. */
void http_loop_poll_until(struct http_loop *loop, int64_t until_ns);
/* "Sun, 06 Nov 1994 08:49:37 GMT" */
const char *http_loop_date(struct http_loop *loop);

/* ---- Time ---- */

static inline int64_t deadline_after(int milliseconds) {
    return clock_ns() + (int64_t)milliseconds * 1000000;
}

/* ---- Bodies ---- */

/* Grow a body that has one reference. Charges nothing. */
bool http_body_append(struct http_body *body, const void *bytes, size_t size);

/* ---- Streams: one socket, plain or TLS ---- */

#define STREAM_AGAIN (-1)
#define STREAM_FAILED (-2)
#define STREAM_RUNS 3 /* runs of bytes that one call sends */

enum stream_result { STREAM_SENT, STREAM_PENDING, STREAM_BROKEN };

struct http_stream {
    struct http_loop *loop;
    int fd;
    SSL *ssl; /* NULL: plain */
    struct event read_event, write_event;
    bool reading, writing;                   /* armed */
    bool read_wants_write, write_wants_read; /* TLS in the middle of a handshake */
    bool got_plain_http;                     /* … which began as a plain request */
    const char *tls_failure;                 /* why it failed; NULL: it did not */
    bool blocked;                            /* the socket took less than was offered */
    struct buffer pending;                   /* bytes to be written before the body … */
    size_t pending_sent;
    struct http_body *body; /* … and the body, by reference */
    size_t body_sent;       /* of the last body, also after it left or failed */
};

/* Takes over fd and ssl (whose fd is set here). */
void stream_open(struct http_stream *stream, struct http_loop *loop, int fd, SSL *ssl,
                 void (*on_read)(evutil_socket_t, short, void *),
                 void (*on_write)(evutil_socket_t, short, void *), void *context);
void stream_close(struct http_stream *stream);
/* Close with a reset: the other side fails at once, and what it has not received yet is lost. */
void stream_reset(struct http_stream *stream);
/* Bytes read (> 0), 0 at the end, STREAM_AGAIN or STREAM_FAILED. */
ssize_t stream_read(struct http_stream *stream, void *bytes, size_t size);
/* TLS holds decrypted bytes that the socket will not announce. */
bool stream_has_buffered(const struct http_stream *stream);
bool stream_is_secure(const struct http_stream *stream); /* TLS */
/* Why a TLS handshake failed, in OpenSSL's words; NULL: it did not, or the other side only closed. */
const char *stream_tls_failure(const struct http_stream *stream);
/* After STREAM_FAILED: true if the other side spoke plain HTTP to TLS; the stream is plain from now on. */
bool stream_drop_tls(struct http_stream *stream);
void stream_want_read(struct http_stream *stream, bool want);
void stream_want_write(struct http_stream *stream, bool want);
/* Call on_read soon, from the loop, whatever the socket says. */
void stream_read_soon(struct http_stream *stream);
/* The same for on_write. */
void stream_write_soon(struct http_stream *stream);

/* Send `count` (<= STREAM_RUNS) runs of bytes and then `body` (takes a reference of its own; NULL: none),
 * after what is pending. What the socket does not take waits for stream_flush; the write event is armed for
 * as long as that is so. While a body is pending nothing more can be sent. */
enum stream_result stream_send(struct http_stream *stream, const struct iovec *runs, int count,
                               struct http_body *body);
/* Send soon: small runs are put together with what follows in the same round of the loop, which then calls
 * on_write for stream_flush; large ones are sent now. */
enum stream_result stream_write(struct http_stream *stream, const struct iovec *runs, int count);
enum stream_result stream_flush(struct http_stream *stream);
/* Bytes that the socket has not taken. */
size_t stream_pending(const struct http_stream *stream);
/* Bytes of the last body given to stream_send that it took. */
size_t stream_body_sent(const struct http_stream *stream);
/* No more will be written: tell the other side. */
void stream_finish(struct http_stream *stream);
