/* What the tests of kernels share: random shapes and values, guarded memory, and subtests that name the
 * kernel, the shape and the seed when they fail.
 *
 * A subtest runs many cases. A case takes guarded memory for its tensors, seals it, calls the kernel, and
 * checks. Memory lies against a page that must not be touched, or off its alignment, with canaries around it.
 * A crash inside a kernel is a failed subtest, too. One thread, but for what a kernel does itself. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/tensor.h"

/* A subtest returns when its cases are done, or leaves through case_fail. */
struct kernel_test {
    const char *name; /* of the kernel and what is varied */
    void (*run)(void);
};
/* What a program runs, in its own file: lists that end with a NULL name, until NULL. */
extern const struct kernel_test *const kernel_test_lists[];

/* --- Random numbers: the same sequence in each run with the same seed ----------------------------------- */

uint64_t random_bits(void);
int64_t random_between(int64_t low, int64_t high); /* both included */
bool random_chance(int percent);
/* 1, 3, 5, 7, 15, 17, 31, 33, 63, 65 …: around the widths of vectors and tiles, at most `most`. */
int64_t random_extent(int64_t most);
/* From [-size, size]; some are zeros of both signs, some tiny. */
float random_float(float size);
/* Elements of float32, bfloat16, uint8 or int8. */
void random_fill(enum dtype dtype, void *data, int64_t count, float size);

/* --- Cases ---------------------------------------------------------------------------------------------- */

/* How many cases a subtest has: fewer where a sanitizer slows them down tenfold. */
int case_count(int usual);
/* Begin a case: all memory is free again, and what follows says what is tested. OpenMP's team gets a random
 * size (one, where the sanitizer cannot follow OpenMP). */
void case_begin(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Threads of this case's team. */
int case_threads(void);
/* End the subtest with a line that names it, the case, the seed and what was wrong. */
_Noreturn void case_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Guarded memory, right until the next case. Inputs must not change between case_seal and case_check. Outputs
 * are full of random bytes. `alignment`: what the kernel may rely on. */
void *input_take(size_t bytes, size_t alignment);
void *output_take(size_t bytes, size_t alignment);
/* A copy of an output as it is now, to put expected results into. */
void *expected_take(const void *output, size_t bytes);
void case_seal(void);  /* right before the kernel */
void case_check(void); /* right after it: canaries and inputs are as they were */

/* All bytes are equal. `unit`: bytes of an element, for the message. */
void expect_bytes(const void *actual, const void *expected, size_t bytes, size_t unit);
/* |actual - expected| <= tolerance, or both NaN, or the same infinity. */
void expect_near(int64_t index, double actual, double expected, double tolerance);

/* Element `index` of float32, bfloat16 or bytes. */
double element_get(enum dtype dtype, const void *data, int64_t index);
