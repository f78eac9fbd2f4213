#include "server/edge/metrics.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/limits.h"
#include "base/memory_budget.h"

#define BOUNDS 16
#define SLOTS 1024

static const double second_bounds[BOUNDS] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                             0.05,   0.1,     0.25,   0.5,   1,      2.5,   10,   30};
static const double size_bounds[BOUNDS] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 128, 256};

struct metric {
    enum metric_kind kind;
    _Atomic double value; /* of a histogram: the sum */
    atomic_uint_fast64_t count;
    atomic_uint_fast64_t buckets[BOUNDS]; /* not cumulative */
    struct metric *next;                  /* of the family */
    struct metric *chain;                 /* of the slot */
    struct family *family;
    char labels[];
};

struct family {
    const char *name, *help;
    enum metric_kind kind;
    struct metric *first, *last;
    struct family *next;
};

struct metrics {
    pthread_mutex_t mutex; /* guards what follows; values are atomic */
    struct family *first, *last;
    struct metric *slots[SLOTS];
    int count;
};

struct metrics *metrics_create(void) {
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics)
        pthread_mutex_init(&metrics->mutex, NULL);
    return metrics;
}

void metrics_free(struct metrics *metrics) {
    if (!metrics)
        return;

    for (struct family *family = metrics->first, *next; family; family = next) {
        next = family->next;
        for (struct metric *metric = family->first, *after; metric; metric = after) {
            after = metric->next;
            free(metric);
        }
        free(family);
    }

    pthread_mutex_destroy(&metrics->mutex);
    free(metrics);
}

static unsigned hash(const char *name, const char *labels) {
    unsigned value = 2166136261u;
    for (; *name; name++)
        value = (value ^ (unsigned char)*name) * 16777619u;
    for (; *labels; labels++)
        value = (value ^ (unsigned char)*labels) * 16777619u;
    return value % SLOTS;
}

static struct family *get_family(struct metrics *metrics, enum metric_kind kind, const char *name,
                                 const char *help) {
    for (struct family *family = metrics->first; family; family = family->next)
        if (!strcmp(family->name, name))
            return family;

    struct family *family = calloc(1, sizeof *family);
    if (!family)
        return NULL;
    *family = (struct family){.name = name, .help = help, .kind = kind};

    if (metrics->last)
        metrics->last->next = family;
    else
        metrics->first = family;
    metrics->last = family;
    return family;
}

static struct metric *make_metric(struct metrics *metrics, struct family *family, const char *labels,
                                  unsigned slot) {
    size_t length = strlen(labels) + 1;
    struct metric *metric = metrics->count < LIMIT_METRIC_SERIES ? calloc(1, sizeof *metric + length) : NULL;
    if (!metric)
        return NULL;

    memcpy(metric->labels, labels, length);
    metric->kind = family->kind;
    metric->family = family;
    metric->chain = metrics->slots[slot];
    metrics->slots[slot] = metric;

    if (family->last)
        family->last->next = metric;
    else
        family->first = metric;

    family->last = metric;
    metrics->count++;
    return metric;
}

struct metric *metrics_get(struct metrics *metrics, enum metric_kind kind, const char *name, const char *help,
                           const char *labels) {
    unsigned slot = hash(name, labels);
    pthread_mutex_lock(&metrics->mutex);

    struct metric *metric = metrics->slots[slot];
    while (metric && (strcmp(metric->family->name, name) != 0 || strcmp(metric->labels, labels) != 0))
        metric = metric->chain;
    if (!metric) {
        struct family *family = get_family(metrics, kind, name, help);
        metric = family ? make_metric(metrics, family, labels, slot) : NULL;
    }

    pthread_mutex_unlock(&metrics->mutex);
    return metric;
}

void metrics_label(char *labels, size_t size, const char *name, const char *value) {
    size_t at = strlen(labels), length = strlen(name);
    if (length + 5 >= size - at) /* a comma, ="" and the end */
        return;

    if (at)
        labels[at++] = ',';

    memcpy(labels + at, name, length);
    at += length;
    labels[at++] = '=';
    labels[at++] = '"';

    for (; *value && at + 4 < size; value++) {
        bool escaped = *value == '"' || *value == '\\' || *value == '\n';
        if (escaped)
            labels[at++] = '\\';
        labels[at++] = *value == '\n' ? 'n' : *value;
    }

    labels[at++] = '"';
    labels[at] = 0;
}

static void atomic_add(_Atomic double *target, double amount) {
    double value = atomic_load_explicit(target, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(target, &value, value + amount))
        ;
}

void metric_add(struct metric *metric, double amount) {
    if (metric)
        atomic_add(&metric->value, amount);
}

void metric_set(struct metric *metric, double value) {
    if (metric)
        atomic_store(&metric->value, value);
}

static const double *bounds_of(enum metric_kind kind) {
    return kind == METRIC_SECONDS ? second_bounds : size_bounds;
}

void metric_observe(struct metric *metric, double value) {
    if (!metric)
        return;
    const double *bounds = bounds_of(metric->kind);

    for (int i = 0; i < BOUNDS; i++) {
        if (value <= bounds[i]) {
            atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
            break;
        }
    }

    atomic_add(&metric->value, value);
    atomic_fetch_add_explicit(&metric->count, 1, memory_order_relaxed);
}

double metric_value(const struct metric *metric) {
    return metric ? atomic_load(&metric->value) : 0;
}

static void write_sample(struct buffer *text, const char *name, const char *suffix, const char *labels,
                         const char *bound, double value) {
    buffer_append_string(text, name);
    buffer_append_string(text, suffix);
    if (*labels || bound) {
        buffer_append_string(text, "{");
        buffer_append_string(text, labels);
        if (bound)
            buffer_printf(text, "%sle=\"%s\"", *labels ? "," : "", bound);
        buffer_append_string(text, "}");
    }
    buffer_printf(text, " %.15g\n", value);
}

static void write_histogram(struct buffer *text, const struct metric *metric) {
    const char *name = metric->family->name;
    const double *bounds = bounds_of(metric->kind);
    uint64_t below = 0;
    char bound[32];

    for (int i = 0; i < BOUNDS; i++) {
        below += atomic_load(&metric->buckets[i]);
        snprintf(bound, sizeof bound, "%g", bounds[i]);
        write_sample(text, name, "_bucket", metric->labels, bound, (double)below);
    }

    /* Read after the buckets, so that the count is never below one of them. */
    double count = (double)atomic_load(&metric->count);
    if (count < (double)below)
        count = (double)below;
    write_sample(text, name, "_bucket", metric->labels, "+Inf", count);
    write_sample(text, name, "_sum", metric->labels, NULL, atomic_load(&metric->value));
    write_sample(text, name, "_count", metric->labels, NULL, count);
}

bool metrics_write(struct metrics *metrics, struct buffer *text) {
    static const char *const types[] = {"counter", "gauge", "histogram", "histogram"};

    pthread_mutex_lock(&metrics->mutex);
    for (const struct family *family = metrics->first; family; family = family->next) {
        buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                      types[family->kind]);
        for (const struct metric *metric = family->first; metric; metric = metric->next) {
            if (family->kind >= METRIC_SECONDS)
                write_histogram(text, metric);
            else
                write_sample(text, family->name, "", metric->labels, NULL, atomic_load(&metric->value));
        }
    }

    pthread_mutex_unlock(&metrics->mutex);
    return !text->failed;
}

static double resident_bytes(void) {
    long pages = 0, total = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file) {
        if (fscanf(file, "%ld %ld", &total, &pages) != 2)
            pages = 0;
        fclose(file);
    }

    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static int open_files(void) {
    int count = 0;

    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        return 0;

    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 3; /* "." and "..", and the directory itself */
}

/* When the process started, in seconds since 1970: the boot time plus the start time in clock ticks since
 * boot. */
static double start_time(void) {
    unsigned long long ticks = 0;
    char line[1024] = "";
    FILE *file = fopen("/proc/self/stat", "re");
    if (file) {
        const char *after_name = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        if (!after_name ||
            sscanf(after_name + 1,
                   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                   &ticks) != 1)
            ticks = 0;
        fclose(file);
    }

    struct timespec wall, boot;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return (double)wall.tv_sec - (double)boot.tv_sec + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static void write_budget(struct buffer *text) {
    uint64_t never, now;
    size_t bytes = memory_budget_bytes();
    memory_budget_refused(&never, &now);
    if (bytes == SIZE_MAX)
        return;

    buffer_printf(text,
                  "# HELP guichet_memory_budget_bytes Memory that requests may take.\n"
                  "# TYPE guichet_memory_budget_bytes gauge\n"
                  "guichet_memory_budget_bytes %zu\n"
                  "# HELP guichet_memory_charged_bytes Memory that requests take, by purpose.\n"
                  "# TYPE guichet_memory_charged_bytes gauge\n",
                  bytes);
    for (int i = 0; i < MEMORY_PURPOSES; i++)
        buffer_printf(text, "guichet_memory_charged_bytes{purpose=\"%s\"} %zu\n",
                      memory_purpose_name((enum memory_purpose)i),
                      memory_budget_charged((enum memory_purpose)i));
    buffer_printf(text,
                  "# HELP guichet_memory_refused_total Requests that did not fit: never (413), or just then "
                  "(503).\n"
                  "# TYPE guichet_memory_refused_total counter\n"
                  "guichet_memory_refused_total{reason=\"never\"} %llu\n"
                  "guichet_memory_refused_total{reason=\"now\"} %llu\n",
                  (unsigned long long)never, (unsigned long long)now);
}

void metrics_write_process(struct buffer *text) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;

    buffer_printf(text,
                  "# HELP process_resident_memory_bytes Resident memory.\n"
                  "# TYPE process_resident_memory_bytes gauge\n"
                  "process_resident_memory_bytes %.0f\n"
                  "# HELP process_cpu_seconds_total Processor time, user and system.\n"
                  "# TYPE process_cpu_seconds_total counter\n"
                  "process_cpu_seconds_total %.3f\n"
                  "# HELP process_open_fds Open files and sockets.\n"
                  "# TYPE process_open_fds gauge\n"
                  "process_open_fds %d\n"
                  "# HELP process_start_time_seconds When the process began, since 1970.\n"
                  "# TYPE process_start_time_seconds gauge\n"
                  "process_start_time_seconds %.2f\n"
                  "# HELP guichet_build_info The version that runs.\n"
                  "# TYPE guichet_build_info gauge\n"
                  "guichet_build_info{version=\"%s\"} 1\n"
                  "# HELP guichet_log_dropped_total Lines of the log that found no room.\n"
                  "# TYPE guichet_log_dropped_total counter\n"
                  "guichet_log_dropped_total %llu\n",
                  resident_bytes(), cpu, open_files(), start_time(), GUICHET_VERSION,
                  (unsigned long long)log_dropped());
    write_budget(text);
}
