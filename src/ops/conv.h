/* What Conv and its integer relatives share. Internal to ops/. */
#pragma once
#include "ops/window.h"

struct conv_geometry {
    struct window window;
    int64_t batch, groups;
    int64_t channels, filters; /* of one group: read, written */
};

/* From inputs `input` and `weights` of a node whose shapes are known. */
bool conv_geometry_read(const struct node *node, int input, int weights, struct conv_geometry *ret,
                        struct error *error);
/* From shapes of equal rank, at least 3. */
bool conv_geometry_make(const struct node *node, const struct shape *x, const struct shape *w,
                        struct conv_geometry *ret, struct error *error);
bool conv_infer_output(struct node *node, const struct conv_geometry *geometry, enum dtype dtype,
                       struct error *error);
/* An input that is left out, or a vector of `length`. */
bool node_want_vector(const struct node *node, int input, int64_t length, struct error *error);
