/* A model's life: stopped, starting, ready, failed; and the new version that takes over from the old one. All
 * decisions are made on the supervisor's one thread, a step at a time. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "model/directory.h"
#include "base/text.h"
#include "server/supervisor/supervisor_private.h"

#define START_SECONDS 120         /* a start that takes longer has failed */
#define UNHEALTHY_SECONDS 15      /* unhealthy for this long: the process is killed */
#define STEADY_SECONDS 60         /* after this long a crash no longer counts towards the backoff */
#define REPEAT_NS (3 * SECOND_NS) /* a model that cannot be loaded is not retried sooner */
#define BACKOFF_MOST_NS (30 * SECOND_NS)
#define UNSETTLED_MOST_NS (15 * SECOND_NS) /* so long a start waits for files that are being written */
#define METRICS_WAIT_MS 100                /* enough for a process on a busy machine */

void supervised_free(struct supervised *model) {
    free(model->path);
    free(model->folder);
    free(model);
}

static void state_set(struct supervisor *supervisor, struct supervised *model, enum model_state state,
                      const char *reason) {
    pthread_mutex_lock(&supervisor->lock);
    model->state = state;
    text_copy(model->reason, sizeof model->reason, reason);
    pthread_mutex_unlock(&supervisor->lock);
}

static void backoff_set(struct supervised *model, bool at_once) {
    int doublings = model->crashes < 8 ? model->crashes : 8;
    int64_t pause = (SECOND_NS / 4) << doublings;
    model->retry_ns = at_once ? 0 : clock_ns() + (pause < BACKOFF_MOST_NS ? pause : BACKOFF_MOST_NS);
}

static void failure_set(struct supervised *model, enum error_code code, const char *what,
                        const char *reason) {
    model->failures++;
    error_set(&model->failure, code, "model \"%s\" %s: %s", model->name, what, reason);
}

/* Fail the requests that wait for the model, with the reason. */
static void waiting_fail(struct supervisor *supervisor, const struct supervised *model) {
    gateway_model_fail(supervisor->gateway, model->name, &model->failure);
}

/* Fail the requests for a model that was unloaded. */
static void waiting_refuse(struct supervisor *supervisor, const struct supervised *model) {
    struct error error;

    error_set(&error, ERROR_NOT_FOUND,
              "model \"%s\" is out of service: POST /v2/repository/models/%s/load puts it into service",
              model->name, model->name);
    gateway_model_fail(supervisor->gateway, model->name, &error);
}

/* ---- Metrics ---- */

/* Fetch the metrics of the model's process. Called without `lock`: only this thread starts and ends the
 * process. */
static void metrics_fetch(struct supervisor *supervisor, struct supervised *model) {
    /* The supervisor counts these itself, over all of the model's processes, or for its own. */
    static const char *const own[] = {"guichet_model_ready", "guichet_model_loads_total",
                                      "guichet_log_dropped_total", NULL};
    struct buffer text = {0};
    int64_t asked_ns = clock_ns();

    if (child_client_get(model->current.client, "/metrics", METRICS_WAIT_MS, &text)) {
        model->metrics_ns = asked_ns; /* otherwise they are fetched again */
        pthread_mutex_lock(&supervisor->lock);
        metrics_merge_read(supervisor->metrics, model, text.bytes, text.size, own);
        pthread_mutex_unlock(&supervisor->lock);
    }
    buffer_release(&text);
}

/* The process has ended, or (`alive`) is about to be told to: then its last metrics are fetched first. */
static void metrics_close(struct supervisor *supervisor, struct supervised *model, bool alive) {
    if (alive && model->current.pid && model->state == MODEL_READY)
        metrics_fetch(supervisor, model);

    pthread_mutex_lock(&supervisor->lock);
    metrics_merge_close(supervisor->metrics, model);
    pthread_mutex_unlock(&supervisor->lock);
}

/* Skip models without requests since their metrics were last fetched. */
static void metrics_refresh(struct supervisor *supervisor, struct supervised *model) {
    struct gateway_usage usage;

    if (model->state == MODEL_READY && gateway_model_usage(supervisor->gateway, model->name, &usage) &&
        (usage.outstanding > 0 || usage.last_used >= model->metrics_ns ||
         model->ready_ns >= model->metrics_ns))
        metrics_fetch(supervisor, model);
}

void supervised_stop(struct supervisor *supervisor, struct supervised *model) {
    bool runs = model->state == MODEL_STARTING || model->state == MODEL_READY;

    metrics_close(supervisor, model, true);
    gateway_model_stop(supervisor->gateway, model->name);
    process_leave(supervisor, &model->current);
    process_leave(supervisor, &model->next);
    model->restart = false;
    if (runs)
        state_set(supervisor, model, MODEL_STOPPED, "");
}

void supervisor_measure(struct supervisor *supervisor) {
    if (clock_ns() < supervisor->measure_ns)
        return;
    supervisor->measure_ns = clock_ns() + SECOND_NS;

    for (size_t i = 0; i < supervisor->model_count; i++) {
        struct supervised *model = supervisor->models[i];
        int64_t memory = model->state == MODEL_READY ? process_memory(model->current.pid) : 0;
        pthread_mutex_lock(&supervisor->lock);
        if (memory)
            model->memory = memory;
        pthread_mutex_unlock(&supervisor->lock);
        metrics_refresh(supervisor, model);
    }

    supervisor_keep_cap(supervisor);
}

/* ---- Starting and ending ---- */

static void start(struct supervisor *supervisor, struct supervised *model, struct process *process) {
    struct error error;
    model->restart = false;
    if (process_start(supervisor, process, model->name, model->path, &error)) {
        if (process == &model->current)
            state_set(supervisor, model, MODEL_STARTING, "");
        return;
    }

    log_line("guichet: %s", error.message);
    model->crashes++;
    backoff_set(model, false);
    state_set(supervisor, model, MODEL_FAILED, error.message);
    failure_set(model, ERROR_UNAVAILABLE, "cannot be loaded", error.message);
    waiting_fail(supervisor, model);
}

/* It takes more memory than all models together may. */
static void refuse_start(struct supervisor *supervisor, struct supervised *model,
                         const struct error *reason) {
    log_line("guichet: %s: %s", model->name, reason->message);
    model->restart = false;
    model->crashes++;
    model->retry_ns = clock_ns() + REPEAT_NS;
    state_set(supervisor, model, MODEL_FAILED, reason->message);
    failure_set(model, ERROR_LOAD, "cannot be loaded", reason->message);
    waiting_fail(supervisor, model);
}

void supervised_reload(struct supervisor *supervisor, struct supervised *model) {
    log_line("guichet: %s has changed; loading the new version", model->name);
    model->crashes = 0;
    model->retry_ns = 0;

    if (model->state == MODEL_READY) {
        process_leave(supervisor, &model->next);
        start(supervisor, model, &model->next);
    } else if (model->state == MODEL_STARTING) {
        process_leave(supervisor, &model->current);
        start(supervisor, model, &model->current);
    } else {
        state_set(supervisor, model, MODEL_STOPPED, "");
    }
}

static void became_ready(struct supervisor *supervisor, struct supervised *model) {
    struct error error;
    int64_t memory = process_memory(model->current.pid);
    char precision[16];
    struct model_meaning meaning;
    process_describe(&model->current, precision, &meaning);

    pthread_mutex_lock(&supervisor->lock);
    model->loads++;
    model->current.served = true;
    memcpy(model->precision, precision, sizeof precision);
    if (!meaning.kind[0]) /* it did not answer in time: what the folder told counts */
        memcpy(meaning.kind, model->meaning.kind, sizeof meaning.kind);
    model->meaning = meaning;
    model->memory = memory ? memory : model->memory;
    model->ready_ns = clock_ns();
    model->unhealthy_ns = 0;
    pthread_mutex_unlock(&supervisor->lock);

    state_set(supervisor, model, MODEL_READY, "");
    log_line("guichet: %s is ready after %.2f s", model->name,
             (double)(model->ready_ns - model->current.started_ns) / 1e9);

    if (!gateway_model_start(supervisor->gateway, model->name, model->current.port, &error))
        log_line("guichet: %s", error.message);
}

/* Somebody is writing the model's files: a start may read half of them. */
static bool is_unsettled(const struct supervised *model) {
    return model->unsettled_ns && clock_ns() - model->unsettled_ns < UNSETTLED_MOST_NS;
}

/* It could not be loaded, and its files were changed meanwhile: who waits for it goes on waiting, until they
 * have settled. False: the files are not the reason. */
static bool wait_for_files(struct supervisor *supervisor, struct supervised *model, const char *reason) {
    if (!model->folder || model_folder_stamp(model->folder) == model->stamp)
        return false;
    if (!model->unsettled_ns)
        model->unsettled_ns = clock_ns();
    if (!is_unsettled(model))
        return false;

    log_line("guichet: %s: its files are being written; it will be loaded when they are complete",
             model->name);
    state_set(supervisor, model, MODEL_STOPPED, reason);
    return true;
}

/* Why a process ended: what it said last, where it ended while it was loading. ERROR_LOAD: it found its files
 * wrong; ERROR_UNAVAILABLE: it may be another time. */
static enum error_code end_explain(const struct process *process, int status, char ret[420]) {
    static const char said_by[] = "guichet backend: ";
    const char *line = process->last_line;

    if (WIFSIGNALED(status)) {
        snprintf(ret, 420, "its process was ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
        return ERROR_UNAVAILABLE;
    }
    if (!process->served && line[0])
        snprintf(ret, 420, "%s", line + (strncmp(line, said_by, strlen(said_by)) == 0 ? strlen(said_by) : 0));
    else
        snprintf(ret, 420, "its process ended with status %d", WEXITSTATUS(status));
    return ERROR_LOAD;
}

/* The current process, starting or serving, ended by itself. */
static void ended(struct supervisor *supervisor, struct supervised *model, int status) {
    char reason[420];
    enum error_code code = end_explain(&model->current, status, reason);

    bool served = model->state == MODEL_READY;
    bool steady = served && clock_ns() - model->ready_ns > STEADY_SECONDS * SECOND_NS;

    metrics_close(supervisor, model, false);
    process_close(&model->current);
    model->crashes = steady ? 1 : model->crashes + 1;

    pthread_mutex_lock(&supervisor->lock);
    model->crashed += served;
    pthread_mutex_unlock(&supervisor->lock);

    backoff_set(model, served && model->crashes == 1);

    if (served) {
        gateway_model_stop(supervisor->gateway, model->name);
        log_line("guichet: %s crashed: %s", model->name, reason);
        state_set(supervisor, model, MODEL_STOPPED, reason);
        model->restart = true; /* it was in use: without being asked */
    } else if (!wait_for_files(supervisor, model, reason)) {
        log_line("guichet: %s cannot be loaded: %s", model->name, reason);
        if (model->retry_ns < clock_ns() + REPEAT_NS)
            model->retry_ns = clock_ns() + REPEAT_NS;
        state_set(supervisor, model, MODEL_FAILED, reason);
        failure_set(model, code, "cannot be loaded", reason);
        waiting_fail(supervisor, model);
    }
}

static void next_ended(struct supervisor *supervisor, struct supervised *model, int status) {
    char reason[420], whole[500];
    enum error_code code = end_explain(&model->next, status, reason);

    snprintf(whole, sizeof whole, "the new version cannot be loaded, the old one keeps serving: %s", reason);
    log_line("guichet: %s: %s", model->name, whole);
    process_close(&model->next);
    state_set(supervisor, model, model->state, whole);
    failure_set(model, code, "keeps serving its old version, the new one cannot be loaded", reason);
}

static void reap_one(struct supervisor *supervisor, pid_t pid, int status) {
    for (size_t i = 0; i < supervisor->model_count; i++) {
        struct supervised *model = supervisor->models[i];
        if (model->current.pid == pid) {
            process_read(&model->current, model->name);
            ended(supervisor, model, status);
            return;
        }
        if (model->next.pid == pid) {
            process_read(&model->next, model->name);
            next_ended(supervisor, model, status);
            return;
        }
    }

    for (size_t i = 0; i < supervisor->leaving_count; i++)
        if (supervisor->leaving[i].pid == pid) {
            process_close(&supervisor->leaving[i]);
            supervisor->leaving[i] = supervisor->leaving[--supervisor->leaving_count];
            return;
        }
}

void supervisor_reap(struct supervisor *supervisor) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        reap_one(supervisor, pid, status);

    for (size_t i = 0; i < supervisor->leaving_count; i++) {
        process_read(&supervisor->leaving[i], "ending");
        if (clock_ns() > supervisor->leaving[i].kill_ns)
            kill(supervisor->leaving[i].pid, SIGKILL);
    }
}

/* ---- One step of one model ---- */

static void step_starting(struct supervisor *supervisor, struct supervised *model) {
    if (child_client_is_ready(model->current.client))
        became_ready(supervisor, model);
    else if (clock_ns() - model->current.started_ns > START_SECONDS * SECOND_NS)
        kill(model->current.pid, SIGKILL);
}

/* When the new version is ready, route requests to it and let the old one drain. */
static void step_next(struct supervisor *supervisor, struct supervised *model) {
    if (child_client_is_ready(model->next.client)) {
        metrics_close(supervisor, model, true);
        struct process old = model->current;
        model->current = model->next;
        model->next = (struct process){.output = -1};

        became_ready(supervisor, model);
        process_leave(supervisor, &old);
    } else if (clock_ns() - model->next.started_ns > START_SECONDS * SECOND_NS) {
        kill(model->next.pid, SIGKILL);
    }
}

static void step_ready(struct supervisor *supervisor, struct supervised *model) {
    struct gateway_usage usage = {0};
    struct error error;
    int64_t now = clock_ns();

    if (model->next.pid)
        step_next(supervisor, model);
    if (model->waiting_ns) /* asked for just before it became ready */
        gateway_model_start(supervisor->gateway, model->name, model->current.port, &error);

    gateway_model_usage(supervisor->gateway, model->name, &usage);
    int64_t used = usage.last_used > model->ready_ns ? usage.last_used : model->ready_ns;
    bool idle = supervisor->options->idle_seconds > 0 && !supervisor->options->preload &&
                usage.outstanding == 0 && (double)(now - used) / 1e9 > supervisor->options->idle_seconds;

    if (idle) {
        log_line("guichet: stopping %s: idle", model->name);
        supervised_stop(supervisor, model);
        return;
    }

    if (usage.healthy)
        model->unhealthy_ns = 0;
    else if (model->unhealthy_ns == 0)
        model->unhealthy_ns = now;
    else if (now - model->unhealthy_ns > UNHEALTHY_SECONDS * SECOND_NS) {
        log_line("guichet: %s does not respond; stopping it", model->name);
        kill(model->current.pid, SIGKILL);
    }
}

void supervisor_ask(struct supervisor *supervisor) {
    for (size_t i = 0; i < supervisor->model_count; i++) {
        struct gateway_usage usage = {0};
        gateway_model_usage(supervisor->gateway, supervisor->models[i]->name, &usage);
        supervisor->models[i]->waiting_ns = usage.waiting_since;
    }
}

bool supervised_may_start(const struct supervisor *supervisor, const struct supervised *model) {
    return (model->state == MODEL_STOPPED || model->state == MODEL_FAILED) && clock_ns() >= model->retry_ns &&
           !supervisor->ending && !is_unsettled(model);
}

void supervisor_step(struct supervisor *supervisor, struct supervised *model) {
    process_read(&model->current, model->name);
    process_read(&model->next, model->name);

    if (model->state == MODEL_STARTING) {
        step_starting(supervisor, model);
        return;
    }
    if (model->state == MODEL_READY) {
        step_ready(supervisor, model);
        return;
    }
    if (model->out_of_service) {
        if (model->waiting_ns)
            waiting_refuse(supervisor, model);
        return;
    }

    struct error error;
    bool wanted = model->waiting_ns || model->restart || (supervisor->options->preload && model->crashes < 5);
    if (model->state == MODEL_FAILED && model->waiting_ns && clock_ns() < model->retry_ns)
        waiting_fail(supervisor, model);
    else if (!wanted || !supervised_may_start(supervisor, model))
        return;
    else if (!supervised_find_need(supervisor, model, &error))
        refuse_start(supervisor, model, &error);
    else if (supervisor_admits(supervisor, model))
        start(supervisor, model, &model->current);
    else if (!model->waiting_ns)
        model->restart = false; /* another model has its memory now, and no request waits for it */
}
