/* A server for the tests of http/: its limits and timeouts come from the command line, its routes do simple
 * things. http_probe [name=value …]: port, threads, header_ms, stall_ms, body_ms, idle_ms, body_limit,
 * upstream, cert, key. Prints "port N" when it listens; SIGTERM stops it in order, and it prints what
 * http_server_stop said. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/http_client.h"
#include "http/json.h"

static struct http_upstream *upstream;
static atomic_int gone_count;

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], name, length) && argv[i][length] == '=')
            return argv[i] + length + 1;
    return otherwise;
}

static void *reply_later(void *context) {
    struct http_request *request = context;
    char milliseconds[16] = "0";
    http_request_query(request, "ms", milliseconds, sizeof milliseconds);
    for (int i = 0; i < atoi(milliseconds) && !http_request_is_gone(request); i += 10)
        usleep(10000);
    if (http_request_is_gone(request))
        gone_count++;
    http_reply_bytes(request, 200, "text/plain", "late", 4);
    return NULL;
}

static void proxy_done(void *context, const struct http_answer *answer) {
    if (answer->failure != HTTP_ANSWERED) {
        struct error error;
        error_set(&error, answer->failure == HTTP_FAILED_TIMEOUT ? ERROR_TIMEOUT : ERROR_UPSTREAM, "%d: %s",
                  answer->failure, answer->reason);
        http_reply_error(context, &error);
        return;
    }
    struct http_header headers[64];
    int count = 0;
    for (int i = 0; i < answer->header_count && count < 64; i++)
        if (!http_header_is_hop_by_hop(answer->headers[i].name))
            headers[count++] = answer->headers[i];
    http_reply(context, answer->status, headers, count, http_body_reference(answer->body));
}

static void handle(void *context, struct http_request *request) {
    if (!strncmp(request->path, "/proxy/", 7)) {
        struct http_call_options options = {.method = request->method_name,
                                            .target = request->target + 6,
                                            .headers = request->headers,
                                            .header_count = request->header_count,
                                            .body = request->body,
                                            .timeout_ms = 2000,
                                            .done = proxy_done,
                                            .context = request};
        if (!http_call_start(upstream, request->loop, &options))
            http_reply_bytes(request, 500, NULL, NULL, 0);
    } else if (!strcmp(request->path, "/echo")) {
        struct http_header header = {"Content-Type", "application/octet-stream"};
        http_reply(request, 200, &header, 1, http_body_reference(request->body));
    } else if (!strcmp(request->path, "/late")) {
        pthread_t thread;
        pthread_create(&thread, NULL, reply_later, request);
        pthread_detach(thread);
    } else if (!strcmp(request->path, "/gone")) {
        char text[16];
        int size = snprintf(text, sizeof text, "%d", gone_count);
        http_reply_bytes(request, 200, "text/plain", text, (size_t)size);
    } else if (!strcmp(request->path, "/hello")) {
        http_reply_bytes(request, 200, "application/json", "\"Hello!\"\n", 9);
    } else {
        json_reply(request, 404, json_pack("{s:s, s:s}", "error", "nothing here", "path", request->path));
    }
}

static bool admit(void *context, struct http_request *request) {
    if (strcmp(request->path, "/refused"))
        return true;
    http_reply_error(request, &(struct error){ERROR_UNAUTHORIZED, "not you"});
    return false;
}

int main(int argc, char **argv) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    struct error error = {0};
    struct http_server_options options = {
        .handle = handle,
        .admit = admit,
        .header_timeout_ms = atoi(option(argc, argv, "header_ms", "0")),
        .body_stall_ms = atoi(option(argc, argv, "stall_ms", "0")),
        .body_timeout_ms = atoi(option(argc, argv, "body_ms", "0")),
        .idle_timeout_ms = atoi(option(argc, argv, "idle_ms", "0")),
        .body_limit = (size_t)atol(option(argc, argv, "body_limit", "0")),
        .tls_certificate = option(argc, argv, "cert", NULL),
        .tls_key = option(argc, argv, "key", NULL),
    };
    struct http_loops *loops = http_loops_create(atoi(option(argc, argv, "threads", "1")), &error);
    struct http_server *server = loops ? http_server_create(loops, &options, &error) : NULL;
    const char *address = option(argc, argv, "upstream", NULL);
    struct http_upstream_options to = {.url = address, .ca_file = option(argc, argv, "ca", NULL)};
    if (!server || (address && !(upstream = http_upstream_create(loops, &to, &error))) ||
        !http_server_listen(server, "127.0.0.1", atoi(option(argc, argv, "port", "0")), &error)) {
        fprintf(stderr, "http_probe: %s\n", error.message);
        return 1;
    }
    printf("port %d\n", http_server_port(server));
    fflush(stdout);
    int number;
    while (!sigwait(&signals, &number) && number == SIGHUP)
        printf("reload %d\n", http_server_reload_tls(server, &error)), fflush(stdout);
    printf("stopped %d\n", http_server_stop(server, 5000));
    http_upstream_free(upstream);
    http_server_free(server);
    http_loops_free(loops);
    return 0;
}
