/* guichet gateway: the single entry before backends that run elsewhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "cli/serving.h"
#include "cli/verbs.h"
#include "serve/gateway.h"
#include "serve/gateway_keys.h"

#define GRACE_MS 30000

static const struct command command = {
    "gateway",
    "The single entry: routes requests by the model's name to the backends that serve it.\n"
    "\n"
    "Usage: guichet gateway --backend NAME=URL… [OPTION…]\n"
    "\n"
    "Several URLs of one name are its replicas, and so is every address of a name in the DNS.\n"
    "\n"
    "  --backend NAME=URL     a backend (repeatable; $GUICHET_BACKENDS adds more, with blanks or commas\n"
    "                         between)\n"
    "  --backends FILE        the same in a file, one or more a line; read again on SIGHUP\n"
    "  --address ADDRESS      listen on this address only (repeatable)\n"
    "  --port N               0: any free one ($PORT, else $SERVING_PORT, else 8080)\n"
    "  --default-model NAME   answers POST /predict (the first)\n"
    "  --bound N              requests at once on each replica (256)\n"
    "  --timeout SECONDS      for a whole answer, retries included (60)\n"
    "  --check SECONDS        between health checks (2)\n"
    "  --resolve SECONDS      between looking names up again (10)\n"
    "  --api-keys FILE        only callers with a key of this file; read again on SIGHUP\n"
    "  --make-key NAME        print a new key, and the line for that file, and end\n"
    "  --rate N[:BURST]       requests a second for each caller, after a burst (no limit)\n"
    "  --cors ORIGIN,…        pages of these origins may call; \"*\": any\n"
    "  --trust-forwarded      a proxy is in front: its X-Forwarded-For names the caller\n"
    "  --tls-cert FILE        serve https (PEM), with the next; read again on SIGHUP\n"
    "  --tls-key FILE         the certificate's key\n"
    "  --ca FILE              trust these authorities for https backends\n"
    "  --access-log FORM      json, text or off, on standard output (json)\n"
    "  --body-limit SIZE      of a request (20M)\n"
    "  --threads N            event loops (half the processors, at most 4)\n"
    "\n"
    "$GUICHET_UPSTREAM_AUTH=google adds a Google ID token to what goes to the backends (Cloud Run).\n"
    "\n"
    "Example:\n"
    "  guichet gateway --backend animals=http://10.0.0.5:9000 --backend animals=http://10.0.0.6:9000\n",
};

struct arguments {
    struct gateway_options options;
    struct option_list backend_list, addresses;
    struct buffer backends; /* what --backend and $GUICHET_BACKENDS say, as backend_list_parse reads it */
    double timeout_s, check_s, resolve_s;
    const char *rate, *log, *body_limit, *make_key;
    int threads;
};

static bool backends_gather(struct arguments *arguments, struct error *error) {
    const char *backends = getenv("GUICHET_BACKENDS");
    bool good = !backends || buffer_printf(&arguments->backends, "%s\n", backends);
    for (int i = 0; good && i < arguments->backend_list.count; i++) {
        const char *word = arguments->backend_list.words[i];
        if (!strchr(word, '='))
            return error_set(error, ERROR_INVALID, "--backend %s: NAME=URL is wanted", word);
        good = buffer_printf(&arguments->backends, "%s\n", word);
    }
    arguments->options.backends = arguments->backends.bytes;
    return good || error_set(error, ERROR_MEMORY, "out of memory");
}

/* What the options' words mean; whatever is wrong here was typed wrong. */
static bool arguments_finish(struct arguments *arguments, struct error *error) {
    struct gateway_options *options = &arguments->options;
    if (!serving_google_identity(&options->google_identity, error) || !backends_gather(arguments, error) ||
        !serving_list(&arguments->addresses, &options->addresses, error) ||
        !serving_access_log(arguments->log, &options->access_log, error) ||
        !serving_body_limit(arguments->body_limit, &options->body_limit, error) ||
        !serving_tls_pair(options->tls_certificate, options->tls_key, error) ||
        (arguments->rate && !serving_rate(arguments->rate, &options->rate, &options->burst, error)))
        return false;
    options->timeout_ms = (int)(arguments->timeout_s * 1000);
    options->check_ms = (int)(arguments->check_s * 1000);
    options->resolve_ms = (int)(arguments->resolve_s * 1000);
    return arguments->make_key || arguments->backends.size || options->backends_file ||
           error_set(error, ERROR_INVALID, "no backend: give --backend, --backends or $GUICHET_BACKENDS");
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
        return cli_usage(&command, "%s", error.message);
    printf("key:  %s\nline: %s\n", key, line);
    return EXIT_DONE;
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
    gateway_stop(gateway, GRACE_MS);
    gateway_free(gateway);
    http_loops_free(loops);
    return EXIT_DONE;
}

static int run(struct arguments *arguments) {
    struct error error;
    if (!arguments_finish(arguments, &error))
        return cli_usage(&command, "%s", error.message);
    return arguments->make_key ? make_key(arguments->make_key) : serve(arguments);
}

int verb_gateway(int argc, char **argv) {
    struct arguments arguments = {.backends = {.limit = 1 << 20}, .threads = serving_threads()};
    struct gateway_options *options = &arguments.options;
    struct error error;
    options->access_log = ACCESS_LOG_JSON;
    if (!serving_port(&options->port, &error))
        return cli_usage(&command, "%s", error.message);
    const struct option_spec specs[] = {
        {"backend", OPTION_LIST, &arguments.backend_list, 0, 0},
        {"backends", OPTION_TEXT, &options->backends_file, 0, 0},
        {"default-model", OPTION_TEXT, &options->default_model, 0, 0},
        {"bound", OPTION_INT, &options->bound, 1, 100000},
        {"timeout", OPTION_REAL, &arguments.timeout_s, 0.05, 86400},
        {"check", OPTION_REAL, &arguments.check_s, 0.05, 86400},
        {"resolve", OPTION_REAL, &arguments.resolve_s, 0.05, 86400},
        {"api-keys", OPTION_TEXT, &options->api_keys_file, 0, 0},
        {"make-key", OPTION_TEXT, &arguments.make_key, 0, 0},
        {"rate", OPTION_TEXT, &arguments.rate, 0, 0},
        {"cors", OPTION_TEXT, &options->cors, 0, 0},
        {"trust-forwarded", OPTION_FLAG, &options->trust_forwarded, 0, 0},
        SERVING_SPECS(&arguments, options),
        {0},
    };
    int words, status;
    if (options_parse(&command, argc, argv, specs, 0, 0, &words, &status))
        status = run(&arguments);
    buffer_release(&arguments.backends);
    free(arguments.backend_list.words);
    free(arguments.addresses.words);
    return status;
}
