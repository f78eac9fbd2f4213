/* What a pool holds. For plan/dnnl*.c alone. */
#pragma once
#include "plan/dnnl_api.h"

struct layout {
    struct layout *next;
    md_handle md;
    enum dtype dtype;
    struct shape shape; /* rank -1 where it has more axes than struct shape holds */
};

struct primitive {
    struct primitive *next;
    dnnl_primitive_t handle;
    dnnl_primitive_desc_t description;
    const struct layout *layouts[ARGUMENT_COUNT];
    char kernel[64];
    bool is_reorder;
    int32_t zero_points[3]; /* source, weights, destination */
    float *scales;          /* [scale_count]; generation 3 only */
    int64_t scale_count;
};

struct primitive_pool {
    struct layout *layouts;
    struct primitive *primitives;
};

/* Take the descriptor (NULL is passed on) into the pool, which destroys it in the end. */
const struct layout *layout_keep(struct primitive_pool *pool, md_handle md);
dnnl_data_type_t dnnl_dtype(enum dtype dtype);
