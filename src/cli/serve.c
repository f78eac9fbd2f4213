/* guichet serve: everything on one machine. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/prediction_options.h"
#include "cli/serving.h"
#include "cli/verbs.h"
#include "model/directory.h"
#include "model/find.h"
#include "server/supervisor/supervisor.h"

#define BUDGET_PARTS 4 /* one for the server, one for each of three busy models */

static const struct command command = {
    "serve",
    "The page and the service on this machine.\n"
    "\n"
    "Usage: guichet serve [OPTION…]\n"
    "\n"
    "One server, and for each model a process of its own, started by its first request.\n"
    "\n"
    "  --models DIR          folder of model folders, watched while it runs (repeatable; by default\n"
    "                        $GUICHET_MODELS or ~/.local/share/guichet/models, and the models that came\n"
    "                        with guichet)\n"
    "  --default-model NAME  for requests that name no model (animals, else the first)\n"
    "  --address ADDRESS     listen on this address only (repeatable; 127.0.0.1; 0.0.0.0 or :: for all)\n"
    "  --port N              listen on this port; 0: any free one ($PORT, else $SERVING_PORT, else 8080)\n"
    "  --host-name NAME      also accept this Host on loopback addresses (repeatable), as behind a proxy\n"
    "  --control ADDR:PORT   a second listener that accepts every call without a key, load and unload\n"
    "                        included (none)\n"
    "  --model-control C     auto: folders that come and change are taken as they are seen, and an\n"
    "                        unloaded model wakes when it is asked; explicit: both wait for a load (auto)\n"
    "  --idle TIME           stop a model after TIME without requests: 90s, 15m, 2h; 0: never (15m)\n"
    "  --preload             start all models now, and keep them running\n"
    "  --memory SIZE         memory for all models together: 500M, 2G (no limit)\n"
    "  --patience TIME       under --memory, how long a request waits before a busy model makes room (2s)\n"
    "  --backend-program P   run P backend … for each model instead of this program\n"
    "\n"
    "Of each model:\n" PREDICTION_HELP "\n"
    "Of the server:\n"
    "  --session-key FILE    keys that sign session cookies, one per line, newest first; reloaded on\n"
    "                        SIGHUP, as API keys and certificates are ($GUICHET_SESSION_KEY, else a key\n"
    "                        created in ~/.local/state/guichet)\n"
    "  --api-keys FILE       require a key of this file, for the page's calls too ('guichet gateway\n"
    "                        --make-key' creates one and shows the file's format)\n"
    "  --rate N[:BURST]      requests per second and caller, after a burst (no limit)\n"
    "  --cors ORIGIN,…       allow calls from pages of these origins; \"*\": any\n"
    "  --trust-forwarded     take the caller's address from X-Forwarded-For (behind a trusted proxy)\n"
    "  --body-limit SIZE     largest request body (20M)\n"
    "  --memory-budget SIZE  memory for requests: a quarter for the server, a quarter for each model's\n"
    "                        process (half of what the control group or the machine has, at most 1G)\n"
    "  --tls-cert FILE       serve https with this certificate (PEM); needs --tls-key\n"
    "  --tls-key FILE        the certificate's key\n"
    "  --no-hsts             over https, do not tell browsers to come by https alone from then on\n"
    "  --access-log FORM     json, text or off, on standard output (off)\n"
    "  --threads N           event loops (half the processors, at most 4)\n"
    "\n"
    "Examples:\n"
    "  guichet serve\n"
    "  guichet serve --preload --memory 4G\n",
};

struct serve_arguments {
    struct serving_arguments serving;
    struct option_list directories;
    struct supervisor_options options;
    struct prediction_arguments prediction;
    struct prediction_words backend_words;
    char backend_budget[24]; /* bytes */
    const char *idle, *memory, *patience, *control, *key_file;
    struct model_roots roots;
    char *own_models;
    const char *directory_list[MODEL_ROOTS + 2];
};

static bool parse_values(struct serve_arguments *arguments, struct error *error) {
    struct supervisor_options *options = &arguments->options;

    options->idle_seconds = 15 * 60;
    options->patience_seconds = 2;

    if (arguments->idle && !serving_seconds(arguments->idle, "--idle", &options->idle_seconds, error))
        return false;
    if (arguments->memory && !serving_bytes(arguments->memory, "--memory", &options->memory, error))
        return false;
    if (arguments->control && strcmp(arguments->control, "auto") != 0 &&
        strcmp(arguments->control, "explicit") != 0)
        return error_set(error, ERROR_INVALID, "--model-control %s: expected auto or explicit",
                         arguments->control);
    options->explicit_control = arguments->control && strcmp(arguments->control, "explicit") == 0;
    if (arguments->patience &&
        !serving_seconds(arguments->patience, "--patience", &options->patience_seconds, error))
        return false;
    arguments->serving.budget_parts = BUDGET_PARTS;
    if (!serving_finish(&arguments->serving, error))
        return false;

    options->server = arguments->serving.server;
    options->threads = arguments->serving.threads;

    struct backend_options backend = {0};
    snprintf(arguments->backend_budget, sizeof arguments->backend_budget, "%zu", memory_budget_bytes());
    arguments->prediction.body_limit = arguments->serving.body_limit;
    arguments->prediction.memory_budget = arguments->backend_budget;
    if (!prediction_finish(&arguments->prediction, &backend, error))
        return false;
    options->timeout_ms = backend.timeout_ms;
    options->queue_limit = backend.queue_limit;
    options->context = backend.context;
    options->parallel = backend.parallel;
    options->kv = backend.kv;
    options->precision = backend.precision;
    prediction_write_words(&arguments->prediction, &arguments->backend_words);
    options->backend_arguments = arguments->backend_words.words;
    return true;
}

/* NULL-terminated arrays of the listed options; the strings are argv's. */
static bool lists_make(struct serve_arguments *arguments, struct error *error) {
    int count = 0;

    if (arguments->directories.count == 0) {
        model_roots_find(&arguments->roots);
        arguments->own_models = model_directory_default();
        if (arguments->own_models) /* it may be created later */
            arguments->directory_list[count++] = arguments->own_models;
        for (int i = 0; i < arguments->roots.count; i++)
            if (!arguments->own_models || strcmp(arguments->roots.paths[i], arguments->own_models) != 0)
                arguments->directory_list[count++] = arguments->roots.paths[i];
        arguments->options.directories = arguments->directory_list;
    }

    if (!serving_list(&arguments->directories, &arguments->options.directories, error))
        return false;

    for (int i = 0; i < arguments->directories.count; i++)
        if (access(arguments->directories.words[i], R_OK | X_OK) < 0)
            return error_set_errno(error, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_IO, errno, "--models %s",
                                   arguments->directories.words[i]);
    return true;
}

/* The user's session key, stored so that sessions survive a restart. False on any failure: the caller then
 * uses a random key, which only ends sessions. */
static bool key_load_or_create(struct session_keys *ret) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    cleanup(freep) char *folder = NULL, *path = NULL;
    struct error ignored;

    if (asprintf(&folder, "%s%s/guichet",
                 state && *state ? state
                 : home          ? home
                                 : "",
                 state && *state ? "" : "/.local/state") < 0 ||
        asprintf(&path, "%s/session.key", folder) < 0)
        return false;

    if (session_keys_read(path, ret, &ignored))
        return true;

    for (char *at = strchr(folder + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(folder, 0755);
        *at = '/';
    }
    mkdir(folder, 0700);

    uint8_t bytes[32];
    char text[66];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(text, sizeof text, bytes, sizeof bytes);
    text[64] = '\n';

    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    bool written = write(fd, text, 65) == 65;
    close(fd);

    if (!written)
        unlink(path);
    return written && session_keys_read(path, ret, &ignored);
}

static bool keys_read(const struct serve_arguments *arguments, struct session_keys *ret,
                      struct error *error) {
    bool given = false;

    if (!serving_session_keys(arguments->key_file, ret, &given, error))
        return false;
    if (!given && !key_load_or_create(ret))
        session_keys_random(ret);
    return true;
}

static int run(struct serve_arguments *arguments) {
    struct error error;
    sigset_t signals;

    if (!parse_values(arguments, &error))
        return cli_usage(&command, "%s", error.message);
    if (sodium_init() < 0 || !lists_make(arguments, &error) ||
        !keys_read(arguments, &arguments->options.keys, &error))
        return cli_fail(&error);

    arguments->options.session_key_file = arguments->key_file;
    serving_signals_block(&signals);
    return supervisor_run(&arguments->options, &error) ? EXIT_DONE : cli_fail(&error);
}

int verb_serve(int argc, char **argv) {
    struct serve_arguments arguments = {0};
    struct supervisor_options *options = &arguments.options;
    struct error error;

    arguments.serving.threads = serving_threads();
    if (!serving_port(&arguments.serving.server.port, &error))
        return cli_usage(&command, "%s", error.message);

    const struct option_spec specs[] = {
        {"models", OPTION_LIST, &arguments.directories},
        {"default-model", OPTION_TEXT, &options->default_model},
        {"control", OPTION_TEXT, &options->control_address},
        {"idle", OPTION_TEXT, &arguments.idle},
        {"preload", OPTION_FLAG, &options->preload},
        {"memory", OPTION_TEXT, &arguments.memory},
        {"patience", OPTION_TEXT, &arguments.patience},
        {"model-control", OPTION_TEXT, &arguments.control},
        {"backend-program", OPTION_TEXT, &options->backend_program},
        {"session-key", OPTION_TEXT, &arguments.key_file},
        PREDICTION_SPECS(&arguments.prediction),
        SERVING_CALLER_SPECS(&arguments.serving),
        SERVING_SPECS(&arguments.serving),
        {0},
    };

    int words, status;
    if (options_parse(&command, argc, argv, specs, 0, 0, &words, &status))
        status = run(&arguments);

    free(arguments.directories.words);
    serving_release(&arguments.serving);
    free(arguments.own_models);
    model_roots_release(&arguments.roots);
    return status;
}
