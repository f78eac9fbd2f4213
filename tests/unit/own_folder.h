/* For tests that write files: a folder of their own in /tmp, made before a test or a group and removed after.
 * Functions are static: one folder a program. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"

static char folder[64];

static inline int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/guichet-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* The path of a file in the folder; valid for the next three calls. */
static inline char *in_folder(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline void write_bytes(const char *name, const void *bytes, size_t size) {
    struct error error;
    assert_true(file_write(in_folder(name), bytes, size, &error));
}

static inline void write_text(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}
