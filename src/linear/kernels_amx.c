#define TILES linear_tiles_amx
#include "linear/tiles_template.inc"
