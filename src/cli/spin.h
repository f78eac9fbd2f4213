/* How long OpenMP's threads spin before they sleep: chosen before main; spin.c has the reasons. */
#pragma once

/* From now on shorter while others want the processors. Starts a thread; once, of a process that runs
 * networks.
 */
void spin_watch(void);
