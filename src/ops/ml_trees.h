/* Ensembles of decision trees, decoded for walking. Internal to ops/. */
#pragma once
#include "ops/ml.h"

enum branch_mode { BRANCH_LEQ, BRANCH_LT, BRANCH_GTE, BRANCH_GT, BRANCH_EQ, BRANCH_NEQ, BRANCH_LEAF };

/* A node of a tree. The one that it leads to where its test holds is `first`, the other one right after. Of a
 * leaf: `first` and `weights` say which weights it adds. */
struct tree_node {
    double value;
    int32_t feature;
    int32_t first;
    int32_t weights; /* of a leaf: how many */
    uint8_t mode;
    bool missing_is_true; /* NaN holds */
};

struct tree_weight {
    int32_t target;
    double value;
};

struct tree_ensemble {
    struct tree_node *nodes;
    int32_t *roots; /* [tree_count] */
    struct tree_weight *weights;
    int32_t node_count, tree_count, weight_count;
    int64_t targets, features; /* features: columns that the nodes look at */
};

/* From the attributes of TreeEnsembleClassifier or -Regressor ("class" or "target"). NULL with an error where
 * they are no trees: lengths that differ, nodes that are missing or have two parents. */
struct tree_ensemble *trees_read(const struct node *node, const char *what, int64_t targets,
                                 struct arena *arena, struct error *error);

/* What one tree adds to the row: its leaf. x: the row's columns, [features]. */
const struct tree_node *tree_walk(const struct tree_ensemble *trees, int32_t tree, const double *x);
