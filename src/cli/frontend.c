/* guichet frontend: the page and the sessions, in front of a gateway. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cli/serving.h"
#include "cli/verbs.h"
#include "server/edge/server.h"
#include "server/frontend/frontend.h"

#define GRACE_MS 30000
#define TIMEOUT_MS 65000 /* a little more than the gateway's own */

static const struct command command = {
    "frontend",
    "Serves the page and sessions; forwards everything else to a gateway.\n"
    "\n"
    "Usage: guichet frontend [OPTION…]\n"
    "\n"
    "  --gateway URL          the gateway ($API_GATEWAY, else $SERVING_URL, else "
    "$SERVING_HOST:$SERVING_PORT)\n" SERVING_HELP_ADDRESS
    "  --port N               listen on this port; 0: any free one ($PORT, else 8080)\n"
    "  --session-key FILE     keys that sign session cookies, one per line, newest first; only the owner\n"
    "                         may read it; reloaded on SIGHUP ($GUICHET_SESSION_KEY, separated by\n"
    "                         commas; else a random key, and sessions end with this process)\n"
    "  --ca FILE              trust these authorities for an https gateway\n" SERVING_HELP "\n"
    "$GUICHET_API_KEY is sent to the gateway for callers without a key of their own.\n"
    "$GUICHET_UPSTREAM_AUTH=google adds a Google ID token to requests to the gateway (Cloud Run).\n"
    "\n"
    "Example:\n"
    "  guichet frontend --gateway http://127.0.0.1:9000 --port 8080\n",
};

struct frontend_arguments {
    struct serving_arguments serving;
    struct gateway_options gateway;
    struct session_keys keys;
    const char *key_file;
    char url[600];
};

/* The gateway's URL, from the variables that earlier versions of the service used. */
static void find_gateway(struct frontend_arguments *arguments) {
    const char *host = getenv("SERVING_HOST"), *port = getenv("SERVING_PORT");
    const char **relay = &arguments->gateway.relay;

    *relay = getenv("API_GATEWAY");
    if (!*relay || !**relay)
        *relay = getenv("SERVING_URL");
    if ((!*relay || !**relay) && host && *host) {
        snprintf(arguments->url, sizeof arguments->url, "http://%.500s:%.8s", host, port ? port : "8080");
        *relay = arguments->url;
    }
}

static bool read_keys(const struct frontend_arguments *arguments, struct session_keys *ret,
                      struct error *error) {
    bool given = false;
    if (!serving_session_keys(arguments->key_file, ret, &given, error))
        return false;
    if (!given)
        session_keys_random(ret);
    return true;
}

/* Interpret the options; any error is a usage error. */
static bool finish_arguments(struct frontend_arguments *arguments, struct error *error) {
    struct gateway_options *gateway = &arguments->gateway;

    const char *key = getenv("GUICHET_API_KEY");

    gateway->api_key = key && *key ? key : NULL;
    gateway->keep_keys = true;
    gateway->check_ms = -1; /* the gateway checks its replicas itself */
    gateway->timeout_ms = TIMEOUT_MS;
    if (!serving_google_identity(&gateway->google_identity, error) ||
        !serving_finish(&arguments->serving, error))
        return false;

    return (gateway->relay && *gateway->relay) ||
           error_set(error, ERROR_INVALID, "no gateway: give --gateway, $API_GATEWAY or $SERVING_URL");
}

/* The parts of a frontend, in the order in which they are made. */
struct frontend_parts {
    const struct frontend_arguments *arguments;
    struct http_loops *loops;
    struct gateway *gateway;
    struct frontend *frontend;
    struct server *server;
};

static void reload(void *context) {
    struct frontend_parts *parts = context;
    struct session_keys keys = parts->arguments->keys;
    struct error error;

    if ((parts->arguments->key_file && !read_keys(parts->arguments, &keys, &error)) ||
        !server_reload(parts->server, &error)) {
        log_line("guichet frontend: not reloaded: %s", error.message);
        return;
    }

    frontend_set_keys(parts->frontend, &keys);
    log_line("guichet frontend: reloaded the files");
}

static bool start(struct frontend_parts *parts, struct error *error) {
    const struct frontend_arguments *arguments = parts->arguments;
    struct server_options options = arguments->serving.server;

    parts->loops = http_loops_create(arguments->serving.threads, error);
    if (!parts->loops)
        return false;

    parts->gateway = gateway_create(parts->loops, &arguments->gateway, error);
    if (!parts->gateway)
        return false;

    parts->frontend = frontend_create(parts->gateway, true, &arguments->keys, error);
    if (!parts->frontend)
        return false;

    options.tier = TIER_FRONTEND;
    options.metrics = gateway_metrics(parts->gateway);
    options.inherit = true;
    options.files = WEB_FRONTEND;
    options.frontend = parts->frontend;
    options.service = frontend_service(parts->frontend);
    options.pass = frontend_pass;
    parts->server = server_create(parts->loops, &options, error);

    return parts->server != NULL;
}

static int serve(struct frontend_arguments *arguments) {
    struct frontend_parts parts = {.arguments = arguments};
    struct error error;
    sigset_t signals;
    int status = EXIT_DONE;

    if (!read_keys(arguments, &arguments->keys, &error))
        return serving_failed(&command, &error);

    serving_signals_block(&signals);
    if (start(&parts, &error)) {
        log_line("guichet frontend: listening on port %d, before %s", server_port(parts.server),
                 arguments->gateway.relay);
        serving_wait(&signals, reload, &parts);
        server_stop(parts.server, GRACE_MS);
    } else {
        status = serving_failed(&command, &error);
    }

    server_free(parts.server);
    frontend_free(parts.frontend);
    gateway_free(parts.gateway);
    http_loops_free(parts.loops);

    return status;
}

int verb_frontend(int argc, char **argv) {
    struct frontend_arguments arguments = {.serving = {.threads = serving_threads()}};
    struct server_options *server = &arguments.serving.server;
    struct error error;

    server->access_log = ACCESS_LOG_JSON;
    server->port = 8080;
    find_gateway(&arguments);

    /* SERVING_PORT is the gateway's here; PORT alone is ours. */
    if (getenv("PORT") && !serving_integer(getenv("PORT"), "PORT", 0, 65535, &server->port, &error))
        return cli_usage(&command, "%s", error.message);

    const struct option_spec specs[] = {
        {"gateway", OPTION_TEXT, &arguments.gateway.relay, 0, 0},
        {"session-key", OPTION_TEXT, &arguments.key_file, 0, 0},
        {"ca", OPTION_TEXT, &arguments.gateway.ca_file, 0, 0},
        SERVING_SPECS(&arguments.serving),
        {0},
    };
    int words, status;

    if (options_parse(&command, argc, argv, specs, 0, 0, &words, &status))
        status = finish_arguments(&arguments, &error) ? serve(&arguments)
                                                      : cli_usage(&command, "%s", error.message);

    serving_release(&arguments.serving);
    return status;
}
