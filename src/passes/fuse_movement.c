/* Chains of nodes that only move elements (a window partition: roll, reshape, transpose, reshape) to one
 * gather of rows.
 *
 * The chain is run once, now, on the indices of its input's elements. Where whole runs of elements stay
 * together, a table says which run goes where. */
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"

#define CHAIN_NODES 64
#define LEAST_RUN 8 /* elements: shorter rows are not worth copying one by one */

struct chain {
    struct node *nodes[CHAIN_NODES]; /* from the result backwards */
    int count;
    struct value *source;
};

/* Moves elements of its data inputs to where constants say. */
static bool is_movement(const struct node *node) {
    if (!node_has(node, OP_MOVES) || node->post_op_count || node->output_count != 1 || !node->outputs[0])
        return false;
    for (int i = node_data_inputs(node); i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->constant)
            return false;

    return true;
}

static bool in_chain(const struct chain *chain, const struct node *node) {
    for (int i = 0; i < chain->count; i++)
        if (chain->nodes[i] == node)
            return true;
    return false;
}

/* Every use of the node's output lies in the chain. */
static bool used_within(const struct chain *chain, const struct node *node) {
    const struct value *output = node->outputs[0];
    if (output->is_output)
        return false;

    for (int i = 0; i < output->use_count; i++)
        if (!in_chain(chain, output->uses[i].node))
            return false;

    return true;
}

/* Grow backwards from the result while everything still comes from one value. False: no chain. */
static bool find_chain(struct node *last, struct chain *chain) {
    chain->nodes[0] = last;
    chain->count = 1;
    for (bool grew = true; grew;) {
        grew = false;
        for (int i = 0; i < chain->count; i++) {
            struct node *node = chain->nodes[i];
            for (int j = 0; j < node_data_inputs(node); j++) {
                struct node *producer = node->inputs[j]->producer;
                if (producer && is_movement(producer) && !in_chain(chain, producer) &&
                    used_within(chain, producer)) {
                    if (chain->count == CHAIN_NODES)
                        return false;
                    chain->nodes[chain->count++] = producer;
                    grew = true;
                }
            }
        }
    }

    for (int i = 0; i < chain->count; i++) {
        struct node *node = chain->nodes[i];
        for (int j = 0; j < node_data_inputs(node); j++) {
            struct value *value = node->inputs[j];
            if (value->producer && in_chain(chain, value->producer))
                continue;
            if (value->constant || (chain->source && chain->source != value))
                return false;
            chain->source = value;
        }
    }

    return chain->source != NULL;
}

/* Not where layouts express the chain as a view, or one reorder does the same. */
static bool is_worth_it(const struct chain *chain) {
    bool copies = false;
    for (int i = 0; i < chain->count; i++)
        copies |= !node_has(chain->nodes[i], OP_RESHAPES) && !node_has(chain->nodes[i], OP_TAKES_PART);

    return copies && chain->count > 1;
}

struct numbers {
    const struct value *value;
    int32_t *data;
};

static int32_t *numbers_of(struct numbers *known, int count, const struct value *value) {
    for (int i = 0; i < count; i++)
        if (known[i].value == value)
            return known[i].data;
    return NULL;
}

static bool compute_node(struct node *node, struct numbers *known, int count, int32_t *result) {
    struct tensor inputs[CHAIN_NODES] = {0}, output = {DTYPE_I32, node->outputs[0]->shape, result};
    if (node->input_count > CHAIN_NODES)
        return false;

    for (int i = 0; i < node->input_count; i++) {
        const struct value *value = node->inputs[i];
        if (!value)
            continue;

        if (value->constant)
            inputs[i] = *value->constant;
        else
            inputs[i] = (struct tensor){DTYPE_I32, value->shape, numbers_of(known, count, value)};

        if (!inputs[i].data)
            return false;
    }

    struct error ignored;
    return operator_compute(node, inputs, &output, &ignored);
}

/* Run the chain on 0, 1, 2, …; the result, malloc'ed, or NULL. */
static int32_t *run_chain(const struct chain *chain) {
    struct numbers known[CHAIN_NODES + 1] = {{chain->source, NULL}};
    int count = 1, done = 0;
    int64_t elements = shape_elements(&chain->source->shape);

    known[0].data = calloc((size_t)elements + 1, sizeof(int32_t));
    for (int64_t i = 0; known[0].data && i < elements; i++)
        known[0].data[i] = (int32_t)i;

    bool ran[CHAIN_NODES] = {false}, failed = !known[0].data;
    while (done < chain->count && !failed) {
        int before = done;
        for (int i = chain->count - 1; i >= 0 && !failed; i--) {
            struct node *node = chain->nodes[i];
            bool ready = !ran[i];
            for (int j = 0; ready && j < node->input_count; j++)
                ready = !node->inputs[j] || node->inputs[j]->constant ||
                        numbers_of(known, count, node->inputs[j]);

            if (!ready)
                continue;
            size_t size = (size_t)shape_elements(&node->outputs[0]->shape);
            int32_t *result = calloc(size + 1, sizeof *result);

            failed = !result || !compute_node(node, known, count, result);
            known[count++] = (struct numbers){node->outputs[0], result};
            ran[i] = true;
            done++;
        }

        failed |= done == before;
    }

    int32_t *result = failed ? NULL : numbers_of(known, count, chain->nodes[0]->outputs[0]);
    for (int i = 0; i < count; i++)
        if (known[i].data != result)
            free(known[i].data);

    return result;
}

/* The longest run of elements that stays together everywhere; 0 if it is shorter than LEAST_RUN. It divides
 * `limit`. */
static int64_t longest_run(const int32_t *numbers, int64_t elements, int64_t limit) {
    for (int64_t run = limit; run >= LEAST_RUN; run--) {
        if (limit % run || elements % run)
            continue;
        bool whole = true;
        for (int64_t i = 0; i < elements && whole; i += run) {
            whole = numbers[i] % run == 0;
            for (int64_t j = 1; j < run && whole; j++)
                whole = numbers[i + j] == numbers[i] + j;
        }

        if (whole)
            return run;
    }

    return 0;
}

bool fuse_movement(struct graph *graph, struct node *node, struct node **ret_resume) {
    if (!is_movement(node) || node->outputs[0]->dtype != DTYPE_F32)
        return true;
    const struct value *output = node->outputs[0];
    bool ends = output->is_output || output->use_count == 0;

    for (int i = 0; i < output->use_count; i++)
        ends |= !is_movement(output->uses[i].node);

    if (!ends ||
        node_is(node, "Transpose")) /* begin at the chain's end; a transpose there is a view for its reader */
        return true;

    struct chain chain = {0};
    if (!find_chain(node, &chain) || !is_worth_it(&chain) || chain.source->shape.rank < 1 ||
        output->shape.rank < 1)
        return true;

    if (chain.source->producer && node_is_own(chain.source->producer, "Attention") && chain.count <= 2)
        return true; /* attention writes its result transposed */

    int64_t elements = shape_elements(&output->shape), available = shape_elements(&chain.source->shape);
    if (elements <= 0 || available <= 0 || available > INT32_MAX)
        return true;

    int32_t *numbers = run_chain(&chain);
    if (!numbers)
        return true;

    int64_t run = longest_run(numbers, elements, chain.source->shape.dims[chain.source->shape.rank - 1]);
    if (!run) {
        free(numbers);
        return true;
    }

    struct shape shape = {.rank = 1, .dims = {elements / run}};
    int32_t *table = graph_own_memory(graph, (size_t)shape.dims[0] * sizeof *table);
    for (int64_t i = 0; table && i < shape.dims[0]; i++)
        table[i] = (int32_t)(numbers[i * run] / run);

    free(numbers);
    struct value *inputs[2] = {
        chain.source, table ? graph_add_constant(graph, node->name, DTYPE_I32, &shape, table) : NULL};
    if (!inputs[1])
        return false;

    *ret_resume = replace_by(graph, node, "GatherRows", OWN, inputs, 2, node->outputs[0]);

    return *ret_resume != NULL;
}
