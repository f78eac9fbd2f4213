/* Merge the `/metrics` of several processes into one Prometheus text, grouped by family. Counters of ended
 * processes are kept, so that no counter decreases when a model's process is replaced.
 *
 * Input is untrusted: sizes are bounded and malformed lines are skipped. Not thread-safe. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

struct metrics_merge;

struct metrics_merge *metrics_merge_create(void);     /* NULL: out of memory */
void metrics_merge_free(struct metrics_merge *merge); /* accepts NULL */

/* Read the current metrics of `source`. The pointer only identifies the source and is never dereferenced;
 * samples of different sources must differ in their labels. Skipped are families that describe the process
 * itself (process_…, guichet_build_info) and those in `left_out` (NULL-terminated, or NULL). */
void metrics_merge_read(struct metrics_merge *merge, const void *source, const char *text, size_t size,
                        const char *const *left_out);
/* The process of `source` has ended: keep its counters and histograms, which the next process adds to; drop
 * its gauges. */
void metrics_merge_close(struct metrics_merge *merge, const void *source);
/* Remove `source` and all its samples. */
void metrics_merge_forget(struct metrics_merge *merge, const void *source);

/* Append all samples, each family once. False: out of memory. */
bool metrics_merge_write(const struct metrics_merge *merge, struct buffer *text);
