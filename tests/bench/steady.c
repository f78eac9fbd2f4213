/* An open-loop HTTP client: sends requests at a constant rate whatever comes back, and measures each from the
 * moment at which it was due, so that a server that stalls is charged for all who wait meanwhile.
 *
 *   steady PORT TARGET RATE SECONDS [CONNECTIONS [GET]]
 *
 * POSTs a small JSON body to 127.0.0.1, or asks by GET. Ends with one line: answers, errors (another status
 * than 200, a connection that ends, no answer at the end), and the time of an answer in µs: median, p99,
 * largest. Loopback only; answers must have a Content-Length. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MOST 256
#define ANSWER_BYTES 16384
#define PATIENCE_NS 2000000000ll /* for the last answers */

struct connection {
    int fd;
    int64_t due_ns; /* of the request that it waits for; 0: idle */
    size_t filled;
    char answer[ANSWER_BYTES];
};

static struct connection connections[CONNECTIONS_MOST];
static int connection_count = 16, port, poller;
static char request[2048];
static size_t request_size;
static int64_t *times; /* ns, of answers */
static size_t answered, errors;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "steady: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void connection_open(struct connection *connection) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connecting");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        fail("waiting");
    connection->due_ns = 0;
    connection->filled = 0;
}

static void request_send(struct connection *connection, int64_t due_ns) {
    connection->due_ns = due_ns;
    connection->filled = 0;
    if (send(connection->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) {
        errors++;
        close(connection->fd);
        connection_open(connection);
    }
}

/* Whether a whole answer is there. */
static bool answer_is_whole(struct connection *connection) {
    connection->answer[connection->filled] = 0;
    const char *end = strstr(connection->answer, "\r\n\r\n"),
               *length = strcasestr(connection->answer, "\r\ncontent-length:");
    return end && length && length < end &&
           connection->filled >= (size_t)(end + 4 - connection->answer) + strtoul(length + 17, NULL, 10);
}

static void answer_read(struct connection *connection) {
    ssize_t got = recv(connection->fd, connection->answer + connection->filled,
                       ANSWER_BYTES - 1 - connection->filled, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        errors += connection->due_ns != 0;
        close(connection->fd);
        connection_open(connection);
        return;
    }
    connection->filled += (size_t)got;
    if (!connection->due_ns || !answer_is_whole(connection))
        return;
    if (strncmp(connection->answer, "HTTP/1.1 200", 12) == 0)
        times[answered++] = now_ns() - connection->due_ns;
    else
        errors++;
    connection->due_ns = 0;
}

static struct connection *idle_find(void) {
    for (int i = 0; i < connection_count; i++)
        if (!connections[i].due_ns)
            return &connections[i];
    return NULL;
}

static void answers_await(int64_t until_ns) {
    struct epoll_event events[64];
    int64_t wait = until_ns - now_ns();
    struct timespec timeout = {wait > 0 ? wait / 1000000000 : 0, wait > 0 ? wait % 1000000000 : 0};
    int count = epoll_pwait2(poller, events, 64, &timeout, NULL);
    for (int i = 0; i < count; i++)
        answer_read(events[i].data.ptr);
}

static int compare(const void *a, const void *b) {
    int64_t one = *(const int64_t *)a, other = *(const int64_t *)b;
    return (one > other) - (one < other);
}

int main(int argc, char **argv) {
    static const char body[] = "{\"url\": \"http://photo.example/cat.jpg\"}";
    if (argc < 5) {
        fprintf(stderr, "usage: steady PORT TARGET RATE SECONDS [CONNECTIONS [GET]]\n");
        return 2;
    }
    port = atoi(argv[1]);
    double rate = atof(argv[3]);
    size_t count = (size_t)(rate * atof(argv[4])), sent = 0;
    connection_count = argc > 5 ? atoi(argv[5]) : connection_count;
    if (connection_count < 1 || connection_count > CONNECTIONS_MOST || !(rate > 0) || count < 1)
        return 2;
    bool get = argc > 6 && strcmp(argv[6], "GET") == 0;
    int size = get ? snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", argv[2])
                   : snprintf(request, sizeof request,
                              "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                              "Content-Length: %zu\r\n\r\n%s",
                              argv[2], sizeof body - 1, body);
    if (size < 0 || size >= (int)sizeof request)
        return 2;
    request_size = (size_t)size;

    times = calloc(count, sizeof *times);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!times || poller < 0)
        fail("beginning");
    prctl(PR_SET_TIMERSLACK, 1ul);
    for (int i = 0; i < connection_count; i++)
        connection_open(&connections[i]);
    int64_t start = now_ns() + 10000000, end = start + (int64_t)((double)count / rate * 1e9) + PATIENCE_NS;
    while (answered + errors < count && now_ns() < end) {
        int64_t due = start + (int64_t)((double)sent / rate * 1e9);
        struct connection *idle = sent < count && due <= now_ns() ? idle_find() : NULL;
        if (idle) {
            request_send(idle, due);
            sent++;
        } else { /* until the next is due; or, where none is idle, until an answer comes */
            answers_await(sent < count && due > now_ns() ? due : end);
        }
    }
    errors += count - answered - errors;
    qsort(times, answered, sizeof *times, compare);
    if (answered > 0)
        printf("%zu %zu %.1f %.1f %.1f\n", answered, errors, (double)times[answered / 2] / 1e3,
               (double)times[answered - 1 - answered / 100] / 1e3, (double)times[answered - 1] / 1e3);
    else
        printf("0 %zu 0 0 0\n", errors);
    return 0;
}
