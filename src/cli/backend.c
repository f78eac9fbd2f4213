/* guichet backend: one model's service. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/serving.h"
#include "cli/verbs.h"
#include "serve/backend.h"

#define GRACE_MS 30000

static const struct command command = {
    "backend",
    "One model's service, loaded once and shared by all requests.\n"
    "\n"
    "Usage: guichet backend [OPTION…]\n"
    "\n"
    "  --model MODEL         a folder, an .onnx file or a name; MODEL:int8 takes the quantised one\n"
    "                        ($MODEL_NAME, else animals)\n"
    "  --name NAME           what the model is called in addresses ($MODEL_NAME, else its folder's name)\n"
    "  --address ADDRESS     listen on this address only\n"
    "  --port N              0: any free one ($PORT, else $SERVING_PORT, else 8080)\n"
    "  --precision P         auto, f32 or bf16 (auto)\n"
    "  --threads N           of the network (as many as there are)\n"
    "  --decode-threads N    photos decoded at once (as many as there are processors, at most 16)\n"
    "  --max-batch N         requests in one run of the network (8)\n"
    "  --max-wait MS         a request may wait so long for others to join its run (0)\n"
    "  --queue N             predictions under way at once; beyond, 503 with Retry-After (256)\n"
    "  --timeout SECONDS     for a prediction, waiting included (60)\n"
    "  --body-limit SIZE     of a request (20M)\n"
    "  --allow-private-urls  photos may be fetched from private addresses\n"
    "  --access-log FORM     json, text or off, on standard output (off)\n"
    "\n"
    "Example:\n"
    "  MODEL_NAME=animals PORT=9000 guichet backend\n",
};

struct arguments {
    struct backend_options options;
    const char *precision, *body_limit, *log;
    double max_wait_ms, timeout_s;
};

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* What the words stand for; EXIT_DONE to go on. */
static int options_finish(struct arguments *arguments) {
    struct backend_options *options = &arguments->options;
    struct error error;
    if (arguments->precision && !precision_parse(arguments->precision, &options->precision))
        return cli_usage(&command, "--precision %s: auto, f32 or bf16 is wanted", arguments->precision);
    if (!serving_access_log(arguments->log, &options->log, &error) ||
        !serving_body_limit(arguments->body_limit, &options->body_limit, &error))
        return cli_usage(&command, "%s", error.message);
    options->max_wait_us = (int)(arguments->max_wait_ms * 1000);
    options->timeout_ms = (int)(arguments->timeout_s * 1000);
    options->name = options->name ? options->name : variable("MODEL_NAME");
    options->model = options->model ? options->model : variable("MODEL_NAME");
    return EXIT_DONE;
}

/* Nothing is kept in files that could be read again. */
static void reload(void *context) {
    (void)context;
}

static int serve(const struct backend_options *options) {
    struct error error;
    sigset_t signals;
    serving_signals_block(&signals);
    struct http_loops *loops = http_loops_create(serving_threads(), &error);
    struct backend *backend = loops ? backend_create(loops, options, &error) : NULL;
    int status = EXIT_FAILED;
    if (backend && backend_wait_ready(backend, &error)) {
        fprintf(stderr, "guichet backend: %s, listening on port %d\n", backend_description(backend),
                backend_port(backend));
        serving_wait(&signals, reload, NULL);
        backend_stop(backend, GRACE_MS);
        status = EXIT_DONE;
    } else {
        serving_failed("backend", &error);
    }
    backend_free(backend);
    http_loops_free(loops);
    return status;
}

int verb_backend(int argc, char **argv) {
    struct arguments arguments = {0};
    struct backend_options *options = &arguments.options;
    struct error error;
    serving_calm_threads(argc, argv);
    if (!serving_port(&options->port, &error))
        return cli_usage(&command, "%s", error.message);
    const struct option_spec specs[] = {
        {"model", OPTION_TEXT, &options->model, 0, 0},
        {"name", OPTION_TEXT, &options->name, 0, 0},
        {"address", OPTION_TEXT, &options->address, 0, 0},
        {"port", OPTION_INT, &options->port, 0, 65535},
        {"precision", OPTION_TEXT, &arguments.precision, 0, 0},
        {"threads", OPTION_INT, &options->threads, 1, 1024},
        {"decode-threads", OPTION_INT, &options->decode_threads, 1, 1024},
        {"max-batch", OPTION_INT, &options->max_batch, 1, 256},
        {"max-wait", OPTION_REAL, &arguments.max_wait_ms, 0, 10000},
        {"queue", OPTION_INT, &options->queue_limit, 1, 100000},
        {"timeout", OPTION_REAL, &arguments.timeout_s, 0.01, 86400},
        {"body-limit", OPTION_TEXT, &arguments.body_limit, 0, 0},
        {"allow-private-urls", OPTION_FLAG, &options->allow_private, 0, 0},
        {"access-log", OPTION_TEXT, &arguments.log, 0, 0},
        {0},
    };
    int words, code;
    if (!options_parse(&command, argc, argv, specs, 0, 0, &words, &code) ||
        (code = options_finish(&arguments)) != EXIT_DONE)
        return code;
    return serve(options);
}
