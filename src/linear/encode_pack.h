/* A block's scales and levels to its bytes. Used inside linear/ only. */
#pragma once
#include "linear/encode.h"

void encode_pack(const struct block_code *code, uint8_t *ret);
