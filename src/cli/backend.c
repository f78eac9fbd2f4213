/* guichet backend: one model's service. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/prediction_options.h"
#include "cli/serving.h"
#include "cli/verbs.h"
#include "model/name.h"
#include "server/backend/backend.h"

#define GRACE_MS 30000

static const struct command command = {
    "backend",
    "One model's service, loaded once and shared by all requests.\n"
    "\n"
    "Usage: guichet backend [OPTION…]\n"
    "\n"
    "  --model MODEL         a folder, an .onnx file or a name; MODEL:int8 takes the quantised one\n"
    "                        ($MODEL_NAME, else animals)\n"
    "  --name NAME           what the model is called in paths ($MODEL_NAME, else its folder's name)\n"
    "  --address ADDRESS     listen on this address only\n"
    "  --host-name NAME      also accept this Host on a loopback address (repeatable), as behind a proxy\n"
    "  --port N              listen on this port; 0: any free one ($PORT, else $SERVING_PORT, else 8080)\n"
    "  --threads N           threads of the network (all processors)\n"
    "  --decode-threads N    threads that decode photos (one per processor, at most 16)\n" PREDICTION_HELP
    "  --body-limit SIZE     largest request body (20M)\n"
    "  --memory-budget SIZE  memory for requests (half of what the control group or the machine has,\n"
    "                        at most 1G); what does not fit is refused with 503, or 413\n"
    "  --access-log FORM     json, text or off, on standard output (off)\n"
    "\n"
    "Example:\n"
    "  MODEL_NAME=animals PORT=9000 guichet backend\n",
};

struct backend_arguments {
    struct backend_options options;
    struct prediction_arguments prediction;
    const char *log;
    struct option_list host_names;
};

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Convert the options' text. EXIT_DONE on success, otherwise the exit status. */
static int options_finish(struct backend_arguments *arguments) {
    struct backend_options *options = &arguments->options;
    struct error error;

    if (!prediction_finish(&arguments->prediction, options, &error) ||
        !serving_memory_budget(arguments->prediction.memory_budget, 1, &error) ||
        !serving_access_log(arguments->log, &options->log, &error) ||
        !serving_list(&arguments->host_names, &options->host_names, &error))
        return cli_usage(&command, "%s", error.message);
    if (options->name && !model_name_valid(options->name, strlen(options->name)))
        return cli_usage(&command, "--name %s: expected letters, digits, \".\", \"_\" and \"-\"",
                         options->name);

    options->name = options->name ? options->name : variable("MODEL_NAME");
    options->model = options->model ? options->model : variable("MODEL_NAME");
    return EXIT_DONE;
}

/* SIGHUP: there are no files to reload. */
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
        log_line("guichet backend: %s, listening on port %d", backend_description(backend),
                 backend_port(backend));
        serving_wait(&signals, reload, NULL);
        backend_stop(backend, GRACE_MS);
        status = EXIT_DONE;
    } else {
        log_line("guichet backend: %s", error.message); /* one line: a supervisor passes the last one on */
    }

    backend_free(backend);
    http_loops_free(loops);
    return status;
}

int verb_backend(int argc, char **argv) {
    struct backend_arguments arguments = {0};
    struct backend_options *options = &arguments.options;
    struct error error;

    if (!serving_port(&options->port, &error))
        return cli_usage(&command, "%s", error.message);

    const struct option_spec specs[] = {
        {"model", OPTION_TEXT, &options->model, 0, 0},
        {"name", OPTION_TEXT, &options->name, 0, 0},
        {"address", OPTION_TEXT, &options->address, 0, 0},
        {"port", OPTION_INT, &options->port, 0, 65535},
        {"host-name", OPTION_LIST, &arguments.host_names, 0, 0},
        {"threads", OPTION_INT, &options->threads, 1, 1024},
        {"decode-threads", OPTION_INT, &options->decode_threads, 1, 1024},
        {"body-limit", OPTION_TEXT, &arguments.prediction.body_limit, 0, 0},
        {"memory-budget", OPTION_TEXT, &arguments.prediction.memory_budget, 0, 0},
        {"access-log", OPTION_TEXT, &arguments.log, 0, 0},
        PREDICTION_SPECS(&arguments.prediction),
        {0},
    };

    int words, code;
    if (options_parse(&command, argc, argv, specs, 0, 0, &words, &code)) {
        code = options_finish(&arguments);
        if (code == EXIT_DONE)
            code = serve(options);
    }

    free(arguments.host_names.words);
    return code;
}
