#define LINEAR_TILES_EMULATED
#define TILES linear_tiles_emulated
#include "linear.h"
#include "linear/tiles_template.inc"
