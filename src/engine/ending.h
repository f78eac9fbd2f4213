/* Inside engine/: what a network's last operators make of an output. Any thread. */
#pragma once
#include "engine/engine.h"

struct value;

enum engine_ending ending_find(const struct value *output);
