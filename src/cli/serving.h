/* What the verbs that serve have in common: numbers of options, the port, signals. */
#pragma once
#include <signal.h>
#include <stdbool.h>

#include "base/error.h"
#include "cli/cli.h"
#include "server/edge/access_log.h"
#include "server/edge/server.h"
#include "server/edge/session.h"

/* A whole decimal number within [least, most]; `option` names it in the error. */
bool serving_number(const char *text, const char *option, double least, double most, double *ret,
                    struct error *error);
bool serving_integer(const char *text, const char *option, int least, int most, int *ret,
                     struct error *error);
/* "500M", "2G", "1.5GiB", plain bytes. */
bool serving_bytes(const char *text, const char *option, long long *ret, struct error *error);
/* "90", "90s", "15m", "2h": seconds. */
bool serving_seconds(const char *text, const char *option, double *ret, struct error *error);
/* "N[:BURST]": requests per second; BURST defaults to N, at least one. */
bool serving_rate(const char *text, double *ret_rate, double *ret_burst, struct error *error);
/* The options that gateway, frontend and serve share, as they were typed. */
struct serving_arguments {
    struct server_options server;
    struct option_list addresses, host_names;
    const char *rate, *log, *body_limit, *memory_budget;
    int budget_parts; /* this process takes one of so many of the memory budget; 0: all of it */
    int threads;      /* event loops */
};

/* Their rows of an option table. */
#define SERVING_SPECS(arguments)                                               \
    {"address", OPTION_LIST, &(arguments)->addresses, 0, 0},                   \
        {"port", OPTION_INT, &(arguments)->server.port, 0, 65535},             \
        {"host-name", OPTION_LIST, &(arguments)->host_names, 0, 0},            \
        {"tls-cert", OPTION_TEXT, &(arguments)->server.tls_certificate, 0, 0}, \
        {"tls-key", OPTION_TEXT, &(arguments)->server.tls_key, 0, 0},          \
        {"no-hsts", OPTION_FLAG, &(arguments)->server.no_hsts, 0, 0},          \
        {"access-log", OPTION_TEXT, &(arguments)->log, 0, 0},                  \
        {"body-limit", OPTION_TEXT, &(arguments)->body_limit, 0, 0},           \
        {"memory-budget", OPTION_TEXT, &(arguments)->memory_budget, 0, 0}, {   \
        "threads", OPTION_INT, &(arguments)->threads, 1, 256                   \
    }
/* … of those that know callers. */
#define SERVING_CALLER_SPECS(arguments)                                            \
    {"api-keys", OPTION_TEXT, &(arguments)->server.api_keys_file, 0, 0},           \
        {"rate", OPTION_TEXT, &(arguments)->rate, 0, 0},                           \
        {"cors", OPTION_TEXT, &(arguments)->server.cors, 0, 0}, {                  \
        "trust-forwarded", OPTION_FLAG, &(arguments)->server.trust_forwarded, 0, 0 \
    }

/* The lines of gateway's and frontend's help that say the same. */
#define SERVING_HELP_ADDRESS                                              \
    "  --address ADDRESS      listen on this address only (repeatable)\n" \
    "  --host-name NAME       also accept this Host on loopback addresses (repeatable), as behind a proxy\n"
#define SERVING_HELP                                                                                  \
    "  --tls-cert FILE        serve https with this certificate (PEM); reloaded on SIGHUP\n"          \
    "  --tls-key FILE         the certificate's key\n"                                                \
    "  --no-hsts              over https, do not tell browsers to come by https alone from then on\n" \
    "  --access-log FORM      json, text or off, on standard output (json)\n"                         \
    "  --body-limit SIZE      largest request body (20M)\n"                                           \
    "  --memory-budget SIZE   memory for requests (half of what the control group or the machine\n"   \
    "                         has, at most 1G); what does not fit is refused with 503, or 413\n"      \
    "  --threads N            event loops (half the processors, at most 4)\n"

/* Interpret them, into arguments->server; any error is a usage error. */
bool serving_finish(struct serving_arguments *arguments, struct error *error);
void serving_release(struct serving_arguments *arguments);

/* The texts of options that several verbs have; NULL, the option was not given, leaves *ret as it is. */
bool serving_access_log(const char *text, enum access_log *ret, struct error *error);
bool serving_body_limit(const char *text, size_t *ret, struct error *error);
/* Start the memory budget of this process with one of `parts` of --memory-budget, else of the default.
 * Before threads start. */
bool serving_memory_budget(const char *text, int parts, struct error *error);
/* --tls-cert and --tls-key belong together. */
bool serving_tls_pair(const char *certificate, const char *key, struct error *error);
/* GUICHET_UPSTREAM_AUTH */
bool serving_google_identity(bool *ret, struct error *error);
/* The list's words, NULL-terminated and owned by the list; *ret is unchanged if the list is empty. */
bool serving_list(struct option_list *list, const char *const **ret, struct error *error);
/* The keys of --session-key, else of $GUICHET_SESSION_KEY; *ret_given false, and *ret as it was, where
 * neither is given. */
bool serving_session_keys(const char *file, struct session_keys *ret, bool *ret_given, struct error *error);
/* PORT, else SERVING_PORT, else 8080. */
bool serving_port(int *ret, struct error *error);
/* Keep SIGINT, SIGTERM, SIGHUP (and SIGCHLD) for serving_wait; before any thread starts. */
void serving_signals_block(sigset_t *ret);
/* Wait for the end: SIGHUP calls `reload`, SIGINT and SIGTERM return. A second SIGINT later ends the process
 * at once. */
void serving_wait(const sigset_t *signals, void (*reload)(void *context), void *context);
/* How many event loops fit this machine: half its processors, 1 … 4. */
int serving_threads(void);
/* A service could not start. A message that begins with an option tells a usage error; the rest is logged as
 * "guichet VERB: message", and gives EXIT_FAILED. */
int serving_failed(const struct command *command, const struct error *error);
