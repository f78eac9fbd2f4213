/* What the operator families share: reading a node while shapes are inferred, walking strided tensors, and
 * running in wider types. For files in ops/ only; the rest of the program includes ops/operator.h. Any
 * thread, on tensors and graphs of its own. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "ops/operator.h"

/* The newest opset of ONNX's own domain that we support. */
#define OPSET_LATEST 25
#define MICROSOFT "com.microsoft"

/* The families' tables, each ended by an entry without op_type. */
extern const struct op_def unary_operators[], binary_operators[], variadic_operators[], cast_operators[],
    conv_operators[], conv_transpose_operators[], integer_operators[], gather_operators[],
    scatter_operators[], generate_operators[], matmul_operators[], einsum_operators[], normalize_operators[],
    group_normalize_operators[], pool_operators[], quantize_operators[], qlinear_operators[],
    reduce_operators[], select_operators[], resize_operators[], reshape_operators[], move_operators[],
    pad_operators[], slice_operators[], softmax_operators[], microsoft_operators[], det_operators[],
    grid_sample_operators[], control_operators[], recurrent_operators[], ml_tree_operators[],
    ml_linear_operators[], ml_column_operators[], loss_operators[], detect_operators[], optimizer_operators[],
    unique_operators[], spectrum_operators[], tfidf_operators[], rms_operators[], rotary_operators[],
    attention_operators[], attention_microsoft_operators[], attention_grouped_operators[], nbits_operators[],
    col2im_operators[], deform_operators[], random_operators[];
/* Our own operators, which are in no other table. */
extern const struct op_def fused_operators[], gradient_element_operators[], gradient_window_operators[],
    gradient_move_operators[];

/* An entry's functions name_infer and name_compute. */
#define FUNCTIONS(name) .infer = name##_infer, .compute = name##_compute

/* Sets of types: bit d for dtype d. */
#define TYPE(name) (1u << DTYPE_##name)
#define TYPES_HALF (TYPE(F16) | TYPE(BF16))
#define TYPES_FLOAT (TYPE(F32) | TYPE(F64) | TYPES_HALF)
#define TYPES_F32 (TYPE(F32) | TYPES_HALF) /* what runs in float32 */
#define TYPES_SIGNED (TYPE(I8) | TYPE(I16) | TYPE(I32) | TYPE(I64))
#define TYPES_UNSIGNED (TYPE(U8) | TYPE(U16) | TYPE(U32) | TYPE(U64))
#define TYPES_INTEGER (TYPES_SIGNED | TYPES_UNSIGNED)
#define TYPES_NUMERIC (TYPES_FLOAT | TYPES_INTEGER)
#define TYPES_ALL (TYPES_NUMERIC | TYPE(BOOL))
#define TYPES_INDEX (TYPE(I32) | TYPE(I64))
#define TYPES_BYTE (TYPE(I8) | TYPE(U8))

/* The same in words, for `types` in the tables. */
#define NAMES_F32 "float32, float16, bfloat16"
#define NAMES_FLOAT "float32, float64, float16, bfloat16"
#define NAMES_NUMERIC "floats, integers"
#define NAMES_ALL "floats, integers, bool"

/* --- Reading a node in check and infer --- */

/* Shape and type of an input; NULL and DTYPE_UNKNOWN if it is left out. */
const struct shape *node_shape(const struct node *node, int input);
enum dtype node_dtype(const struct node *node, int input);
bool node_has_input(const struct node *node, int input);
bool node_has_output(const struct node *node, int output);

/* Each returns false with node_error if the node does not fit; an input left out fits. */
bool node_want_types(const struct node *node, int input, uint32_t types, struct error *error);
bool node_want_same_type(const struct node *node, int input, int other, struct error *error);
bool node_want_rank(const struct node *node, int input, int least, int most, struct error *error);
/* `axis` counted from the end where negative; 0 <= *ret < rank. */
bool node_axis(const struct node *node, int64_t axis, int rank, int *ret, struct error *error);
/* The constant value of an input; NULL with an error if it has none. */
const struct tensor *node_constant(const struct node *node, int input, struct error *error);
/* The values of a constant integer input of at most `most` elements; *ret_count is -1 if it is left out. */
bool node_read_ints(const struct node *node, int input, int most, int64_t *ret, int *ret_count,
                    struct error *error);
/* The same for an attribute; *ret_count is -1 if there is none. */
bool node_attribute_ints(const struct node *node, const char *name, int most, int64_t *ret, int *ret_count,
                         struct error *error);
/* Axes as flags, from attribute `axes` (input < 0) or a constant input; *ret_given false if there are none.
 */
bool node_read_axes(const struct node *node, int input, int rank, bool *ret_flags, bool *ret_given,
                    struct error *error);

/* Set an output, unless it is left out; refuses more than LIMIT_TENSOR_ELEMENTS or LIMIT_TENSOR_RANK. */
bool infer_output(struct node *node, int output, enum dtype dtype, const struct shape *shape,
                  struct error *error);
/* Output 0 has the type and shape of input 0. */
bool infer_same(struct node *node, struct error *error);
/* *total *= value; false if the result leaves [0, LIMIT_TENSOR_ELEMENTS]. */
bool extent_multiply(int64_t *total, int64_t value);

/* --- Walking tensors --- */

/* The product of dims[from .. to). */
int64_t shape_product(const struct shape *shape, int from, int to);
void shape_strides(const struct shape *shape, int64_t *ret); /* row-major, in elements */

/* Up to three operands, broadcast to one result that is written row by row. Neighbouring dimensions that can
 * be walked as one are merged. Within a row an operand's stride is 0 or 1. */
#define WALK_OPERANDS 3
struct broadcast_walk {
    int operands;
    int outer_rank;
    int64_t outer_dims[LIMIT_TENSOR_RANK];
    int64_t outer_strides[WALK_OPERANDS][LIMIT_TENSOR_RANK];
    int64_t inner;                        /* elements of a row */
    int64_t inner_strides[WALK_OPERANDS]; /* 0 or 1 */
    int64_t rows;
    int64_t pieces, piece; /* each row in `pieces` of at most `piece` elements, for threads */
};
/* Shapes of operands broadcast to `result` (already checked). */
void walk_init(struct broadcast_walk *walk, const struct shape *result, const struct shape *const *shapes,
               int operands);
/* Where piece `index` of rows * pieces starts: offsets into the result and the operands. Returns its length.
 */
int64_t walk_piece(const struct broadcast_walk *walk, int64_t index, int64_t *ret_offset,
                   int64_t *ret_offsets);

/* Copy elements of 1, 2, 4 or 8 bytes between strided tensors; strides in elements, of any sign. */
void strided_copy(size_t element, int rank, const int64_t *dims, const void *source,
                  const int64_t *source_strides, void *destination, const int64_t *destination_strides);

/* Elements from which work is shared between threads. */
#define PARALLEL_ELEMENTS 32768

/* --- Running in wider types --- */

typedef bool compute_function(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error);
/* Run `compute` with every float16 and bfloat16 tensor as float32. */
bool compute_widened(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                     struct error *error, compute_function *compute);
