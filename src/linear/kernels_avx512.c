#define KERNELS linear_kernels_avx512
#define INSTRUCTIONS "avx512"
#include "linear/kernels_template.inc"
