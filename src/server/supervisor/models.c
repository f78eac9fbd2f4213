/* A model's life: stopped, starting, ready, failed; and the new version that takes over from the old one. All
 * decisions are made on the supervisor's one thread, a step at a time. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "model/directory.h"
#include "base/text.h"
#include "server/supervisor/supervisor_private.h"

#define START_SECONDS 120         /* a start that takes longer has failed */
#define UNHEALTHY_SECONDS 15      /* unhealthy for this long: the process is killed */
#define STEADY_SECONDS 60         /* after this long a crash no longer counts towards the backoff */
#define REPEAT_NS (3 * SECOND_NS) /* a model that cannot be loaded is not retried sooner */
#define BACKOFF_MOST_NS (30 * SECOND_NS)
#define LOOK_NS SECOND_NS
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

/* Fail the requests that wait for the model, with the reason. */
static void waiting_fail(struct supervisor *supervisor, struct supervised *model) {
    struct error error;
    error_set(&error, ERROR_UNAVAILABLE, "model \"%s\" cannot be loaded: %s", model->name, model->reason);

    pthread_mutex_lock(&supervisor->lock);
    model->wanted = false;
    pthread_mutex_unlock(&supervisor->lock);

    gateway_model_fail(supervisor->gateway, model->name, &error);
}

/* ---- Memory ---- */

static int64_t need_estimate(const struct supervised *model) {
    return model->memory ? model->memory : model->bytes + model->bytes / 2 + (32 << 20);
}

/* Bytes that all processes take; one that is starting counts with its estimate. */
static int64_t memory_sum(const struct supervisor *supervisor) {
    int64_t sum = 0;

    for (size_t i = 0; i < supervisor->model_count; i++) {
        const struct supervised *model = supervisor->models[i];
        if (model->current.pid && model->state == MODEL_READY)
            sum += model->memory;
        else if (model->current.pid)
            sum += need_estimate(model);
        if (model->next.pid)
            sum += need_estimate(model);
    }

    for (size_t i = 0; i < supervisor->leaving_count; i++)
        sum += process_memory(supervisor->leaving[i].pid);
    return sum;
}

/* ---- Metrics ---- */

/* Fetch the metrics of the model's process. Called without `lock`: only this thread starts and ends the
 * process. */
static void metrics_fetch(struct supervisor *supervisor, struct supervised *model) {
    /* The supervisor counts these itself, over all of the model's processes. */
    static const char *const own[] = {"guichet_model_ready", "guichet_model_loads_total", NULL};
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

static void model_stop(struct supervisor *supervisor, struct supervised *model) {
    metrics_close(supervisor, model, true);
    gateway_model_stop(supervisor->gateway, model->name);
    process_leave(supervisor, &model->current);
    process_leave(supervisor, &model->next);
    state_set(supervisor, model, MODEL_STOPPED, "");
}

/* Stop the least recently used model that is idle. False if all are busy. */
static bool evict_one(struct supervisor *supervisor, const struct supervised *keep) {
    struct supervised *oldest = NULL;
    int64_t oldest_ns = INT64_MAX;

    for (size_t i = 0; i < supervisor->model_count; i++) {
        struct supervised *model = supervisor->models[i];
        struct gateway_usage usage;
        if (model == keep || model->state != MODEL_READY || model->next.pid ||
            !gateway_model_usage(supervisor->gateway, model->name, &usage) || usage.outstanding > 0)
            continue;
        int64_t used = usage.last_used > model->ready_ns ? usage.last_used : model->ready_ns;
        if (used < oldest_ns) {
            oldest = model;
            oldest_ns = used;
        }
    }

    if (!oldest)
        return false;

    fprintf(stderr, "guichet: %s makes room\n", oldest->name);
    pthread_mutex_lock(&supervisor->lock);
    oldest->evictions++;
    pthread_mutex_unlock(&supervisor->lock);
    model_stop(supervisor, oldest);
    return true;
}

/* Whether the model fits under the memory cap. If not, start an eviction unless one is under way. */
static bool memory_admits(struct supervisor *supervisor, const struct supervised *model) {
    int64_t cap = supervisor->options->memory;
    if (cap == 0 || memory_sum(supervisor) + need_estimate(model) <= cap)
        return true;

    bool others = supervisor->leaving_count > 0;
    for (size_t i = 0; i < supervisor->model_count; i++)
        others |= supervisor->models[i] != model && supervisor->models[i]->current.pid != 0;

    if (!others)
        return true; /* the only model: its estimate may be wrong */

    if (supervisor->leaving_count == 0)
        evict_one(supervisor, model);
    return false;
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

    if (supervisor->options->memory && supervisor->leaving_count == 0 &&
        memory_sum(supervisor) > supervisor->options->memory)
        evict_one(supervisor, NULL);
}

/* ---- Starting and ending ---- */

static void start(struct supervisor *supervisor, struct supervised *model, struct process *process) {
    struct error error;
    if (process_start(supervisor, process, model->name, model->path, &error)) {
        if (process == &model->current)
            state_set(supervisor, model, MODEL_STARTING, "");
        return;
    }

    fprintf(stderr, "guichet: %s\n", error.message);
    model->crashes++;
    backoff_set(model, false);
    state_set(supervisor, model, MODEL_FAILED, error.message);
    waiting_fail(supervisor, model);
}

static void became_ready(struct supervisor *supervisor, struct supervised *model) {
    struct error error;
    int64_t memory = process_memory(model->current.pid);
    char precision[16];
    process_precision(&model->current, precision);

    pthread_mutex_lock(&supervisor->lock);
    model->wanted = false;
    model->loads++;
    memcpy(model->precision, precision, sizeof precision);
    model->memory = memory ? memory : model->memory;
    model->ready_ns = clock_ns();
    model->unhealthy_ns = 0;
    pthread_mutex_unlock(&supervisor->lock);

    state_set(supervisor, model, MODEL_READY, "");
    fprintf(stderr, "guichet: %s is ready after %.2f s\n", model->name,
            (double)(model->ready_ns - model->current.started_ns) / 1e9);

    if (!gateway_model_start(supervisor->gateway, model->name, model->current.port, &error))
        fprintf(stderr, "guichet: %s\n", error.message);
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

    fprintf(stderr, "guichet: %s: its files are being written; it is loaded when they are whole\n",
            model->name);
    state_set(supervisor, model, MODEL_STOPPED, reason);
    return true;
}

/* The current process, starting or serving, ended by itself. */
static void ended(struct supervisor *supervisor, struct supervised *model, int status) {
    static const char said_by[] = "guichet backend: ";
    char reason[420];

    if (WIFSIGNALED(status))
        snprintf(reason, sizeof reason, "its process was ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (model->state != MODEL_READY && model->current.last_line[0])
        snprintf(reason, sizeof reason, "%s",
                 model->current.last_line + (strncmp(model->current.last_line, said_by, strlen(said_by)) == 0
                                                 ? strlen(said_by)
                                                 : 0));
    else
        snprintf(reason, sizeof reason, "its process ended with status %d", WEXITSTATUS(status));

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
        struct gateway_usage usage = {0};
        gateway_model_stop(supervisor->gateway, model->name);
        gateway_model_usage(supervisor->gateway, model->name, &usage);
        fprintf(stderr, "guichet: %s crashed: %s\n", model->name, reason);
        state_set(supervisor, model, MODEL_STOPPED, reason);
        pthread_mutex_lock(&supervisor->lock);
        model->wanted = true; /* it was in use: start it again without being asked */
        pthread_mutex_unlock(&supervisor->lock);
    } else if (!wait_for_files(supervisor, model, reason)) {
        fprintf(stderr, "guichet: %s cannot be loaded: %s\n", model->name, reason);
        if (model->retry_ns < clock_ns() + REPEAT_NS)
            model->retry_ns = clock_ns() + REPEAT_NS;
        state_set(supervisor, model, MODEL_FAILED, reason);
        waiting_fail(supervisor, model);
    }
}

static void next_ended(struct supervisor *supervisor, struct supervised *model) {
    char reason[460];
    snprintf(reason, sizeof reason, "the new version cannot be loaded, the old one keeps serving: %s",
             model->next.last_line[0] ? model->next.last_line : "its process ended");

    fprintf(stderr, "guichet: %s: %s\n", model->name, reason);
    process_close(&model->next);
    state_set(supervisor, model, model->state, reason);
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
            next_ended(supervisor, model);
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

static void step_ready(struct supervisor *supervisor, struct supervised *model, bool wanted, bool unload) {
    struct gateway_usage usage = {0};
    struct error error;
    int64_t now = clock_ns();

    if (model->next.pid)
        step_next(supervisor, model);

    if (wanted) { /* asked for just before it became ready */
        pthread_mutex_lock(&supervisor->lock);
        model->wanted = false;
        pthread_mutex_unlock(&supervisor->lock);
        gateway_model_start(supervisor->gateway, model->name, model->current.port, &error);
    }

    gateway_model_usage(supervisor->gateway, model->name, &usage);
    int64_t used = usage.last_used > model->ready_ns ? usage.last_used : model->ready_ns;
    bool idle = supervisor->options->idle_seconds > 0 && !supervisor->options->preload &&
                usage.outstanding == 0 && (double)(now - used) / 1e9 > supervisor->options->idle_seconds;

    if (idle)
        fprintf(stderr, "guichet: stopping %s: idle\n", model->name);
    if (idle || unload) {
        model_stop(supervisor, model);
        return;
    }

    if (usage.healthy)
        model->unhealthy_ns = 0;
    else if (model->unhealthy_ns == 0)
        model->unhealthy_ns = now;
    else if (now - model->unhealthy_ns > UNHEALTHY_SECONDS * SECOND_NS) {
        fprintf(stderr, "guichet: %s does not answer; ending it\n", model->name);
        kill(model->current.pid, SIGKILL);
    }
}

void supervisor_step(struct supervisor *supervisor, struct supervised *model) {
    process_read(&model->current, model->name);
    process_read(&model->next, model->name);

    pthread_mutex_lock(&supervisor->lock);
    bool wanted = model->wanted, unload = model->unload;
    model->unload = false;
    pthread_mutex_unlock(&supervisor->lock);

    switch (model->state) {
    case MODEL_STARTING:
        step_starting(supervisor, model);
        break;
    case MODEL_READY:
        step_ready(supervisor, model, wanted, unload);
        break;
    case MODEL_FAILED:
        if (wanted && clock_ns() < model->retry_ns) {
            waiting_fail(supervisor, model);
            break;
        }
        /* fall through */
    case MODEL_STOPPED:
        if ((wanted || (supervisor->options->preload && model->crashes < 5)) &&
            clock_ns() >= model->retry_ns && !supervisor->ending && !is_unsettled(model) &&
            memory_admits(supervisor, model))
            start(supervisor, model, &model->current);
        break;
    }
}

/* ---- The folders ---- */

struct supervised *supervisor_find(struct supervisor *supervisor, const char *name) {
    for (size_t i = 0; i < supervisor->model_count; i++)
        if (strcmp(supervisor->models[i]->name, name) == 0)
            return supervisor->models[i];
    return NULL;
}

static void model_add(struct supervisor *supervisor, const char *name, char *path, uint64_t bytes,
                      const struct model_folder *folder) {
    struct supervised *model = calloc(1, sizeof *model);

    pthread_mutex_lock(&supervisor->lock);
    struct supervised **models =
        model ? realloc(supervisor->models, (supervisor->model_count + 1) * sizeof *models) : NULL;

    if (models) {
        supervisor->models = models;
        models[supervisor->model_count++] = model;
        text_copy(model->name, sizeof model->name, name);
        model->path = path;
        model->bytes = (int64_t)bytes;
        model->folder = strdup(folder->path);
        model->stamp = model->stamp_seen = folder->stamp;
        model->present = true;
        model->current.output = model->next.output = -1;
    }
    pthread_mutex_unlock(&supervisor->lock);

    if (!models || !gateway_model_add(supervisor->gateway, name)) {
        fprintf(stderr, "guichet: model \"%s\": out of memory\n", name);
        if (!models) {
            free(model);
            free(path);
        }
    }
}

/* The files changed and have been stable for one scan. */
static void model_changed(struct supervisor *supervisor, struct supervised *model) {
    fprintf(stderr, "guichet: %s has changed\n", model->name);
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

static void model_seen(struct supervisor *supervisor, const char *name, char *path, uint64_t bytes,
                       const struct model_folder *folder) {
    struct supervised *model = supervisor_find(supervisor, name);

    if (!model) {
        model_add(supervisor, name, path, bytes, folder);
        return;
    }

    bool first = !model->present; /* of two folders of one name, the first counts */
    model->present = true;

    if (first && strcmp(model->path, path) == 0) {
        bool settled = folder->stamp == model->stamp_seen;
        model->stamp_seen = folder->stamp;
        if (folder->stamp == model->stamp)
            model->unsettled_ns = 0;
        else if (!model->unsettled_ns)
            model->unsettled_ns = clock_ns();

        if (folder->stamp != model->stamp && settled) {
            model->stamp = folder->stamp;
            model->unsettled_ns = 0;
            pthread_mutex_lock(&supervisor->lock);
            model->bytes = (int64_t)bytes;
            pthread_mutex_unlock(&supervisor->lock);
            model_changed(supervisor, model);
        }
    }
    free(path);
}

static void folder_seen(struct supervisor *supervisor, const struct model_folder *folder) {
    char name[sizeof((struct supervised *)0)->name];

    for (size_t v = 0; v <= folder->variant_count; v++) {
        const char *variant = v ? folder->variants[v - 1].name : NULL;
        char *path = NULL;
        int length =
            snprintf(name, sizeof name, "%s%s%s", folder->name, variant ? ":" : "", variant ? variant : "");
        if (length >= (int)sizeof name || !model_name_valid(name, (size_t)length) ||
            asprintf(&path, "%s%s%s", folder->path, variant ? ":" : "", variant ? variant : "") < 0)
            continue;

        model_seen(supervisor, name, path, v ? folder->variants[v - 1].bytes : folder->bytes, folder);
    }
}

static void models_gone_remove(struct supervisor *supervisor) {
    for (size_t i = supervisor->model_count; i-- > 0;) {
        struct supervised *model = supervisor->models[i];
        if (model->present)
            continue;

        fprintf(stderr, "guichet: %s is gone\n", model->name);
        gateway_model_remove(supervisor->gateway, model->name);
        process_leave(supervisor, &model->current);
        process_leave(supervisor, &model->next);

        pthread_mutex_lock(&supervisor->lock);
        metrics_merge_forget(supervisor->metrics, model);
        memmove(&supervisor->models[i], &supervisor->models[i + 1],
                (supervisor->model_count - i - 1) * sizeof supervisor->models[0]);
        supervisor->model_count--;
        pthread_mutex_unlock(&supervisor->lock);

        supervised_free(model);
    }
}

void supervisor_look(struct supervisor *supervisor) {
    if (clock_ns() < supervisor->look_ns)
        return;
    supervisor->look_ns = clock_ns() + LOOK_NS;

    bool complete = true;
    for (size_t i = 0; i < supervisor->model_count; i++)
        supervisor->models[i]->present = false;

    for (const char *const *directory = supervisor->options->directories; *directory; directory++) {
        struct model_folder_list list = {0};
        struct error error;
        if (!model_directory_list(*directory, &list, &error)) {
            if (!supervisor->shown_failed_look)
                fprintf(stderr, "guichet: %s\n", error.message);
            supervisor->shown_failed_look = true;
            complete = false;
            continue;
        }

        for (size_t i = 0; i < list.count; i++)
            folder_seen(supervisor, &list.folders[i]);
        model_folder_list_release(&list);
    }

    if (complete)
        models_gone_remove(supervisor);
}
