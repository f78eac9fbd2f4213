/* Shared by the files of supervisor/; not for other rooms. */
#pragma once
#include <pthread.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "model/name.h"
#include "server/supervisor/metrics_merge.h"
#include "server/edge/server.h"
#include "server/frontend/frontend.h"
#include "server/gateway/gateway.h"
#include "server/supervisor/child_client.h"
#include "server/supervisor/supervisor.h"

#define SECOND_NS 1000000000ll

/* A child: `guichet backend` of one model. pid 0: none. */
struct process {
    pid_t pid;
    int port;
    struct child_client *client;
    int output; /* read end of what it writes, -1: none */
    int64_t started_ns;
    bool served;     /* it has been ready */
    int64_t kill_ns; /* leaving: when SIGKILL is sent */
    char line[320];  /* the line being read from `output` */
    size_t line_length;
    char last_line[320];
};

enum model_state { MODEL_STOPPED, MODEL_STARTING, MODEL_READY, MODEL_FAILED };

struct supervised {
    char name[MODEL_NAME_BYTES];
    char *path;           /* for --model: the folder, followed by ":variant" if there is one */
    int64_t bytes;        /* of its folder */
    char *folder;         /* … and without the variant */
    uint64_t stamp;       /* of the folder's files (model_folder_stamp) … */
    uint64_t stamp_seen;  /* … and as the last look found it: a change counts once it has settled */
    int64_t unsettled_ns; /* since when they differ; 0: they do not */
    bool present;         /* the folder is there (used within a look) */
    enum model_state state;
    char reason[480];       /* why it failed, or why its new version does */
    unsigned failures;      /* to load, its new versions' included … */
    struct error failure;   /* … and the last of them, for who asked for it */
    struct process current; /* serving, or starting */
    struct process next;    /* the new version, starting while the old one serves */
    bool out_of_service;    /* unloaded, until it is loaded again */
    bool asked;             /* it is to be loaded as its files are now (used within a look) */
    int64_t waiting_ns;     /* since when a request waits for it to start; 0: none does */
    bool restart;           /* it crashed while it was in use */
    int crashes;            /* in a row */
    int64_t retry_ns;       /* not restarted before */
    int64_t ready_ns, unhealthy_ns;
    char precision[16];           /* as its process said when it was last ready; "" before */
    struct model_meaning meaning; /* likewise */
    int64_t need;   /* bytes that a language model may come to take; 0: not known, or it is none */
    int64_t memory; /* bytes, as last measured; kept when it ends, as the estimate for the next time */
    uint64_t loads, evictions, crashed;
    int64_t metrics_ns; /* when its metrics were last fetched */
};

struct supervisor {
    const struct supervisor_options *options;
    struct http_loops *loops;
    struct gateway *gateway;
    struct frontend *frontend;
    struct server *server;
    struct server *control; /* NULL: no control listener */
    int wake;               /* eventfd: something to do */
    int signals;            /* signalfd */
    pthread_mutex_t lock;   /* guards `models` and what is in them against the gateway's threads */
    struct supervised **models;
    size_t model_count;
    struct metrics_merge *metrics; /* of the models' processes, ended ones included (under `lock`) */
    struct process *leaving;       /* told to end */
    size_t leaving_count;
    int64_t look_ns, measure_ns; /* when the folders, the memory are looked at next */
    bool ending;
    bool looked, shown_failed_look;
    struct change *changes; /* asked for and not done; under `lock` */
    bool has_changes;
};

/* process.c */
bool process_start(struct supervisor *supervisor, struct process *process, const char *name, const char *path,
                   struct error *error);
/* Forget a process that has ended. */
void process_close(struct process *process);
/* What the process reports of its model: precision and meaning; "" if it does not answer in time. */
void process_describe(const struct process *process, char ret[16], struct model_meaning *ret_meaning);
/* Copy the process's output to standard error, each line prefixed with the model's name; keep the last line.
 */
void process_read(struct process *process, const char *name);
/* Proportional set size in bytes; 0 if it cannot be read. */
int64_t process_memory(pid_t pid);
/* Have the process end, once it has finished its requests, and move it to `leaving`; supervisor_reap does the
 * rest. */
void process_leave(struct supervisor *supervisor, struct process *process);

/* models.c: called without the lock; each function takes it where needed. */
void supervisor_ask(struct supervisor *supervisor);     /* the gateway, who waits for what */
void supervisor_measure(struct supervisor *supervisor); /* memory and metrics */
void supervisor_reap(struct supervisor *supervisor);    /* collect ended children */
void supervisor_step(struct supervisor *supervisor, struct supervised *model);
/* Its files have changed, and have settled: load the new version, beside the old one while that serves. */
void supervised_reload(struct supervisor *supervisor, struct supervised *model);
/* It does not run, and nothing but memory keeps it from starting. */
bool supervised_may_start(const struct supervisor *supervisor, const struct supervised *model);
/* Its processes end once they have finished what they have; new requests wait for the next one. */
void supervised_stop(struct supervisor *supervisor, struct supervised *model);
void supervised_free(struct supervised *model);

/* need.c */
/* What it takes, before it starts. False where that is more than --memory. */
bool supervised_find_need(const struct supervisor *supervisor, struct supervised *model, struct error *error);

/* memory.c */
/* Whether the model may start under the cap. If not, and somebody waits for it, room is being made. */
bool supervisor_admits(struct supervisor *supervisor, const struct supervised *model);
/* Where the models have grown beyond the cap, stop one of them. */
void supervisor_keep_cap(struct supervisor *supervisor);

/* changes.c */
/* Any thread. False when memory is out. */
bool supervisor_add_change(struct supervisor *supervisor, struct gateway_change *asked);
/* Begin what was asked for, and answer what is done. */
void supervisor_continue_changes(struct supervisor *supervisor);

/* folders.c */
void supervisor_look(struct supervisor *supervisor); /* scan the model folders */
/* NULL if there is no such model. Lock held, or on the supervisor's thread. */
struct supervised *supervisor_find(struct supervisor *supervisor, const char *name);
