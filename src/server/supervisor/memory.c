/* Memory for all models together: which model may start, and which one makes room for it. On the supervisor's
 * thread.
 *
 * The model that has waited longest starts first. An idle model makes room at once. A busy one makes room
 * when the waiting time reaches --patience: it accepts no more requests, finishes those it has, and ends. So
 * each model serves for at least --patience, and a request waits no longer than the models before it need. */
#include "base/log.h"
#include "server/supervisor/supervisor_private.h"

#define PATIENCE_LEAST_NS (SECOND_NS / 10) /* a model that has just started gets to its first requests */

static int64_t need_estimate(const struct supervised *model) {
    int64_t estimate = model->memory ? model->memory : model->bytes + model->bytes / 2 + (32 << 20);
    return model->need > estimate ? model->need : estimate;
}

/* A language model's cache grows to what it was given. */
static int64_t taken_by(const struct supervised *model) {
    return model->need > model->memory ? model->need : model->memory;
}

/* Bytes that all processes take; one that is starting counts with its estimate. */
static int64_t memory_sum(const struct supervisor *supervisor) {
    int64_t sum = 0;

    for (size_t i = 0; i < supervisor->model_count; i++) {
        const struct supervised *model = supervisor->models[i];
        if (model->current.pid && model->state == MODEL_READY)
            sum += taken_by(model);
        else if (model->current.pid)
            sum += need_estimate(model);
        if (model->next.pid)
            sum += need_estimate(model);
    }

    for (size_t i = 0; i < supervisor->leaving_count; i++)
        sum += process_memory(supervisor->leaving[i].pid);
    return sum;
}

static void evict(struct supervisor *supervisor, struct supervised *model) {
    pthread_mutex_lock(&supervisor->lock);
    model->evictions++;
    pthread_mutex_unlock(&supervisor->lock);
    supervised_stop(supervisor, model);
}

/* The least recently used model that is idle; NULL: all are busy. */
static struct supervised *find_idle(struct supervisor *supervisor) {
    struct supervised *oldest = NULL;
    int64_t oldest_ns = INT64_MAX;

    for (size_t i = 0; i < supervisor->model_count; i++) {
        struct supervised *model = supervisor->models[i];
        struct gateway_usage usage;
        if (model->state != MODEL_READY || model->next.pid ||
            !gateway_model_usage(supervisor->gateway, model->name, &usage) || usage.outstanding > 0)
            continue;
        int64_t used = usage.last_used > model->ready_ns ? usage.last_used : model->ready_ns;
        if (used < oldest_ns) {
            oldest = model;
            oldest_ns = used;
        }
    }
    return oldest;
}

/* The model that has served for longest, where it had its time; else NULL. */
static struct supervised *find_served(struct supervisor *supervisor) {
    int64_t patience = (int64_t)(supervisor->options->patience_seconds * 1e9);
    struct supervised *first = NULL;

    for (size_t i = 0; i < supervisor->model_count; i++) {
        struct supervised *model = supervisor->models[i];
        if (model->state == MODEL_READY && !model->next.pid && (!first || model->ready_ns < first->ready_ns))
            first = model;
    }
    if (patience < PATIENCE_LEAST_NS)
        patience = PATIENCE_LEAST_NS;
    return first && clock_ns() - first->ready_ns >= patience ? first : NULL;
}

/* One model makes room for `waiter`, unless all are busy and it has not waited long enough. */
static void make_room(struct supervisor *supervisor, const struct supervised *waiter) {
    double waited = (double)(clock_ns() - waiter->waiting_ns) / 1e9;
    struct supervised *model = find_idle(supervisor);

    if (model)
        log_line("guichet: stopping %s: another model needs its memory", model->name);
    else if (waited >= supervisor->options->patience_seconds && (model = find_served(supervisor)))
        log_line("guichet: stopping %s, which is busy: a request for %s has waited %.1f s", model->name,
                 waiter->name, waited);
    if (model)
        evict(supervisor, model);
}

void supervisor_keep_cap(struct supervisor *supervisor) {
    int64_t cap = supervisor->options->memory;
    int running = 0;

    for (size_t i = 0; i < supervisor->model_count; i++)
        running += supervisor->models[i]->current.pid != 0;
    if (!cap || running < 2 || supervisor->leaving_count > 0 || memory_sum(supervisor) <= cap)
        return;

    struct supervised *model = find_idle(supervisor);
    if (!model)
        model = find_served(supervisor);
    if (!model)
        return;
    log_line("guichet: stopping %s: the models take more memory than they may", model->name);
    evict(supervisor, model);
}

/* Somebody waits for another model, which may start, and has waited for longer. */
static bool is_behind(const struct supervisor *supervisor, const struct supervised *model) {
    for (size_t i = 0; i < supervisor->model_count; i++) {
        const struct supervised *other = supervisor->models[i];
        if (other != model && supervised_may_start(supervisor, other) && other->waiting_ns &&
            (!model->waiting_ns || other->waiting_ns < model->waiting_ns))
            return true;
    }
    return false;
}

bool supervisor_admits(struct supervisor *supervisor, const struct supervised *model) {
    int64_t cap = supervisor->options->memory;

    if (cap == 0)
        return true;
    if (is_behind(supervisor, model))
        return false;
    if (memory_sum(supervisor) + need_estimate(model) <= cap)
        return true;

    bool others = supervisor->leaving_count > 0;
    for (size_t i = 0; i < supervisor->model_count; i++)
        others |= supervisor->models[i] != model && supervisor->models[i]->current.pid != 0;
    if (!others)
        return true; /* the only model: its estimate may be wrong */

    /* Stop one model at a time: its memory may be enough. A model without waiting requests stops no other. */
    if (supervisor->leaving_count == 0 && model->waiting_ns)
        make_room(supervisor, model);
    return false;
}
