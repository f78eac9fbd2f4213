/* The gateway's figures, as Prometheus text. Labels come from the table of routes and from fixed words alone,
 * so that no caller can make series. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/gateway_private.h"

#define SERIES_MOST 4096 /* beyond: counted under model "" and route "other" */
#define BOUNDS 14

static const double bounds_s[BOUNDS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                        0.1,    0.25,  0.5,    1,     2.5,  5,     10};

/* Requests of one model, route and status. */
struct series {
    char model[BACKEND_NAME_BYTES];
    const char *route;
    int status;
    uint64_t count;
};

/* How long the requests of one model and route took, and the tries that came on top. */
struct duration {
    char model[BACKEND_NAME_BYTES];
    const char *route;
    uint64_t buckets[BOUNDS], count, retries;
    double sum_s;
};

struct gateway_metrics {
    pthread_mutex_t lock;
    struct series *series;
    struct duration *durations;
    int series_count, durations_count;
};

struct gateway_metrics *gateway_metrics_create(void) {
    struct gateway_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return NULL;
    metrics->series = calloc(SERIES_MOST, sizeof *metrics->series);
    metrics->durations = calloc(SERIES_MOST, sizeof *metrics->durations);
    pthread_mutex_init(&metrics->lock, NULL);
    if (metrics->series && metrics->durations)
        return metrics;
    gateway_metrics_free(metrics);
    return NULL;
}

void gateway_metrics_free(struct gateway_metrics *metrics) {
    if (!metrics)
        return;
    pthread_mutex_destroy(&metrics->lock);
    free(metrics->series);
    free(metrics->durations);
    free(metrics);
}

static struct series *series_find(struct gateway_metrics *metrics, const char *model, const char *route,
                                  int status) {
    for (int i = 0; i < metrics->series_count; i++) {
        struct series *series = &metrics->series[i];
        if (series->status == status && series->route == route && strcmp(series->model, model) == 0)
            return series;
    }
    if (metrics->series_count == SERIES_MOST)
        return &metrics->series[0];
    struct series *series = &metrics->series[metrics->series_count++];
    snprintf(series->model, sizeof series->model, "%s", model);
    series->route = route;
    series->status = status;
    return series;
}

static struct duration *duration_find(struct gateway_metrics *metrics, const char *model, const char *route) {
    for (int i = 0; i < metrics->durations_count; i++) {
        struct duration *duration = &metrics->durations[i];
        if (duration->route == route && strcmp(duration->model, model) == 0)
            return duration;
    }
    if (metrics->durations_count == SERIES_MOST)
        return &metrics->durations[0];
    struct duration *duration = &metrics->durations[metrics->durations_count++];
    snprintf(duration->model, sizeof duration->model, "%s", model);
    duration->route = route;
    return duration;
}

void gateway_metrics_count(struct gateway *gateway, const struct visit *visit, int status, double total_ms) {
    static const char refused[] = "refused";
    struct gateway_metrics *metrics = gateway->metrics;
    const char *model = visit ? visit->model : "", *route = visit ? visit->route : refused;
    pthread_mutex_lock(&metrics->lock);
    series_find(metrics, model, route, status)->count++;
    struct duration *duration = duration_find(metrics, model, route);
    for (int i = 0; i < BOUNDS; i++)
        duration->buckets[i] += total_ms / 1e3 <= bounds_s[i];
    duration->count++;
    duration->sum_s += total_ms / 1e3;
    if (visit && visit->tries > 1)
        duration->retries += (uint64_t)visit->tries - 1;
    pthread_mutex_unlock(&metrics->lock);
}

static void durations_write(const struct gateway_metrics *metrics, struct buffer *text) {
    buffer_append_string(text,
                         "# HELP guichet_gateway_request_seconds From a request's first byte to its reply.\n"
                         "# TYPE guichet_gateway_request_seconds histogram\n");
    for (int i = 0; i < metrics->durations_count; i++) {
        const struct duration *duration = &metrics->durations[i];
        char labels[BACKEND_NAME_BYTES + 64];
        snprintf(labels, sizeof labels, "model=\"%s\",route=\"%s\"", duration->model, duration->route);
        for (int b = 0; b < BOUNDS; b++)
            buffer_printf(text, "guichet_gateway_request_seconds_bucket{%s,le=\"%g\"} %lu\n", labels,
                          bounds_s[b], duration->buckets[b]);
        buffer_printf(text,
                      "guichet_gateway_request_seconds_bucket{%s,le=\"+Inf\"} %lu\n"
                      "guichet_gateway_request_seconds_sum{%s} %.6f\n"
                      "guichet_gateway_request_seconds_count{%s} %lu\n",
                      labels, duration->count, labels, duration->sum_s, labels, duration->count);
    }
    buffer_append_string(text, "# HELP guichet_gateway_retries_total Times that a request was tried again.\n"
                               "# TYPE guichet_gateway_retries_total counter\n");
    for (int i = 0; i < metrics->durations_count; i++)
        if (metrics->durations[i].model[0])
            buffer_printf(text, "guichet_gateway_retries_total{model=\"%s\",route=\"%s\"} %lu\n",
                          metrics->durations[i].model, metrics->durations[i].route,
                          metrics->durations[i].retries);
}

/* State of the replicas: under the gateway's lock. */
static void replicas_write(const struct gateway *gateway, struct buffer *text) {
    int64_t now = clock_ns();
    buffer_append_string(
        text, "# HELP guichet_gateway_outstanding Requests at a model's replicas or waiting for one.\n"
              "# TYPE guichet_gateway_outstanding gauge\n");
    for (size_t i = 0; i < gateway->table.count; i++)
        buffer_printf(text, "guichet_gateway_outstanding{model=\"%s\"} %d\n", gateway->table.routes[i]->model,
                      route_outstanding(gateway->table.routes[i]));
    buffer_append_string(text,
                         "# HELP guichet_gateway_replica_up Whether a replica is healthy and not ejected.\n"
                         "# TYPE guichet_gateway_replica_up gauge\n");
    for (size_t i = 0; i < gateway->table.count; i++)
        for (int r = 0; r < gateway->table.routes[i]->count; r++) {
            const struct replica *replica = gateway->table.routes[i]->replicas[r];
            buffer_printf(text, "guichet_gateway_replica_up{model=\"%s\",replica=\"%s:%d\"} %d\n",
                          gateway->table.routes[i]->model, replica->address, replica->url.port,
                          replica->attached && replica->healthy && replica->ejected_until <= now);
        }
}

static void process_write(const struct gateway *gateway, struct buffer *text) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%*d %ld", &pages) != 1)
            pages = 0;
        fclose(file);
    }
    buffer_printf(text,
                  "# HELP guichet_gateway_connections Connections of callers.\n"
                  "# TYPE guichet_gateway_connections gauge\n"
                  "guichet_gateway_connections %d\n"
                  "# HELP process_resident_memory_bytes Resident memory.\n"
                  "# TYPE process_resident_memory_bytes gauge\n"
                  "process_resident_memory_bytes %ld\n",
                  http_server_connections(gateway->server), pages * sysconf(_SC_PAGESIZE));
}

bool gateway_metrics_write(struct gateway *gateway, struct buffer *text) {
    struct gateway_metrics *metrics = gateway->metrics;
    pthread_mutex_lock(&metrics->lock);
    buffer_append_string(text, "# HELP guichet_gateway_requests_total Requests, by what became of them.\n"
                               "# TYPE guichet_gateway_requests_total counter\n");
    for (int i = 0; i < metrics->series_count; i++)
        buffer_printf(text, "guichet_gateway_requests_total{model=\"%s\",route=\"%s\",status=\"%d\"} %lu\n",
                      metrics->series[i].model, metrics->series[i].route, metrics->series[i].status,
                      metrics->series[i].count);
    durations_write(metrics, text);
    pthread_mutex_unlock(&metrics->lock);
    pthread_mutex_lock(&gateway->lock);
    replicas_write(gateway, text);
    pthread_mutex_unlock(&gateway->lock);
    process_write(gateway, text);
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;
    char *more = supervisor && supervisor->metrics ? supervisor->metrics(supervisor->context) : NULL;
    if (more)
        buffer_append_string(text, more);
    free(more);
    return !text->failed;
}
