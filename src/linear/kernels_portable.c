#define KERNELS linear_kernels_portable
#define INSTRUCTIONS "portable"
#include "linear/kernels_template.inc"
