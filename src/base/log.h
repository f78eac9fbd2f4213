/* The log of a service. Writing never blocks: if the reader is slow or has stopped, lines are dropped and
 * counted, and the count is logged as soon as there is room again.
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
