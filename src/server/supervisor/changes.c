/* load and unload, as callers ask for them: begun at once, and answered when they are done. On the
 * supervisor's thread, but for supervisor_add_change. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "server/supervisor/supervisor_private.h"

struct change {
    struct gateway_change *asked;
    bool begun;
    unsigned failures; /* load: of the model, before it */
    pid_t pids[2];     /* unload: the processes that are to end */
    struct change *next;
};

bool supervisor_add_change(struct supervisor *supervisor, struct gateway_change *asked) {
    struct change *change = calloc(1, sizeof *change);
    if (!change)
        return false;

    change->asked = asked;
    pthread_mutex_lock(&supervisor->lock);
    struct change **last = &supervisor->changes;
    while (*last)
        last = &(*last)->next;
    *last = change;
    pthread_mutex_unlock(&supervisor->lock);
    return true;
}

static void service_set(struct supervisor *supervisor, struct supervised *model, bool in_service) {
    pthread_mutex_lock(&supervisor->lock);
    model->out_of_service = !in_service;
    pthread_mutex_unlock(&supervisor->lock);
}

static bool fail_removed(const struct change *change, struct error *error) {
    return error_set(error, ERROR_NOT_FOUND, "there is no model \"%s\" in the folders of models",
                     change->asked->model);
}

/* The caller has written the files: they are taken as they are now, without waiting for them to settle. */
static bool begin_load(struct supervisor *supervisor, struct change *change, struct error *error) {
    struct supervised *model = supervisor_find(supervisor, change->asked->model);
    change->failures = model ? model->failures : 0;
    if (model)
        model->asked = true;
    supervisor->look_ns = 0;
    supervisor_look(supervisor);

    model = supervisor_find(supervisor, change->asked->model);
    if (!model)
        return fail_removed(change, error);

    model->asked = false;
    model->retry_ns = 0; /* asked for by name, it is tried at once */
    model->unsettled_ns = 0;
    service_set(supervisor, model, true);
    return true;
}

static bool begin_unload(struct supervisor *supervisor, struct change *change, struct error *error) {
    struct supervised *model = supervisor_find(supervisor, change->asked->model);
    if (!model)
        return fail_removed(change, error);

    change->pids[0] = model->current.pid;
    change->pids[1] = model->next.pid;
    supervised_stop(supervisor, model);
    if (supervisor->options->explicit_control) {
        service_set(supervisor, model, false);
        log_line("guichet: %s was taken out of service", model->name);
    }
    return true;
}

/* Whether a load is done; an error, too, is an end. */
static bool load_ended(struct supervisor *supervisor, const struct change *change, struct error *error) {
    const struct supervised *model = supervisor_find(supervisor, change->asked->model);

    if (!model)
        fail_removed(change, error);
    else if (model->failures != change->failures)
        *error = model->failure;
    else if (model->out_of_service)
        error_set(error, ERROR_UNAVAILABLE, "model \"%s\" was unloaded meanwhile", model->name);
    else
        return model->state == MODEL_READY && model->next.pid == 0;
    return true;
}

static bool unload_ended(const struct supervisor *supervisor, const struct change *change) {
    for (size_t i = 0; i < supervisor->leaving_count; i++)
        for (int p = 0; p < 2; p++)
            if (change->pids[p] && supervisor->leaving[i].pid == change->pids[p])
                return false;
    return true;
}

/* True: it is done, or (`error` is set) will not be. */
static bool change_ended(struct supervisor *supervisor, struct change *change, struct error *error) {
    const struct gateway_change *asked = change->asked;

    if (supervisor->ending) {
        error_set(error, ERROR_UNAVAILABLE, "the service is shutting down");
        return true;
    }
    if (!change->begun && !(asked->load ? begin_load : begin_unload)(supervisor, change, error))
        return true;
    change->begun = true;

    if (asked->load ? load_ended(supervisor, change, error) : unload_ended(supervisor, change))
        return true;
    if (clock_ns() < asked->deadline_ns)
        return false;
    error_set(error, ERROR_TIMEOUT,
              asked->load ? "model \"%s\" is still starting; try again later"
                          : "model \"%s\" still finishes its requests",
              asked->model);
    return true;
}

static bool is_load_of(const struct change *change, const struct supervised *model) {
    return change->asked->load && strcmp(change->asked->model, model->name) == 0;
}

void supervisor_continue_changes(struct supervisor *supervisor) {
    pthread_mutex_lock(&supervisor->lock);
    struct change *list = supervisor->changes, *left = NULL, **last = &left;
    supervisor->changes = NULL;
    pthread_mutex_unlock(&supervisor->lock);

    while (list) {
        struct change *change = list;
        struct error error = {0};

        list = change->next;
        change->next = NULL;
        if (!change_ended(supervisor, change, &error)) {
            *last = change;
            last = &change->next;
            continue;
        }
        gateway_change_finish(change->asked, error.code == ERROR_NONE ? NULL : &error);
        free(change);
    }

    /* A model that is to be loaded is waited for, as by a request. */
    for (struct change *change = left; change; change = change->next)
        for (size_t i = 0; i < supervisor->model_count; i++) {
            struct supervised *model = supervisor->models[i];
            if (is_load_of(change, model) &&
                (!model->waiting_ns || change->asked->asked_ns < model->waiting_ns))
                model->waiting_ns = change->asked->asked_ns;
        }

    pthread_mutex_lock(&supervisor->lock);
    *last = supervisor->changes; /* those that came meanwhile */
    supervisor->changes = left;
    supervisor->has_changes = left != NULL;
    pthread_mutex_unlock(&supervisor->lock);
}
