#define KERNELS linear_kernels_avx2
#define INSTRUCTIONS "avx2"
#include "linear/kernels_template.inc"
