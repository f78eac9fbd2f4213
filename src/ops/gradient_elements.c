/* Gradients of what works element by element. */
#include <math.h>
#include <string.h>

#include "base/multiversion.h"
#include "ops/family.h"
#include "ops/gradient.h"

/* The derivative by x, of which y is the result; alpha and beta are the function's parameters. */
typedef float derivative(float x, float y, float alpha, float beta);

#define DERIVATIVE(name, value)                                                 \
    static float name##_derivative(float x, float y, float alpha, float beta) { \
        (void)x, (void)y, (void)alpha, (void)beta;                              \
        return value;                                                           \
    }
#define INVERSE_SQRT_2PI 0.3989422804014327f
#define GELU_SCALE 0.7978845608028654f

static float sigmoid(float x) {
    return 1 / (1 + expf(-x));
}

DERIVATIVE(Abs, (float)((x > 0) - (x < 0)))
DERIVATIVE(Clip, y > alpha && y < beta ? 1 : 0)
DERIVATIVE(Cos, -sinf(x))
DERIVATIVE(Elu, y < 0 ? y + alpha : 1)
DERIVATIVE(Erf, 2 * (float)M_2_SQRTPI / 2 * expf(-x * x))
DERIVATIVE(Exp, y)
DERIVATIVE(HardSigmoid, y > 0 && y < 1 ? alpha : 0)
DERIVATIVE(HardSwish, x <= -3 ? 0 : x >= 3 ? 1 : (2 * x + 3) / 6)
DERIVATIVE(LeakyRelu, x < 0 ? alpha : 1)
DERIVATIVE(Log, 1 / x)
DERIVATIVE(Neg, -1)
DERIVATIVE(QuickGelu, sigmoid(alpha *x) * (1 + alpha * (x - y)))
DERIVATIVE(Reciprocal, -y *y)
DERIVATIVE(Relu, y > 0 ? 1 : 0)
DERIVATIVE(Sigmoid, y *(1 - y))
DERIVATIVE(Sin, cosf(x))
DERIVATIVE(Softplus, sigmoid(x))
DERIVATIVE(Sqrt, 0.5f / y)
DERIVATIVE(Tanh, 1 - y * y)

static float GeluErf_derivative(float x, float y, float alpha, float beta) {
    (void)y, (void)alpha, (void)beta;
    return 0.5f * (1 + erff(x * (float)M_SQRT1_2)) + x * INVERSE_SQRT_2PI * expf(-0.5f * x * x);
}

static float GeluTanh_derivative(float x, float y, float alpha, float beta) {
    (void)y, (void)alpha, (void)beta;
    float t = tanhf(GELU_SCALE * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * GELU_SCALE * (1 + 3 * 0.044715f * x * x);
}

/* What a node of such an operator has the derivative of. */
static const struct element {
    const char *op_type;
    derivative *derivative;
    const char *alpha_name, *beta_name; /* attributes */
    float alpha, beta;                  /* where they are left out */
    bool by_result; /* x is not needed: the function can be fused to what computes it, and x is not kept */
} elements[] = {
    {.op_type = "Abs", Abs_derivative},
    {.op_type = "Clip", Clip_derivative, .by_result = true},
    {.op_type = "Cos", Cos_derivative},
    {.op_type = "Elu", Elu_derivative, .alpha_name = "alpha", .alpha = 1, .by_result = true},
    {.op_type = "Erf", Erf_derivative},
    {.op_type = "Exp", Exp_derivative, .by_result = true},
    {.op_type = "Gelu", GeluErf_derivative},
    {.op_type = "HardSigmoid", HardSigmoid_derivative, "alpha", "beta", 0.2f, 0.5f, .by_result = true},
    {.op_type = "HardSwish", HardSwish_derivative},
    {.op_type = "LeakyRelu", LeakyRelu_derivative, .alpha_name = "alpha", .alpha = 0.01f},
    {.op_type = "Log", Log_derivative},
    {.op_type = "Neg", Neg_derivative},
    {.op_type = "QuickGelu", QuickGelu_derivative, .alpha_name = "alpha", .alpha = 1.702f},
    {.op_type = "Reciprocal", Reciprocal_derivative, .by_result = true},
    {.op_type = "Relu", Relu_derivative, .by_result = true},
    {.op_type = "Sigmoid", Sigmoid_derivative, .by_result = true},
    {.op_type = "Sin", Sin_derivative},
    {.op_type = "Softplus", Softplus_derivative},
    {.op_type = "Sqrt", Sqrt_derivative, .by_result = true},
    {.op_type = "Tanh", Tanh_derivative, .by_result = true},
    {.op_type = "GeluTanh", GeluTanh_derivative},
};
#define ELEMENTS (int)(sizeof elements / sizeof *elements)

static int element_find(const struct node *node) {
    bool tanh =
        strcmp(node->op_type, "Gelu") == 0 && strcmp(node_string(node, "approximate", "none"), "tanh") == 0;
    const char *name = tanh ? "GeluTanh" : node->op_type;
    for (int i = 0; i < ELEMENTS; i++)
        if (strcmp(elements[i].op_type, name) == 0)
            return i;
    return -1;
}

/* Clip's bounds are inputs, or attributes in old files. */
static bool clip_bounds(const struct node *node, float *ret_low, float *ret_high) {
    struct post_op post = {0};
    if (!node_post_op(node, &post))
        return false;
    *ret_low = post.alpha;
    *ret_high = post.beta;
    return true;
}

bool gradient_element(struct gradient *gradient) {
    const struct node *node = gradient->node;
    int index = element_find(node);
    if (index < 0)
        return node_error(node, gradient->error, "it has no gradient: this network cannot be trained");

    const struct element *element = &elements[index];
    float alpha = element->alpha_name ? node_float(node, element->alpha_name, element->alpha) : 0;
    float beta = element->beta_name ? node_float(node, element->beta_name, element->beta) : 0;
    if (strcmp(node->op_type, "Clip") == 0 && !clip_bounds(node, &alpha, &beta))
        return node_error(node, gradient->error, "its bounds are not constant: it has no gradient");

    struct value *inputs[] = {element->by_result ? node->outputs[0] : node->inputs[0], node->outputs[0],
                              gradient->outputs[0]};
    struct node *added = gradient_node(gradient, OPERATORS_OWN, "ElementGradient", inputs, 3);
    if (!added)
        return false;
    if (!node_set_int(gradient->graph, added, "element", index) ||
        !node_set_float(gradient->graph, added, "alpha", alpha) ||
        !node_set_float(gradient->graph, added, "beta", beta))
        return node_memory_error(node, gradient->error);

    return (gradient->inputs[0] = gradient_value(gradient, added)) != NULL;
}

/* The two that networks are full of, for the vectoriser. */
MULTIVERSION static void clip_gradient(const float *restrict y, const float *restrict g, int64_t count,
                                       float low, float high, float *restrict ret) {
    for (int64_t i = 0; i < count; i++)
        ret[i] = y[i] > low && y[i] < high ? g[i] : 0;
}

static void piece_compute(const struct element *element, const float *x, const float *y, const float *g,
                          int64_t count, float alpha, float beta, float *ret) {
    if (element->derivative == Relu_derivative)
        clip_gradient(y, g, count, 0, INFINITY, ret);
    else if (element->derivative == Clip_derivative)
        clip_gradient(y, g, count, alpha, beta, ret);
    else
        for (int64_t i = 0; i < count; i++)
            ret[i] = g[i] * element->derivative(x[i], y[i], alpha, beta);
}

static bool element_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPE(F32), error) && infer_same(node, error);
}

static bool element_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    enum { PIECE = 8192 };
    const struct element *element = &elements[node_int(node, "element", 0) % ELEMENTS];
    float alpha = node_float(node, "alpha", 0), beta = node_float(node, "beta", 0);
    const float *x = inputs[0].data, *y = inputs[1].data, *g = inputs[2].data;
    int64_t count = shape_elements(&outputs[0].shape);
    (void)error;

#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t from = 0; from < count; from += PIECE)
        piece_compute(element, x + from, y + from, g + from, count - from < PIECE ? count - from : PIECE,
                      alpha, beta, (float *)outputs[0].data + from);
    return true;
}

/* ---- Two operands, broadcast ---- */

static struct value *operand(const struct gradient *gradient, int input) {
    return gradient->node->inputs[input];
}

/* The gradient by an input, summed over what was broadcast. */
static bool set_input(struct gradient *gradient, int input, struct value *value) {
    gradient->inputs[input] = gradient_sum_to(gradient, value, &operand(gradient, input)->shape);
    return gradient->inputs[input] != NULL;
}

bool gradient_add(struct gradient *gradient) {
    for (int i = 0; i < gradient->node->input_count; i++)
        if (gradient->wanted[i] && !set_input(gradient, i, gradient->outputs[0]))
            return false;
    return true;
}

bool gradient_subtract(struct gradient *gradient) {
    struct value *g = gradient->outputs[0];
    return (!gradient->wanted[0] || set_input(gradient, 0, g)) &&
           (!gradient->wanted[1] || set_input(gradient, 1, gradient_apply(gradient, "Neg", g, NULL)));
}

bool gradient_multiply(struct gradient *gradient) {
    struct value *g = gradient->outputs[0];
    for (int i = 0; i < 2; i++)
        if (gradient->wanted[i] &&
            !set_input(gradient, i, gradient_apply(gradient, "Mul", g, operand(gradient, 1 - i))))
            return false;
    return true;
}

bool gradient_divide(struct gradient *gradient) {
    struct value *part = gradient_apply(gradient, "Div", gradient->outputs[0], operand(gradient, 1));
    if (!part || (gradient->wanted[0] && !set_input(gradient, 0, part)))
        return false;
    if (!gradient->wanted[1])
        return true;

    struct value *product = gradient_apply(gradient, "Mul", part, gradient->node->outputs[0]);
    return product && set_input(gradient, 1, gradient_apply(gradient, "Neg", product, NULL));
}

bool gradient_power(struct gradient *gradient) {
    float exponent;
    if (gradient->wanted[1] || !value_scalar(operand(gradient, 1), &exponent))
        return node_error(gradient->node, gradient->error,
                          "the gradient by an exponent is not known: this network cannot be trained");

    struct value *g = gradient_scaled(gradient, gradient->outputs[0], exponent), *x = operand(gradient, 0);
    if (exponent == 2)
        return g && set_input(gradient, 0, gradient_apply(gradient, "Mul", g, x));

    /* x^p / x */
    struct value *part = gradient_apply(gradient, "Div", gradient->node->outputs[0], x);
    return g && part && set_input(gradient, 0, gradient_apply(gradient, "Mul", g, part));
}

bool gradient_where(struct gradient *gradient) {
    struct value *g = gradient->outputs[0];
    struct value *none = gradient_scaled(gradient, g, 0), *condition = operand(gradient, 0);
    for (int i = 1; none && i < 3; i++) {
        struct value *inputs[] = {condition, i == 1 ? g : none, i == 1 ? none : g};
        if (gradient->wanted[i] &&
            !set_input(gradient, i,
                       gradient_value(gradient, gradient_node(gradient, "", "Where", inputs, 3))))
            return false;
    }
    return none != NULL;
}

bool gradient_cast(struct gradient *gradient) {
    if (operand(gradient, 0)->dtype != DTYPE_F32 || gradient->node->outputs[0]->dtype != DTYPE_F32)
        return node_error(gradient->node, gradient->error, "only float32 networks can be trained");
    gradient->inputs[0] = gradient->outputs[0];
    return true;
}

const struct op_def gradient_element_operators[] = {
    {.op_type = "ElementGradient", .inputs = {3, 3}, .outputs = {1, 1}, FUNCTIONS(element)},
    {0},
};
