#include "model/config.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"

json_t *config_read(const char *path, json_type type, struct error *error) {
    size_t size;
    cleanup(freep) char *text = file_read(path, LIMIT_CONFIG_BYTES, &size, error);
    if (!text)
        return NULL;

    json_t *root = json_parse_python(text, size, error);
    if (!root) {
        error->code = error->code == ERROR_INVALID ? ERROR_MODEL : error->code;
        error_prefix(error, "%s", path);
        return NULL;
    }

    if (json_typeof(root) != type) {
        json_decref(root);
        error_set(error, ERROR_MODEL, "%s: not a JSON %s", path, type == JSON_ARRAY ? "list" : "object");
        return NULL;
    }

    return root;
}
