#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/url.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "http/http_client.h"

#define DEFAULT_TIMEOUT_MS 2000

static const char help[] =
    "Check whether a service is ready: a health check for containers without curl.\n"
    "\n"
    "Usage: guichet health [OPTION…] [URL]\n"
    "\n"
    "URL defaults to http://127.0.0.1:$PORT/readyz ($SERVING_PORT, else 8080).\n"
    "\n"
    "  --timeout MS   time limit (2000)\n"
    "\n"
    "Exit status: 0 the response is 2xx, 1 it is not or there is none, 2 usage error.\n";

static const struct command self = {"health", help};

/* The one call of this verb. */
struct health_check {
    struct http_upstream *upstream;
    const struct url *url;
    int64_t deadline_ns;
    sem_t done;
    bool healthy;
    struct error error;
};

static void end_check(void *context, const struct http_response *response) {
    struct health_check *check = context;
    char origin[URL_ORIGIN_BYTES];
    url_write_origin(check->url, origin);

    check->healthy = response->failure == HTTP_COMPLETE && response->status >= 200 && response->status < 300;
    if (response->failure != HTTP_COMPLETE)
        error_set(&check->error, ERROR_UNAVAILABLE, "%s%s: %s", origin, check->url->path, response->reason);
    else if (!check->healthy)
        error_set(&check->error, ERROR_UNAVAILABLE, "%s%s: status %d", origin, check->url->path,
                  response->status);
    sem_post(&check->done);
}

static void begin_check(void *context) {
    struct health_check *check = context;
    int64_t left_ms = (check->deadline_ns - clock_ns()) / 1000000;
    const struct http_call_options options = {
        .method = "GET",
        .target = *check->url->path ? check->url->path : "/",
        .timeout_ms = left_ms > 1 ? (int)left_ms : 1,
        .done = end_check,
        .context = check,
    };
    if (!http_call_start(check->upstream, http_loop_current(), &options))
        end_check(check, &(struct http_response){.failure = HTTP_FAILED_MEMORY, .reason = "out of memory"});
}

/* The host's name is looked up on another thread. */
static bool wait_for_address(const struct health_check *check, struct error *error) {
    while (!http_upstream_known(check->upstream, error)) {
        if (error->code != ERROR_UNAVAILABLE || clock_ns() >= check->deadline_ns)
            return false;
        usleep(1000);
    }
    return true;
}

static bool check_health(const struct url *url, int timeout_ms, struct error *error) {
    struct health_check check = {.url = url, .deadline_ns = clock_ns() + timeout_ms * (int64_t)1000000};
    struct url server = *url;
    server.path[0] = 0; /* the path is the call's target */
    struct http_loops *loops = http_loops_create(1, error);
    if (!loops)
        return false;

    sem_init(&check.done, 0, 0);
    const struct http_upstream_options options = {.url = &server, .connect_timeout_ms = timeout_ms};
    check.upstream = http_upstream_create(loops, &options, error);

    if (check.upstream && wait_for_address(&check, error)) {
        if (http_loop_post(http_loops_get(loops, 0), begin_check, &check))
            sem_wait(&check.done);
        else
            error_set(&check.error, ERROR_MEMORY, "out of memory");
        *error = check.error;
    }

    http_upstream_free(check.upstream);
    http_loops_free(loops);
    sem_destroy(&check.done);
    return check.healthy;
}

int verb_health(int argc, char **argv) {
    int timeout = DEFAULT_TIMEOUT_MS, words, status;
    const struct option_spec specs[] = {
        {.name = "timeout", .kind = OPTION_INT, .value = &timeout, .minimum = 1, .maximum = 600000},
        {0},
    };
    if (!options_parse(&self, argc, argv, specs, 0, 1, &words, &status))
        return status;

    char text[64];
    const char *port = getenv("PORT");
    if (!port || !*port)
        port = getenv("SERVING_PORT");
    snprintf(text, sizeof text, "http://127.0.0.1:%.10s/readyz", port && *port ? port : "8080");

    struct url url;
    struct error error = {0};
    if (url_parse(words ? argv[1] : text, &url, &error) && check_health(&url, timeout, &error))
        return EXIT_DONE;

    return cli_fail(&error);
}
