/* Lines of a service's log. Whoever reads them may be slow, or stop: a line that finds no room is dropped and
 * counted, and nobody waits. The next line that finds room is preceded by one that tells how many were lost.
 *
 * Any thread; lines of several threads do not mix. A program that only talks to a person uses stdio instead.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A line for standard error, without its newline; cut at LIMIT_LOG_LINE_BYTES. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line with its newline for standard output. `json`: so are the lines that tell of lost ones. */
void log_output(bool json, const char *line, size_t size);
/* Lines that were dropped since the process began, on both. */
uint64_t log_dropped(void);
