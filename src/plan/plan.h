/* A plan: the steps that compute a model for one set of concrete input shapes, and where every tensor lies
 * meanwhile.
 *
 * lowering/ builds it on one thread; afterwards it is immutable and shared by the contexts that run it. All
 * intermediate tensors of a run lie in one arena, at offsets planned ahead: tensors whose lives do not
 * overlap share bytes. */
#pragma once
#include "graph/graph.h"
#include "plan/primitive.h"
#include "plan/weights.h"

/* Bytes of the arena with one life: one tensor's, or several views of the same bytes. */
struct plan_storage {
    size_t bytes, offset;
    int first_step, last_step; /* written first, read last; last_step of an output is the end */
    int tensor_count;          /* tensors that lie in it */
    bool is_output;            /* of the plan: lives to the end of a run, and until the next */
};

enum plan_memory { PLAN_MEMORY_ARENA, PLAN_MEMORY_CONSTANT, PLAN_MEMORY_INPUT };

struct plan_tensor {
    enum plan_memory memory;
    enum dtype dtype;
    struct shape shape;
    const struct layout *layout;  /* NULL: row-major, of a type or rank that oneDNN does not know */
    struct plan_storage *storage; /* PLAN_MEMORY_ARENA */
    const void *constant;         /* PLAN_MEMORY_CONSTANT */
    size_t offset;                /* bytes from where the storage, constant or input begins: a slice's */
    int input;                    /* PLAN_MEMORY_INPUT: which input of the model */
};

enum step_kind {
    STEP_PRIMITIVE, /* of oneDNN */
    STEP_KERNEL,    /* one of our own, over pointers */
    STEP_REFERENCE, /* the operator's reference kernel (ops/) */
};

struct step;
/* pointers[i] is argument i's memory, pointers[argument_count] the step's scratch. Runs on the calling
 * thread's OpenMP team. */
typedef bool (*step_kernel)(const struct step *step, void *const *pointers, struct error *error);

struct step {
    enum step_kind kind;
    const char *name;        /* the node's; for profiles and errors */
    const char *action;      /* "Conv+Relu", "reorder", … */
    const char *kernel_name; /* "guichet:attention", "reference", or oneDNN's name of the implementation */
    const struct primitive *primitive;
    step_kernel kernel;
    void *parameters; /* of the kernel, in the plan's arena */
    const struct node *node;
    struct plan_tensor *const *arguments; /* [argument_count]; NULL for an input left out (STEP_REFERENCE) */
    const enum primitive_argument *roles; /* [argument_count], STEP_PRIMITIVE */
    int argument_count, input_count;      /* STEP_KERNEL and STEP_REFERENCE: inputs first, then outputs */
    size_t scratch_bytes;
    double flops; /* multiply-adds count two; 0 where it is neither a convolution nor a matmul */
};

struct plan {
    struct arena *arena; /* steps, tensors, parameters */
    struct primitive_pool *pool;
    struct graph *graph;           /* the nodes that reference steps point at; owned */
    struct weights_store *weights; /* shared by the engine's plans; not owned */
    struct step *steps;
    int step_count, step_capacity;
    struct plan_storage **storages;
    int storage_count, storage_capacity;
    struct plan_tensor **outputs; /* [output_count] row-major, of the model's types */
    int output_count, input_count;
    void **owned; /* malloc'ed constants of this plan alone */
    int owned_count, owned_capacity;
    size_t owned_bytes;
    size_t arena_bytes; /* of a run: tensors, then the scratch of the step that needs most */
    size_t scratch_offset;
};

/* Takes the graph over, but on failure. NULL when memory is out. */
struct plan *plan_create(struct graph *graph, struct weights_store *weights, struct error *error);
void plan_free(struct plan *plan);

/* Building: one thread. All return NULL (or false) when memory is out. */
struct plan_tensor *plan_add_tensor(struct plan *plan, enum dtype dtype, const struct shape *shape,
                                    const struct layout *layout);
/* The same bytes in another shape or layout; a slice starts `offset` bytes further. */
struct plan_tensor *plan_add_slice(struct plan *plan, const struct plan_tensor *of, const struct shape *shape,
                                   const struct layout *layout, size_t offset);
struct plan_tensor *plan_add_view(struct plan *plan, const struct plan_tensor *of, const struct shape *shape,
                                  const struct layout *layout);
struct plan_tensor *plan_add_constant(struct plan *plan, enum dtype dtype, const struct shape *shape,
                                      const struct layout *layout, const void *data);
struct plan_tensor *plan_add_input(struct plan *plan, enum dtype dtype, const struct shape *shape,
                                   const struct layout *layout, int input);
/* 64-byte aligned memory, freed with the plan. */
void *plan_own_memory(struct plan *plan, size_t bytes);
/* Appends the step. Its lists of arguments and roles (NULL: none) are copied. */
bool plan_add_step(struct plan *plan, const struct step *step);
/* Offsets for every storage; once, after the last step and the outputs. */
bool plan_assign_memory(struct plan *plan, struct error *error);

/* Any thread. */
bool plan_tensor_is_plain(const struct plan_tensor *tensor);
size_t plan_tensor_bytes(const struct plan_tensor *tensor);
/* About the memory that a plan takes besides the weights: its own constants, and the code of its primitives.
 */
size_t plan_bytes(const struct plan *plan);

/* The memory of one run at a time, and every primitive bound to it. One thread at a time. */
struct plan_run;
/* `profile`: keep the time of every step. */
struct plan_run *plan_run_create(const struct plan *plan, bool profile, struct error *error);
void plan_run_free(struct plan_run *run);
/* inputs[i]: row-major memory of model input i. outputs[i] (unless `outputs` is NULL) receives a pointer to
 * row-major memory, right until the next run. */
bool plan_run_execute(struct plan_run *run, const void *const *inputs, const void **outputs,
                      struct error *error);
/* From now on, look through what each step makes for NaN and infinities: that of the last run has some, or
 * not. It takes about as long as a copy of every result. */
void plan_run_look(struct plan_run *run);
bool plan_run_was_strange(const struct plan_run *run);
/* Nanoseconds spent in each step over all runs, [step_count]; NULL without profile. */
const int64_t *plan_run_times(const struct plan_run *run);
