/* Branches and loops whose course follows from what is computed: their bodies run turn by turn.
 * https://onnx.ai/onnx/operators/onnx__Loop.html */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/stages.h"
#include "ops/operator.h"

#define LIMIT_LOOP_TURNS 100000

static bool copy_tensor(struct stage_run *run, const struct node *node, struct tensor *tensor,
                        struct error *error) {
    size_t bytes = tensor_bytes(tensor);
    void *copy = stage_run_own(run, bytes);
    if (!copy)
        return node_memory_error(node, error);
    if (bytes)
        memcpy(copy, tensor->data, bytes);
    tensor->data = copy;
    return true;
}

/* --- What a turn gives, one after the other --- */

struct stacked {
    struct tensor first; /* of the first turn: type and shape; data is malloc'ed, of all turns */
    size_t bytes, capacity;
    int64_t turns;
};

static bool stack_add(struct stacked *stack, const struct node *node, const struct tensor *turn,
                      struct error *error) {
    size_t bytes = tensor_bytes(turn);
    if (stack->turns &&
        (turn->dtype != stack->first.dtype || !shape_equal(&turn->shape, &stack->first.shape)))
        return node_error(node, error, "its turns give results of different shapes");
    if (bytes && stack->bytes / bytes > LIMIT_TENSOR_ELEMENTS)
        return node_error(node, error, "its result would be too large");

    if (stack->bytes + bytes > stack->capacity) {
        size_t capacity = (stack->bytes + bytes) * 2;
        void *larger = realloc(stack->first.data, capacity);
        if (!larger)
            return node_memory_error(node, error);
        stack->first.data = larger;
        stack->capacity = capacity;
    }
    if (bytes)
        memcpy((char *)stack->first.data + stack->bytes, turn->data, bytes);
    stack->first.dtype = turn->dtype;
    stack->first.shape = turn->shape;
    stack->bytes += bytes;
    stack->turns++;
    return true;
}

/* The turns as one tensor, along `axis`; last turn first where `backward`. */
static bool stack_finish(struct stage_run *run, const struct node *node, const struct stacked *stack,
                         const struct value *declared, int64_t axis, bool backward, struct tensor *ret,
                         struct error *error) {
    struct shape one = stack->first.shape;
    enum dtype dtype = stack->first.dtype;
    if (!stack->turns) { /* as the body says it */
        one = declared->shape;
        dtype = declared->dtype;
        one.rank = one.rank < 0 ? 0 : one.rank;
        for (int i = 0; i < one.rank; i++)
            one.dims[i] = one.dims[i] < 0 ? 0 : one.dims[i];
    }
    if (axis < 0)
        axis += one.rank + 1;
    if (axis < 0 || axis > one.rank || one.rank >= LIMIT_TENSOR_RANK || !dtype_size(dtype))
        return node_error(node, error, "the shape of its result is not known, or has no axis %lld",
                          (long long)axis);

    struct shape shape = one;
    memmove(shape.dims + axis + 1, shape.dims + axis, (size_t)(one.rank - axis) * sizeof *shape.dims);
    shape.dims[axis] = stack->turns;
    shape.rank++;
    *ret = (struct tensor){dtype, shape, NULL};
    if (shape_elements(&shape) < 0)
        return node_error(node, error, "its result would be too large");
    ret->data = stage_run_own(run, tensor_bytes(ret));
    if (!ret->data)
        return node_memory_error(node, error);

    size_t inner = dtype_size(dtype), outer = 1;
    for (int64_t i = axis; i < one.rank; i++)
        inner *= (size_t)one.dims[i];
    for (int64_t i = 0; i < axis; i++)
        outer *= (size_t)one.dims[i];
    for (int64_t turn = 0; turn < stack->turns; turn++)
        for (size_t o = 0; o < outer; o++)
            memcpy((char *)ret->data + (o * (size_t)stack->turns + (size_t)turn) * inner,
                   (char *)stack->first.data +
                       ((size_t)(backward ? stack->turns - 1 - turn : turn) * outer + o) * inner,
                   inner);
    return true;
}

/* --- If --- */

static bool run_if(struct stage_run *run, const struct node *node, struct tensor *ret, struct error *error) {
    const struct tensor *condition = stage_run_input(run, node, 0);
    if (!condition || shape_elements(&condition->shape) != 1)
        return node_error(node, error, "its condition is not one number");

    bool taken = tensor_get_f64(condition, 0) != 0;
    const struct attribute *body = node_attribute(node, taken ? "then_branch" : "else_branch");
    cleanup(freep) struct tensor *outputs = calloc((size_t)body->graph->output_count + 1, sizeof *outputs);
    if (!outputs)
        return node_memory_error(node, error);
    if (!stage_run_body(run, node, body, NULL, outputs, error))
        return false;
    memcpy(ret, outputs, (size_t)node->output_count * sizeof *ret);
    return true;
}

/* --- Loops of both kinds --- */

/* What a loop holds from turn to turn. */
struct loop_state {
    const struct attribute *body;
    int inputs, outputs, carried; /* of the body: its own inputs; outputs; of those that are carried */
    int first_carried;            /* among the inputs */
    int first_made;               /* among the outputs: before it the carried ones, from 1 or 0 on */
    struct tensor *formal, *made;
    struct stacked *stacks; /* [outputs] */
};

static bool turning_init(struct loop_state *t, const struct attribute *body, int first_carried, int carried,
                         int first_made) {
    *t = (struct loop_state){.body = body,
                             .inputs = body->graph->input_count - body->captured_count,
                             .outputs = body->graph->output_count,
                             .carried = carried,
                             .first_carried = first_carried,
                             .first_made = first_made};
    t->formal = calloc((size_t)t->inputs + 1, sizeof *t->formal);
    t->made = calloc((size_t)t->outputs + 1, sizeof *t->made);
    t->stacks = calloc((size_t)t->outputs + 1, sizeof *t->stacks);
    return t->formal && t->made && t->stacks;
}

static void turning_release(struct loop_state *t) {
    for (int i = 0; t->stacks && i < t->outputs; i++)
        free(t->stacks[i].first.data);
    for (int i = 0; t->formal && i < t->carried; i++)
        free(t->formal[t->first_carried + i].data);
    free(t->formal);
    free(t->made);
    free(t->stacks);
}

/* A carried tensor in memory of its own. */
static bool carry(struct loop_state *t, const struct node *node, int index, const struct tensor *from,
                  struct error *error) {
    struct tensor *to = &t->formal[t->first_carried + index];
    size_t bytes = tensor_bytes(from);
    void *memory = malloc(bytes + 1);
    if (!memory)
        return node_memory_error(node, error);
    if (bytes)
        memcpy(memory, from->data, bytes);
    free(to->data);
    *to = (struct tensor){from->dtype, from->shape, memory};
    return true;
}

static bool take_turn(struct stage_run *run, struct loop_state *t, const struct node *node,
                      struct error *error) {
    if (!stage_run_body(run, node, t->body, t->formal, t->made, error))
        return false;
    for (int i = t->first_made + t->carried; i < t->outputs; i++)
        if (!stack_add(&t->stacks[i], node, &t->made[i], error))
            return false;
    for (int i = 0; i < t->carried; i++)
        if (!carry(t, node, i, &t->made[t->first_made + i], error))
            return false;
    return true;
}

/* The carried values as the node's first outputs. */
static bool give_carried(struct stage_run *run, struct loop_state *t, const struct node *node,
                         struct tensor *ret, struct error *error) {
    for (int i = 0; i < t->carried && i < node->output_count; i++) {
        ret[i] = t->formal[t->first_carried + i];
        if (!copy_tensor(run, node, &ret[i], error))
            return false;
    }
    return true;
}

/* A number that the loop makes, in the shape that the body wants it. */
static struct tensor single(const struct graph *body, int input, enum dtype dtype, void *data) {
    bool list = body->inputs[input]->shape.rank == 1;
    return (struct tensor){dtype, {list ? 1 : 0, {1}}, data};
}

static bool loop_turns(struct stage_run *run, struct loop_state *t, const struct node *node,
                       struct error *error) {
    const struct tensor *trips = stage_run_input(run, node, 0), *first = stage_run_input(run, node, 1);
    int64_t most = trips && t->body->first_captured > 0 ? tensor_get_i64(trips, 0) : INT64_MAX, turn = 0;
    uint8_t goes_on = first && t->body->first_captured > 1 ? tensor_get_f64(first, 0) != 0 : 1;

    t->formal[0] = single(t->body->graph, 0, DTYPE_I64, &turn);
    t->formal[1] = single(t->body->graph, 1, DTYPE_BOOL, &goes_on);
    for (; turn < most && goes_on; turn++) {
        if (turn == LIMIT_LOOP_TURNS)
            return node_error(node, error, "turns more than %d times", LIMIT_LOOP_TURNS);
        if (!take_turn(run, t, node, error))
            return false;
        if (shape_elements(&t->made[0].shape) != 1)
            return node_error(node, error, "its condition is not one number");
        goes_on = tensor_get_f64(&t->made[0], 0) != 0;
    }
    return true;
}

static bool run_loop(struct stage_run *run, const struct node *node, struct tensor *ret,
                     struct error *error) {
    const struct attribute *body = node_attribute(node, "body");
    struct loop_state t;
    bool done = turning_init(&t, body, 2, body->graph->input_count - body->captured_count - 2, 1) ||
                node_memory_error(node, error);
    for (int i = 0; done && i < t.carried; i++)
        done = carry(&t, node, i, stage_run_input(run, node, 2 + i), error);

    done = done && loop_turns(run, &t, node, error) && give_carried(run, &t, node, ret, error);
    for (int i = t.carried; done && i < node->output_count; i++)
        done =
            !stage_run_wants(run, node, i) ||
            stack_finish(run, node, &t.stacks[i + 1], body->graph->outputs[i + 1], 0, false, &ret[i], error);
    turning_release(&t);
    return done;
}

/* --- Scan --- */

static int64_t int_of(const struct node *node, const char *name, int index) {
    const int64_t *list;
    size_t count = node_ints(node, name, &list);
    return (size_t)index < count ? list[index] : 0;
}

/* Place `at` of an axis, as a tensor without that axis. */
static bool take_slice(struct stage_run *run, const struct node *node, const struct tensor *from, int axis,
                       int64_t at, struct tensor *to, struct error *error) {
    size_t inner = dtype_size(from->dtype), outer = 1, length = (size_t)from->shape.dims[axis];
    to->dtype = from->dtype;
    to->shape = from->shape;
    memmove(to->shape.dims + axis, to->shape.dims + axis + 1,
            (size_t)(from->shape.rank - axis - 1) * sizeof *to->shape.dims);
    to->shape.rank--;
    for (int i = axis + 1; i < from->shape.rank; i++)
        inner *= (size_t)from->shape.dims[i];
    for (int i = 0; i < axis; i++)
        outer *= (size_t)from->shape.dims[i];
    if (!to->data && !(to->data = stage_run_own(run, inner * outer)))
        return node_memory_error(node, error);
    for (size_t o = 0; o < outer; o++)
        memcpy((char *)to->data + o * inner, (const char *)from->data + (o * length + (size_t)at) * inner,
               inner);
    return true;
}

/* The axis of a scanned input, and that all are of one length. */
static bool scan_axis(const struct node *node, const struct tensor *tensor, int index, int64_t *length,
                      int *ret, struct error *error) {
    int64_t axis = int_of(node, "scan_input_axes", index);
    axis += axis < 0 ? tensor->shape.rank : 0;
    if (axis < 0 || axis >= tensor->shape.rank)
        return node_error(node, error, "an axis to scan is out of range");
    if (*length >= 0 && *length != tensor->shape.dims[axis])
        return node_error(node, error, "what it scans has different lengths");
    *length = tensor->shape.dims[axis];
    *ret = (int)axis;
    return true;
}

static bool scan_turns(struct stage_run *run, struct loop_state *t, const struct node *node,
                       struct error *error) {
    int64_t length = -1;
    int axis;
    for (int i = t->carried; i < t->inputs; i++)
        if (!scan_axis(node, stage_run_input(run, node, i), i - t->carried, &length, &axis, error))
            return false;
    if (length > LIMIT_LOOP_TURNS)
        return node_error(node, error, "turns more than %d times", LIMIT_LOOP_TURNS);

    for (int64_t turn = 0; turn < length; turn++) {
        for (int i = t->carried; i < t->inputs; i++) {
            const struct tensor *from = stage_run_input(run, node, i);
            bool backward = int_of(node, "scan_input_directions", i - t->carried) != 0;
            if (!scan_axis(node, from, i - t->carried, &length, &axis, error) ||
                !take_slice(run, node, from, axis, backward ? length - 1 - turn : turn, &t->formal[i], error))
                return false;
        }
        if (!take_turn(run, t, node, error))
            return false;
    }
    return true;
}

static bool run_scan(struct stage_run *run, const struct node *node, struct tensor *ret,
                     struct error *error) {
    const struct attribute *body = node_attribute(node, "body");
    int inputs = body->graph->input_count - body->captured_count;
    struct loop_state t;
    bool done = turning_init(&t, body, 0, inputs - (int)node_int(node, "num_scan_inputs", 0), 0) ||
                node_memory_error(node, error);
    for (int i = 0; done && i < t.carried; i++)
        done = carry(&t, node, i, stage_run_input(run, node, i), error);

    done = done && scan_turns(run, &t, node, error) && give_carried(run, &t, node, ret, error);
    for (int i = t.carried; done && i < node->output_count; i++)
        done = !stage_run_wants(run, node, i) ||
               stack_finish(run, node, &t.stacks[i], body->graph->outputs[i],
                            int_of(node, "scan_output_axes", i - t.carried),
                            int_of(node, "scan_output_directions", i - t.carried) != 0, &ret[i], error);
    turning_release(&t);
    return done;
}

bool control_run(struct stage_run *run, const struct node *node, struct tensor *ret, struct error *error) {
    return strcmp(node->op_type, "If") == 0     ? run_if(run, node, ret, error)
           : strcmp(node->op_type, "Loop") == 0 ? run_loop(run, node, ret, error)
                                                : run_scan(run, node, ret, error);
}
