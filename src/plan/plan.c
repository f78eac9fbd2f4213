/* Building a plan, and the offsets of its tensors in one arena. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

struct plan *plan_create(struct graph *graph, struct weights_store *weights, struct error *error) {
    struct plan *plan = calloc(1, sizeof *plan);
    struct arena *arena = arena_create();
    struct primitive_pool *pool = primitive_pool_create(error);

    if (!plan || !arena || !pool) {
        free(plan);
        arena_free(arena);
        primitive_pool_free(pool);
        error_set(error, ERROR_MEMORY, "not enough memory for a plan");
        return NULL;
    }

    plan->arena = arena;
    plan->pool = pool;
    plan->graph = graph;
    plan->weights = weights;

    return plan;
}

void plan_free(struct plan *plan) {
    if (!plan)
        return;

    for (int i = 0; i < plan->owned_count; i++)
        free(plan->owned[i]);
    free(plan->owned);
    free(plan->steps);
    free(plan->storages);
    primitive_pool_free(plan->pool);
    graph_free(plan->graph);
    arena_free(plan->arena);
    free(plan);
}

/* Room for one more element in a growing array. */
static bool array_grow(void **array, int count, int *capacity, size_t size) {
    if (count < *capacity)
        return true;

    int larger = *capacity ? *capacity * 2 : 64;
    void *fresh = realloc(*array, (size_t)larger * size);
    if (!fresh)
        return false;

    *array = fresh;
    *capacity = larger;
    return true;
}

bool plan_tensor_is_plain(const struct plan_tensor *tensor) {
    return !tensor->layout || layout_is_plain(tensor->layout);
}

size_t plan_tensor_bytes(const struct plan_tensor *tensor) {
    if (tensor->layout)
        return layout_bytes(tensor->layout);

    int64_t elements = shape_elements(&tensor->shape);
    return elements > 0 ? (size_t)elements * dtype_size(tensor->dtype) : 0;
}

static struct plan_tensor *tensor_create(struct plan *plan, enum plan_memory memory, enum dtype dtype,
                                         const struct shape *shape, const struct layout *layout) {
    struct plan_tensor *tensor = arena_allocate(plan->arena, sizeof *tensor);

    if (tensor)
        *tensor = (struct plan_tensor){.memory = memory, .dtype = dtype, .shape = *shape, .layout = layout};
    return tensor;
}

struct plan_tensor *plan_add_tensor(struct plan *plan, enum dtype dtype, const struct shape *shape,
                                    const struct layout *layout) {
    struct plan_tensor *tensor = tensor_create(plan, PLAN_MEMORY_ARENA, dtype, shape, layout);
    struct plan_storage *storage = tensor ? arena_allocate(plan->arena, sizeof *storage) : NULL;
    if (!storage || !array_grow((void **)&plan->storages, plan->storage_count, &plan->storage_capacity,
                                sizeof *plan->storages))
        return NULL;

    *storage = (struct plan_storage){.bytes = plan_tensor_bytes(tensor),
                                     .first_step = plan->step_count,
                                     .last_step = -1,
                                     .tensor_count = 1};
    plan->storages[plan->storage_count++] = storage;
    tensor->storage = storage;

    return tensor;
}

struct plan_tensor *plan_add_view(struct plan *plan, const struct plan_tensor *of, const struct shape *shape,
                                  const struct layout *layout) {
    return plan_add_slice(plan, of, shape, layout, 0);
}

struct plan_tensor *plan_add_slice(struct plan *plan, const struct plan_tensor *of, const struct shape *shape,
                                   const struct layout *layout, size_t offset) {
    struct plan_tensor *tensor = tensor_create(plan, of->memory, of->dtype, shape, layout);
    if (!tensor)
        return NULL;

    tensor->storage = of->storage;
    tensor->constant = of->constant;
    tensor->input = of->input;
    tensor->offset = of->offset + offset;
    if (tensor->storage)
        tensor->storage->tensor_count++;

    return tensor;
}

struct plan_tensor *plan_add_constant(struct plan *plan, enum dtype dtype, const struct shape *shape,
                                      const struct layout *layout, const void *data) {
    struct plan_tensor *tensor = tensor_create(plan, PLAN_MEMORY_CONSTANT, dtype, shape, layout);

    if (tensor)
        tensor->constant = data;
    return tensor;
}

struct plan_tensor *plan_add_input(struct plan *plan, enum dtype dtype, const struct shape *shape,
                                   const struct layout *layout, int input) {
    struct plan_tensor *tensor = tensor_create(plan, PLAN_MEMORY_INPUT, dtype, shape, layout);

    if (tensor)
        tensor->input = input;
    return tensor;
}

void *plan_own_memory(struct plan *plan, size_t bytes) {
    if (bytes > SIZE_MAX - 64 ||
        !array_grow((void **)&plan->owned, plan->owned_count, &plan->owned_capacity, sizeof *plan->owned))
        return NULL;

    void *memory = aligned_alloc(64, size_align(bytes ? bytes : 1, 64));
    if (memory) {
        plan->owned[plan->owned_count++] = memory;
        plan->owned_bytes += bytes;
    }
    return memory;
}

size_t plan_bytes(const struct plan *plan) {
    enum { STEP_BYTES = 64 << 10 }; /* of the code that oneDNN generates for one */
    return plan->owned_bytes + (size_t)plan->step_count * STEP_BYTES;
}

bool plan_add_step(struct plan *plan, const struct step *step) {
    size_t count = (size_t)step->argument_count;
    struct plan_tensor **arguments = arena_allocate_array(plan->arena, count + 1, sizeof *arguments);
    enum primitive_argument *roles = arena_allocate_array(plan->arena, count + 1, sizeof *roles);
    if (!arguments || !roles ||
        !array_grow((void **)&plan->steps, plan->step_count, &plan->step_capacity, sizeof *plan->steps))
        return false;

    memcpy(arguments, step->arguments, count * sizeof *arguments);
    if (step->roles)
        memcpy(roles, step->roles, count * sizeof *roles);
    for (size_t i = 0; i < count; i++)
        if (arguments[i] && arguments[i]->storage && arguments[i]->storage->last_step < plan->step_count)
            arguments[i]->storage->last_step = plan->step_count;

    struct step *added = &plan->steps[plan->step_count++];
    *added = *step;
    added->arguments = arguments;
    added->roles = roles;
    return true;
}

/* --- Memory --- */

static int larger_storage_first(const void *a, const void *b) {
    const struct plan_storage *const *first = a, *const *second = b;

    if ((*first)->bytes != (*second)->bytes)
        return (*first)->bytes < (*second)->bytes ? 1 : -1;
    return (*first)->first_step - (*second)->first_step;
}

static bool lives_overlap(const struct plan_storage *a, const struct plan_storage *b) {
    return a->first_step <= b->last_step && b->first_step <= a->last_step;
}

/* The lowest offset at which `storage` overlaps no assigned one that lives at the same time; `assigned` is
 * ordered by offset. */
static size_t lowest_offset(const struct plan_storage *storage, struct plan_storage *const *assigned,
                            int count) {
    size_t offset = 0;

    for (int i = 0; i < count; i++) {
        if (!lives_overlap(storage, assigned[i]))
            continue;
        if (offset + storage->bytes <= assigned[i]->offset)
            break;
        size_t end = assigned[i]->offset + assigned[i]->bytes;
        if (end > offset)
            offset = end;
    }
    return offset;
}

/* Assign offsets to `order` (largest first); returns the bytes of all. `assigned` has room for `count`. */
static size_t assign_offsets(struct plan_storage *const *order, struct plan_storage **assigned, int count) {
    size_t total = 0;

    for (int i = 0; i < count; i++) {
        struct plan_storage *storage = order[i];
        storage->offset = lowest_offset(storage, assigned, i);

        int position = i;
        for (; position > 0 && assigned[position - 1]->offset > storage->offset; position--)
            assigned[position] = assigned[position - 1];
        assigned[position] = storage;
        if (storage->offset + storage->bytes > total)
            total = storage->offset + storage->bytes;
    }
    return total;
}

/* Greedy by size, as in "Efficient Memory Management for Deep Neural Net Inference" (Pisarchyk and Lee,
 * 2020): large storages first, each at the lowest offset that is free during its life. */
bool plan_assign_memory(struct plan *plan, struct error *error) {
    int count = plan->storage_count;
    struct plan_storage **order = malloc((size_t)(count + 1) * 2 * sizeof *order);
    if (!order)
        return error_set(error, ERROR_MEMORY, "not enough memory to plan memory");

    for (int i = 0; i < count; i++) {
        order[i] = plan->storages[i];
        order[i]->bytes = size_align(order[i]->bytes ? order[i]->bytes : 1, 64);
        if (order[i]->is_output)
            order[i]->last_step = plan->step_count;
    }

    qsort(order, (size_t)count, sizeof *order, larger_storage_first);
    plan->scratch_offset = assign_offsets(order, order + count, count);
    free(order);

    size_t scratch = 0;
    for (int i = 0; i < plan->step_count; i++)
        if (plan->steps[i].scratch_bytes > scratch)
            scratch = plan->steps[i].scratch_bytes;
    plan->arena_bytes = plan->scratch_offset + size_align(scratch, 64);
    return true;
}
