/* The figures of several processes as one Prometheus text: what their `/metrics` said, put together by
 * family, with what ended processes counted kept, so that no counter goes backwards when a model's process
 * ends and another starts.
 *
 * Texts are read with bounds and without trust; a line that is no sample is left out. Not safe from two
 * threads. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

#define FIGURES_MOST 20000 /* samples of all sources together */

struct figures;

struct figures *figures_create(void);       /* NULL when memory is out */
void figures_free(struct figures *figures); /* NULL is welcome */

/* What the process of `source` says now. `source` is compared, never followed; samples of different sources
 * differ in their labels. Families that describe a process and not its work (process_…, guichet_build_info)
 * and those in `left_out` (NULL-terminated, or NULL) are left out. */
void figures_take(struct figures *figures, const void *source, const char *text, size_t size,
                  const char *const *left_out);
/* The process of `source` has ended: its counters and histograms stay and grow on with the next one's, its
 * gauges go. */
void figures_close(struct figures *figures, const void *source);
/* `source` itself is gone, and all that it ever counted. */
void figures_forget(struct figures *figures, const void *source);

/* All of it as text, each family once. False when memory is out. */
bool figures_write(const struct figures *figures, struct buffer *text);
