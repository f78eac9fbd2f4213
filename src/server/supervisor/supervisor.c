#include "server/supervisor/supervisor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
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
#include "base/log.h"
#include "base/text.h"
#include "server/supervisor/supervisor_private.h"

#define BUSY_MS 15   /* between steps while something starts or ends */
#define QUIET_MS 250 /* … and while nothing does */
#define GRACE_MS 15000
#define URL_BYTES 320
#define QUEUE_SPARE 64 /* requests at a model that are no predictions */

/* ---- What the gateway asks (on its threads) ---- */

static void wake(struct supervisor *supervisor) {
    uint64_t one = 1;
    if (write(supervisor->wake, &one, sizeof one) < 0)
        return; /* full: the supervisor is already being woken */
}

static void hook_wake(void *context, const char *name) {
    wake(context);
}

static void hook_change(void *context, struct gateway_change *change) {
    if (!supervisor_add_change(context, change))
        gateway_change_finish(change, &(struct error){ERROR_MEMORY, "out of memory"});
    wake(context);
}

static void hook_describe(void *context, struct model_status *ret) {
    static const char *const states[] = {
        [MODEL_STOPPED] = "stopped",
        [MODEL_STARTING] = "starting",
        [MODEL_READY] = "ready",
        [MODEL_FAILED] = "failed",
    };
    struct supervisor *supervisor = context;
    const char *variant = strchr(ret->name, ':');

    pthread_mutex_lock(&supervisor->lock);
    const struct supervised *model = supervisor_find(supervisor, ret->name);
    strcpy(ret->state, !model ? "stopped" : model->out_of_service ? "unloaded" : states[model->state]);
    ret->reason[0] = 0;
    if (model) {
        ret->bytes = model->bytes;
        ret->meaning = model->meaning;
        snprintf(ret->precision, sizeof ret->precision, "%.15s",
                 model->precision[0] ? model->precision
                 : variant           ? variant + 1
                                     : "");
        text_copy(ret->reason, sizeof ret->reason, model->reason);
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

static void hook_write_metrics(void *context, struct buffer *text) {
    struct supervisor *supervisor = context;

    pthread_mutex_lock(&supervisor->lock);
    counts_write(supervisor, text, "guichet_model_ready", "gauge", "Whether the model's process answers.",
                 value_up);
    counts_write(supervisor, text, "guichet_model_loads_total", "counter", "Times the model was loaded.",
                 value_loads);
    counts_write(supervisor, text, "guichet_model_evictions_total", "counter",
                 "Times the model was stopped to free memory for another.", value_evictions);
    counts_write(supervisor, text, "guichet_model_crashes_total", "counter",
                 "Times the model's process crashed.", value_crashes);
    counts_write(supervisor, text, "guichet_model_memory_bytes", "gauge",
                 "Memory of the model's process (PSS).", value_memory);
    metrics_merge_write(supervisor->metrics, text);
    pthread_mutex_unlock(&supervisor->lock);
}

/* ---- The loop ---- */

static bool is_busy(struct supervisor *supervisor) {
    bool busy = supervisor->leaving_count > 0 || supervisor->has_changes;

    for (size_t i = 0; i < supervisor->model_count; i++) {
        const struct supervised *model = supervisor->models[i];
        busy |= model->state == MODEL_STARTING || model->next.pid || model->waiting_ns || model->restart;
    }
    return busy;
}

/* SIGHUP: reload key and certificate files, and scan the model folders now. */
static void files_reload(struct supervisor *supervisor) {
    const struct supervisor_options *options = supervisor->options;
    struct session_keys keys = options->keys;
    struct error error;

    supervisor->look_ns = 0;
    if ((options->session_key_file && !session_keys_read(options->session_key_file, &keys, &error)) ||
        !server_reload(supervisor->server, &error)) {
        log_line("guichet: not reloaded: %s", error.message);
        return;
    }

    frontend_set_keys(supervisor->frontend, &keys);
    log_line("guichet: reloaded the files");
}

/* Handle pending signals. A second SIGINT or SIGTERM exits at once; the children die with this process. */
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
    supervisor_ask(supervisor);
    supervisor_continue_changes(supervisor);
    for (size_t i = 0; i < supervisor->model_count; i++)
        supervisor_step(supervisor, supervisor->models[i]);
}

/* ---- Beginning and end ---- */

/* "http://[::1]:8080" */
static void write_url(const struct supervisor *supervisor, const char *host, char ret[URL_BYTES]) {
    const char *scheme = supervisor->options->server.tls_certificate ? "https" : "http";
    bool bracketed = strchr(host, ':') != NULL;

    snprintf(ret, URL_BYTES, bracketed ? "%s://[%s]:%d" : "%s://%s:%d", scheme, host,
             server_port(supervisor->server));
}

/* The URLs under which other machines reach a server that listens on every address. */
static void print_addresses(const struct supervisor *supervisor) {
    struct ifaddrs *interfaces = NULL;
    char host[INET_ADDRSTRLEN], url[URL_BYTES];
    int shown = 0;

    if (getifaddrs(&interfaces))
        return;

    for (const struct ifaddrs *at = interfaces; at && shown < 4; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || (at->ifa_flags & IFF_LOOPBACK) ||
            !(at->ifa_flags & IFF_UP))
            continue;
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr, host,
                  sizeof host);
        write_url(supervisor, host, url);
        printf("  From other machines: %s\n", url);
        shown++;
    }
    freeifaddrs(interfaces);
}

static void print_models(const struct supervisor *supervisor, const char *url) {
    const struct supervisor_options *options = supervisor->options;

    if (supervisor->model_count == 0) {
        printf("  No models yet. `guichet pull resnet50` fetches one; put your own into\n  %s; they appear "
               "by themselves.\n",
               options->directories[0] ? options->directories[0] : "a folder given with --models");
        return;
    }
    printf("  Open it in a browser and give it a photo, or ask from a shell:\n"
           "    curl -F file=@photo.jpg %s/predict\n"
           "  %zu model%s:",
           url, supervisor->model_count, supervisor->model_count == 1 ? "" : "s");

    for (size_t i = 0; i < supervisor->model_count; i++)
        printf(" %s", supervisor->models[i]->name);
    printf("\n");
}

static void greet(struct supervisor *supervisor) {
    const struct supervisor_options *options = supervisor->options;
    const char *const *addresses = options->server.addresses;
    const char *host = addresses && addresses[0] ? addresses[0] : "127.0.0.1";
    bool every = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    char url[URL_BYTES];

    write_url(supervisor, every ? "127.0.0.1" : host, url);
    printf("guichet is at %s\n", url);
    if (every)
        print_addresses(supervisor);
    printf("\n");
    print_models(supervisor, url);
    printf("  %s/docs describes the API. Ctrl-C stops the server.\n", url);
    if (options->default_model && !supervisor_find(supervisor, options->default_model))
        printf("  --default-model %s: there is no such model yet.\n", options->default_model);
    if (supervisor->control) /* its port may have been for the system to choose */
        printf("  %.*s:%d accepts every call without a key, load and unload included.\n",
               (int)(strrchr(options->control_address, ':') - options->control_address),
               options->control_address, server_port(supervisor->control));

    printf("\n");
    fflush(stdout);
}

/* The public server or, with `control`, the management one. */
static struct server *create_server(struct supervisor *supervisor, bool control, struct error *error) {
    static const char *const loopback[] = {"127.0.0.1", NULL};
    const struct supervisor_options *options = supervisor->options;
    struct server_options server = options->server;

    server.tier = TIER_SERVE;
    server.metrics = gateway_metrics(supervisor->gateway);
    server.addresses = server.addresses && server.addresses[0] ? server.addresses : loopback;
    server.inherit = true;
    server.files = WEB_FRONTEND;
    server.frontend = supervisor->frontend;
    server.gateway = supervisor->gateway;
    server.service = gateway_service(supervisor->gateway);
    server.check_model = gateway_check_model;

    return control ? server_create_control(supervisor->loops, &server, options->control_address, error)
                   : server_create(supervisor->loops, &server, error);
}

/* The models' processes count their predictions and refuse what is too many; the gateway's own bound, which
 * counts every request, must not refuse sooner. */
static int queue_bound(const struct supervisor_options *options) {
    return options->queue_limit ? options->queue_limit + QUEUE_SPARE : 0;
}

static bool tiers_start(struct supervisor *supervisor, const struct gateway_supervisor *hooks,
                        struct error *error) {
    const struct supervisor_options *options = supervisor->options;

    supervisor->gateway =
        gateway_create(supervisor->loops,
                       &(struct gateway_options){
                           .default_model = options->default_model ? options->default_model : "animals",
                           .timeout_ms = options->timeout_ms,
                           .bound = queue_bound(options),
                           .supervisor = hooks,
                       },
                       error);
    if (!supervisor->gateway)
        return false;

    supervisor->frontend = frontend_create(supervisor->gateway, false, &options->keys, error);
    if (!supervisor->frontend)
        return false;

    supervisor_look(supervisor); /* before the first request */
    supervisor->server = create_server(supervisor, false, error);
    if (!supervisor->server)
        return false;

    if (options->control_address)
        supervisor->control = create_server(supervisor, true, error);
    return supervisor->control || !options->control_address;
}

struct stopping {
    struct supervisor *supervisor;
    atomic_bool done;
};

/* On its own thread, while the models keep running: requests under way are finished first. */
static void *tiers_stop(void *context) {
    struct stopping *stopping = context;
    server_stop(stopping->supervisor->server, GRACE_MS);
    if (stopping->supervisor->control)
        server_stop(stopping->supervisor->control, 1000);
    atomic_store(&stopping->done, true);
    return NULL;
}

static void end(struct supervisor *supervisor) {
    struct stopping stopping = {.supervisor = supervisor};
    pthread_t thread;

    log_line("guichet: ending");
    if (supervisor->server && pthread_create(&thread, NULL, tiers_stop, &stopping) == 0) {
        while (!atomic_load(&stopping.done))
            turn(supervisor);
        pthread_join(thread, NULL);
    }
    supervisor_continue_changes(supervisor); /* those that came last */

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
                                             .change = hook_change,
                                             .describe = hook_describe,
                                             .write_metrics = hook_write_metrics};

    pthread_mutex_init(&supervisor.lock, NULL);
    bool good =
        handles_open(&supervisor, error) &&
        ((supervisor.metrics = metrics_merge_create()) || error_set(error, ERROR_MEMORY, "out of memory")) &&
        (supervisor.loops = http_loops_create(options->threads > 0 ? options->threads : 1, error)) &&
        tiers_start(&supervisor, &hooks, error);

    if (good) {
        greet(&supervisor);
        while (!supervisor.ending)
            turn(&supervisor);
        end(&supervisor);
    }

    server_free(supervisor.control);
    server_free(supervisor.server);
    frontend_free(supervisor.frontend);
    gateway_free(supervisor.gateway);
    http_loops_free(supervisor.loops);

    for (size_t i = 0; i < supervisor.model_count; i++)
        supervised_free(supervisor.models[i]);
    free(supervisor.models);
    free(supervisor.leaving);
    metrics_merge_free(supervisor.metrics);

    if (supervisor.wake >= 0)
        close(supervisor.wake);
    if (supervisor.signals >= 0)
        close(supervisor.signals);
    pthread_mutex_destroy(&supervisor.lock);
    return good;
}
