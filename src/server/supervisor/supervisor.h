/* Everything on one machine: one server with sessions and balancing, and one process per model, reached over
 * loopback.
 *
 * Sessions and gateway run in the supervisor's process: they parse no models or images, and decisions here
 * (idle, eviction, swap) use the gateway's request counts directly, without a protocol between processes.
 * Models run in child processes, which die with this process: a crash is contained, and a model that is
 * stopped returns all of its memory. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "engine/engine.h"
#include "server/edge/server.h"
#include "server/edge/session.h"

/* Strings are borrowed while supervisor_run runs. */
struct supervisor_options {
    const char *const *directories; /* NULL-terminated: folders of model folders, watched */
    struct server_options server;   /* of the public server: addresses (NULL: 127.0.0.1), port, TLS, links */
    double idle_seconds;            /* stop a model without requests for this long; 0: never */
    bool preload;                   /* start every model at once, and again when it ended by a crash */
    long long memory;               /* bytes that all models together may take; 0: no cap */
    bool explicit_control;          /* models change and come only with a load, and go with an unload */
    double patience_seconds;        /* so long a request waits for memory before a busy model makes room */
    int timeout_ms;                 /* of a request, the start of its model included; 0: 60000 */
    int queue_limit;                /* requests at a model at once; 0: 256 */
    int context, parallel;          /* of language models, as their processes are told; 0: not said */
    const char *kv;
    enum precision precision;
    const char *const *backend_arguments; /* NULL-terminated; extra arguments of each `guichet backend` */
    const char *backend_program;          /* run in place of this program; NULL: none */
    const char *control_address;          /* "ADDRESS:PORT" of the control listener; NULL: none */
    const char *default_model;            /* NULL: "animals" where there is one, else the first */
    int threads;
    struct session_keys keys;
    const char
        *session_key_file; /* read again on SIGHUP, as the API keys and TLS files are; NULL: the keys stay */
};

/* Serve until SIGINT or SIGTERM, then shut down in order. The caller must have blocked both signals, SIGHUP
 * and SIGCHLD in every thread, and call this on the thread that lives as long as the process (children die
 * with it). False if it could not start. */
bool supervisor_run(const struct supervisor_options *options, struct error *error);
