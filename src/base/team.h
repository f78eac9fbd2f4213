/* How many threads a computation gets by default: as many as the process may run at once, or fewer
 * where OMP_NUM_THREADS says so. */
#pragma once
#include <omp.h>

/* At least 1. Call it before omp_set_num_threads, whose number it would return. */
static inline int team_default_size(void) {
    int team = omp_get_max_threads(), processors = omp_get_num_procs(); /* those of sched_getaffinity */
    int least = team < processors ? team : processors;
    return least < 1 ? 1 : least;
}
