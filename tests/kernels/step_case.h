/* A small graph around one operator, run by the engine and by the operators' reference kernels. */
#pragma once
#include "harness.h"

#include "../unit/networks.h"
#include "engine/engine.h"

#define CASES 40
#define F32_DISTANCE 2e-5 /* of the largest element */
#define BF16_DISTANCE 6e-2

/* The graph under construction: values between the operator under test and what is around it. */
extern struct graph *graph;
extern struct tensor input;

/* Constants with random numbers within [-size, size]. */
struct value *floats(float size, int rank, const int64_t *dims);
struct value *vector(float size, int64_t count);
/* A constant of `count` whole numbers. */
struct value *ints(int count, const int64_t *values);
/* [n, c, h, w] -> [n, channels, h, w]: leaves the layout that a convolution likes. */
struct value *pointwise(struct value *x, int64_t channels, int64_t outputs);
/* The graph's input; `name` says what is under test. */
struct value *begin(const char *name, int rank, const int64_t *dims);
/* A tensor of four axes, maybe as a convolution leaves it. */
struct value *begin_picture(const char *name, int64_t channels, int64_t height, int64_t width);
/* What the engine may fuse to the operator, or not. */
struct value *followed(struct value *x);
/* How far the engine is from `expected`, a part of its largest element. */
double run_engine(struct graph *expected, const struct engine_options *options);
/* `output` by the reference; ends the graph. */
struct graph *reference_of(struct value *output);
/* `output` both ways, compared. */
void finish(struct value *output, double f32_distance, double bf16_distance);
/* … as exactly as the steps usually are. */
void finish_usual(struct value *output);

extern const struct kernel_test quantized_step_tests[];
