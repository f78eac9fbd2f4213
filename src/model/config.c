#include "model/config.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"

json_t *config_read(const char *path, json_type type, struct error *error) {
    size_t size;
    cleanup(freep) char *text = file_read(path, LIMIT_CONFIG_BYTES, &size, error);
    if (!text)
        return NULL;

    json_error_t position;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &position);
    if (!root) {
        error_set(error, ERROR_MODEL, "%s: line %d: %s", path, position.line, position.text);
        return NULL;
    }

    if (json_typeof(root) != type) {
        json_decref(root);
        error_set(error, ERROR_MODEL, "%s: not a JSON %s", path, type == JSON_ARRAY ? "list" : "object");
        return NULL;
    }

    return root;
}
