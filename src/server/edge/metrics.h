/* What a tier counts and measures, and Prometheus' text of it (exposition format 0.0.4).
 *
 * A metric is found or made by its name and labels, once, and then used through its pointer, which lives as
 * long as the registry. Using one is atomic and takes no lock; so is every function here safe from any
 * thread. Functions on a NULL metric do nothing: that is what a registry that is full (LIMIT_METRIC_SERIES
 * series) or out of memory hands out. */
#pragma once
#include <stdint.h>

#include "base/buffer.h"

struct metrics;
struct metric;

enum metric_kind {
    METRIC_COUNTER,
    METRIC_GAUGE,
    METRIC_SECONDS, /* histogram of durations: 0.1 ms … 30 s */
    METRIC_SIZES,   /* histogram of small counts: 1 … 256 */
};

struct metrics *metrics_create(void); /* NULL when memory is out */
void metrics_free(struct metrics *metrics);

/* labels: "model=\"cats\",status=\"200\"", made with metrics_label; "" for none. name and help live as long
 * as the registry. One name is of one kind. */
struct metric *metrics_get(struct metrics *metrics, enum metric_kind kind, const char *name, const char *help,
                           const char *labels);
/* Append `name="value"` to a label text, escaped, with a comma where something is there already. Cuts what
 * does not fit. */
void metrics_label(char *labels, size_t size, const char *name, const char *value);

void metric_add(struct metric *metric, double amount);    /* counters (>= 0) and gauges */
void metric_set(struct metric *metric, double value);     /* gauges */
double metric_value(const struct metric *metric);         /* of counters and gauges; 0 for NULL */
void metric_observe(struct metric *metric, double value); /* histograms: seconds, or a size */

/* The whole registry as text, families in the order of their making. False when memory is out. */
bool metrics_write(struct metrics *metrics, struct buffer *text);
/* What every process says of itself: process_resident_memory_bytes, process_cpu_seconds_total,
 * process_open_fds, process_start_time_seconds, guichet_build_info. */
void metrics_write_process(struct buffer *text);
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
