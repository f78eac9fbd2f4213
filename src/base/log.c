#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

/* How a line is written without waiting. Making the descriptor itself non-blocking would do so for every
 * process that shares it, a shell among them. */
enum log_way {
    LOG_UNKNOWN,
    LOG_PLAIN,  /* a file: it does not wait for a reader */
    LOG_SOCKET, /* send() takes the wish with each call */
    LOG_OWN,    /* a pipe or terminal, opened once more and non-blocking */
    LOG_POLLED, /* … that cannot be: it is looked whether there is room */
};

#define NOTICE_BYTES 120

struct log_stream {
    pthread_mutex_t lock;
    int descriptor;
    enum log_way way;
    bool cut;                /* the last line was written in part */
    unsigned long long lost; /* lines, since the last notice */
};

static struct log_stream output = {.lock = PTHREAD_MUTEX_INITIALIZER, .descriptor = STDOUT_FILENO};
static struct log_stream errors = {.lock = PTHREAD_MUTEX_INITIALIZER, .descriptor = STDERR_FILENO};
static _Atomic uint64_t dropped;

static void choose_way(struct log_stream *stream) {
    struct stat status;
    char path[40];

    stream->way = LOG_PLAIN;
    if (fstat(stream->descriptor, &status) < 0)
        return;
    if (S_ISSOCK(status.st_mode)) {
        stream->way = LOG_SOCKET;
        return;
    }
    if (!S_ISFIFO(status.st_mode) && !isatty(stream->descriptor))
        return;

    snprintf(path, sizeof path, "/proc/self/fd/%d", stream->descriptor);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    stream->way = own >= 0 ? LOG_OWN : LOG_POLLED;
    stream->descriptor = own >= 0 ? own : stream->descriptor;
}

/* Bytes written; less than `size` where there is no room. */
static size_t write_now(const struct log_stream *stream, const char *bytes, size_t size) {
    struct pollfd room = {.fd = stream->descriptor, .events = POLLOUT};
    ssize_t written;

    if (stream->way == LOG_POLLED && (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT)))
        return 0;

    do
        written = stream->way == LOG_SOCKET
                      ? send(stream->descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                      : write(stream->descriptor, bytes, size);

    while (written < 0 && errno == EINTR);
    return written < 0 ? 0 : (size_t)written;
}

/* What comes before the next line: the end of one that was cut, and how many were lost. */
static size_t write_notice(const struct log_stream *stream, bool json, char *ret, size_t size) {
    const char *end = stream->cut ? "\n" : "";
    int length = snprintf(ret, size, "%s", end);

    if (stream->lost)
        length = snprintf(ret, size,
                          json ? "%s{\"dropped_lines\":%llu}\n"
                               : "%sguichet: %llu lines of the log found no room and were dropped\n",
                          end, stream->lost);
    return (size_t)length;
}

/* In one piece with its notice, so that a notice alone does not take the room that there is. */
static void write_line(struct log_stream *stream, bool json, const char *line, size_t size) {
    char text[NOTICE_BYTES + LIMIT_LOG_LINE_BYTES];

    pthread_mutex_lock(&stream->lock);
    if (stream->way == LOG_UNKNOWN)
        choose_way(stream);

    size_t notice = write_notice(stream, json, text, NOTICE_BYTES);
    size = size < LIMIT_LOG_LINE_BYTES ? size : LIMIT_LOG_LINE_BYTES;
    memcpy(text + notice, line, size);
    size_t written = write_now(stream, text, notice + size);

    if (written >= notice)
        stream->lost = 0;
    if (written > 0)
        stream->cut = written != notice && written < notice + size;
    if (written < notice + size) {
        stream->lost++;
        atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&stream->lock);
}

void log_line(const char *format, ...) {
    char line[LIMIT_LOG_LINE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;

    size_t size = (size_t)length < sizeof line - 2 ? (size_t)length : sizeof line - 2;
    line[size] = '\n';
    write_line(&errors, false, line, size + 1);
}

void log_output(bool json, const char *line, size_t size) {
    write_line(&output, json, line, size);
}

uint64_t log_dropped(void) {
    return atomic_load_explicit(&dropped, memory_order_relaxed);
}
