#include "model/directory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *model_directory_default(void) {
    const char *own = getenv("GUICHET_MODELS"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (own && *own)
        return strdup(own);
    int written = -1;
    if (data && data[0] == '/')
        written = asprintf(&path, "%s/guichet/models", data);
    else if (home && *home)
        written = asprintf(&path, "%s/.local/share/guichet/models", home);
    return written < 0 ? NULL : path;
}

bool model_name_valid(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= MODEL_NAME_BYTES || !isalnum((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
            return false;
    return true;
}
