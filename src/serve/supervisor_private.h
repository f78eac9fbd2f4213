/* What the supervisor's files share. Nobody else includes this. */
#pragma once
#include <pthread.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "serve/figures.h"
#include "serve/frontend.h"
#include "serve/gateway.h"
#include "serve/supervisor.h"

#define SECOND_NS 1000000000ll

/* A child: `guichet backend` of one model. pid 0: none. */
struct process {
    pid_t pid;
    int port;
    int output; /* read end of what it writes, -1: none */
    int64_t started_ns;
    int64_t kill_ns; /* leaving: when patience ends */
    char line[320];  /* what it wrote last; a part of a line until its end came */
    size_t line_length;
    char last_line[320];
};

enum model_state { MODEL_STOPPED, MODEL_STARTING, MODEL_READY, MODEL_FAILED };

struct supervised {
    char name[128];
    char *path;           /* for --model: the folder, with ":variant" behind it where there is one */
    int64_t bytes;        /* of its folder */
    int64_t changed;      /* stamp of the folder's files, as model_folder has it … */
    int64_t changed_seen; /* … and as the last look found it: a change counts once it has settled */
    bool present;         /* the folder is there (used within a look) */
    enum model_state state;
    char reason[480];       /* why it failed, or why its new version does */
    struct process current; /* serving, or starting */
    struct process next;    /* the new version, starting while the old one serves */
    bool wanted, unload;    /* set by the gateway's threads */
    int crashes;            /* in a row */
    int64_t retry_ns;       /* not started again before */
    int64_t ready_ns, unhealthy_ns;
    char precision[16]; /* as its process said when it was last ready; "" before */
    int64_t memory;     /* bytes, as last measured; kept when it ends, as the estimate for the next time */
    uint64_t loads, evictions, crashed;
    int64_t figures_ns; /* when its process was last asked for its figures */
};

struct supervisor {
    const struct supervisor_options *options;
    struct http_loops *loops;
    struct gateway *gateway;
    struct frontend *frontend;
    int wake;             /* eventfd: something to do */
    int signals;          /* signalfd */
    pthread_mutex_t lock; /* guards `models` and what is in them against the gateway's threads */
    struct supervised **models;
    size_t model_count;
    struct figures *figures; /* of the models' processes, those that ended included (under `lock`) */
    struct process *leaving; /* told to end */
    size_t leaving_count;
    int64_t look_ns, measure_ns; /* when the folders, the memory are looked at next */
    bool ending;
    bool shown_failed_look;
};

/* supervisor_process.c */
bool process_start(struct process *process, const struct supervisor_options *options, const char *name,
                   const char *path, struct error *error);
/* It answers /readyz with 200. At most a few milliseconds. */
bool process_is_ready(const struct process *process);
/* The precision that it says it runs in; "" where it does not. */
void process_precision(const struct process *process, char ret[16]);
/* Its /metrics into `text` (empty before). False where it does not say all of it within a few milliseconds.
 */
bool process_figures(const struct process *process, struct buffer *text);
/* Reads what it wrote, passes it on with the model's name before each line, and keeps the last. */
void process_read(struct process *process, const char *name);
/* Bytes that it takes, its share of what is mapped by several; 0 where that cannot be known. */
int64_t process_memory(pid_t pid);
/* Asks it to end and forgets it; supervisor_reap sees to the rest. */
void process_leave(struct supervisor *supervisor, struct process *process);

/* supervisor_models.c: under no lock; each takes it where it must. */
void supervisor_look(struct supervisor *supervisor);    /* at the folders */
void supervisor_measure(struct supervisor *supervisor); /* memory and figures */
void supervisor_reap(struct supervisor *supervisor);    /* children that ended */
void supervisor_step(struct supervisor *supervisor, struct supervised *model);
void supervised_free(struct supervised *model);
