/* Attributes to trees. Files are hostile: every index is checked, and a node has one parent, so that every
 * walk ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/ml_trees.h"

/* The lists of a node's attributes, all of one length. */
struct tree_lists {
    size_t count;
    const int64_t *trees, *ids, *features, *yes, *no, *missing;
    const float *values;
    const struct tensor *wide_values;
    const char *const *modes;
    size_t weight_count;
    const int64_t *weight_trees, *weight_nodes, *weight_targets;
    const float *weights;
    const struct tensor *wide_weights;
};

/* A node of the file, for finding it by its tree and number. */
struct tree_key {
    int64_t tree, id;
    int32_t index;
};

static bool ints_of(const struct node *node, const char *name, size_t count, bool needed, const int64_t **ret,
                    struct error *error) {
    size_t found = node_ints(node, name, ret);
    if (found == count || (!needed && !found))
        return true;
    return node_error(node, error, "attribute %s has %zu elements, not %zu", name, found, count);
}

/* Floats, or a tensor of doubles in an attribute NAME_as_tensor. */
static bool floats_of(const struct node *node, const char *name, const char *wide_name, size_t count,
                      const float **ret, const struct tensor **ret_wide, struct error *error) {
    const struct attribute *wide = node_attribute(node, wide_name);
    *ret_wide = wide && wide->kind == ATTRIBUTE_TENSOR ? wide->tensor : NULL;
    if (*ret_wide && dtype_is_float((*ret_wide)->dtype) &&
        shape_elements(&(*ret_wide)->shape) == (int64_t)count)
        return true;

    size_t found = ml_floats(node, name, ret);
    return (found == count && !*ret_wide) ||
           node_error(node, error, "attribute %s has %zu elements, not %zu", name, found, count);
}

static bool lists_read(const struct node *node, const char *what, struct tree_lists *ret,
                       struct error *error) {
    char names[5][40];
    static const char *const parts[] = {"treeids", "nodeids", "ids", "weights", "weights_as_tensor"};
    for (int i = 0; i < 5; i++)
        snprintf(names[i], sizeof names[i], "%s_%s", what, parts[i]);

    const struct attribute *modes = node_attribute(node, "nodes_modes");
    ret->count = node_ints(node, "nodes_treeids", &ret->trees);
    ret->weight_count = node_ints(node, names[0], &ret->weight_trees);
    if (!ret->count || ret->count > INT32_MAX / 2 || ret->weight_count > INT32_MAX / 2)
        return node_error(node, error, "has no nodes, or too many");
    if (!modes || modes->kind != ATTRIBUTE_STRINGS || modes->count != ret->count)
        return node_error(node, error, "attribute nodes_modes has not %zu elements", ret->count);

    ret->modes = modes->strings;
    return ints_of(node, "nodes_nodeids", ret->count, true, &ret->ids, error) &&
           ints_of(node, "nodes_featureids", ret->count, true, &ret->features, error) &&
           ints_of(node, "nodes_truenodeids", ret->count, true, &ret->yes, error) &&
           ints_of(node, "nodes_falsenodeids", ret->count, true, &ret->no, error) &&
           ints_of(node, "nodes_missing_value_tracks_true", ret->count, false, &ret->missing, error) &&
           floats_of(node, "nodes_values", "nodes_values_as_tensor", ret->count, &ret->values,
                     &ret->wide_values, error) &&
           ints_of(node, names[1], ret->weight_count, true, &ret->weight_nodes, error) &&
           ints_of(node, names[2], ret->weight_count, true, &ret->weight_targets, error) &&
           floats_of(node, names[3], names[4], ret->weight_count, &ret->weights, &ret->wide_weights, error);
}

static int by_key(const void *a, const void *b) {
    const struct tree_key *x = a, *y = b;
    if (x->tree != y->tree)
        return x->tree < y->tree ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t key_find(const struct tree_key *keys, size_t count, int64_t tree, int64_t id) {
    struct tree_key wanted = {tree, id, 0};
    const struct tree_key *found = bsearch(&wanted, keys, count, sizeof wanted, by_key);
    return found ? found->index : -1;
}

static bool mode_find(const char *name, uint8_t *ret) {
    static const char *const names[] = {"BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE", "BRANCH_GT",
                                        "BRANCH_EQ",  "BRANCH_NEQ", "LEAF"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (uint8_t)i;
            return true;
        }
    return false;
}

/* While the trees are put in order. */
struct tree_building {
    const struct node *node;
    struct tree_lists lists;
    struct tree_key *keys;   /* [count] sorted */
    int32_t *child, *other;  /* [count] by place in the file; -1 for leaves */
    int32_t *parents;        /* [count] how many */
    int32_t *order, *weight; /* [count] file's place of each node in its new place; first weight of each */
    int32_t *weight_counts;  /* [count] */
    int32_t *weight_nodes;   /* [weight_count] */
};

static bool building_allocate(struct tree_building *b, struct arena *arena) {
    size_t count = b->lists.count + 1;
    b->keys = arena_allocate_array(arena, count, sizeof *b->keys);
    b->child = arena_allocate_array(arena, count, sizeof(int32_t));
    b->other = arena_allocate_array(arena, count, sizeof(int32_t));
    b->parents = arena_allocate_array(arena, count, sizeof(int32_t));
    b->order = arena_allocate_array(arena, count, sizeof(int32_t));
    b->weight = arena_allocate_array(arena, count, sizeof(int32_t));
    b->weight_counts = arena_allocate_array(arena, count, sizeof(int32_t));
    b->weight_nodes = arena_allocate_array(arena, b->lists.weight_count + 1, sizeof(int32_t));
    return b->keys && b->child && b->other && b->parents && b->order && b->weight && b->weight_counts &&
           b->weight_nodes;
}

/* Children by place, and that every node has one parent at most. */
static bool link_nodes(struct tree_building *b, struct error *error) {
    const struct tree_lists *lists = &b->lists;
    for (size_t i = 0; i < lists->count; i++)
        b->keys[i] = (struct tree_key){lists->trees[i], lists->ids[i], (int32_t)i};
    qsort(b->keys, lists->count, sizeof *b->keys, by_key);

    for (size_t i = 0; i < lists->count; i++) {
        uint8_t mode;
        b->child[i] = b->other[i] = -1;
        if (i && by_key(&b->keys[i - 1], &b->keys[i]) == 0)
            return node_error(b->node, error, "a tree has two nodes %lld", (long long)b->keys[i].id);
        if (!mode_find(lists->modes[i], &mode))
            return node_error(b->node, error, "node mode '%.32s' is not supported", lists->modes[i]);
        if (mode == BRANCH_LEAF)
            continue;

        b->child[i] = key_find(b->keys, lists->count, lists->trees[i], lists->yes[i]);
        b->other[i] = key_find(b->keys, lists->count, lists->trees[i], lists->no[i]);
        if (b->child[i] < 0 || b->other[i] < 0)
            return node_error(b->node, error, "a branch of node %lld leads nowhere",
                              (long long)lists->ids[i]);
        b->parents[b->child[i]]++;
        b->parents[b->other[i]]++;
        if (b->parents[b->child[i]] > 1 || b->parents[b->other[i]] > 1)
            return node_error(b->node, error, "two branches lead to one node: it is no tree");
        if (lists->features[i] < 0 || lists->features[i] >= INT32_MAX)
            return node_error(b->node, error, "feature %lld is out of range", (long long)lists->features[i]);
    }

    return true;
}

/* Roots first, then pair by pair the children of what is placed. */
static void order_nodes(struct tree_building *b, struct tree_ensemble *trees) {
    int32_t placed = 0;
    for (size_t i = 0; i < b->lists.count; i++)
        if (!b->parents[i])
            b->order[placed++] = (int32_t)i;

    trees->tree_count = placed;
    for (int32_t at = 0; at < placed; at++) {
        int32_t from = b->order[at];
        struct tree_node *node = &trees->nodes[at];
        mode_find(b->lists.modes[from], &node->mode);
        node->value =
            b->lists.wide_values ? tensor_get_f64(b->lists.wide_values, from) : (double)b->lists.values[from];
        node->missing_is_true = b->lists.missing && b->lists.missing[from];
        if (node->mode == BRANCH_LEAF) {
            node->first = b->weight[from];
            node->weights = b->weight_counts[from];
            continue;
        }

        node->feature = (int32_t)b->lists.features[from];
        if (node->feature >= trees->features)
            trees->features = node->feature + 1;
        node->first = placed;
        b->order[placed++] = b->child[from];
        b->order[placed++] = b->other[from];
    }
    trees->node_count = placed; /* what no root leads to lies on a cycle, and is left out */
}

/* The weights of each leaf, side by side. */
static bool group_weights(struct tree_building *b, struct tree_ensemble *trees, struct error *error) {
    const struct tree_lists *lists = &b->lists;
    for (size_t i = 0; i < lists->weight_count; i++) {
        int32_t at = key_find(b->keys, lists->count, lists->weight_trees[i], lists->weight_nodes[i]);
        if (at < 0 || lists->weight_targets[i] < 0 || lists->weight_targets[i] >= trees->targets)
            return node_error(b->node, error, "weight %zu is of a node or target that does not exist", i);
        b->weight_nodes[i] = at;
        b->weight_counts[at]++;
    }

    int32_t next = 0;
    for (size_t i = 0; i < lists->count; i++) {
        b->weight[i] = next;
        next += b->weight_counts[i];
        b->weight_counts[i] = 0;
    }
    for (size_t i = 0; i < lists->weight_count; i++) {
        int32_t at = b->weight_nodes[i];
        trees->weights[b->weight[at] + b->weight_counts[at]++] =
            (struct tree_weight){(int32_t)lists->weight_targets[i],
                                 lists->wide_weights ? tensor_get_f64(lists->wide_weights, (int64_t)i)
                                                     : (double)lists->weights[i]};
    }
    trees->weight_count = next;
    return true;
}

struct tree_ensemble *trees_read(const struct node *node, const char *what, int64_t targets,
                                 struct arena *arena, struct error *error) {
    struct tree_building building = {.node = node};
    if (!lists_read(node, what, &building.lists, error))
        return NULL;

    struct arena *scratch = arena_create();
    struct tree_ensemble *trees = arena_allocate(arena, sizeof *trees);
    size_t count = building.lists.count;
    bool done = false;
    if (trees) {
        trees->targets = targets;
        trees->nodes = arena_allocate_array(arena, count + 1, sizeof *trees->nodes);
        trees->weights = arena_allocate_array(arena, building.lists.weight_count + 1, sizeof *trees->weights);
    }
    if (!scratch || !trees || !trees->nodes || !trees->weights || !building_allocate(&building, scratch)) {
        node_memory_error(node, error);
    } else if (link_nodes(&building, error) && group_weights(&building, trees, error)) {
        order_nodes(&building, trees);
        done = trees->tree_count > 0 || node_error(node, error, "no tree has a root");
    }

    arena_free(scratch);
    return done ? trees : NULL;
}
