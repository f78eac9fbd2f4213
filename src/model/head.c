#include "model/head.h"

#include <string.h>

#include "model/config.h"

enum problem { PROBLEM_NOT_STATED, PROBLEM_ONE_LABEL, PROBLEM_MANY_LABELS, PROBLEM_OTHER };

struct statement {
    enum problem problem;
    const char *source; /* the file and field that say so */
    const char *value;
};

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static bool parse_problem(const char *name, enum problem *ret) {
    static const struct {
        const char *name;
        enum problem problem;
    } names[] = {
        {"single_label_classification", PROBLEM_ONE_LABEL},
        {"multi_label_classification", PROBLEM_MANY_LABELS},
        {"regression", PROBLEM_OTHER},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i].name) == 0) {
            *ret = names[i].problem;
            return true;
        }

    return false;
}

/* Are these real class names, and not the placeholders (LABEL_0, LABEL_1 …) of a default configuration? */
static bool has_own_labels(const json_t *config) {
    const json_t *labels = json_object_get(config, "id2label"), *value;
    const char *key;
    size_t index;
    json_object_foreach((json_t *)labels, key, value) {
        if (!json_is_string(value) || !starts_with(json_string_value(value), "LABEL_"))
            return true;
    }
    json_array_foreach(labels, index, value) {
        if (!json_is_string(value) || !starts_with(json_string_value(value), "LABEL_"))
            return true;
    }

    return false;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Hugging Face's class names: SwinForImageClassification has classes; SwinModel and GLPNForDepthEstimation
 * have none. Names of another kind say nothing. */
static bool is_other_architecture(const char *name) {
    const char *task = strstr(name, "For");
    if (strstr(name, "Classification"))
        return false;
    if (task && task[3] >= 'A' && task[3] <= 'Z')
        return true;
    return ends_with(name, "Model") || ends_with(name, "WithProjection") || ends_with(name, "Backbone");
}

static bool read_problem_type(const json_t *config, const char *path, struct arena *arena,
                              struct statement *ret, struct error *error) {
    const json_t *value = json_object_get(config, "problem_type");
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || !parse_problem(json_string_value(value), &ret->problem))
        return error_set(
            error, ERROR_MODEL,
            "%s: 'problem_type' is not single_label_classification, multi_label_classification or "
            "regression",
            path);

    ret->source = "config.json: problem_type";
    ret->value = arena_copy_string(arena, json_string_value(value), json_string_length(value));
    return ret->value || error_set(error, ERROR_MEMORY, "not enough memory for a model");
}

static bool read_architecture(const json_t *config, struct arena *arena, struct statement *ret,
                              struct error *error) {
    const json_t *value = json_array_get(json_object_get(config, "architectures"), 0);
    const char *name = json_string_value(value);
    if (!name || !is_other_architecture(name) || has_own_labels(config))
        return true;

    ret->problem = PROBLEM_OTHER;
    ret->source = "config.json: architectures";
    ret->value = arena_copy_string(arena, name, strlen(name));
    return ret->value || error_set(error, ERROR_MEMORY, "not enough memory for a model");
}

/* Ultralytics write the task, others Hugging Face's problem_type. What else stands there is not ours to read.
 */
static void read_metadata(const struct onnx_metadata *metadata, struct statement *ret) {
    const char *type = onnx_metadata_find(metadata, "problem_type");
    const char *task = onnx_metadata_find(metadata, "task");
    if (type && parse_problem(type, &ret->problem)) {
        ret->source = "the network's metadata: problem_type";
        ret->value = type;
    } else if (task && (strcmp(task, "detect") == 0 || strcmp(task, "segment") == 0 ||
                        strcmp(task, "pose") == 0 || strcmp(task, "obb") == 0)) {
        ret->problem = PROBLEM_OTHER;
        ret->source = "the network's metadata: task";
        ret->value = task;
    }
}

static void read_output_name(const char *name, bool has_labels, struct statement *ret) {
    static const char *const others[] = {"image_embeds",      "embeddings",    "embedding",       "features",
                                         "last_hidden_state", "pooler_output", "image_embeddings"};
    for (size_t i = 0; !has_labels && i < sizeof others / sizeof others[0]; i++)
        if (strcmp(name, others[i]) == 0)
            *ret = (struct statement){PROBLEM_OTHER, "the output's name", others[i]};
}

/* What the model's files say, the plainest first. */
static bool read_statement(const char *folder, const struct onnx_metadata *metadata, const char *output,
                           struct arena *arena, struct statement *ret, struct error *error) {
    struct statement statement = {0};
    const char *path = arena_printf(arena, "%s/config.json", folder);
    if (!path)
        return error_set(error, ERROR_MEMORY, "not enough memory for a model");

    json_t *config = config_read(path, JSON_OBJECT, error);
    if (!config && error->code != ERROR_NOT_FOUND)
        return false;

    bool has_labels = has_own_labels(config);
    bool done = read_problem_type(config, path, arena, &statement, error) &&
                (statement.source || read_architecture(config, arena, &statement, error));
    json_decref(config);
    if (!done)
        return false;

    if (!statement.source)
        read_metadata(metadata, &statement);
    if (!statement.source)
        read_output_name(output, has_labels, &statement);
    *ret = statement;
    return true;
}

/* Of scores that are not stated to be anything. */
static struct head find_by_operators(enum engine_ending ending, int classes) {
    static const char last[] = "the network's last operators";
    switch (ending) {
    case ENGINE_ENDING_SOFTMAX:
        return (struct head){HEAD_PROBABILITIES, last, NULL};
    case ENGINE_ENDING_LOG_SOFTMAX:
        return (struct head){HEAD_LOG_PROBABILITIES, last, NULL};
    case ENGINE_ENDING_SIGMOID:
        return (struct head){HEAD_INDEPENDENT, last, NULL};
    case ENGINE_ENDING_LINEAR:
    case ENGINE_ENDING_UNKNOWN:
        break;
    }

    if (classes == 1)
        return (struct head){HEAD_SIGMOID, "the only output", NULL};
    return (struct head){ending == ENGINE_ENDING_LINEAR ? HEAD_SOFTMAX : HEAD_BY_VALUES, "assumed", NULL};
}

bool head_find(const char *folder, const struct onnx_metadata *metadata, const struct engine *engine,
               int output, int classes, struct arena *arena, struct head *ret, struct error *error) {
    struct statement statement = {0};
    if (!read_statement(folder, metadata, engine_output(engine, output)->name, arena, &statement, error))
        return false;

    struct head head = find_by_operators(engine_output_ending(engine, output), classes);
    if (statement.problem == PROBLEM_OTHER) {
        const char *reason = arena_printf(arena, "%s is \"%.80s\"", statement.source, statement.value);
        head = (struct head){HEAD_NONE, statement.source, reason};
        if (!reason)
            return error_set(error, ERROR_MEMORY, "not enough memory for a model");
    } else if (statement.problem == PROBLEM_MANY_LABELS &&
               (head.kind == HEAD_SOFTMAX || head.kind == HEAD_BY_VALUES)) {
        head = (struct head){HEAD_SIGMOID, statement.source, NULL};
    } else if (statement.problem == PROBLEM_ONE_LABEL && head.kind == HEAD_SOFTMAX) {
        head.source = statement.source;
    }

    *ret = head;
    return true;
}
