/* Layer normalisation and rows moved about, with our own kernels. */
#include "lowering/lowering.h"
#include "plan/kernels.h"

struct layer_norm_parameters {
    enum dtype dtype;
    float epsilon;
    int64_t rows, columns;
    bool has_shift;
};

static bool layer_norm_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct layer_norm_parameters *p = step->parameters;
    kernel_layer_norm(p->dtype, pointers[0], pointers[1], p->has_shift ? pointers[2] : NULL, p->epsilon,
                      p->rows, p->columns, NULL, pointers[p->has_shift ? 3 : 2]);
    return true;
}

bool lower_layer_norm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *output = node->outputs[0], *shift = node_input(node, 2);
    int rank = input->shape.rank;
    int64_t axis = node_int(node, "axis", -1);
    bool alone = node->output_count == 1 && (axis == -1 || axis == rank - 1);
    if (!alone || input->dtype != DTYPE_F32 || shape_elements(&input->shape) <= 0)
        return true;
    struct plan_tensor *current = lower_current(lowering, input, error);
    if (!current)
        return false;
    if (!current->layout || (current->dtype != DTYPE_F32 && current->dtype != DTYPE_BF16))
        return true;
    struct plan_tensor *tensors[4] = {lower_plain(lowering, input, current->dtype, error)};
    int count = 1;
    if (!tensors[0] || !(tensors[count++] = lower_plain(lowering, node->inputs[1], DTYPE_F32, error)) ||
        (shift && !(tensors[count++] = lower_plain(lowering, shift, DTYPE_F32, error))))
        return false;
    int64_t columns = input->shape.dims[rank - 1];
    if (shape_elements(&tensors[1]->shape) != columns ||
        (shift && shape_elements(&tensors[2]->shape) != columns))
        return true; /* broadcast otherwise: the plain computation */
    struct layer_norm_parameters *parameters = arena_allocate(plan->arena, sizeof *parameters);
    tensors[count] = plan_add_tensor(plan, current->dtype, &output->shape,
                                     layout_plain(plan->pool, current->dtype, &output->shape));
    struct step *step = tensors[count] && parameters ? plan_add_step(plan, STEP_KERNEL, node->name,
                                                                     node->op_type, tensors, NULL, count + 1)
                                                     : NULL;
    if (!step)
        return lower_no_memory(error);
    *parameters =
        (struct layer_norm_parameters){current->dtype, node_float(node, "epsilon", 1e-5f),
                                       shape_elements(&input->shape) / columns, columns, shift != NULL};
    step->kernel = layer_norm_run;
    step->kernel_name = "guichet:layer_norm";
    step->parameters = parameters;
    step->input_count = count;
    lower_define(lowering, output, tensors[count]);
    *ret_done = true;
    return true;
}

struct gather_rows_parameters {
    int64_t rows;
    size_t bytes;
};

static bool gather_rows_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct gather_rows_parameters *p = step->parameters;
    kernel_gather_rows(pointers[0], pointers[1], p->rows, p->bytes, pointers[2]);
    return true;
}

/* GatherRows of passes/fuse_movement.c: input 1 is the constant table of rows, of output elements / table
 * length each. */
bool lower_gather_rows(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *table = node->inputs[1], *output = node->outputs[0];
    struct plan_tensor *current = lower_current(lowering, input, error);
    enum dtype dtype = current ? current->dtype : DTYPE_F32;
    struct plan_tensor *tensors[3] = {current ? lower_plain(lowering, input, dtype, error) : NULL};
    if (!tensors[0] || !(tensors[1] = lower_plain(lowering, table, DTYPE_I32, error)))
        return false;
    struct gather_rows_parameters *parameters = arena_allocate(plan->arena, sizeof *parameters);
    tensors[2] =
        plan_add_tensor(plan, dtype, &output->shape, layout_plain(plan->pool, dtype, &output->shape));
    struct step *step = tensors[2] && parameters
                            ? plan_add_step(plan, STEP_KERNEL, node->name, node->op_type, tensors, NULL, 3)
                            : NULL;
    if (!step)
        return lower_no_memory(error);
    parameters->rows = shape_elements(&table->shape);
    parameters->bytes = (size_t)(shape_elements(&output->shape) / parameters->rows) * dtype_size(dtype);
    step->kernel = gather_rows_run;
    step->kernel_name = "guichet:gather_rows";
    step->parameters = parameters;
    step->input_count = 2;
    lower_define(lowering, output, tensors[2]);
    *ret_done = true;
    return true;
}
