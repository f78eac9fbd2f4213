/* guichet frontend: the page and the sessions, before a gateway. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/serving.h"
#include "cli/verbs.h"
#include "serve/frontend.h"

#define GRACE_MS 30000

static const struct command command = {
    "frontend",
    "The page, and each person's session; everything else is passed on to a gateway.\n"
    "\n"
    "Usage: guichet frontend [OPTION…]\n"
    "\n"
    "  --gateway URL          where ($API_GATEWAY, else $SERVING_URL, else $SERVING_HOST:$SERVING_PORT)\n"
    "  --address ADDRESS      listen on this address only (repeatable)\n"
    "  --port N               0: any free one ($PORT, else 8080)\n"
    "  --session-key FILE     keys that sign the sessions' cookies, one a line, the newest first; readable\n"
    "                         by you alone; read again on SIGHUP ($GUICHET_SESSION_KEY, several with\n"
    "                         commas between; else a random one, and sessions end with this process)\n"
    "  --tls-cert FILE        serve https (PEM), with the next; read again on SIGHUP\n"
    "  --tls-key FILE         the certificate's key\n"
    "  --ca FILE              trust these authorities for an https gateway\n"
    "  --access-log FORM      json, text or off, on standard output (json)\n"
    "  --body-limit SIZE      of a request (20M)\n"
    "  --threads N            event loops (half the processors, at most 4)\n"
    "\n"
    "$GUICHET_API_KEY is shown to the gateway for callers that bring no key of their own.\n"
    "$GUICHET_UPSTREAM_AUTH=google adds a Google ID token to what goes to the gateway (Cloud Run).\n"
    "\n"
    "Example:\n"
    "  guichet frontend --gateway http://127.0.0.1:9000 --port 8080\n",
};

struct arguments {
    struct frontend_options options;
    struct option_list addresses;
    int threads;
    const char *key_file, *log, *body_limit;
    char gateway[600];
};

/* Where the gateway is, as the environment of the system's versions says it. */
static void gateway_find(struct arguments *arguments) {
    struct frontend_options *options = &arguments->options;
    const char *host = getenv("SERVING_HOST"), *port = getenv("SERVING_PORT");
    options->gateway = getenv("API_GATEWAY");
    if (!options->gateway || !*options->gateway)
        options->gateway = getenv("SERVING_URL");
    if ((!options->gateway || !*options->gateway) && host && *host) {
        snprintf(arguments->gateway, sizeof arguments->gateway, "http://%.500s:%.8s", host,
                 port ? port : "8080");
        options->gateway = arguments->gateway;
    }
}

static bool keys_read(const struct arguments *arguments, struct session_keys *ret, struct error *error) {
    bool given = false;
    if (!serving_session_keys(arguments->key_file, ret, &given, error))
        return false;
    if (!given)
        session_keys_random(ret);
    return true;
}

/* What the options' words mean; whatever is wrong here was typed wrong. */
static bool arguments_finish(struct arguments *arguments, struct error *error) {
    struct frontend_options *options = &arguments->options;
    options->api_key = getenv("GUICHET_API_KEY");
    return serving_google_identity(&options->google_identity, error) &&
           serving_list(&arguments->addresses, &options->addresses, error) &&
           serving_access_log(arguments->log, &options->access_log, error) &&
           serving_body_limit(arguments->body_limit, &options->body_limit, error) &&
           serving_tls_pair(options->tls_certificate, options->tls_key, error) &&
           ((options->gateway && *options->gateway) ||
            error_set(error, ERROR_INVALID, "no gateway: give --gateway, $API_GATEWAY or $SERVING_URL"));
}

struct running {
    const struct arguments *arguments;
    struct frontend *frontend;
};

static void reload(void *context) {
    struct running *running = context;
    struct session_keys keys = running->arguments->options.keys;
    struct error error;
    bool good = !running->arguments->key_file || keys_read(running->arguments, &keys, &error);
    if (good && frontend_reload(running->frontend, &keys, &error))
        fprintf(stderr, "guichet frontend: read the files again\n");
    else
        fprintf(stderr, "guichet frontend: nothing changed: %s\n", error.message);
}

static int serve(struct arguments *arguments) {
    struct error error;
    sigset_t signals;
    if (!keys_read(arguments, &arguments->options.keys, &error))
        return serving_failed("frontend", &error);
    serving_signals_block(&signals);
    struct http_loops *loops = http_loops_create(arguments->threads, &error);
    struct frontend *frontend = loops ? frontend_create(loops, &arguments->options, &error) : NULL;
    if (!frontend) {
        http_loops_free(loops);
        return serving_failed("frontend", &error);
    }
    fprintf(stderr, "guichet frontend: listening on port %d, before %s\n", frontend_port(frontend),
            arguments->options.gateway);
    serving_wait(&signals, reload, &(struct running){arguments, frontend});
    frontend_stop(frontend, GRACE_MS);
    frontend_free(frontend);
    http_loops_free(loops);
    return EXIT_DONE;
}

int verb_frontend(int argc, char **argv) {
    struct arguments arguments = {.threads = serving_threads()};
    struct frontend_options *options = &arguments.options;
    struct error error;
    options->access_log = ACCESS_LOG_JSON;
    options->port = 8080;
    gateway_find(&arguments);
    /* SERVING_PORT is the backend's here, so only PORT is ours. */
    if (getenv("PORT") && !serving_integer(getenv("PORT"), "PORT", 0, 65535, &options->port, &error))
        return cli_usage(&command, "%s", error.message);
    const struct option_spec specs[] = {
        {"gateway", OPTION_TEXT, &options->gateway, 0, 0},
        {"session-key", OPTION_TEXT, &arguments.key_file, 0, 0},
        SERVING_SPECS(&arguments, options),
        {0},
    };
    int words, status;
    if (options_parse(&command, argc, argv, specs, 0, 0, &words, &status))
        status = arguments_finish(&arguments, &error) ? serve(&arguments)
                                                      : cli_usage(&command, "%s", error.message);
    free(arguments.addresses.words);
    return status;
}
