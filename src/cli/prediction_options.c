#include "cli/prediction_options.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "cli/serving.h"

bool prediction_finish(const struct prediction_arguments *arguments, struct backend_options *ret,
                       struct error *error) {
    if (arguments->precision && !precision_parse(arguments->precision, &ret->precision))
        return error_set(error, ERROR_INVALID, "--precision %s: expected auto, f32 or bf16",
                         arguments->precision);

    if (arguments->kv && strcmp(arguments->kv, "f16") != 0 && strcmp(arguments->kv, "bf16") != 0 &&
        strcmp(arguments->kv, "q8_0") != 0)
        return error_set(error, ERROR_INVALID, "--kv %s: expected f16, bf16 or q8_0", arguments->kv);
    const char *sharing = arguments->prefix_sharing ? arguments->prefix_sharing : "shared";
    if (strcmp(sharing, "shared") != 0 && strcmp(sharing, "apart") != 0)
        return error_set(error, ERROR_INVALID, "--prefix-sharing %s: expected shared or apart", sharing);

    ret->context = arguments->context;
    ret->parallel = arguments->parallel;
    ret->kv = arguments->kv;
    ret->prefixes_apart = strcmp(sharing, "apart") == 0;
    ret->max_batch = arguments->max_batch;
    ret->max_wait_us = (int)(arguments->max_wait_ms * 1000);
    ret->queue_limit = arguments->queue;
    ret->timeout_ms = (int)(arguments->timeout_s * 1000);
    ret->allow_private = arguments->private_urls;
    return serving_body_limit(arguments->body_limit, &ret->body_limit, error);
}

/* The value of an option as a word; NULL where it was not given. `room`: where numbers are written. */
static const char *write_value(const struct option_spec *option, char room[32]) {
    switch (option->kind) {
    case OPTION_TEXT:
        return *(const char *const *)option->value;
    case OPTION_INT:
        snprintf(room, 32, "%d", *(const int *)option->value);
        return *(const int *)option->value ? room : NULL;
    case OPTION_REAL:
        snprintf(room, 32, "%.12g", *(const double *)option->value);
        return *(const double *)option->value > 0 ? room : NULL;
    case OPTION_FLAG:
    case OPTION_LIST:
        break;
    }
    return NULL;
}

void prediction_write_words(const struct prediction_arguments *arguments, struct prediction_words *ret) {
    struct prediction_arguments given = *arguments;
    const struct option_spec specs[] = {
        PREDICTION_SPECS(&given),
        {"body-limit", OPTION_TEXT, &given.body_limit, 0, 0},
        {"memory-budget", OPTION_TEXT, &given.memory_budget, 0, 0},
    };
    int count = 0;
    static_assert(sizeof specs / sizeof specs[0] == PREDICTION_OPTIONS, "a row each");

    for (size_t i = 0; i < PREDICTION_OPTIONS; i++) {
        const char *value = write_value(&specs[i], ret->values[i]);
        bool flag = specs[i].kind == OPTION_FLAG;
        if (flag ? !*(const bool *)specs[i].value : !value)
            continue;
        ret->words[count++] = ret->names[i];
        snprintf(ret->names[i], sizeof ret->names[i], "--%s", specs[i].name);
        if (!flag)
            ret->words[count++] = value;
    }
    ret->words[count] = NULL;
}
