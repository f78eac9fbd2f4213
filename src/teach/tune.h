/* Inside teach/: all layers of a taught network, trained a little further on the photos. */
#pragma once
#include "teach/teach.h"

/* Tune for options->minutes, or options->steps. A fifth of the photos is held out: on these, what comes out
 * is compared with a head in closed form that saw the others only. Sets result->tuning, and result->tuned
 * where it is better; else the head stays. What is done so far is kept in a hidden file beside
 * options->output every few seconds, and the same command goes on from there. ERROR_MODEL: an operator
 * without a gradient, or photos without a size in common. */
bool teach_tune(const struct model *model, const struct teach_options *options, struct teach_result *result,
                struct error *error);
