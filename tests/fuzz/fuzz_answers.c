/* Any bytes as what another server answers: to the client that the gateway and the supervisor ask with, or
 * (the first byte) to a pull that lists a repository. A server on loopback sends them and hangs up. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/http.h"
#include "hub/huggingface.h"
#include "model/language_files.h"
#include "server/supervisor/child_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define ANSWER_BYTES (1 << 20)

/* What every connection is sent. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char answer[ANSWER_BYTES];
static size_t answer_size; /* both under the lock */
static int listener, port;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* A request has come as a whole when its empty line has. */
static void serve(int connection) {
    static char copy[ANSWER_BYTES];
    char request[4096];
    size_t filled = 0;
    struct timeval patience = {.tv_sec = 5};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);

    while (filled < sizeof request && !memmem(request, filled, "\r\n\r\n", 4)) {
        ssize_t got = recv(connection, request + filled, sizeof request - filled, 0);
        if (got <= 0)
            break;
        filled += (size_t)got;
    }
    pthread_mutex_lock(&lock);
    size_t size = answer_size;
    memcpy(copy, answer, size);
    pthread_mutex_unlock(&lock);

    for (size_t at = 0; at < size;) {
        ssize_t sent = send(connection, copy + at, size - at, MSG_NOSIGNAL);
        if (sent <= 0)
            break;
        at += (size_t)sent;
    }
    close(connection);
}

static void *serve_all(void *context) {
    (void)context;
    for (;;) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection >= 0)
            serve(connection);
    }
    return NULL;
}

static void server_start(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    pthread_t thread;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        pthread_create(&thread, NULL, serve_all, NULL) != 0)
        fail("a server on loopback");
    pthread_detach(thread);
    port = ntohs(address.sin_port);
}

static void ask_as_supervisor(void) {
    static struct http_loops *loops;
    static int wake;
    struct error error;
    struct buffer text = {.limit = 1 << 20};
    if (!loops) {
        loops = http_loops_create(1, &error);
        wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }

    struct child_client *client = loops ? child_client_create(loops, port, wake, &error) : NULL;
    if (!client)
        fail("a client");
    child_client_get(client, "/metrics", 5000, &text);
    child_client_free(client);
    buffer_release(&text);
}

/* Names of files are a stranger's, too. */
static void choose_language_file(const struct huggingface_listing *listing) {
    struct language_files list = {0};
    char names[64];
    for (size_t i = 0; i < listing->count; i++)
        if (!language_files_add(&list, listing->files[i].path, listing->files[i].size))
            fail("memory");
    language_files_settle(&list);

    language_files_name(&list, names, sizeof names);
    language_files_find(&list, "Q4_K_M");
    if (!language_files_default(&list) != !list.count)
        abort();
    language_files_release(&list);
}

static void ask_as_pull(void) {
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", port);
    const struct huggingface hub = {.endpoint = endpoint};
    struct huggingface_listing listing = {0};
    struct error error;
    if (!huggingface_list(&hub, "owner/repo", "main", &listing, &error))
        return;
    huggingface_listing_find(&listing, "model.onnx");
    choose_language_file(&listing);
    huggingface_listing_release(&listing);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 1 || size > ANSWER_BYTES)
        return 0;
    if (!port)
        server_start();

    pthread_mutex_lock(&lock);
    answer_size = size - 1;
    memcpy(answer, bytes + 1, answer_size);
    pthread_mutex_unlock(&lock);
    if (bytes[0] % 2)
        ask_as_pull();
    else
        ask_as_supervisor();
    return 0;
}
