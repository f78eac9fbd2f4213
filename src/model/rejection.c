#include "model/rejection.h"

#include <math.h>
#include <string.h>

#include "model/config.h"

static bool read_number(const char *path, const json_t *rule, const char *name, double *ret,
                        struct error *error) {
    const json_t *value = json_object_get(rule, name);
    *ret = json_number_value(value);
    return (json_is_number(value) && isfinite(*ret)) ||
           error_set(error, ERROR_MODEL, "%s: '%s' is not a finite number", path, name);
}

static bool read_weights(const char *path, const json_t *rule, int classes, struct arena *arena,
                         struct rejection *ret, struct error *error) {
    const json_t *list = json_object_get(rule, "weights");
    if (!json_is_array(list) || json_array_size(list) != (size_t)classes)
        return error_set(error, ERROR_MODEL, "%s: 'weights' is not a list of %d numbers, one a class", path,
                         classes);

    double *weights = arena_allocate_array(arena, (size_t)classes, sizeof *weights);
    if (!weights)
        return error_set(error, ERROR_MEMORY, "not enough memory for a model's rejection rule");

    for (int i = 0; i < classes; i++) {
        const json_t *value = json_array_get(list, (size_t)i);
        weights[i] = json_number_value(value);
        if (!json_is_number(value) || !isfinite(weights[i]))
            return error_set(error, ERROR_MODEL, "%s: 'weights': entry %d is not a finite number", path, i);
    }
    ret->weights = weights;
    return true;
}

static bool read_rule(const char *path, const json_t *rule, int classes, struct arena *arena,
                      struct rejection *ret, struct error *error) {
    const char *method = json_string_value(json_object_get(rule, "method"));
    if (!method || strcmp(method, "linear") != 0)
        return error_set(error, ERROR_MODEL, "%s: 'method' is not \"linear\"", path);

    if (!read_number(path, rule, "bias", &ret->bias, error) ||
        !read_number(path, rule, "odds", &ret->odds, error) ||
        !read_number(path, rule, "unknown_below", &ret->unknown_below, error) ||
        !read_number(path, rule, "sure_from", &ret->sure_from, error))
        return false;
    if (ret->sure_from < ret->unknown_below)
        return error_set(error, ERROR_MODEL, "%s: 'sure_from' is less than 'unknown_below'", path);
    return read_weights(path, rule, classes, arena, ret, error);
}

bool rejection_load(const char *folder, int classes, struct arena *arena, struct rejection *ret,
                    struct error *error) {
    const char *path = arena_printf(arena, "%s/rejection.json", folder);
    if (!path)
        return error_set(error, ERROR_MEMORY, "not enough memory for a model's rejection rule");

    *ret = (struct rejection){0};
    json_t *rule = config_read(path, JSON_OBJECT, error);
    if (!rule)
        return error->code == ERROR_NOT_FOUND;

    bool done = read_rule(path, rule, classes, arena, ret, error);
    json_decref(rule);
    return done;
}

/* log(p / (1 - p)), also where float arithmetic has rounded p to 0 or 1. */
static double log_odds(double p) {
    const double least = 1e-9;
    p = p < least ? least : p > 1 - least ? 1 - least : p;
    return log(p / (1 - p));
}

enum model_knows rejection_judge(const struct rejection *rejection, const double *scores, int classes,
                                 double best) {
    if (!rejection->weights)
        return MODEL_KNOWS_UNJUDGED;

    double value = rejection->bias + rejection->odds * log_odds(best);
    for (int i = 0; i < classes; i++)
        value += rejection->weights[i] * scores[i];
    return value < rejection->unknown_below ? MODEL_KNOWS_NOT
           : value < rejection->sure_from   ? MODEL_KNOWS_PERHAPS
                                            : MODEL_KNOWS;
}
