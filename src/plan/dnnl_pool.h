/* What a pool holds, and how primitives are made. For plan/dnnl*.c alone; threads as in plan/primitive.h. */
#pragma once
#include "plan/dnnl_api.h"

#define KERNEL_NAME 64 /* bytes of an implementation's name, with the end */

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
    char kernel[KERNEL_NAME];
    bool is_gradient;   /* see primitive_convolution_gradient */
    int32_t zero_point; /* of the source */
    float *scales;      /* [scale_count]; generation 3 only */
    int64_t scale_count;
};

struct primitive_pool {
    struct layout *layouts;
    struct primitive *primitives;
};

/* Take the descriptor (NULL is passed on) into the pool, which destroys it in the end. */
const struct layout *layout_keep(struct primitive_pool *pool, md_handle md);
md_const layout_md(const struct layout *layout);
/* Strided, or in blocks of whole channels (the second axis). oneDNN broadcasts operands to any other layout
 * as if it were one of these. */
bool layout_can_broadcast(const struct layout *layout);
/* Elements of the innermost block; 0: the layout has no blocks. */
int64_t layout_block_size(const struct layout *layout);
dnnl_data_type_t dnnl_dtype(enum dtype dtype);

/* A primitive in the making: creation_begin makes the attributes from the post-ops, the caller makes the
 * description where there are attributes, creation_end puts the primitive into the pool. */
struct creation {
    const char *what; /* for errors */
    const struct primitive_post *posts;
    int post_count;
    dnnl_primitive_attr_t attr; /* NULL: out of memory, or too many post-ops */
    dnnl_primitive_desc_t description;
    dnnl_status_t status;     /* of the description */
    char kernel[KERNEL_NAME]; /* that the description chose; empty: there is none, or memory was out */
};
struct creation creation_begin(const char *what, const struct primitive_post *posts, int post_count);
/* NULL with an error where there is no description. Destroys the attributes in any case. */
struct primitive *creation_end(struct creation *creation, struct primitive_pool *pool, struct error *error);
/* A layout that the description chose; *ret NULL: it has none of that kind. False when memory is out. */
bool creation_layout(struct primitive_pool *pool, const_dnnl_primitive_desc_t description, dnnl_query_t what,
                     int index, const struct layout **ret);
