#include "serve/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "serve/supervisor_private.h"

#define BUSY_MS 15   /* between steps while something starts or ends */
#define QUIET_MS 250 /* … and while nothing does */
#define GRACE_MS 15000

/* ---- What the gateway asks (on its threads) ---- */

static struct supervised *find(struct supervisor *supervisor, const char *name) {
    for (size_t i = 0; i < supervisor->model_count; i++)
        if (strcmp(supervisor->models[i]->name, name) == 0)
            return supervisor->models[i];
    return NULL;
}

static void wake(struct supervisor *supervisor) {
    uint64_t one = 1;
    if (write(supervisor->wake, &one, sizeof one) < 0)
        return; /* it is full: the supervisor is being woken already */
}

static void hook_wake(void *context, const char *name) {
    struct supervisor *supervisor = context;
    pthread_mutex_lock(&supervisor->lock);
    struct supervised *model = find(supervisor, name);
    if (model)
        model->wanted = true;
    pthread_mutex_unlock(&supervisor->lock);
    wake(supervisor);
}

static void hook_unload(void *context, const char *name) {
    struct supervisor *supervisor = context;
    pthread_mutex_lock(&supervisor->lock);
    struct supervised *model = find(supervisor, name);
    if (model)
        model->unload = true;
    pthread_mutex_unlock(&supervisor->lock);
    wake(supervisor);
}

static void hook_describe(void *context, const char *name, struct gateway_model_details *ret) {
    static const char *const states[] = {"stopped", "starting", "ready", "failed"};
    struct supervisor *supervisor = context;
    pthread_mutex_lock(&supervisor->lock);
    const struct supervised *model = find(supervisor, name);
    strcpy(ret->state, model ? states[model->state] : "stopped");
    if (model) {
        const char *variant = strchr(name, ':');
        ret->bytes = model->bytes;
        snprintf(ret->precision, sizeof ret->precision, "%.15s",
                 model->precision[0] ? model->precision
                 : variant           ? variant + 1
                                     : "");
        snprintf(ret->reason, sizeof ret->reason, "%s", model->reason);
    }
    pthread_mutex_unlock(&supervisor->lock);
}

static void counts_write(const struct supervisor *supervisor, struct buffer *text, const char *name,
                         const char *kind, const char *help, uint64_t (*value)(const struct supervised *)) {
    buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
    for (size_t i = 0; i < supervisor->model_count; i++)
        buffer_printf(text, "%s{model=\"%s\"} %lu\n", name, supervisor->models[i]->name,
                      value(supervisor->models[i]));
}

static uint64_t value_up(const struct supervised *model) {
    return model->state == MODEL_READY;
}
static uint64_t value_loads(const struct supervised *model) {
    return model->loads;
}
static uint64_t value_evictions(const struct supervised *model) {
    return model->evictions;
}
static uint64_t value_crashes(const struct supervised *model) {
    return model->crashed;
}
static uint64_t value_memory(const struct supervised *model) {
    return model->state == MODEL_READY ? (uint64_t)model->memory : 0;
}

static char *hook_metrics(void *context) {
    struct supervisor *supervisor = context;
    struct buffer text = {.limit = 4 << 20};
    pthread_mutex_lock(&supervisor->lock);
    counts_write(supervisor, &text, "guichet_model_ready", "gauge", "Whether the model's process answers.",
                 value_up);
    counts_write(supervisor, &text, "guichet_model_loads_total", "counter", "Times that it was loaded.",
                 value_loads);
    counts_write(supervisor, &text, "guichet_model_evictions_total", "counter",
                 "Times that it made room for another.", value_evictions);
    counts_write(supervisor, &text, "guichet_model_crashes_total", "counter", "Times that its process died.",
                 value_crashes);
    counts_write(supervisor, &text, "guichet_model_memory_bytes", "gauge", "Memory of its process (Pss).",
                 value_memory);
    figures_write(supervisor->figures, &text);
    pthread_mutex_unlock(&supervisor->lock);
    return text.bytes;
}

/* ---- The loop ---- */

static bool is_busy(struct supervisor *supervisor) {
    bool busy = supervisor->leaving_count > 0;
    pthread_mutex_lock(&supervisor->lock);
    for (size_t i = 0; i < supervisor->model_count; i++) {
        const struct supervised *model = supervisor->models[i];
        busy |= model->state == MODEL_STARTING || model->next.pid || model->wanted;
    }
    pthread_mutex_unlock(&supervisor->lock);
    return busy;
}

/* SIGHUP: the files of keys and certificates, and the model folders at once. */
static void files_reload(struct supervisor *supervisor) {
    const struct supervisor_options *options = supervisor->options;
    struct session_keys keys = options->keys;
    struct error error;
    supervisor->look_ns = 0;
    bool good = (!options->session_key_file || session_keys_read(options->session_key_file, &keys, &error)) &&
                frontend_reload(supervisor->frontend, &keys, &error) &&
                gateway_reload(supervisor->gateway, &error);
    if (good)
        fprintf(stderr, "guichet: read the files again\n");
    else
        fprintf(stderr, "guichet: nothing changed: %s\n", error.message);
}

/* SIGINT or SIGTERM came. A second one does not wait for anybody: the children die with us. */
static void signals_read(struct supervisor *supervisor) {
    struct signalfd_siginfo information;
    while (read(supervisor->signals, &information, sizeof information) == (ssize_t)sizeof information) {
        if (information.ssi_signo == SIGHUP)
            files_reload(supervisor);
        if (information.ssi_signo != SIGINT && information.ssi_signo != SIGTERM)
            continue;
        if (supervisor->ending)
            _exit(130);
        supervisor->ending = true;
    }
}

static void turn(struct supervisor *supervisor) {
    struct pollfd wakers[] = {{.fd = supervisor->wake, .events = POLLIN},
                              {.fd = supervisor->signals, .events = POLLIN}};
    uint64_t count;
    poll(wakers, 2, is_busy(supervisor) ? BUSY_MS : QUIET_MS);
    if (read(supervisor->wake, &count, sizeof count) < 0)
        count = 0;
    signals_read(supervisor);
    supervisor_reap(supervisor);
    if (!supervisor->ending)
        supervisor_look(supervisor);
    supervisor_measure(supervisor);
    for (size_t i = 0; i < supervisor->model_count; i++)
        supervisor_step(supervisor, supervisor->models[i]);
}

/* ---- Beginning and end ---- */

static void greet(const struct supervisor *supervisor) {
    const struct supervisor_options *options = supervisor->options;
    const char *scheme = options->tls_certificate ? "https" : "http";
    const char *host = options->addresses && options->addresses[0] ? options->addresses[0] : "127.0.0.1";
    bool every = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    const char *shown = every ? "127.0.0.1" : host;
    bool bracketed = strchr(shown, ':') != NULL;
    int port = frontend_port(supervisor->frontend);
    char url[320];
    snprintf(url, sizeof url, bracketed ? "%s://[%s]:%d" : "%s://%s:%d", scheme, shown, port);
    printf("guichet is at %s\n\n", url);
    if (supervisor->model_count == 0) {
        printf(
            "  There is no model yet. `guichet pull resnet50` fetches one; put your own into\n  %s; they are "
            "noticed.\n",
            options->directories[0] ? options->directories[0] : "a folder given with --models");
    } else {
        printf("  Open it in a browser and give it a photo, or ask from a shell:\n"
               "    curl -F file=@photo.jpg %s/predict\n"
               "  %zu model%s:",
               url, supervisor->model_count, supervisor->model_count == 1 ? "" : "s");
        for (size_t i = 0; i < supervisor->model_count; i++)
            printf(" %s", supervisor->models[i]->name);
        printf("\n");
    }
    printf("  %s/docs says what else can be asked. Ctrl-C ends it.\n\n", url);
    fflush(stdout);
}

static bool tiers_start(struct supervisor *supervisor, const struct gateway_supervisor *hooks,
                        struct error *error) {
    static const char *const loopback[] = {"127.0.0.1", NULL};
    static char gateway_url[64];
    const struct supervisor_options *options = supervisor->options;
    supervisor->gateway =
        gateway_create(supervisor->loops,
                       &(struct gateway_options){
                           .addresses = loopback,
                           .port = -1,
                           .default_model = options->default_model ? options->default_model : "animals",
                           .api_keys_file = options->api_keys_file,
                           .rate = options->rate,
                           .burst = options->burst,
                           .cors = options->cors,
                           .trust_forwarded = true,
                           .supervisor = hooks,
                       },
                       error);
    if (!supervisor->gateway)
        return false;
    snprintf(gateway_url, sizeof gateway_url, "http://127.0.0.1:%d", gateway_port(supervisor->gateway));
    supervisor_look(supervisor); /* before anybody can ask */
    supervisor->frontend = frontend_create(
        supervisor->loops,
        &(struct frontend_options){
            .addresses = options->addresses && options->addresses[0] ? options->addresses : loopback,
            .port = options->port,
            .gateway = gateway_url,
            .tls_certificate = options->tls_certificate,
            .tls_key = options->tls_key,
            .access_log = options->access_log,
            .keys = options->keys,
            .gateway_metrics = true,
        },
        error);
    return supervisor->frontend != NULL;
}

struct stopping {
    struct supervisor *supervisor;
    atomic_bool done;
};

/* On a thread of its own, while the models go on: what has begun is finished first at the front, then behind
 * it. */
static void *tiers_stop(void *context) {
    struct stopping *stopping = context;
    frontend_stop(stopping->supervisor->frontend, GRACE_MS);
    gateway_stop(stopping->supervisor->gateway, 1000);
    atomic_store(&stopping->done, true);
    return NULL;
}

static void end(struct supervisor *supervisor) {
    struct stopping stopping = {.supervisor = supervisor};
    pthread_t thread;
    fprintf(stderr, "guichet: ending\n");
    if (supervisor->frontend && pthread_create(&thread, NULL, tiers_stop, &stopping) == 0) {
        while (!atomic_load(&stopping.done))
            turn(supervisor);
        pthread_join(thread, NULL);
    }
    for (size_t i = 0; i < supervisor->model_count; i++) {
        process_leave(supervisor, &supervisor->models[i]->current);
        process_leave(supervisor, &supervisor->models[i]->next);
        pthread_mutex_lock(&supervisor->lock);
        supervisor->models[i]->state = MODEL_STOPPED;
        pthread_mutex_unlock(&supervisor->lock);
    }
    while (supervisor->leaving_count > 0) {
        poll(NULL, 0, 5);
        signals_read(supervisor);
        supervisor_reap(supervisor);
    }
}

static bool handles_open(struct supervisor *supervisor, struct error *error) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGCHLD);
    supervisor->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    supervisor->signals = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (supervisor->wake < 0 || supervisor->signals < 0)
        return error_set_errno(error, ERROR_IO, errno, "opening an event");
    return true;
}

bool supervisor_run(const struct supervisor_options *options, struct error *error) {
    struct supervisor supervisor = {.options = options, .wake = -1, .signals = -1};
    const struct gateway_supervisor hooks = {.context = &supervisor,
                                             .wake = hook_wake,
                                             .unload = hook_unload,
                                             .describe = hook_describe,
                                             .metrics = hook_metrics};
    pthread_mutex_init(&supervisor.lock, NULL);
    bool good =
        handles_open(&supervisor, error) &&
        ((supervisor.figures = figures_create()) || error_set(error, ERROR_MEMORY, "out of memory")) &&
        (supervisor.loops = http_loops_create(options->threads > 0 ? options->threads : 1, error)) &&
        tiers_start(&supervisor, &hooks, error);
    if (good) {
        greet(&supervisor);
        while (!supervisor.ending)
            turn(&supervisor);
        end(&supervisor);
    }
    frontend_free(supervisor.frontend);
    gateway_free(supervisor.gateway);
    http_loops_free(supervisor.loops);
    for (size_t i = 0; i < supervisor.model_count; i++)
        supervised_free(supervisor.models[i]);
    free(supervisor.models);
    free(supervisor.leaving);
    figures_free(supervisor.figures);
    if (supervisor.wake >= 0)
        close(supervisor.wake);
    if (supervisor.signals >= 0)
        close(supervisor.signals);
    pthread_mutex_destroy(&supervisor.lock);
    return good;
}
