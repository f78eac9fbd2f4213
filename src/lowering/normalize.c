/* Layer normalisation, and rows that move, with our own kernels. */
#include "lowering/lowering.h"
#include "plan/kernels.h"

struct layer_norm_parameters {
    struct kernel_layer_norm norm;
    bool has_shift;
};

static bool layer_norm_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct layer_norm_parameters *parameters = step->parameters;
    bool has_shift = parameters->has_shift;

    kernel_layer_norm(&parameters->norm, pointers[0], pointers[1], has_shift ? pointers[2] : NULL,
                      pointers[has_shift ? 3 : 2]);
    return true;
}

static bool is_vector_of(const struct value *value, int64_t count) {
    return shape_elements(&value->shape) == count;
}

bool lower_layer_norm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *scale = node->inputs[1], *shift = node_input(node, 2);
    int rank = input->shape.rank;
    int64_t axis = node_int(node, "axis", -1), columns = input->shape.dims[rank - 1];

    if (node->output_count != 1 || (axis != -1 && axis != rank - 1) || input->dtype != DTYPE_F32 ||
        shape_elements(&input->shape) <= 0)
        return true;

    if (!is_vector_of(scale, columns) || (shift && !is_vector_of(shift, columns)))
        return true; /* broadcast in another way */

    struct plan_tensor *current = lower_current(lowering, input, error);
    if (!current)
        return false;
    if (!current->layout || (current->dtype != DTYPE_F32 && current->dtype != DTYPE_BF16))
        return true;

    struct plan_tensor *tensors[4] = {lower_plain(lowering, input, current->dtype, error)};
    int count = 1;
    if (!tensors[0] || !(tensors[count++] = lower_plain(lowering, scale, DTYPE_F32, error)) ||
        (shift && !(tensors[count++] = lower_plain(lowering, shift, DTYPE_F32, error))))
        return false;

    const struct shape *shape = &node->outputs[0]->shape;
    tensors[count] =
        plan_add_tensor(plan, current->dtype, shape, layout_plain(plan->pool, current->dtype, shape));

    struct layer_norm_parameters *parameters = arena_allocate(plan->arena, sizeof *parameters);
    if (parameters)
        *parameters = (struct layer_norm_parameters){
            .norm = {.dtype = current->dtype,
                     .rows = shape_elements(&input->shape) / columns,
                     .columns = columns,
                     .epsilon = node_float(node, "epsilon", 1e-5f)},
            .has_shift = shift != NULL,
        };

    *ret_done = true;
    return lower_kernel(lowering, node,
                        &(struct step){.kernel = layer_norm_run,
                                       .kernel_name = "guichet:layer_norm",
                                       .parameters = parameters,
                                       .arguments = tensors,
                                       .input_count = count},
                        error);
}

struct gather_rows_parameters {
    int64_t rows;
    size_t bytes;
};

static bool gather_rows_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct gather_rows_parameters *parameters = step->parameters;

    kernel_gather_rows(pointers[0], pointers[1], parameters->rows, parameters->bytes, pointers[2]);
    return true;
}

/* GatherRows of passes/fuse_movement.c: input 1 is the constant table of rows, each of output elements /
 * table length. */
bool lower_gather_rows(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *table = node->inputs[1];
    const struct shape *shape = &node->outputs[0]->shape;
    struct plan_tensor *current = lower_current(lowering, input, error);
    if (!current)
        return false;

    enum dtype dtype = current->dtype;
    struct plan_tensor *tensors[3] = {lower_plain(lowering, input, dtype, error)};
    if (!tensors[0] || !(tensors[1] = lower_plain(lowering, table, DTYPE_I32, error)))
        return false;
    tensors[2] = plan_add_tensor(plan, dtype, shape, layout_plain(plan->pool, dtype, shape));

    struct gather_rows_parameters *parameters = arena_allocate(plan->arena, sizeof *parameters);
    if (parameters) {
        parameters->rows = shape_elements(&table->shape);
        parameters->bytes = (size_t)(shape_elements(shape) / parameters->rows) * dtype_size(dtype);
    }

    *ret_done = true;
    return lower_kernel(lowering, node,
                        &(struct step){.kernel = gather_rows_run,
                                       .kernel_name = "guichet:gather_rows",
                                       .parameters = parameters,
                                       .arguments = tensors,
                                       .input_count = 2},
                        error);
}
