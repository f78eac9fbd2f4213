/* guichet frontend: the page and the sessions, before a gateway. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/serving.h"
#include "cli/verbs.h"
#include "serve/frontend.h"

static const char help[] =
    "guichet frontend [options]\n"
    "\n"
    "The page, and each person's session. Everything else is passed on to the gateway.\n"
    "\n"
    "  --gateway URL          (default: $API_GATEWAY, else $SERVING_URL, else $SERVING_HOST:$SERVING_PORT)\n"
    "  --address ADDRESS      listen on this address only (repeatable)\n"
    "  --port N               port (default: $PORT, else 8080; 0: any free one)\n"
    "  --session-key FILE     keys that sign the sessions' cookies, one a line, the newest first; readable "
    "by you\n"
    "                         alone; read again on SIGHUP (default: $GUICHET_SESSION_KEY, several with "
    "commas\n"
    "                         between; else a random one, and sessions end when this process does)\n"
    "  --tls-cert FILE --tls-key FILE   serve https (PEM); read again on SIGHUP\n"
    "  --ca FILE              trust these authorities for an https gateway\n"
    "  --access-log FORM      json, text or off, on standard output (json)\n"
    "  --body-limit SIZE      of a request (20M)\n"
    "  --threads N            event loops (half the processors, at most 4)\n"
    "  --help\n"
    "\n"
    "$GUICHET_API_KEY is shown to the gateway for callers that bring no key of their own.\n"
    "$GUICHET_UPSTREAM_AUTH=google adds a Google ID token to what goes to the gateway (Cloud Run).\n";

struct arguments {
    struct frontend_options options;
    const char *addresses[17];
    int address_count, threads;
    const char *key_file;
    char gateway[600];
};

static const struct option long_options[] = {{"gateway", required_argument, NULL, 'g'},
                                             {"address", required_argument, NULL, 'a'},
                                             {"port", required_argument, NULL, 'p'},
                                             {"session-key", required_argument, NULL, 's'},
                                             {"tls-cert", required_argument, NULL, 'C'},
                                             {"tls-key", required_argument, NULL, 'K'},
                                             {"ca", required_argument, NULL, 'A'},
                                             {"access-log", required_argument, NULL, 'l'},
                                             {"body-limit", required_argument, NULL, 'B'},
                                             {"threads", required_argument, NULL, 'T'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

static bool parse_option(int letter, const char *value, struct arguments *arguments, struct error *error) {
    struct frontend_options *options = &arguments->options;
    long long bytes;
    switch (letter) {
    case 'g':
        options->gateway = value;
        return true;
    case 'a':
        if (arguments->address_count == 16)
            return error_set(error, ERROR_INVALID, "--address: more than 16");
        arguments->addresses[arguments->address_count++] = value;
        options->addresses = arguments->addresses;
        return true;
    case 'p':
        return serving_integer(value, "--port", 0, 65535, &options->port, error);
    case 's':
        arguments->key_file = value;
        return true;
    case 'C':
        options->tls_certificate = value;
        return true;
    case 'K':
        options->tls_key = value;
        return true;
    case 'A':
        options->ca_file = value;
        return true;
    case 'l':
        return access_log_parse(value, &options->access_log) ||
               error_set(error, ERROR_INVALID, "--access-log %s: json, text or off is wanted", value);
    case 'B':
        if (!serving_bytes(value, "--body-limit", &bytes, error))
            return false;
        options->body_limit = (size_t)bytes;
        return true;
    default:
        return serving_integer(value, "--threads", 1, 256, &arguments->threads, error);
    }
}

/* Where the gateway is, as the environment of the system's versions says it. */
static bool environment_read(struct arguments *arguments, struct error *error) {
    struct frontend_options *options = &arguments->options;
    const char *auth = getenv("GUICHET_UPSTREAM_AUTH"), *host = getenv("SERVING_HOST"),
               *port = getenv("SERVING_PORT");
    if (auth && *auth && strcmp(auth, "google") != 0)
        return error_set(error, ERROR_INVALID, "GUICHET_UPSTREAM_AUTH=%s: only \"google\" is known", auth);
    options->google_identity = auth && *auth;
    options->api_key = getenv("GUICHET_API_KEY");
    options->gateway = getenv("API_GATEWAY");
    if (!options->gateway || !*options->gateway)
        options->gateway = getenv("SERVING_URL");
    if ((!options->gateway || !*options->gateway) && host && *host) {
        snprintf(arguments->gateway, sizeof arguments->gateway, "http://%.500s:%.8s", host,
                 port ? port : "8080");
        options->gateway = arguments->gateway;
    }
    /* SERVING_PORT is the backend's here, so only PORT is ours. */
    options->port = 8080;
    return !getenv("PORT") || serving_integer(getenv("PORT"), "PORT", 0, 65535, &options->port, error);
}

static bool keys_read(const struct arguments *arguments, struct session_keys *ret, struct error *error) {
    const char *text = getenv("GUICHET_SESSION_KEY");
    if (arguments->key_file)
        return session_keys_read(arguments->key_file, ret, error);
    if (text && *text)
        return session_keys_parse(text, "GUICHET_SESSION_KEY", ret, error);
    session_keys_random(ret);
    return true;
}

/* 0: go on; 1: done; 2: misused. */
static int arguments_read(int argc, char **argv, struct arguments *arguments, struct error *error) {
    struct frontend_options *options = &arguments->options;
    options->access_log = ACCESS_LOG_JSON;
    arguments->threads = serving_threads();
    if (!environment_read(arguments, error))
        return 2;
    for (int letter; (letter = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (letter == '?')
            return error_set(error, ERROR_INVALID, "an option is not understood"), 2;
        if (letter == 'h') {
            fputs(help, stdout);
            return 1;
        }
        if (!parse_option(letter, optarg, arguments, error))
            return 2;
    }
    if (optind < argc)
        return error_set(error, ERROR_INVALID, "\"%s\" is not an option", argv[optind]), 2;
    if (!options->tls_certificate != !options->tls_key)
        return error_set(error, ERROR_INVALID, "--tls-cert and --tls-key belong together"), 2;
    if (!options->gateway || !*options->gateway)
        return error_set(error, ERROR_INVALID, "no gateway: give --gateway, $API_GATEWAY or $SERVING_URL"), 2;
    return 0;
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
    frontend_stop(frontend, 30000);
    frontend_free(frontend);
    http_loops_free(loops);
    return 0;
}

int verb_frontend(int argc, char **argv) {
    struct arguments arguments = {0};
    struct error error;
    int what = arguments_read(argc, argv, &arguments, &error);
    return what == 2 ? serving_misused("frontend", &error) : what == 1 ? 0 : serve(&arguments);
}
