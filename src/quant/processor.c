#include "quant/processor.h"

#include <stdio.h>
#include <string.h>

void processor_name(char *ret, size_t size) {
    char line[256];
    snprintf(ret, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            snprintf(ret, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }

    if (file)
        fclose(file);
}
