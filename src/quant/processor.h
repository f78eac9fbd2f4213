/* What this machine is called. Any thread. */
#pragma once
#include <stddef.h>

void processor_name(char *ret, size_t size);
