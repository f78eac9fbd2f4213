/* The gateway's figures, as Prometheus text. Labels come from the table of routes and from fixed words alone,
 * so that no caller can make series. */
#include <stdio.h>
#include <stdlib.h>

#include "serve/gateway_private.h"

void gateway_metrics_count(struct gateway *gateway, const struct visit *visit, int status, double total_ms) {
    struct metrics *metrics = gateway->metrics;
    char labels[BACKEND_NAME_BYTES + 96] = "", code[16];
    metrics_label(labels, sizeof labels, "model", visit ? visit->model : "");
    metrics_label(labels, sizeof labels, "route", visit ? visit->route : "refused");
    metric_observe(metrics_get(metrics, METRIC_SECONDS, "guichet_gateway_request_seconds",
                               "From a request's first byte to its reply.", labels),
                   total_ms / 1e3);
    if (visit && visit->tries > 1)
        metric_add(metrics_get(metrics, METRIC_COUNTER, "guichet_gateway_retries_total",
                               "Times that a request was tried again.", labels),
                   visit->tries - 1);
    snprintf(code, sizeof code, "%d", status);
    metrics_label(labels, sizeof labels, "status", code);
    metric_add(metrics_get(metrics, METRIC_COUNTER, "guichet_gateway_requests_total",
                           "Requests, by what became of them.", labels),
               1);
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
            buffer_printf(text, "guichet_gateway_replica_up{model=\"%s\",replica=\"%s\"} %d\n",
                          gateway->table.routes[i]->model, replica->place,
                          replica->healthy && replica->ejected_until <= now);
        }
}

bool gateway_metrics_write(struct gateway *gateway, struct buffer *text) {
    metrics_write(gateway->metrics, text);
    pthread_mutex_lock(&gateway->lock);
    replicas_write(gateway, text);
    pthread_mutex_unlock(&gateway->lock);
    buffer_printf(text,
                  "# HELP guichet_gateway_connections Connections of callers.\n"
                  "# TYPE guichet_gateway_connections gauge\n"
                  "guichet_gateway_connections %d\n",
                  http_server_connections(gateway->server));
    metrics_write_process(text);
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;
    char *more = supervisor && supervisor->metrics ? supervisor->metrics(supervisor->context) : NULL;
    if (more)
        buffer_append_string(text, more);
    free(more);
    return !text->failed;
}
