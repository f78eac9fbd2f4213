/* Running a plan: one arena of memory, and every primitive bound to its part of it. */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "base/clock.h"
#include "ops/operator.h"
#include "plan/plan.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

struct plan_run {
    const struct plan *plan;
    unsigned char *memory;         /* [plan->arena_bytes] */
    struct execution **executions; /* [step_count]; NULL where the step is no primitive */
    bool looks, strange;           /* see plan_run_look */
    int64_t *times;                /* [step_count]; NULL without profile */
    const void *const *inputs;     /* of the current run */
    const void **bound_inputs;     /* [input_count] what primitives were last bound to */
    struct tensor *tensors;        /* of the current step, as many as the widest step has */
    void **pointers;               /* likewise */
};

static void *tensor_pointer(const struct plan_run *run, const struct plan_tensor *tensor) {
    switch (tensor->memory) {
    case PLAN_MEMORY_ARENA:
        return run->memory + tensor->storage->offset + tensor->offset;
    case PLAN_MEMORY_CONSTANT:
        return (char *)tensor->constant + tensor->offset;
    default:
        return run->inputs ? (char *)run->inputs[tensor->input] + tensor->offset : NULL;
    }
}

static bool bind_primitive(struct plan_run *run, int index, struct error *error) {
    const struct step *step = &run->plan->steps[index];
    struct execution *execution = execution_create(step->primitive, error);
    if (!execution)
        return error_prefix(error, "%s", step->name);

    run->executions[index] = execution;
    for (int i = 0; i < step->argument_count; i++)
        execution_set(execution, step->roles[i], tensor_pointer(run, step->arguments[i]));
    execution_set(execution, ARGUMENT_SCRATCHPAD, run->memory + run->plan->scratch_offset);
    return true;
}

/* On huge pages where it fills several: a run writes and reads all of it, over and over. */
static void *allocate_arena(size_t bytes) {
    size_t alignment = bytes >= 4 * HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 4096;
    size_t size = size_align(bytes + 64, alignment);
    void *memory = aligned_alloc(alignment, size);

    if (memory && alignment == HUGE_PAGE_BYTES)
        madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

/* Arguments of the step that has most, and one more. */
static size_t widest_step(const struct plan *plan) {
    size_t widest = 1;

    for (int i = 0; i < plan->step_count; i++)
        if ((size_t)plan->steps[i].argument_count >= widest)
            widest = (size_t)plan->steps[i].argument_count + 1;
    return widest;
}

static bool run_allocate(struct plan_run *run, bool profile) {
    const struct plan *plan = run->plan;
    size_t steps = (size_t)plan->step_count + 1, widest = widest_step(plan);

    run->memory = allocate_arena(plan->arena_bytes);
    run->executions = calloc(steps, sizeof *run->executions);
    run->times = profile ? calloc(steps, sizeof *run->times) : NULL;
    run->bound_inputs = calloc((size_t)plan->input_count + 1, sizeof *run->bound_inputs);
    run->tensors = calloc(widest, sizeof *run->tensors);
    run->pointers = calloc(widest, sizeof *run->pointers);

    return run->memory && run->executions && run->bound_inputs && run->tensors && run->pointers &&
           (run->times || !profile);
}

struct plan_run *plan_run_create(const struct plan *plan, bool profile, struct error *error) {
    struct plan_run *run = calloc(1, sizeof *run);
    if (run)
        run->plan = plan;
    if (!run || !run_allocate(run, profile)) {
        plan_run_free(run);
        error_set(error, ERROR_MEMORY, "not enough memory for a context of %zu bytes", plan->arena_bytes);
        return NULL;
    }

    for (int i = 0; i < plan->step_count; i++)
        if (plan->steps[i].kind == STEP_PRIMITIVE && !bind_primitive(run, i, error)) {
            plan_run_free(run);
            return NULL;
        }
    return run;
}

void plan_run_free(struct plan_run *run) {
    if (!run)
        return;

    for (int i = 0; run->executions && i < run->plan->step_count; i++)
        execution_free(run->executions[i]);
    free(run->executions);
    free(run->times);
    free(run->bound_inputs);
    free(run->tensors);
    free(run->pointers);
    free(run->memory);
    free(run);
}

/* Primitives that read the model's inputs follow them to where the caller has them this time. */
static void bind_inputs(struct plan_run *run) {
    const struct plan *plan = run->plan;
    bool moved = false;

    for (int i = 0; i < plan->input_count; i++) {
        moved |= run->bound_inputs[i] != run->inputs[i];
        run->bound_inputs[i] = run->inputs[i];
    }
    if (!moved)
        return;

    for (int i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        for (int j = 0; run->executions[i] && j < step->argument_count; j++)
            if (step->arguments[j]->memory == PLAN_MEMORY_INPUT)
                execution_set(run->executions[i], step->roles[j], tensor_pointer(run, step->arguments[j]));
    }
}

static bool run_reference(struct plan_run *run, const struct step *step, struct error *error) {
    struct tensor *tensors = run->tensors;

    for (int i = 0; i < step->argument_count; i++) {
        const struct plan_tensor *tensor = step->arguments[i];
        tensors[i] = tensor ? (struct tensor){tensor->dtype, tensor->shape, tensor_pointer(run, tensor)}
                            : (struct tensor){0};
    }
    return step->node->op->compute(step->node, tensors, tensors + step->input_count, error);
}

static bool run_kernel(struct plan_run *run, const struct step *step, struct error *error) {
    void **pointers = run->pointers;

    for (int i = 0; i < step->argument_count; i++)
        pointers[i] = step->arguments[i] ? tensor_pointer(run, step->arguments[i]) : NULL;
    pointers[step->argument_count] = run->memory + run->plan->scratch_offset;
    return step->kernel(step, pointers, error);
}

static bool run_step(struct plan_run *run, int index, struct error *error) {
    const struct step *step = &run->plan->steps[index];

    switch (step->kind) {
    case STEP_PRIMITIVE:
        return execution_run(run->executions[index], error);
    case STEP_KERNEL:
        return run_kernel(run, step, error);
    default:
        return run_reference(run, step, error);
    }
}

/* An exponent of all ones: NaN or an infinity. */
#define HAS_STRANGE(type, data, count, exponent)           \
    ({                                                     \
        const type *bits = (data);                         \
        type found = 0;                                    \
        for (size_t i = 0; i < (count); i++)               \
            found |= (bits[i] & (exponent)) == (exponent); \
        found != 0;                                        \
    })

static bool is_strange(const struct plan_run *run, const struct plan_tensor *tensor) {
    const void *data = tensor_pointer(run, tensor);
    size_t bytes = plan_tensor_bytes(tensor);

    switch (tensor->dtype) {
    case DTYPE_F32:
        return HAS_STRANGE(uint32_t, data, bytes / 4, 0x7f800000u);
    case DTYPE_F64:
        return HAS_STRANGE(uint64_t, data, bytes / 8, 0x7ff0000000000000u);
    case DTYPE_F16:
        return HAS_STRANGE(uint16_t, data, bytes / 2, 0x7c00u);
    case DTYPE_BF16:
        return HAS_STRANGE(uint16_t, data, bytes / 2, 0x7f80u);
    default:
        return false;
    }
}

/* A primitive's arguments have roles; of the others, the results come last. */
static bool step_is_strange(const struct plan_run *run, const struct step *step) {
    for (int i = 0; i < step->argument_count; i++) {
        bool made = step->kind == STEP_PRIMITIVE ? step->roles[i] == ARGUMENT_DESTINATION
                                                 : i >= step->input_count && step->arguments[i];
        if (made && is_strange(run, step->arguments[i]))
            return true;
    }
    return false;
}

void plan_run_look(struct plan_run *run) {
    run->looks = true;
}

bool plan_run_was_strange(const struct plan_run *run) {
    return run->strange;
}

bool plan_run_execute(struct plan_run *run, const void *const *inputs, const void **outputs,
                      struct error *error) {
    const struct plan *plan = run->plan;
    run->inputs = inputs;
    run->strange = false;
    bind_inputs(run);

    for (int i = 0; i < plan->step_count; i++) {
        int64_t began = run->times ? clock_ns() : 0;
        if (!run_step(run, i, error))
            return error_prefix(error, "%s", plan->steps[i].name);
        if (run->looks && !run->strange)
            run->strange = step_is_strange(run, &plan->steps[i]);
        if (run->times)
            run->times[i] += clock_ns() - began;
    }

    for (int i = 0; outputs && i < plan->output_count; i++)
        outputs[i] = tensor_pointer(run, plan->outputs[i]);
    return true;
}

const int64_t *plan_run_times(const struct plan_run *run) {
    return run->times;
}
