/* A server for the tests of http/: its limits and timeouts come from the command line, its routes do simple
 * things. http_probe [name=value …]: port, threads, header_ms, stall_ms, body_ms, idle_ms, write_ms,
 * grace_ms, body_limit, upstream, ca, cert, key; log=1 prints a line for every reply. Prints "port N" when it
 * listens; SIGTERM stops it in order, and it prints what http_server_stop said. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_probe.h"

static struct http_upstream *upstream;
static atomic_int gone_count;

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], name, length) && argv[i][length] == '=')
            return argv[i] + length + 1;
    return otherwise;
}

long probe_parameter(const struct http_request *request, const char *name, long otherwise) {
    char text[32];
    return http_request_query(request, name, text, sizeof text) ? atol(text) : otherwise;
}

static void *reply_later(void *context) {
    struct http_request *request = context;
    long milliseconds = probe_parameter(request, "ms", 0);

    for (long i = 0; i < milliseconds && !http_request_is_gone(request); i += 10)
        usleep(10000);

    if (http_request_is_gone(request))
        gone_count++;
    http_respond_bytes(request, 200, "text/plain", "late", 4);
    return NULL;
}

static void proxy_done(void *context, const struct http_response *response) {
    if (response->failure != HTTP_COMPLETE) {
        struct error error;
        error_set(&error, response->failure == HTTP_FAILED_TIMEOUT ? ERROR_TIMEOUT : ERROR_UPSTREAM, "%d: %s",
                  response->failure, response->reason);
        http_respond_error(context, &error);
        return;
    }

    struct http_header headers[64];
    int count = 0;
    for (int i = 0; i < response->header_count && count < 64; i++)
        if (!http_header_is_hop_by_hop(response->headers[i].name))
            headers[count++] = response->headers[i];

    http_respond(context, response->status, headers, count, http_body_reference(response->body));
}

static void handle(void *context, struct http_request *request) {
    if (probe_is_stream(request)) {
        probe_streams(request, upstream);
    } else if (!strncmp(request->path, "/proxy/", 7)) {
        struct http_call_options options = {.method = request->method_name,
                                            .target = request->target + 6,
                                            .headers = request->headers,
                                            .header_count = request->header_count,
                                            .body = request->body,
                                            .timeout_ms = 2000,
                                            .done = proxy_done,
                                            .context = request};
        if (!http_call_start(upstream, request->loop, &options))
            http_respond_bytes(request, 500, NULL, NULL, 0);
    } else if (!strcmp(request->path, "/echo")) {
        struct http_header header = {"Content-Type", "application/octet-stream"};
        http_respond(request, 200, &header, 1, http_body_reference(request->body));
    } else if (!strcmp(request->path, "/late")) {
        pthread_t thread;
        pthread_create(&thread, NULL, reply_later, request);
        pthread_detach(thread);
    } else if (!strcmp(request->path, "/gone")) {
        char text[16];
        int size = snprintf(text, sizeof text, "%d", gone_count);
        http_respond_bytes(request, 200, "text/plain", text, (size_t)size);
    } else if (!strcmp(request->path, "/hello")) {
        http_respond_bytes(request, 200, "application/json", "\"Hello!\"\n", 9);
    } else {
        http_respond_bytes(request, 404, "text/plain", "nothing here", 12);
    }
}

static enum http_admission admit(void *context, struct http_request *request) {
    if (probe_is_stream(request))
        return HTTP_ADMIT_STREAM;
    if (strcmp(request->path, "/refused"))
        return HTTP_ADMIT_WHOLE;
    http_respond_error(request, &(struct error){ERROR_UNAUTHORIZED, "not you"});
    return HTTP_ADMIT_ANSWERED;
}

static void done(void *context, const struct http_request *request, int status, size_t body_bytes, bool cut) {
    printf("done %s %d %zu%s%s\n", request ? request->target : "-", status, body_bytes, cut ? " cut" : "",
           request && http_request_is_gone(request) ? " gone" : "");
    fflush(stdout);
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
        .done = atoi(option(argc, argv, "log", "0")) ? done : NULL,
        .header_timeout_ms = atoi(option(argc, argv, "header_ms", "0")),
        .body_stall_ms = atoi(option(argc, argv, "stall_ms", "0")),
        .body_timeout_ms = atoi(option(argc, argv, "body_ms", "0")),
        .idle_timeout_ms = atoi(option(argc, argv, "idle_ms", "0")),
        .write_timeout_ms = atoi(option(argc, argv, "write_ms", "0")),
        .body_limit = (size_t)atol(option(argc, argv, "body_limit", "0")),
        .tls_certificate = option(argc, argv, "cert", NULL),
        .tls_key = option(argc, argv, "key", NULL),
    };

    struct http_loops *loops = http_loops_create(atoi(option(argc, argv, "threads", "1")), &error);
    struct http_server *server = loops ? http_server_create(loops, &options, &error) : NULL;

    const char *address = option(argc, argv, "upstream", NULL);
    struct url url;
    struct http_upstream_options to = {.url = &url, .ca_file = option(argc, argv, "ca", NULL)};

    if (!server ||
        (address && (!url_parse_base(address, &url, &error) ||
                     !(upstream = http_upstream_create(loops, &to, &error)))) ||
        !http_server_listen(server, "127.0.0.1", atoi(option(argc, argv, "port", "0")), &error)) {
        fprintf(stderr, "http_probe: %s\n", error.message);
        return 1;
    }

    printf("port %d\n", http_server_port(server));
    fflush(stdout);

    int number;
    while (!sigwait(&signals, &number) && number == SIGHUP)
        printf("reload %d\n", http_server_reload_tls(server, &error)), fflush(stdout);

    printf("stopped %d\n", http_server_stop(server, atoi(option(argc, argv, "grace_ms", "5000"))));

    http_upstream_free(upstream);
    http_server_free(server);
    http_loops_free(loops);
    return 0;
}
