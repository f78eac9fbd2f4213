/* TreeEnsembleClassifier, TreeEnsembleRegressor:
 * https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html. What the page leaves open (two
 * classes of which one has weights) is as ONNX Runtime does it. */
#include "ops/ml_trees.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define ROW_BLOCK 64 /* rows that go through a tree while it is in the cache */

static inline bool test_holds(const struct tree_node *node, double x) {
    if (node->missing_is_true && isnan(x))
        return true;

    switch (node->mode) {
    case BRANCH_LEQ:
        return x <= node->value;
    case BRANCH_LT:
        return x < node->value;
    case BRANCH_GTE:
        return x >= node->value;
    case BRANCH_GT:
        return x > node->value;
    case BRANCH_EQ:
        return x == node->value;
    default:
        return x != node->value;
    }
}

const struct tree_node *tree_walk(const struct tree_ensemble *trees, int32_t tree, const double *x) {
    const struct tree_node *node = &trees->nodes[tree]; /* the roots come first */
    while (node->mode != BRANCH_LEAF)
        node = &trees->nodes[node->first + !test_holds(node, x[node->feature])];
    return node;
}

enum aggregate { AGGREGATE_SUM, AGGREGATE_AVERAGE, AGGREGATE_MIN, AGGREGATE_MAX };

/* All that a node's attributes say. */
struct tree_parameters {
    const struct tree_ensemble *trees;
    enum aggregate aggregate;
    enum post_transform transform;
    const float *base;
    size_t base_count;
    const int64_t *labels; /* classifier */
    bool one_class;        /* classifier: of two classes one alone has weights */
    bool positive;         /* classifier: no weight is negative */
};

/* The scores of a row: which targets a leaf spoke of at all. */
struct tree_scores {
    double *values; /* [targets] */
    bool *seen;
};

static void add_leaf(const struct tree_parameters *p, const struct tree_node *leaf,
                     struct tree_scores *scores) {
    for (int32_t i = 0; i < leaf->weights; i++) {
        const struct tree_weight *weight = &p->trees->weights[leaf->first + i];
        double *to = &scores->values[weight->target];
        if (p->aggregate == AGGREGATE_MIN || p->aggregate == AGGREGATE_MAX) {
            bool better = p->aggregate == AGGREGATE_MIN ? weight->value < *to : weight->value > *to;
            if (!scores->seen[weight->target] || better)
                *to = weight->value;
        } else {
            *to += weight->value;
        }
        scores->seen[weight->target] = true;
    }
}

/* --- Classes --- */

static bool has_class(const struct tree_ensemble *trees, int32_t target) {
    for (int32_t i = 0; i < trees->weight_count; i++)
        if (trees->weights[i].target == target)
            return true;
    return false;
}

/* Two classes, of which one alone may have weights: the other's score follows from it. */
static int64_t finish_two(const struct tree_parameters *p, const struct tree_scores *row, double *ret) {
    bool both = row->seen[1] || !p->one_class;
    double first = row->values[0] + (p->base_count ? (double)p->base[0] : 0), second = row->values[1];
    double decides = both ? second : first;
    int64_t label = decides > (p->one_class && p->positive ? 0.5 : 0);

    if (both) {
        ret[0] = first;
        ret[1] = second;
        ml_transform(p->transform, ret, 2);
    } else {
        bool logistic = p->transform == TRANSFORM_LOGISTIC;
        ret[0] = p->positive && !logistic ? 1 - first : -first;
        ret[1] = first;
        if (logistic)
            ml_transform(TRANSFORM_LOGISTIC, ret, 2);
    }
    return label;
}

static int64_t finish_classes(const struct tree_parameters *p, const struct tree_scores *row, double *ret) {
    int64_t count = p->trees->targets, best = 0;
    if (count == 2)
        return finish_two(p, row, ret);

    for (int64_t i = 0; i < count; i++) {
        ret[i] = row->values[i] + (p->base_count == (size_t)count ? (double)p->base[i] : 0);
        best = ret[i] > ret[best] ? i : best;
    }
    ml_transform(p->transform, ret, count);
    return best;
}

static void finish_targets(const struct tree_parameters *p, const struct tree_scores *row, double *ret) {
    int64_t count = p->trees->targets;
    for (int64_t i = 0; i < count; i++) {
        ret[i] = row->values[i] / (p->aggregate == AGGREGATE_AVERAGE ? p->trees->tree_count : 1);
        ret[i] += p->base_count == (size_t)count ? (double)p->base[i]
                  : p->base_count                ? (double)p->base[0]
                                                 : 0;
    }
    ml_transform(p->transform, ret, count);
}

/* --- Rows --- */

struct tree_block {
    double *x, *values, *finished; /* [rows, columns], [rows, targets], [targets] */
    bool *seen;                    /* [rows, targets] */
};

static bool block_allocate(struct tree_block *block, int64_t columns, int64_t targets) {
    block->x = calloc((size_t)(ROW_BLOCK * columns) + 1, sizeof(double));
    block->values = calloc((size_t)(ROW_BLOCK * targets) + 1, sizeof(double));
    block->finished = calloc((size_t)targets + 1, sizeof(double));
    block->seen = calloc((size_t)(ROW_BLOCK * targets) + 1, sizeof(bool));
    return block->x && block->values && block->finished && block->seen;
}

static void block_release(struct tree_block *block) {
    free(block->x);
    free(block->values);
    free(block->finished);
    free(block->seen);
}

/* Rows first … first + rows - 1 through every tree. */
static bool run_block(const struct tree_parameters *p, const struct tensor *x, int64_t columns, int64_t first,
                      int64_t rows, const struct tensor *labels, const struct tensor *scores) {
    int64_t targets = p->trees->targets;
    struct tree_block block = {0};
    bool done = block_allocate(&block, columns, targets);
    if (done)
        elements_convert(x->dtype, (const char *)x->data + (size_t)(first * columns) * dtype_size(x->dtype),
                         DTYPE_F64, block.x, rows * columns);

    for (int32_t tree = 0; done && tree < p->trees->tree_count; tree++)
        for (int64_t row = 0; row < rows; row++) {
            struct tree_scores own = {block.values + row * targets, block.seen + row * targets};
            add_leaf(p, tree_walk(p->trees, tree, block.x + row * columns), &own);
        }

    for (int64_t row = 0; done && row < rows; row++) {
        struct tree_scores own = {block.values + row * targets, block.seen + row * targets};
        if (p->labels) {
            int64_t label = finish_classes(p, &own, block.finished);
            if (labels->data)
                ((int64_t *)labels->data)[first + row] = p->labels[label];
        } else {
            finish_targets(p, &own, block.finished);
        }
        if (scores->data)
            elements_convert(DTYPE_F64, block.finished, scores->dtype,
                             (char *)scores->data +
                                 (size_t)((first + row) * targets) * dtype_size(scores->dtype),
                             targets);
    }

    block_release(&block);
    return done;
}

static bool run_rows(const struct node *node, const struct tensor *x, const struct tensor *labels,
                     const struct tensor *scores, struct error *error) {
    const struct tree_parameters *p = node->parameters;
    int64_t columns = x->shape.dims[x->shape.rank - 1], rows = x->shape.rank == 2 ? x->shape.dims[0] : 1;
    int64_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    bool done = true;

#pragma omp parallel for schedule(dynamic) if (blocks > 1)
    for (int64_t i = 0; i < blocks; i++) {
        int64_t left = rows - i * ROW_BLOCK;
        if (!run_block(p, x, columns, i * ROW_BLOCK, left < ROW_BLOCK ? left : ROW_BLOCK, labels, scores)) {
#pragma omp atomic write
            done = false;
        }
    }

    return done || node_memory_error(node, error);
}

/* --- The operators --- */

static bool trees_prepare(struct node *node, const char *what, int64_t targets, struct tree_parameters *ret,
                          struct arena *arena, struct error *error) {
    static const char *const names[] = {"SUM", "AVERAGE", "MIN", "MAX"};
    const char *aggregate = node_string(node, "aggregate_function", "SUM");
    int64_t rows, columns;
    bool known = false;
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], aggregate) == 0) {
            ret->aggregate = (enum aggregate)i;
            known = true;
        }
    if (!known)
        return node_error(node, error, "aggregate_function '%.32s' is not supported", aggregate);
    if (node_attribute(node, "base_values_as_tensor"))
        return node_error(node, error, "base_values_as_tensor is not supported");

    ret->base_count = ml_floats(node, "base_values", &ret->base);
    ret->trees = trees_read(node, what, targets, arena, error);
    if (!ret->trees || !ml_read_transform(node, &ret->transform, error) ||
        !ml_table(node, 0, &rows, &columns, error))
        return false;
    if (columns < ret->trees->features)
        return node_error(node, error, "its trees look at %lld columns, the input has %lld",
                          (long long)ret->trees->features, (long long)columns);
    node->parameters = ret;
    return true;
}

static bool classifier_infer(struct node *node, struct error *error) {
    const int64_t *labels;
    int64_t rows, columns, classes;
    return ml_table(node, 0, &rows, &columns, error) && ml_labels(node, &labels, &classes, error) &&
           infer_output(node, 0, DTYPE_I64, &(struct shape){1, {rows}}, error) &&
           infer_output(node, 1, DTYPE_F32, &(struct shape){2, {rows, classes}}, error);
}

static bool classifier_prepare(struct node *node, struct arena *arena, struct error *error) {
    struct tree_parameters *p = arena_allocate(arena, sizeof *p);
    int64_t classes;
    if (!p)
        return node_memory_error(node, error);
    if (!ml_labels(node, &p->labels, &classes, error) ||
        !trees_prepare(node, "class", classes, p, arena, error))
        return false;

    p->one_class = classes == 2 && has_class(p->trees, 0) != has_class(p->trees, 1);
    if (classes == 2 && p->base_count == 2)
        return node_error(node, error, "base_values of two classes are not supported");
    if (classes == 2 && !p->one_class && (p->labels[0] != 0 || p->labels[1] != 1)) /* runtimes disagree */
        return node_error(node, error,
                          "two classes that both have weights are supported as labels 0 and 1 only");
    if (p->one_class && p->transform == TRANSFORM_PROBIT)
        return node_error(node, error, "PROBIT of two classes is not supported");

    p->positive = true;
    for (int32_t i = 0; i < p->trees->weight_count; i++)
        p->positive = p->positive && p->trees->weights[i].value >= 0;
    return true;
}

static bool classifier_compute(const struct node *node, const struct tensor *inputs,
                               const struct tensor *outputs, struct error *error) {
    return run_rows(node, &inputs[0], &outputs[0],
                    node->output_count > 1 ? &outputs[1] : &(const struct tensor){0}, error);
}

static bool regressor_infer(struct node *node, struct error *error) {
    int64_t rows, columns, targets = node_int(node, "n_targets", 1);
    if (targets < 1 || targets > LIMIT_TENSOR_ELEMENTS)
        return node_error(node, error, "n_targets is %lld", (long long)targets);
    return ml_table(node, 0, &rows, &columns, error) &&
           infer_output(node, 0, DTYPE_F32, &(struct shape){2, {rows, targets}}, error);
}

static bool regressor_prepare(struct node *node, struct arena *arena, struct error *error) {
    struct tree_parameters *p = arena_allocate(arena, sizeof *p);
    return p ? trees_prepare(node, "target", node_int(node, "n_targets", 1), p, arena, error)
             : node_memory_error(node, error);
}

static bool regressor_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    return run_rows(node, &inputs[0], &(const struct tensor){0}, &outputs[0], error);
}

const struct op_def ml_tree_operators[] = {
    ML("TreeEnsembleClassifier", .inputs = {1, 1}, .outputs = {1, 2}, .types = NAMES_TABLE,
       .prepare = classifier_prepare, FUNCTIONS(classifier)),
    ML("TreeEnsembleRegressor", .inputs = {1, 1}, .types = NAMES_TABLE, .prepare = regressor_prepare,
       FUNCTIONS(regressor)),
    {0},
};
