#include "base/log.h"
#include "base/memory_budget.h"
#include "cli/serving.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define LEAST_BUDGET (16ll << 20)

bool serving_number(const char *text, const char *option, double least, double most, double *ret,
                    struct error *error) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !(number >= least && number <= most))
        return error_set(error, ERROR_INVALID, "%s %s: expected a number from %g to %g", option, text, least,
                         most);

    *ret = number;
    return true;
}

bool serving_integer(const char *text, const char *option, int least, int most, int *ret,
                     struct error *error) {
    double number = 0;
    if (!serving_number(text, option, least, most, &number, error))
        return false;
    if (number != floor(number))
        return error_set(error, ERROR_INVALID, "%s %s: expected a whole number", option, text);

    *ret = (int)number;
    return true;
}

bool serving_bytes(const char *text, const char *option, long long *ret, struct error *error) {
    static const char units[] = "KMGT";
    char *end;
    double number = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;

    for (const char *at = units; unit && at <= unit; at++)
        number *= 1024;

    const char *rest = end + (unit != NULL);
    if (end == text || !(number >= 1 && number < 1e15) ||
        (*rest && strcasecmp(rest, "B") != 0 && strcasecmp(rest, "iB") != 0))
        return error_set(error, ERROR_INVALID, "%s %s: expected a size such as 500M or 2G", option, text);

    *ret = (long long)number;
    return true;
}

bool serving_seconds(const char *text, const char *option, double *ret, struct error *error) {
    char *end;
    double number = strtod(text, &end);
    double unit = *end == 'm' ? 60 : *end == 'h' ? 3600 : 1;
    if (end == text || !(number >= 0 && number * unit <= 1e9) || (*end && (!strchr("smh", *end) || end[1])))
        return error_set(error, ERROR_INVALID, "%s %s: expected a time such as 90s, 15m or 2h", option, text);

    *ret = number * unit;
    return true;
}

bool serving_rate(const char *text, double *ret_rate, double *ret_burst, struct error *error) {
    char rate[32];
    const char *colon = strchr(text, ':');
    snprintf(rate, sizeof rate, "%.*s", colon ? (int)(colon - text) : 31, text);

    if (!serving_number(rate, "--rate", 0.001, 1e6, ret_rate, error))
        return false;
    *ret_burst = *ret_rate < 1 ? 1 : *ret_rate;
    return !colon || serving_number(colon + 1, "--rate", 1, 1e6, ret_burst, error);
}

bool serving_access_log(const char *text, enum access_log *ret, struct error *error) {
    return !text || access_log_parse(text, ret) ||
           error_set(error, ERROR_INVALID, "--access-log %s: expected json, text or off", text);
}

bool serving_body_limit(const char *text, size_t *ret, struct error *error) {
    long long bytes = 0;
    if (text && !serving_bytes(text, "--body-limit", &bytes, error))
        return false;
    *ret = text ? (size_t)bytes : *ret;
    return true;
}

bool serving_memory_budget(const char *text, int parts, struct error *error) {
    long long bytes = 0;
    if (text && !serving_bytes(text, "--memory-budget", &bytes, error))
        return false;
    if (text && bytes < LEAST_BUDGET * parts)
        return error_set(error, ERROR_INVALID, "--memory-budget %s: expected at least %lldM", text,
                         (LEAST_BUDGET >> 20) * parts);

    size_t part = (text ? (size_t)bytes : memory_budget_default("")) / (size_t)parts;
    memory_budget_start(part < LEAST_BUDGET ? LEAST_BUDGET : part);
    return true;
}

bool serving_tls_pair(const char *certificate, const char *key, struct error *error) {
    return !certificate == !key ||
           error_set(error, ERROR_INVALID, "--tls-cert and --tls-key belong together");
}

bool serving_google_identity(bool *ret, struct error *error) {
    const char *auth = getenv("GUICHET_UPSTREAM_AUTH");
    *ret = auth && *auth;
    return !*ret || strcmp(auth, "google") == 0 ||
           error_set(error, ERROR_INVALID, "GUICHET_UPSTREAM_AUTH=%s: the only supported value is google",
                     auth);
}

bool serving_list(struct option_list *list, const char *const **ret, struct error *error) {
    if (list->count == 0)
        return true;

    const char **words = realloc(list->words, ((size_t)list->count + 1) * sizeof *words);
    if (!words)
        return error_set(error, ERROR_MEMORY, "out of memory");

    words[list->count] = NULL;
    list->words = words;
    *ret = words;
    return true;
}

bool serving_session_keys(const char *file, struct session_keys *ret, bool *ret_given, struct error *error) {
    const char *text = getenv("GUICHET_SESSION_KEY");
    *ret_given = file || (text && *text);

    if (file)
        return session_keys_read(file, ret, error);
    return !*ret_given || session_keys_parse(text, "GUICHET_SESSION_KEY", ret, error);
}

bool serving_port(int *ret, struct error *error) {
    const char *name = getenv("PORT") ? "PORT" : "SERVING_PORT", *text = getenv(name);
    if (!text || !*text) {
        *ret = 8080;
        return true;
    }
    return serving_integer(text, name, 0, 65535, ret, error);
}

bool serving_finish(struct serving_arguments *arguments, struct error *error) {
    struct server_options *server = &arguments->server;

    return serving_list(&arguments->addresses, &server->addresses, error) &&
           serving_list(&arguments->host_names, &server->host_names, error) &&
           serving_access_log(arguments->log, &server->access_log, error) &&
           serving_body_limit(arguments->body_limit, &server->body_limit, error) &&
           serving_memory_budget(arguments->memory_budget,
                                 arguments->budget_parts ? arguments->budget_parts : 1, error) &&
           serving_tls_pair(server->tls_certificate, server->tls_key, error) &&
           (!arguments->rate || serving_rate(arguments->rate, &server->rate, &server->burst, error));
}

void serving_release(struct serving_arguments *arguments) {
    free(arguments->addresses.words);
    free(arguments->host_names.words);
}

void serving_signals_block(sigset_t *ret) {
    sigemptyset(ret);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGHUP);
    sigaddset(ret, SIGCHLD);
    sigprocmask(SIG_BLOCK, ret, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void end_at_once(int number) {
    _exit(128 + number);
}

void serving_wait(const sigset_t *signals, void (*reload)(void *context), void *context) {
    for (int number; sigwait(signals, &number) == 0;) {
        if (number == SIGHUP && reload)
            reload(context);
        if (number != SIGINT && number != SIGTERM)
            continue;

        sigset_t again;
        signal(SIGINT, end_at_once);
        sigemptyset(&again);
        sigaddset(&again, SIGINT);
        sigprocmask(SIG_UNBLOCK, &again, NULL);
        return;
    }
}

int serving_threads(void) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    return processors < 1 ? 1 : processors > 4 ? 4 : (int)processors;
}

int serving_failed(const struct command *command, const struct error *error) {
    if (strncmp(error->message, "--", 2) == 0)
        return cli_usage(command, "%s", error->message);
    log_line("guichet %s: %s", command->name, error->message);
    return EXIT_FAILED;
}
