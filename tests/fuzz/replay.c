/* Runs a fuzz target over the files of a folder, so that what once broke a parser is tried by every compiler
 * and in every build. TAP on standard output: one line for the whole folder. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static bool replay_file(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    struct error error;
    size_t size;
    char *bytes = file_read(path, 64u << 20, &size, &error);
    if (!bytes) {
        printf("# %s\n", error.message);
        return false;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)bytes, size);
    free(bytes);
    return true;
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : ".";
    DIR *entries = opendir(folder);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    int count = 0, failed = 0;
    for (const struct dirent *entry; entries && (entry = readdir(entries));)
        if (entry->d_name[0] != '.') {
            count++;
            failed += !replay_file(folder, entry->d_name);
        }
    if (entries)
        closedir(entries);
    printf("1..1\n%sok 1 - replay of %d inputs\n", failed ? "not " : "", count);
    return failed != 0;
}
