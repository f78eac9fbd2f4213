/* What the files of http/ share among themselves: the loop's inside, and one socket with what is to be
 * written to it. */
#pragma once
#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "http/http.h"

/* ---- Loops ---- */

/* Work posted to a loop without allocating: embedded in what it is about. */
struct http_task {
    void (*run)(struct http_task *task);
    struct http_task *next;
};

#define HTTP_SCRATCH_BYTES (64u << 10)

struct http_loop {
    struct event_base *base;
    pthread_t thread;
    int index;
    bool started;
    pthread_mutex_t mutex; /* guards tasks */
    struct http_task *first_task, *last_task;
    int wake_fd;
    struct event wake;
    int64_t date_second; /* the Date header, remade once a second */
    char date[40];
    struct buffer head;               /* where heads are written before they are sent */
    char scratch[HTTP_SCRATCH_BYTES]; /* where sockets are read into while nothing is left over */
};

/* Any thread. The task must not be pending already. */
void http_loop_submit(struct http_loop *loop, struct http_task *task);
/* "Sun, 06 Nov 1994 08:49:37 GMT". On the loop's thread. */
const char *http_loop_date(struct http_loop *loop);

/* ---- Bodies ---- */

/* Grow a body that nobody else has yet. */
bool http_body_append(struct http_body *body, const void *bytes, size_t size);

/* ---- Streams: one socket, plain or TLS ---- */

#define STREAM_AGAIN (-1)
#define STREAM_FAILED (-2)

enum stream_result { STREAM_SENT, STREAM_PENDING, STREAM_BROKEN };

struct http_stream {
    struct http_loop *loop;
    int fd;
    SSL *ssl; /* NULL: plain */
    struct event read_event, write_event;
    bool reading, writing;                   /* armed */
    bool read_wants_write, write_wants_read; /* TLS in the middle of a handshake */
    struct buffer pending;                   /* bytes to be written before the body … */
    size_t pending_sent;
    struct http_body *body; /* … and the body, by reference */
    size_t body_sent;
};

/* Takes over fd and ssl (whose fd is set here). */
void stream_open(struct http_stream *stream, struct http_loop *loop, int fd, SSL *ssl,
                 void (*on_read)(evutil_socket_t, short, void *),
                 void (*on_write)(evutil_socket_t, short, void *), void *context);
void stream_close(struct http_stream *stream);
/* Bytes read (> 0), 0 at the end, STREAM_AGAIN or STREAM_FAILED. */
ssize_t stream_read(struct http_stream *stream, void *bytes, size_t size);
/* TLS holds decrypted bytes that the socket will not announce. */
bool stream_has_buffered(const struct http_stream *stream);
void stream_want_read(struct http_stream *stream, bool want);
void stream_want_write(struct http_stream *stream, bool want);
/* Send head and body (a reference of its own; NULL: none) behind what is pending. What the socket does not
 * take waits for stream_flush; the write event is armed for as long as that is so. */
enum stream_result stream_send(struct http_stream *stream, const char *head, size_t head_size,
                               struct http_body *body);
enum stream_result stream_flush(struct http_stream *stream);
/* No more will be written: tell the other side. */
void stream_finish(struct http_stream *stream);

/* ---- Text ---- */

/* Append `text` as a JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
void http_append_json_string(struct buffer *buffer, const char *text);
