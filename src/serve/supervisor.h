/* Everything on one machine: a gateway, a frontend, and a process of its own for each model, over loopback.
 *
 * Gateway and frontend run in the supervisor's process: they read no model and no image, and the gateway's
 * count of who is busy is what the decisions here (idle, eviction, swap) rest upon, without a protocol
 * between processes. Models run in children, which die with this process: one that crashes takes nobody with
 * it, and one that ends gives back every byte. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "serve/access_log.h"
#include "serve/session.h"

/* Strings are borrowed while supervisor_run runs. */
struct supervisor_options {
    const char *const *directories;       /* NULL-terminated: folders of model folders, watched */
    const char *const *addresses;         /* NULL-terminated; NULL: 127.0.0.1 */
    int port;                             /* 0: any free one */
    double idle_seconds;                  /* a model that nobody asked for so long ends; 0: never */
    bool preload;                         /* start every model at once, and again when it ended by a crash */
    long long memory;                     /* bytes that all models together may take; 0: no cap */
    const char *const *backend_arguments; /* NULL-terminated; more words for each `guichet backend` */
    const char *backend_program;          /* run in place of this program; NULL: none */
    const char *default_model;            /* NULL: "animals" where there is one, else the first */
    const char *api_keys_file, *cors;
    double rate, burst;
    const char *tls_certificate, *tls_key;
    enum access_log access_log;
    int threads;
    struct session_keys keys;
    const char
        *session_key_file; /* read again on SIGHUP, as the API keys and TLS files are; NULL: the keys stay */
};

/* Serves until SIGINT or SIGTERM, which must be blocked in every thread (with SIGHUP and SIGCHLD), and then
 * ends all of it in order. To be called on the thread that lives as long as the process. False when it could
 * not begin. */
bool supervisor_run(const struct supervisor_options *options, struct error *error);
