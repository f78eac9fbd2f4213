/* guichet gateway: the single entry before backends that run elsewhere. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "cli/serving.h"
#include "cli/verbs.h"
#include "serve/gateway.h"
#include "serve/gateway_keys.h"

static const char help[] =
    "guichet gateway --backend NAME=URL… [options]\n"
    "\n"
    "The single entry: routes requests by the model's name to the backends that serve it. Several URLs of "
    "one\n"
    "name are its replicas, and so is every address of a name in the DNS.\n"
    "\n"
    "  --backend NAME=URL     a backend (repeatable); also: $GUICHET_BACKENDS, several separated by blanks "
    "or commas\n"
    "  --backends FILE        the same in a file, one or more a line; read again on SIGHUP\n"
    "  --address ADDRESS      listen on this address only (repeatable)\n"
    "  --port N               port (default: $PORT, else $SERVING_PORT, else 8080; 0: any free one)\n"
    "  --default-model NAME   answers POST /predict (default: the first)\n"
    "  --bound N              requests at once on each replica (256)\n"
    "  --timeout SECONDS      for a whole answer, retries included (60)\n"
    "  --check SECONDS        between health checks (2)\n"
    "  --resolve SECONDS      between looking names up again (10)\n"
    "  --api-keys FILE        only callers with a key of this file; read again on SIGHUP\n"
    "  --make-key NAME        print a new key, and the line for that file, and end\n"
    "  --rate N[:BURST]       requests a second for each caller, after a burst (default: no limit)\n"
    "  --cors ORIGIN,…        pages of these origins may call; \"*\": any\n"
    "  --trust-forwarded      a proxy is in front: its X-Forwarded-For names the caller\n"
    "  --tls-cert FILE --tls-key FILE   serve https (PEM); read again on SIGHUP\n"
    "  --ca FILE              trust these authorities for https backends\n"
    "  --access-log FORM      json, text or off, on standard output (json)\n"
    "  --body-limit SIZE      of a request (20M)\n"
    "  --threads N            event loops (half the processors, at most 4)\n"
    "  --help\n"
    "\n"
    "$GUICHET_UPSTREAM_AUTH=google adds a Google ID token to what goes to the backends (Cloud Run).\n";

struct arguments {
    struct gateway_options options;
    struct buffer backends;
    const char *addresses[17];
    int address_count, threads;
    const char *make_key;
};

static const struct option long_options[] = {{"backend", required_argument, NULL, 'b'},
                                             {"backends", required_argument, NULL, 'f'},
                                             {"address", required_argument, NULL, 'a'},
                                             {"port", required_argument, NULL, 'p'},
                                             {"default-model", required_argument, NULL, 'd'},
                                             {"bound", required_argument, NULL, 'n'},
                                             {"timeout", required_argument, NULL, 't'},
                                             {"check", required_argument, NULL, 'c'},
                                             {"resolve", required_argument, NULL, 'r'},
                                             {"api-keys", required_argument, NULL, 'k'},
                                             {"make-key", required_argument, NULL, 'm'},
                                             {"rate", required_argument, NULL, 'R'},
                                             {"cors", required_argument, NULL, 'o'},
                                             {"trust-forwarded", no_argument, NULL, 'x'},
                                             {"tls-cert", required_argument, NULL, 'C'},
                                             {"tls-key", required_argument, NULL, 'K'},
                                             {"ca", required_argument, NULL, 'A'},
                                             {"access-log", required_argument, NULL, 'l'},
                                             {"body-limit", required_argument, NULL, 'B'},
                                             {"threads", required_argument, NULL, 'T'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

static bool parse_milliseconds(const char *text, const char *option, int *ret, struct error *error) {
    double seconds;
    if (!serving_number(text, option, 0.05, 86400, &seconds, error))
        return false;
    *ret = (int)(seconds * 1000);
    return true;
}

static bool parse_option(int letter, const char *value, struct arguments *arguments, struct error *error) {
    struct gateway_options *options = &arguments->options;
    long long bytes;
    switch (letter) {
    case 'b':
        if (!strchr(value, '='))
            return error_set(error, ERROR_INVALID, "--backend %s: NAME=URL is wanted", value);
        return buffer_printf(&arguments->backends, "%s\n", value);
    case 'a':
        if (arguments->address_count == 16)
            return error_set(error, ERROR_INVALID, "--address: more than 16");
        arguments->addresses[arguments->address_count++] = value;
        options->addresses = arguments->addresses;
        return true;
    case 'p':
        return serving_integer(value, "--port", 0, 65535, &options->port, error);
    case 'n':
        return serving_integer(value, "--bound", 1, 100000, &options->bound, error);
    case 't':
        return parse_milliseconds(value, "--timeout", &options->timeout_ms, error);
    case 'c':
        return parse_milliseconds(value, "--check", &options->check_ms, error);
    case 'r':
        return parse_milliseconds(value, "--resolve", &options->resolve_ms, error);
    case 'R':
        return serving_rate(value, &options->rate, &options->burst, error);
    case 'l':
        return access_log_parse(value, &options->access_log) ||
               error_set(error, ERROR_INVALID, "--access-log %s: json, text or off is wanted", value);
    case 'T':
        return serving_integer(value, "--threads", 1, 256, &arguments->threads, error);
    case 'B':
        if (!serving_bytes(value, "--body-limit", &bytes, error))
            return false;
        options->body_limit = (size_t)bytes;
        return true;
    default:
        break;
    }
    const char **text = letter == 'f'   ? &options->backends_file
                        : letter == 'd' ? &options->default_model
                        : letter == 'k' ? &options->api_keys_file
                        : letter == 'm' ? &arguments->make_key
                        : letter == 'o' ? &options->cors
                        : letter == 'C' ? &options->tls_certificate
                        : letter == 'K' ? &options->tls_key
                                        : &options->ca_file;
    *text = value;
    return true;
}

static bool environment_read(struct arguments *arguments, struct error *error) {
    const char *auth = getenv("GUICHET_UPSTREAM_AUTH"), *backends = getenv("GUICHET_BACKENDS");
    if (auth && *auth && strcmp(auth, "google") != 0)
        return error_set(error, ERROR_INVALID, "GUICHET_UPSTREAM_AUTH=%s: only \"google\" is known", auth);
    arguments->options.google_identity = auth && *auth;
    if (backends && !buffer_printf(&arguments->backends, "%s\n", backends))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return serving_port(&arguments->options.port, error);
}

/* 0: go on; 1: done; 2: misused. */
static int arguments_read(int argc, char **argv, struct arguments *arguments, struct error *error) {
    arguments->options.access_log = ACCESS_LOG_JSON;
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
        if (letter == 'x')
            arguments->options.trust_forwarded = true;
        else if (!parse_option(letter, optarg, arguments, error))
            return 2;
    }
    const struct gateway_options *options = &arguments->options;
    if (optind < argc)
        return error_set(error, ERROR_INVALID, "\"%s\" is not an option", argv[optind]), 2;
    if (!options->tls_certificate != !options->tls_key)
        return error_set(error, ERROR_INVALID, "--tls-cert and --tls-key belong together"), 2;
    if (!arguments->make_key && !arguments->backends.size && !options->backends_file)
        return error_set(error, ERROR_INVALID, "no backend: give --backend, --backends or $GUICHET_BACKENDS"),
               2;
    return 0;
}

static void reload(void *context) {
    struct error error;
    if (gateway_reload(context, &error))
        fprintf(stderr, "guichet gateway: read the files again\n");
    else
        fprintf(stderr, "guichet gateway: nothing changed: %s\n", error.message);
}

static int make_key(const char *name) {
    struct error error;
    char key[API_KEY_BYTES], line[API_KEY_LINE_BYTES];
    if (!api_keys_make(name, key, line, &error))
        return serving_misused("gateway", &error);
    printf("key:  %s\nline: %s\n", key, line);
    return 0;
}

static int serve(const struct arguments *arguments) {
    struct error error;
    sigset_t signals;
    serving_signals_block(&signals);
    struct http_loops *loops = http_loops_create(arguments->threads, &error);
    struct gateway *gateway = loops ? gateway_create(loops, &arguments->options, &error) : NULL;
    if (!gateway) {
        http_loops_free(loops);
        return serving_failed("gateway", &error);
    }
    fprintf(stderr, "guichet gateway: listening on port %d\n", gateway_port(gateway));
    serving_wait(&signals, reload, gateway);
    gateway_stop(gateway, 30000);
    gateway_free(gateway);
    http_loops_free(loops);
    return 0;
}

int verb_gateway(int argc, char **argv) {
    struct arguments arguments = {.backends = {.limit = 1 << 20}};
    struct error error;
    int what = arguments_read(argc, argv, &arguments, &error);
    arguments.options.backends = arguments.backends.bytes;
    int status = what == 2            ? serving_misused("gateway", &error)
                 : what == 1          ? 0
                 : arguments.make_key ? make_key(arguments.make_key)
                                      : serve(&arguments);
    buffer_release(&arguments.backends);
    return status;
}
