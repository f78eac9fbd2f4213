#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "engine/engine.h"
#include "ops/operator.h"
#include "passes/passes.h"
#include "train/differentiate.h"

enum { OPSET = 13 }; /* of the loss */

struct trained_value {
    int id; /* of the constant in the graph */
    struct train_slot slot;
    float *gradient; /* the sum over the parts of a batch */
    struct tensor tensor;
};

struct trainer {
    const struct graph *graph;
    struct trainer_options options;
    struct trained_value *parameters; /* [count] */
    int count;
    int64_t step, classes;
    struct engine *engine;
    struct engine_context *context;
    struct tensor *inputs;  /* [2 + count] photos, targets, parameters */
    struct tensor *outputs; /* [1 + count] loss, gradients */
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to train the network");
}

void trainer_free(struct trainer *trainer) {
    if (!trainer)
        return;

    engine_context_free(trainer->context);
    engine_free(trainer->engine);
    for (int i = 0; i < trainer->count; i++) {
        free(trainer->parameters[i].slot.weights);
        free(trainer->parameters[i].slot.first);
        free(trainer->parameters[i].slot.second);
        free(trainer->parameters[i].gradient);
    }
    free(trainer->parameters);
    free(trainer->inputs);
    free(trainer->outputs);
    free(trainer);
}

/* ---- What is trained ---- */

/* Does the node read weights there? */
static bool reads_weights(const struct node *node, int input) {
    bool product = node_is(node, "Conv") || node_is(node, "Gemm") || node_is(node, "LayerNormalization") ||
                   node_is(node, "BatchNormalization");
    if (product)
        return input == 1 || input == 2;
    return node_is(node, "MatMul") || node_is(node, "Add") || node_is(node, "Mul");
}

/* Single numbers are parts of formulas. */
static bool is_parameter(const struct value *value) {
    const struct tensor *constant = value->constant;
    if (!constant || constant->dtype != DTYPE_F32 || shape_elements(&constant->shape) < 2)
        return false;
    for (int i = 0; i < value->use_count; i++)
        if (!reads_weights(value->uses[i].node, value->uses[i].input))
            return false;
    return value->use_count > 0;
}

static bool add_parameter(struct trainer *trainer, const struct value *value, struct error *error) {
    int64_t count = shape_elements(&value->constant->shape);
    size_t bytes = (size_t)count * sizeof(float);
    struct trained_value parameter = {.id = value->id};
    parameter.slot = (struct train_slot){.weights = malloc(bytes),
                                         .first = calloc(1, bytes),
                                         .second = calloc(1, bytes),
                                         .count = count,
                                         .decays = value->constant->shape.rank > 1};
    parameter.gradient = calloc(1, bytes);
    parameter.slot.gradient = parameter.gradient;
    parameter.tensor = (struct tensor){DTYPE_F32, value->constant->shape, parameter.slot.weights};
    trainer->parameters[trainer->count++] = parameter;
    if (!parameter.slot.weights || !parameter.slot.first || !parameter.slot.second || !parameter.gradient)
        return no_memory(error);

    memcpy(parameter.slot.weights, value->constant->data, bytes);
    return true;
}

static bool find_parameters(struct trainer *trainer, struct error *error) {
    const struct graph *graph = trainer->graph;
    trainer->parameters = calloc((size_t)graph->value_count + 1, sizeof *trainer->parameters);
    if (!trainer->parameters)
        return no_memory(error);

    for (int i = 0; i < graph->value_count; i++)
        if (is_parameter(graph->values[i]) && !add_parameter(trainer, graph->values[i], error))
            return false;
    return trainer->count || error_set(error, ERROR_MODEL, "the network has no weights to train");
}

/* ---- The graph of a step ---- */

static struct value *add_input(struct graph *graph, const char *name, const struct shape *shape) {
    struct value *value = graph_add_value(graph, name);
    if (!value)
        return NULL;
    value->dtype = DTYPE_F32;
    value->shape = *shape;
    return graph_add_input(graph, value) ? value : NULL;
}

static struct value *apply(struct graph *graph, const char *op_type, struct value *a, struct value *b) {
    struct value *inputs[] = {a, b}, *output = a ? graph_add_value(graph, "") : NULL;
    if (!output || !operator_add_node(graph, NULL, "", op_type, OPSET, inputs, b ? 2 : 1, output))
        return NULL;
    return output;
}

/* -Σ targets·log softmax(logits) / rows */
static struct value *add_loss(struct graph *graph, struct value *logits, struct value *targets,
                              int64_t rows) {
    const struct shape scalar = {.rank = 0};
    float *share = graph_own_memory(graph, sizeof *share);
    if (!share)
        return NULL;

    *share = -1 / (float)rows;
    struct value *factor = graph_add_constant(graph, "share", DTYPE_F32, &scalar, share);
    struct value *product = factor ? apply(graph, "LogSoftmax", logits, NULL) : NULL;
    product = product ? apply(graph, "Mul", product, targets) : NULL;
    struct value *sum = product ? apply(graph, "ReduceSum", product, NULL) : NULL;
    return sum ? apply(graph, "Mul", sum, factor) : NULL;
}

static bool set_output(struct graph *graph, struct value *value) {
    for (int i = 0; i < graph->output_count; i++)
        graph->outputs[i]->is_output = false;
    graph->output_count = 0;
    return value && graph_add_output(graph, value);
}

/* The network with weights that are given, and the loss as its one output. */
static bool open_graph(struct trainer *trainer, struct graph *graph, struct error *error) {
    int64_t rows = trainer->options.input.dims[0];
    const struct shape *logits = &graph->outputs[0]->shape;
    trainer->classes = logits->rank == 2 ? logits->dims[1] : 0;
    if (graph->input_count != 1 || graph->output_count != 1 || trainer->classes < 1 || rows < 1)
        return error_set(error, ERROR_MODEL, "only a network with one input and one output can be trained");

    const struct shape target_shape = {.rank = 2, .dims = {rows, trainer->classes}};
    struct value *scores = graph->outputs[0], *targets = add_input(graph, "targets", &target_shape);
    for (int i = 0; targets && i < trainer->count; i++) {
        struct value *value = graph->values[trainer->parameters[i].id];
        value->dtype = DTYPE_F32;
        value->shape = trainer->parameters[i].tensor.shape;
        value->constant = NULL;
        if (!graph_add_input(graph, value))
            return no_memory(error);
    }

    struct value *loss = targets ? add_loss(graph, scores, targets, rows) : NULL;
    if (!set_output(graph, loss))
        return no_memory(error);

    struct tensor *shapes = trainer->inputs;
    shapes[0] = (struct tensor){DTYPE_F32, trainer->options.input, NULL};
    shapes[1] = (struct tensor){DTYPE_F32, target_shape, NULL};
    for (int i = 0; i < trainer->count; i++)
        shapes[2 + i] = (struct tensor){DTYPE_F32, trainer->parameters[i].tensor.shape, NULL};
    return passes_specialize(graph, shapes, 2 + trainer->count, error);
}

static bool add_gradients(struct trainer *trainer, struct graph *graph, struct error *error) {
    struct value **gradients = calloc((size_t)trainer->count + 1, sizeof(struct value *));
    bool done = gradients ? train_differentiate(graph, graph->outputs[0], graph->inputs + 2, trainer->count,
                                                gradients, error)
                          : no_memory(error);
    for (int i = 0; done && i < trainer->count; i++) {
        struct value *output = apply(graph, "Identity", gradients[i], NULL);
        done = output && graph_add_output(graph, output) ? operator_infer(output->producer, error)
                                                         : no_memory(error);
    }
    free(gradients);
    return done;
}

static bool make_engine(struct trainer *trainer, struct error *error) {
    const struct engine_options options = {.precision = PRECISION_F32, .threads = trainer->options.threads};
    struct graph *graph = graph_clone(trainer->graph);
    trainer->inputs = calloc((size_t)trainer->count + 2, sizeof *trainer->inputs);
    trainer->outputs = calloc((size_t)trainer->count + 1, sizeof *trainer->outputs);
    if (!graph || !trainer->inputs || !trainer->outputs) {
        graph_free(graph);
        return no_memory(error);
    }
    if (!open_graph(trainer, graph, error) || !add_gradients(trainer, graph, error)) {
        graph_free(graph);
        return false;
    }

    trainer->engine = engine_load_graph(graph, &options, error);
    trainer->context = trainer->engine ? engine_context_create(trainer->engine, error) : NULL;
    for (int i = 0; i < trainer->count; i++)
        trainer->inputs[2 + i].data = trainer->parameters[i].slot.weights;
    return trainer->context != NULL;
}

struct trainer *trainer_create(const struct graph *graph, const struct trainer_options *options,
                               struct error *error) {
    struct trainer *trainer = calloc(1, sizeof *trainer);
    if (!trainer) {
        no_memory(error);
        return NULL;
    }

    *trainer = (struct trainer){.graph = graph, .options = *options};
    if (trainer->options.parts < 1)
        trainer->options.parts = 1;
    if (find_parameters(trainer, error) && make_engine(trainer, error))
        return trainer;

    trainer_free(trainer);
    return NULL;
}

int64_t trainer_parameter_count(const struct trainer *trainer) {
    int64_t sum = 0;
    for (int i = 0; i < trainer->count; i++)
        sum += trainer->parameters[i].slot.count;
    return sum;
}

int64_t trainer_step_count(const struct trainer *trainer) {
    return trainer->step;
}

/* ---- Steps ---- */

/* One part of a batch; its share of the gradients is added. */
static bool run_part(struct trainer *trainer, int part, const float *inputs, const float *targets,
                     double *loss, struct error *error) {
    int64_t rows = trainer->options.input.dims[0], row = shape_elements(&trainer->options.input) / rows;
    float share = 1 / (float)trainer->options.parts;
    trainer->inputs[0].data = (void *)(inputs + part * rows * row);
    trainer->inputs[1].data = (void *)(targets + part * rows * trainer->classes);
    if (!engine_run(trainer->context, trainer->inputs, 2 + trainer->count, trainer->outputs,
                    1 + trainer->count, error))
        return false;

    *loss += tensor_get_f64(&trainer->outputs[0], 0) / trainer->options.parts;
    for (int i = 0; i < trainer->count; i++) {
        const float *from = trainer->outputs[1 + i].data;
        float *to = trainer->parameters[i].gradient;
        for (int64_t j = 0; j < trainer->parameters[i].slot.count; j++)
            to[j] = (part ? to[j] : 0) + share * from[j];
    }
    return true;
}

bool trainer_step(struct trainer *trainer, const float *inputs, const float *targets, double *ret_loss,
                  struct error *error) {
    double loss = 0;
    for (int part = 0; part < trainer->options.parts; part++)
        if (!run_part(trainer, part, inputs, targets, &loss, error))
            return false;
    if (!isfinite(loss))
        return error_set(error, ERROR_MODEL, "the loss is no number after %lld steps: take a lower rate",
                         (long long)trainer->step);

    for (int i = 0; i < trainer->count; i++)
        train_update(&trainer->options.optimizer, trainer->step, &trainer->parameters[i].slot);
    trainer->step++;
    *ret_loss = loss;
    return true;
}

struct graph *trainer_graph(const struct trainer *trainer, struct error *error) {
    struct graph *graph = graph_clone(trainer->graph);
    for (int i = 0; graph && i < trainer->count; i++) {
        const struct trained_value *parameter = &trainer->parameters[i];
        struct tensor *constant = arena_allocate(graph->arena, sizeof *constant);
        size_t bytes = tensor_bytes(&parameter->tensor);
        void *data = constant ? graph_own_memory(graph, bytes) : NULL;
        if (!data) {
            graph_free(graph);
            graph = NULL;
            break;
        }
        memcpy(data, parameter->slot.weights, bytes);
        *constant = (struct tensor){DTYPE_F32, parameter->tensor.shape, data};
        graph->values[parameter->id]->constant = constant;
    }
    if (!graph)
        no_memory(error);
    return graph;
}

/* ---- Checkpoints ---- */

struct checkpoint_head {
    char magic[8];
    uint64_t key;
    int64_t step, numbers;
};
#define CHECKPOINT_MAGIC "guitrn01"

/* The same for trainers whose checkpoints fit each other. */
static uint64_t key_of(const struct trainer *trainer) {
    const struct train_optimizer *o = &trainer->options.optimizer;
    const double facts[] = {o->method,          o->rate,          o->momentum,
                            o->beta1,           o->beta2,         o->decay,
                            (double)o->warm_up, (double)o->steps, trainer->options.parts};
    uint64_t key = hash_bytes(HASH_START, facts, sizeof facts);
    key = hash_bytes(key, trainer->options.input.dims, sizeof(int64_t) * (size_t)trainer->options.input.rank);
    for (int i = 0; i < trainer->count; i++)
        key = hash_bytes(key, trainer->parameters[i].tensor.shape.dims,
                         sizeof(int64_t) * (size_t)trainer->parameters[i].tensor.shape.rank);
    return key;
}

static bool write_checkpoint(const void *context, FILE *file) {
    const struct trainer *trainer = context;
    struct checkpoint_head head = {
        .key = key_of(trainer), .step = trainer->step, .numbers = trainer_parameter_count(trainer)};
    memcpy(head.magic, CHECKPOINT_MAGIC, sizeof head.magic);
    bool done = fwrite(&head, sizeof head, 1, file) == 1;
    for (int i = 0; done && i < trainer->count; i++) {
        const struct train_slot *slot = &trainer->parameters[i].slot;
        size_t count = (size_t)slot->count;
        done = fwrite(slot->weights, sizeof(float), count, file) == count &&
               fwrite(slot->first, sizeof(float), count, file) == count &&
               fwrite(slot->second, sizeof(float), count, file) == count;
    }
    return done;
}

bool trainer_save(const struct trainer *trainer, const char *path, struct error *error) {
    return file_write_with(path, write_checkpoint, trainer, error);
}

static const uint8_t *take(const uint8_t *from, float *to, int64_t count) {
    memcpy(to, from, (size_t)count * sizeof *to);
    return from + (size_t)count * sizeof *to;
}

bool trainer_restore(struct trainer *trainer, const char *path, struct error *error) {
    struct file_map map;
    struct checkpoint_head head;
    size_t numbers = (size_t)trainer_parameter_count(trainer);
    if (!file_map_open(path, sizeof head + numbers * 3 * sizeof(float), &map, error))
        return false;

    bool fits = map.size == sizeof head + numbers * 3 * sizeof(float);
    if (fits) {
        memcpy(&head, map.bytes, sizeof head);
        fits = memcmp(head.magic, CHECKPOINT_MAGIC, sizeof head.magic) == 0 && head.key == key_of(trainer) &&
               head.numbers == (int64_t)numbers && head.step >= 0;
    }

    const uint8_t *from = map.bytes + sizeof head;
    for (int i = 0; fits && i < trainer->count; i++) {
        struct train_slot *slot = &trainer->parameters[i].slot;
        from = take(take(take(from, slot->weights, slot->count), slot->first, slot->count), slot->second,
                    slot->count);
    }
    if (fits)
        trainer->step = head.step;
    file_map_close(&map);
    return fits || error_set(error, ERROR_INVALID,
                             "%s: it is a checkpoint of another training, or damaged: remove it", path);
}
