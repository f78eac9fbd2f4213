/* guichet gateway: the single entry to backends that run elsewhere. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cli/serving.h"
#include "cli/verbs.h"
#include "server/edge/api_keys.h"
#include "server/edge/server.h"
#include "server/gateway/gateway.h"

#define GRACE_MS 30000

static const struct command command = {
    "gateway",
    "The single entry: routes requests by the model's name to the backends that serve it.\n"
    "\n"
    "Usage: guichet gateway --backend NAME=URL… [OPTION…]\n"
    "\n"
    "Several URLs with one NAME are replicas, as are all addresses of a host name in DNS.\n"
    "\n"
    "  --backend NAME=URL     a backend (repeatable; $GUICHET_BACKENDS adds more, separated by blanks\n"
    "                         or commas)\n"
    "  --backends FILE        more backends, one or more per line; reloaded on SIGHUP\n" SERVING_HELP_ADDRESS
    "  --port N               listen on this port; 0: any free one ($PORT, else $SERVING_PORT, else 8080)\n"
    "  --default-model NAME   serves POST /predict without a model (the first)\n"
    "  --bound N              concurrent requests per replica (256)\n"
    "  --timeout SECONDS      to a response's first byte, retries included, and between two bytes (60)\n"
    "  --check SECONDS        between health checks (2); 0: none, requests alone tell which replica is well, "
    "and\n"
    "                         services that scale to zero may sleep\n"
    "  --resolve SECONDS      between look-ups of host names (10)\n"
    "  --api-keys FILE        require a key of this file; lines \"NAME SHA256 "
    "[roles=predict,metrics,manage]\n"
    "                         [models=a,b]\"; reloaded on SIGHUP\n"
    "  --make-key NAME        print a new key and its line for that file, and exit\n"
    "  --roles ROLE,…         of the new key: predict, metrics, manage (predict,metrics)\n"
    "  --control ADDR:PORT    a second listener that accepts every call without a key (none)\n"
    "  --rate N[:BURST]       requests per second and caller, after a burst (no limit)\n"
    "  --cors ORIGIN,…        allow calls from pages of these origins; \"*\": any\n"
    "  --trust-forwarded      take the caller's address from X-Forwarded-For (behind a trusted proxy)\n"
    "  --ca FILE              trust these authorities for https backends\n" SERVING_HELP "\n"
    "$GUICHET_UPSTREAM_AUTH=google adds a Google ID token to requests to backends (Cloud Run).\n"
    "\n"
    "Example:\n"
    "  guichet gateway --backend animals=http://10.0.0.5:9000 --backend animals=http://10.0.0.6:9000\n",
};

struct gateway_arguments {
    struct serving_arguments serving;
    struct gateway_options gateway;
    struct option_list backend_list;
    struct buffer backends; /* what --backend and $GUICHET_BACKENDS say, as backend_list_parse reads it */
    double timeout_s, check_s, resolve_s;
    const char *control, *make_key, *roles;
};

static bool gather_backends(struct gateway_arguments *arguments, struct error *error) {
    const char *backends = getenv("GUICHET_BACKENDS");

    if (backends)
        buffer_printf(&arguments->backends, "%s\n", backends);
    for (int i = 0; i < arguments->backend_list.count; i++) {
        const char *word = arguments->backend_list.words[i];
        if (!strchr(word, '='))
            return error_set(error, ERROR_INVALID, "--backend %s: expected NAME=URL", word);
        buffer_printf(&arguments->backends, "%s\n", word);
    }

    arguments->gateway.backends = arguments->backends.bytes;
    return !arguments->backends.failed || error_set(error, ERROR_MEMORY, "out of memory");
}

/* Interpret the options; any error is a usage error. */
static bool finish_arguments(struct gateway_arguments *arguments, struct error *error) {
    struct gateway_options *gateway = &arguments->gateway;

    if (!serving_google_identity(&gateway->google_identity, error) || !gather_backends(arguments, error) ||
        !serving_finish(&arguments->serving, error))
        return false;

    gateway->timeout_ms = (int)(arguments->timeout_s * 1000);
    gateway->check_ms = arguments->check_s > 0 ? (int)ceil(arguments->check_s * 1000) : -1;
    gateway->resolve_ms = (int)(arguments->resolve_s * 1000);
    gateway->keep_keys = arguments->serving.server.api_keys_file == NULL; /* else they are checked here */

    return arguments->make_key || arguments->backends.size || gateway->backends_file ||
           error_set(error, ERROR_INVALID, "no backend: give --backend, --backends or $GUICHET_BACKENDS");
}

static int make_key(const char *name, const char *roles) {
    struct error error;
    char key[API_KEY_BYTES], line[API_KEY_LINE_BYTES];

    if (!api_keys_make(name, roles, key, line, &error))
        return cli_usage(&command, "%s", error.message);
    printf("key:  %s\nline: %s\n", key, line);
    return EXIT_DONE;
}

/* The parts of a gateway, in the order in which they are made. */
struct gateway_parts {
    struct http_loops *loops;
    struct gateway *gateway;
    struct server *server, *control;
};

static void reload(void *context) {
    struct gateway_parts *parts = context;
    struct error error;

    if (server_reload(parts->server, &error) && gateway_reload(parts->gateway, &error))
        log_line("guichet gateway: reloaded the files");
    else
        log_line("guichet gateway: not reloaded: %s", error.message);
}

static bool start(struct gateway_parts *parts, const struct gateway_arguments *arguments,
                  struct error *error) {
    struct server_options options = arguments->serving.server;

    parts->loops = http_loops_create(arguments->serving.threads, error);
    if (!parts->loops)
        return false;
    parts->gateway = gateway_create(parts->loops, &arguments->gateway, error);
    if (!parts->gateway)
        return false;

    options.tier = TIER_GATEWAY;
    options.metrics = gateway_metrics(parts->gateway);
    options.inherit = true;
    options.files = WEB_GATEWAY;
    options.gateway = parts->gateway;
    options.service = gateway_service(parts->gateway);
    options.check_model = gateway_check_model;
    parts->server = server_create(parts->loops, &options, error);
    if (!parts->server)
        return false;

    if (arguments->control)
        parts->control = server_create_control(parts->loops, &options, arguments->control, error);
    return parts->control || !arguments->control;
}

static int serve(const struct gateway_arguments *arguments) {
    struct gateway_parts parts = {0};
    struct error error;
    sigset_t signals;
    int status = EXIT_DONE;

    serving_signals_block(&signals);
    if (start(&parts, arguments, &error)) {
        log_line("guichet gateway: listening on port %d", server_port(parts.server));
        serving_wait(&signals, reload, &parts);
        server_stop(parts.server, GRACE_MS);
    } else {
        status = serving_failed(&command, &error);
    }

    server_free(parts.control);
    server_free(parts.server);
    gateway_free(parts.gateway);
    http_loops_free(parts.loops);

    return status;
}

static int run(struct gateway_arguments *arguments) {
    struct error error;
    if (!finish_arguments(arguments, &error))
        return cli_usage(&command, "%s", error.message);
    return arguments->make_key ? make_key(arguments->make_key, arguments->roles) : serve(arguments);
}

int verb_gateway(int argc, char **argv) {
    struct gateway_arguments arguments = {
        .backends = {.limit = 1 << 20}, .check_s = 2, .serving = {.threads = serving_threads()}};
    struct gateway_options *gateway = &arguments.gateway;
    struct error error;

    arguments.serving.server.access_log = ACCESS_LOG_JSON;
    if (!serving_port(&arguments.serving.server.port, &error))
        return cli_usage(&command, "%s", error.message);

    const struct option_spec specs[] = {
        {"backend", OPTION_LIST, &arguments.backend_list, 0, 0},
        {"backends", OPTION_TEXT, &gateway->backends_file, 0, 0},
        {"default-model", OPTION_TEXT, &gateway->default_model, 0, 0},
        {"bound", OPTION_INT, &gateway->bound, 1, 100000},
        {"timeout", OPTION_REAL, &arguments.timeout_s, 0.05, 86400},
        {"check", OPTION_REAL, &arguments.check_s, 0, 86400},
        {"resolve", OPTION_REAL, &arguments.resolve_s, 0.05, 86400},
        {"control", OPTION_TEXT, &arguments.control, 0, 0},
        {"make-key", OPTION_TEXT, &arguments.make_key, 0, 0},
        {"roles", OPTION_TEXT, &arguments.roles, 0, 0},
        {"ca", OPTION_TEXT, &gateway->ca_file, 0, 0},
        SERVING_CALLER_SPECS(&arguments.serving),
        SERVING_SPECS(&arguments.serving),
        {0},
    };
    int words, status;

    if (options_parse(&command, argc, argv, specs, 0, 0, &words, &status))
        status = run(&arguments);
    buffer_release(&arguments.backends);
    free(arguments.backend_list.words);
    serving_release(&arguments.serving);

    return status;
}
