#include "model/name.h"

#include <string.h>

static bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A name without ':'. */
static bool part_valid(const char *name, size_t length) {
    if (length == 0 || length > MODEL_NAME_PART || !is_letter_or_digit(name[0]))
        return false;

    for (size_t i = 1; i < length; i++)
        if (!is_letter_or_digit(name[i]) && name[i] != '-' && name[i] != '_' && name[i] != '.')
            return false;

    return true;
}

bool model_name_valid(const char *name, size_t length) {
    const char *colon = memchr(name, ':', length);
    if (!colon)
        return part_valid(name, length);

    size_t folder = (size_t)(colon - name);
    return part_valid(name, folder) && part_valid(colon + 1, length - folder - 1);
}

bool model_folder_name_valid(const char *name) {
    return part_valid(name, strlen(name));
}
