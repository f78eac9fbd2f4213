#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/verbs.h"
#include "http/probe.h"

#define DEFAULT_TIMEOUT_MS 2000

static const char help[] =
    "Ask a service whether it is ready: the health check of a container, where there is no curl.\n"
    "\n"
    "Usage: guichet health [OPTION…] [URL]\n"
    "\n"
    "URL is http://127.0.0.1:$PORT/readyz where none is given ($SERVING_PORT, 8080). Exit status 0: it "
    "answers 2xx.\n"
    "\n"
    "  --timeout MS   how long it may take (2000)\n";

static const struct command self = {"health", help};

int verb_health(int argc, char **argv) {
    int timeout = DEFAULT_TIMEOUT_MS, words, status;
    const struct option_spec specs[] = {
        {.name = "timeout", .kind = OPTION_INT, .value = &timeout, .minimum = 1, .maximum = 600000},
        {0},
    };
    if (!options_parse(&self, argc, argv, specs, 0, 1, &words, &status))
        return status;
    char url[64];
    const char *port = getenv("PORT");
    if (!port || !*port)
        port = getenv("SERVING_PORT");
    snprintf(url, sizeof url, "http://127.0.0.1:%.10s/readyz", port && *port ? port : "8080");
    struct error error = {0};
    if (probe_url(words ? argv[1] : url, timeout, &error))
        return EXIT_DONE;
    return cli_fail(&error);
}
