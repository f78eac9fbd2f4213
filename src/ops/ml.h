/* What the operators of ai.onnx.ml share. Internal to ops/; any thread. */
#pragma once
#include "ops/family.h"

#define ML_DOMAIN "ai.onnx.ml"
#define ML_LATEST 5 /* the newest version of the domain that we support */
#define TYPES_TABLE (TYPE(F32) | TYPE(F64) | TYPE(I32) | TYPE(I64))
#define NAMES_TABLE "float32, float64, int32, int64"
/* An entry's usual fields. */
#define ML(name, ...) \
    { .domain = ML_DOMAIN, .op_type = name, .since = 1, .until = ML_LATEST, __VA_ARGS__ }

enum post_transform {
    TRANSFORM_NONE,
    TRANSFORM_SOFTMAX,
    TRANSFORM_LOGISTIC,
    TRANSFORM_SOFTMAX_ZERO,
    TRANSFORM_PROBIT
};

/* Attribute post_transform; refuses what is none of them. */
bool ml_read_transform(const struct node *node, enum post_transform *ret, struct error *error);
/* In place over the scores of one row. */
void ml_transform(enum post_transform transform, double *scores, int64_t count);

/* Rows and columns of a table: [rows, columns], or one row [columns]. */
bool ml_table(const struct node *node, int input, int64_t *ret_rows, int64_t *ret_columns,
              struct error *error);
/* The floats of a list attribute; 0 and NULL if there is none. */
size_t ml_floats(const struct node *node, const char *name, const float **ret);
/* The class labels, int64; refuses a node that has strings, or none. */
bool ml_labels(const struct node *node, const int64_t **ret, int64_t *ret_count, struct error *error);
